"""Azurite over TLS, as a storage account that takes keys and tokens; it judges tokens by their claims only."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from support.certificates import issue_server, write_pem

SCRIPT: Final = Path(__file__).parents[1] / "node" / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
ACCOUNT: Final = "devstoreaccount1"
KEY: Final = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account that every Azurite has, and its well-known key."""

DOMAIN: Final = "blob.azurite.test"
PORT: Final = 10_000
START_SECONDS_MAX: Final = 60.0
STOP_SECONDS_MAX: Final = 10.0


class Azurite(NamedTuple):
    """A running Azurite; the account's name resolves nowhere, so its clients are told where it is."""

    address: str
    ca: Path

    @property
    def host(self) -> str:
        return f"{ACCOUNT}.{DOMAIN}"

    @property
    def url(self) -> str:
        """Of the account, by its name."""
        return f"https://{self.host}:{PORT}"

    @property
    def connection_string(self) -> str:
        return f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={self.url};"


def why_no_azurite() -> str:
    """Why Azurite cannot run here; empty when it can."""
    if shutil.which("node") is None:
        return "node is not installed"
    return "" if SCRIPT.exists() else "Azurite is not installed (tools/npm_packages.sh tests/node)"


@contextmanager
def running_azurite(folder: Path, address: str) -> Iterator[Azurite]:
    """Starts one at an address of loopback and ends it; yields when it accepts connections."""
    ca = write_pem(folder / "ca.pem", issue_server(f"{ACCOUNT}.{DOMAIN}", address))
    command = [
        shutil.which("node") or "node", str(SCRIPT), "--blobHost", address, "--blobPort", str(PORT),
        "--location", str(folder), "--cert", str(ca), "--key", str(ca), "--oauth", "basic",
        "--skipApiVersionCheck", "--disableTelemetry", "--silent",
    ]  # fmt: skip
    with (folder / "azurite.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment())
    try:
        _wait(process, address, folder / "azurite.log")
        yield Azurite(address, ca)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS_MAX)


def _environment() -> dict[str, str]:
    return {**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"}


def _wait(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        try:
            socket.create_connection((address, PORT), timeout=1).close()
            return
        except OSError:
            pass
        try:
            code = process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(f"Azurite ended with code {code}\n{log.read_text(errors='replace')}")
    raise AssertionError(f"Azurite did not start within {START_SECONDS_MAX} s")
