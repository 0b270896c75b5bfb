"""The lab's one process of its own: it runs the VPNs and watches them (`python -m isthmus.lab.supervisor FOLDER`).

Theory of operation. Where routers of a plant would have BFD (RFC 5880) and a routing protocol, this process asks both
ends of each tunnel for themselves: from each router an ICMP echo to the other end, through the tunnel. Three losses in
a row, below a second, and that router's routes through the tunnel go; what is left is the route by the private line,
with the higher metric, where the site has one. Three answers in a row, and they come back. Each end decides by what it
hears, so for an echo or two the two directions may go different ways. A wireguard-go that has died is started again
after `RESTART_SECONDS`; the kernel took its device and routes away with it.

One thread, one loop; every wait in it has an end. What it sees stands in `ways.json`, replaced as a whole at each
change. When it dies, the routes stay as they are and `lab status` says that nobody watches. SIGTERM ends it.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isthmus.base.clock import Clock, SystemClock
from isthmus.lab.echo import Echo, ask_all, open_echo
from isthmus.lab.errors import LabError
from isthmus.lab.kernel import opened
from isthmus.lab.layout import Tunnel, TunnelEnd, layout_of, namespace_of
from isthmus.lab.liveness import Liveness
from isthmus.lab.plan import load_plan
from isthmus.lab.record import Record
from isthmus.lab.wireguard import start_end

ECHO_SECONDS = 0.25
"""Between two echoes, and the time an answer has."""

RESTART_SECONDS = 5.0
"""Until a dead wireguard-go is started again: long enough to see the line take over."""

WAYS = "ways.json"


@dataclass
class Watched:
    """One end of a tunnel while it is watched."""

    tunnel: Tunnel
    end: TunnelEnd
    process: "subprocess.Popen[bytes] | None" = None
    echo: Echo | None = None
    retry_at: float = 0.0
    liveness: Liveness = field(default_factory=Liveness)


class Supervisor:
    """Runs and watches the tunnels of one lab."""

    def __init__(self, record: Record, lab: str, tunnels: tuple[Tunnel, ...], clock: Clock) -> None:
        self._record = record
        self._lab = lab
        self._clock = clock
        self._ends = [Watched(tunnel, end) for tunnel in tunnels for end in tunnel.ends]

    def run(self, stop: threading.Event) -> None:
        """Watches until `stop` is set."""
        for index, watched in enumerate(self._ends):
            watched.echo = open_echo(
                namespace_of(self._lab, watched.end.router), watched.tunnel.far(watched.end).inner, index
            )
        self._tell()
        number = 0
        while not stop.is_set():
            self._keep_running()
            number += 1
            self._watch(number, stop)

    def _watch(self, number: int, stop: threading.Event) -> None:
        echoes = [watched.echo for watched in self._ends if watched.echo is not None]
        if not echoes:
            stop.wait(ECHO_SECONDS)
            return
        answers = ask_all(echoes, number, ECHO_SECONDS, self._clock)
        changed = [
            watched
            for watched, answered in zip(self._ends, answers, strict=True)
            if watched.liveness.heard(answered=answered)
        ]
        for watched in changed:
            self._route(watched)
        if changed:
            self._tell()

    def _route(self, watched: Watched) -> None:
        try:
            with opened(namespace_of(self._lab, watched.end.router)) as router:
                for route in watched.tunnel.routes(watched.end):
                    if watched.liveness.alive:
                        router.add_route(route)
                    else:
                        router.remove_route(route)
        except LabError as error:
            # A tunnel that dies between its last answer and this is found dead by the next echoes.
            sys.stderr.write(f"{error}\n")

    def _keep_running(self) -> None:
        for watched in self._ends:
            if watched.process is not None and watched.process.poll() is not None:
                watched.process, watched.retry_at = None, self._clock.monotonic() + RESTART_SECONDS
            if watched.process is None and self._clock.monotonic() >= watched.retry_at:
                self._start(watched)

    def _start(self, watched: Watched) -> None:
        try:
            watched.process = start_end(self._record, self._lab, watched.tunnel, watched.end, self._clock)
        except (LabError, OSError) as error:
            sys.stderr.write(f"{error}\n")
            watched.retry_at = self._clock.monotonic() + RESTART_SECONDS

    def _tell(self) -> None:
        """Writes down which ends of which VPN are alive."""
        told: dict[str, Any] = {}
        for watched in self._ends:
            told.setdefault(watched.tunnel.site, []).append(watched.liveness.alive)
        draft = self._record.path(f"{WAYS}.tmp")
        draft.write_text(json.dumps(told))
        draft.replace(self._record.path(WAYS))


def main() -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    record = Record(Path(sys.argv[1]))
    plan = load_plan(record.file, sys.argv[2])
    os.chdir(record.folder)
    Supervisor(record, plan.name, layout_of(plan).tunnels, SystemClock()).run(stop)


if __name__ == "__main__":
    main()
