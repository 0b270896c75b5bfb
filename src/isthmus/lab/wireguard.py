"""One end of a WireGuard tunnel: a wireguard-go process, its keys, and its device in the router."""

import subprocess
from pathlib import Path

from isthmus.base.clock import Clock
from isthmus.lab.errors import LabError
from isthmus.lab.kernel import opened
from isthmus.lab.layout import Tunnel, TunnelEnd, namespace_of
from isthmus.lab.processes import last_words, start
from isthmus.lab.record import Record
from isthmus.lab.waiting import wait_until

SOCKETS = Path("/var/run/wireguard")
"""Where wireguard-go has its control sockets, one for each device of the machine."""

PORT = 51820
KEEPALIVE_SECONDS = 5
"""Both ends show that they live, so that a handshake begins again by itself after an outage."""

START_SECONDS_MAX = 10.0


def make_keys(record: Record, tunnel: Tunnel) -> None:
    """Makes the private keys of both ends, each in a file that only root may read."""
    for end in tunnel.ends:
        path = _key(record, end)
        path.touch(0o600)
        path.write_text(_wg("genkey"))


def socket_of(end: TunnelEnd) -> Path:
    """The control socket of an end's process."""
    return SOCKETS / f"{end.device}.sock"


def start_end(record: Record, lab: str, tunnel: Tunnel, end: TunnelEnd, clock: Clock) -> "subprocess.Popen[bytes]":
    """Starts an end, its device in the router with its address; raises LabError when it does not come up."""
    socket_of(end).unlink(missing_ok=True)
    name = f"wireguard-{end.outside}"
    outside = namespace_of(lab, end.outside)
    command = ("wireguard-go", "--foreground", end.device)
    process = start(record, name, command, namespace=outside, environment={"LOG_LEVEL": "error"})
    wait_until(clock, START_SECONDS_MAX, lambda: socket_of(end).exists() or process.poll() is not None)
    if process.poll() is not None or not socket_of(end).exists():
        raise LabError(f"wireguard-go does not start at {end.outside}: {last_words(record, name)}.")
    _configure(record, end, tunnel.far(end))
    with opened(outside) as source, opened(namespace_of(lab, end.router)) as router:
        router.receive(end.device, source, end.interface)
        router.add_address(end.interface, f"{end.inner}/30")
        router.set_up(end.interface)
    return process


def _configure(record: Record, near: TunnelEnd, far: TunnelEnd) -> None:
    """Lets through the tunnel only who is behind the other end."""
    peer = _wg("pubkey", given=_key(record, far).read_text()).strip()
    _wg(
        *("set", near.device, "listen-port", str(PORT), "private-key", str(_key(record, near))),
        *("peer", peer, "allowed-ips", ",".join((f"{far.inner}/32", *near.destinations))),
        *("endpoint", f"{far.outer}:{PORT}", "persistent-keepalive", str(KEEPALIVE_SECONDS)),
    )


def _key(record: Record, end: TunnelEnd) -> Path:
    return record.path(f"wireguard-{end.outside}.key")


def _wg(*arguments: str, given: str = "") -> str:
    done = subprocess.run(("wg", *arguments), input=given, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"wg {arguments[0]} failed: {done.stderr.strip()}.")
    return done.stdout
