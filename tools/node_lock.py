"""Writes `package-lock.json` of a folder anew, with hashes and no addresses: `tools/node_lock.py FOLDER [--strip]`.

`--strip` only takes the addresses out of the file that is there. npm finds a package by name and version in whatever
registry it is set up with, and holds it against its hash.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ADDRESSED = ("resolved", "funding")
"""Members that say where something is; npm needs neither."""


def main() -> None:
    folder = Path(sys.argv[1])
    if "--strip" not in sys.argv:
        subprocess.run(["npm", "install", "--package-lock-only", "--no-audit", "--no-fund"], cwd=folder, check=True)
    lock = folder / "package-lock.json"
    whole: dict[str, Any] = json.loads(lock.read_text())
    for package in whole["packages"].values():
        addressed = [name for name, value in package.items() if name in ADDRESSED or "://" in str(value)]
        for name in addressed:
            del package[name]
    lock.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
