"""Measures a backup beside messages: `benchmarks/bench.sh backup [--seconds N]`.

200 devices send 1,000 messages a second. PUBACK times are told alone and while backups are made one after the other,
with what a backup held, how long it took, and how long its restore did. The server and the load have a core each.
"""

import argparse
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isthmus.app import restore
from isthmus.cli.target import Target
from jobs import ALONE_SECONDS, WORK, Beside, hold_to, tell_waits
from peers import Own, start, stop


def main() -> int:
    options = _options()
    peer = Own()
    WORK.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WORK, prefix="backup-") as place:
        folder = Path(place) / "server"
        running = start(peer, folder, {0})
        try:
            hold_to({1})
            beside = Beside(running, 1)
            tell_waits("alone", beside.measure(options.seconds))
            waits: list[dict[str, float]] = []
            load = threading.Thread(target=lambda: waits.append(beside.measure(options.seconds)))
            load.start()
            made: list[Path] = []
            while load.is_alive():
                made.append(Path(place) / f"backup-{len(made)}")
                told = Target(data=folder / "data").backup(made[-1])
                tell("backup", told)
            load.join()
            tell_waits(f"beside {len(made)}", waits[0])
            tell("restore", restore(made[-1], Path(place) / "restored"))
        finally:
            stop(peer, running)
    return 0


def tell(what: str, told: Mapping[str, Any]) -> None:
    print(f"{what:18} {told['bytes'] / 2**20:,.0f} MiB in {told['files']} files: {told['seconds']:.2f} s")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=ALONE_SECONDS, help="of each of the two measurements")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
