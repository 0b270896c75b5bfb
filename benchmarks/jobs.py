"""Measures imports and exports of identities: `benchmarks/bench.sh jobs [--identities N] [--beside]`.

One server hosts the hub and the storage account, and reaches the account by the hub's identity, as in a closed site.
Memory is that of the server's process: before, and the most it ever had. With `--beside`, 1,000 messages a second come
from 200 devices before and during both jobs, and their PUBACK times are told; the server and the load then have a core
each, and without it the server has both.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from azure.storage.blob import BlobServiceClient

from isthmus.base.places import CA_CERTIFICATE
from isthmus.cli.target import Target
from peers import HOST_NAME, Own, Running, start, stop

HERE = Path(__file__).parent
WORK = HERE / "results" / "work"
"""On the disk of the checkout: a folder in memory would make syncing free."""

ACCOUNT, CONTAINER = "benchstore", "jobs"
LOAD = "--conns 200 --window 16 --rate 5"
ALONE_SECONDS = 10
POLL_SECONDS = 0.2


class Site:
    """A running server with an account that its hub may write to."""

    def __init__(self, peer: Own, running: Running, folder: Path) -> None:
        self._peer = peer
        self._running = running
        self._data = folder / "data"
        self._target = Target(data=self._data)
        principal = self._isthmus("iot", "hub", "identity", "assign", "--system-assigned")["principalId"]
        account = self._isthmus("storage", "account", "create", "-n", ACCOUNT)
        self._isthmus("storage", "container", "create", "-n", CONTAINER, "--account-name", ACCOUNT)
        who = ("--assignee-object-id", principal, "--role", "Storage Blob Data Contributor")
        self._isthmus("role", "assignment", "create", *who, "--scope", account["id"])
        self._blobs: str = account["primaryEndpoints"]["blob"].rstrip("/")

    def upload(self, file: Path) -> None:
        """Puts what is to be imported into the container."""
        keys = self._isthmus("storage", "account", "keys", "list", "-n", ACCOUNT)
        signed = {"account_name": ACCOUNT, "account_key": keys[0]["value"]}
        trust = str(self._data / CA_CERTIFICATE)
        with (
            at_loopback(),
            BlobServiceClient(self._blobs, credential=signed, connection_verify=trust) as client,
            file.open("rb") as content,
        ):
            client.get_blob_client(CONTAINER, "devices.txt").upload_blob(content, overwrite=True)

    def job(self, kind: str) -> tuple[dict[str, Any], float]:
        """Runs a job; what became of it, and the seconds it took."""
        place = f"{self._blobs}/{CONTAINER}"
        body = {"type": kind, "outputBlobContainerUri": place, "storageAuthenticationType": "identityBased"}
        if kind == "import":
            body["inputBlobContainerUri"] = place
        begun = time.monotonic()
        job = self._target.service("POST", "/jobs/create", body).json()
        while job["status"] not in ("completed", "failed", "cancelled"):
            time.sleep(POLL_SECONDS)
            job = self._target.service("GET", f"/jobs/{job['jobId']}").json()
        return job, time.monotonic() - begun

    def memory(self) -> tuple[int, int]:
        """MiB that the server has now, and the most it had."""
        status = Path(f"/proc/{self._running.process.pid}/status").read_text()
        lines = dict(line.split(":", 1) for line in status.splitlines())
        return int(lines["VmRSS"].split()[0]) // 1024, int(lines["VmHWM"].split()[0]) // 1024

    def processor(self) -> float:
        """Seconds of processor that the server has used, the kernel's for it among them."""
        fields = Path(f"/proc/{self._running.process.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _isthmus(self, *words: str) -> Any:
        command = [self._peer.needs()[0], *words, "--data", str(self._data), "-o", "json"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return json.loads(done.stdout or "null")


class Beside:
    """Messages of devices while something else happens."""

    def __init__(self, running: Running, core: int) -> None:
        self._running = running
        self._core = core

    def measure(self, seconds: float) -> dict[str, float]:
        """Sends for so long; PUBACK times in microseconds."""
        arguments = [str(HERE / "mqttload"), *self._running.arguments, *LOAD.split(), "--duration", str(seconds)]
        done = subprocess.run(
            arguments, capture_output=True, text=True, check=False, preexec_fn=lambda: hold_to({self._core})
        )
        waits: dict[str, float] = json.loads(done.stdout)["ack_us"]
        return waits


def main() -> int:
    options = _options()
    peer = Own()
    WORK.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WORK, prefix="jobs-") as place:
        folder = Path(place) / "server"
        server_cores = {0} if options.beside else set(range(os.cpu_count() or 1))
        running = start(peer, folder, server_cores)
        try:
            hold_to({1} if options.beside else server_cores)
            site = Site(peer, running, folder)
            site.upload(identities(Path(place) / "devices.txt", options.identities))
            beside = Beside(running, 1) if options.beside else None
            if beside is not None:
                tell_waits("alone", beside.measure(ALONE_SECONDS))
            for kind in ("import", "export"):
                _measure(site, kind, options.identities, beside)
        finally:
            stop(peer, running)
    return 0


def _measure(site: Site, kind: str, count: int, beside: Beside | None) -> None:
    before, _ = site.memory()
    used = site.processor()
    waits: list[dict[str, float]] = []
    load = threading.Thread(target=lambda: waits.append(beside.measure(ALONE_SECONDS)) if beside else None)
    load.start()
    job, seconds = site.job(kind)
    used = site.processor() - used
    load.join()
    _, most = site.memory()
    print(
        f"{kind:7} {job['status']:10} {count:>9,} identities {seconds:>7.1f} s {count / seconds:>9,.0f}/s"
        f"  processor {used:.1f} s  memory before {before} MiB, at most {most} MiB"
    )
    for each in waits:
        tell_waits(f"beside the {kind}", each)


def tell_waits(when: str, waits: dict[str, float]) -> None:
    parts = " / ".join(f"{waits[part] / 1000:.1f}" for part in ("p50", "p99", "p999"))
    print(f"{when:18} PUBACK p50 / p99 / p99.9: {parts} ms")


def identities(file: Path, count: int) -> Path:
    """Lines of devices, each tenth with a twin."""
    with file.open("w") as lines:
        for number in range(count):
            line: dict[str, Any] = {"id": f"device-{number:07}", "importMode": "create"}
            if number % 10 == 0:
                line |= {"tags": {"hall": number % 7}, "properties": {"desired": {"period": 30}}}
            lines.write(json.dumps(line) + "\n")
    return file


def hold_to(cores: set[int]) -> None:
    os.sched_setaffinity(0, cores)


@contextmanager
def at_loopback() -> Iterator[None]:
    """The account's name leads to this machine."""
    ask = socket.getaddrinfo

    def answer(host: Any, *arguments: Any, **named: Any) -> Any:
        return ask("127.0.0.1" if str(host).endswith(HOST_NAME.partition(".")[2]) else host, *arguments, **named)

    socket.getaddrinfo = answer
    try:
        yield
    finally:
        socket.getaddrinfo = ask


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--identities", type=int, default=100_000)
    parser.add_argument("--beside", action="store_true", help="with messages of devices meanwhile")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
