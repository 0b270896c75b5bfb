"""Each format of an export, loaded by what it is for, and answering as the view does."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.rrset
import dns.zone
import pytest

from isthmus.names.export import Format, exported
from isthmus.names.zone import Names, RecordSet, RecordType, View, Zone
from names import corefile
from names.asking import HUB, PLANT, PRIVATE, ask, told

VIEW = View(
    (
        *PLANT.zones,
        Zone(
            "plant.test",
            (
                RecordSet("press.plant.test", RecordType.A, ("10.9.0.1", "10.9.0.2"), 60),
                RecordSet("press.plant.test", RecordType.AAAA, ("fd00::1",), 60),
                RecordSet("alias.plant.test", RecordType.CNAME, (HUB,), 60),
                RecordSet("note.plant.test", RecordType.TXT, ('say "hi" \\ {$HOME}', "x" * 300), 60),
                RecordSet("*.line.plant.test", RecordType.A, ("10.9.0.9",), 60),
            ),
        ),
    )
)
NAMES = Names(VIEW)
QUESTIONS = [
    *((name, kind) for name in (HUB, PRIVATE, "press.plant.test", "alias.plant.test") for kind in ("A", "AAAA")),
    ("note.plant.test", "TXT"),
    ("x.line.plant.test", "A"),
    ("nothing.plant.test", "A"),
    ("other.privatelink.isthmus.test", "A"),
]


def test_a_zone_file_is_read_by_dnspython() -> None:
    text = exported(VIEW, Format.ZONE)

    for origin in ("isthmus.test", "plant.test"):
        zone = dns.zone.from_text(_part(text, origin), origin, relativize=False)
        zone.check_origin()
        for record in _records_below(origin):
            found = zone.find_rdataset(f"{record.name}.", record.type.value)
            assert found.ttl == record.ttl_seconds
            assert {each.to_text() for each in found} == {each.to_text() for each in ask_of(record)}


def test_a_zone_below_another_is_in_its_file() -> None:
    text = exported(PLANT, Format.ZONE)

    assert text.count("$ORIGIN") == 1
    zone = dns.zone.from_text(text, "isthmus.test", relativize=False)
    assert zone.find_rdataset(f"{PRIVATE}.", "A")[0].to_text() == "10.1.0.5"


def test_hosts_lines_have_the_addresses_that_names_lead_to() -> None:
    lines = [line.split() for line in exported(VIEW, Format.HOSTS).splitlines()]

    assert {line[0]: set(line[1:]) for line in lines} == {
        "10.1.0.5": {HUB, PRIVATE, "alias.plant.test"},
        "10.9.0.1": {"press.plant.test"},
        "10.9.0.2": {"press.plant.test"},
        "fd00::1": {"press.plant.test"},
    }


@pytest.mark.skipif(os.getuid() != 0 or shutil.which("unshare") is None, reason="a mount namespace needs root")
def test_hosts_lines_are_read_by_glibc(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(exported(VIEW, Format.HOSTS))

    done = subprocess.run(
        ["unshare", "--mount", "--net", "sh", "-c", f"mount --bind {hosts} /etc/hosts && getent ahosts {HUB}"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    assert {line.split()[0] for line in done.stdout.splitlines()} == {"10.1.0.5"}


@pytest.mark.skipif(shutil.which("dnsmasq") is None, reason="dnsmasq is not installed")
def test_dnsmasq_takes_the_lines(tmp_path: Path) -> None:
    lines = tmp_path / "plant.conf"
    lines.write_text(exported(VIEW, Format.DNSMASQ))

    done = subprocess.run(["dnsmasq", "--test", f"--conf-file={lines}"], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr.strip()) == (0, "dnsmasq: syntax check OK.")


@pytest.mark.skipif(shutil.which("dnsmasq") is None, reason="dnsmasq is not installed")
def test_dnsmasq_answers_as_the_view_does(tmp_path: Path, loopback_address: str) -> None:
    lines = tmp_path / "plant.conf"
    lines.write_text(exported(VIEW, Format.DNSMASQ))

    with dnsmasq(lines, loopback_address) as port:
        for name, kind in QUESTIONS:
            said = dns.query.udp(dns.message.make_query(name, kind), loopback_address, port=port, timeout=5)
            wanted = ask(NAMES, name, kind)
            assert (name, kind, said.rcode()) == (name, kind, wanted.rcode())
            # An alias that leads to nothing of the kind is left out by dnsmasq.
            assert (told(said) or []) == (told(wanted) if any(kind in line for line in told(wanted)) else told(said))


def test_coredns_answers_as_the_view_does() -> None:
    servers = corefile.parse(exported(VIEW, Format.COREDNS))

    assert [(server.zone, server.forward) for server in servers] == [
        ("isthmus.test", ["/etc/resolv.conf"]),
        ("privatelink.isthmus.test", []),
        ("plant.test", []),
    ]
    for name, kind in QUESTIONS:
        wanted = ask(NAMES, name, kind)
        found = corefile.answer(servers, name, kind)
        assert found is not None
        assert (name, kind, found[0]) == (name, kind, dns.rcode.to_text(wanted.rcode()))
        assert sorted(_read(found[1])) == sorted(told(wanted))


def test_coredns_leaves_other_names_of_an_open_zone_to_others() -> None:
    servers = corefile.parse(exported(PLANT, Format.COREDNS))

    assert corefile.answer(servers, "other.isthmus.test", "A") is None


@pytest.mark.parametrize("form", list(Format))
def test_a_view_of_nothing_is_nothing(form: Format) -> None:
    assert exported(View(), form) == ""


@contextmanager
def dnsmasq(lines: Path, address: str) -> Iterator[int]:
    """A dnsmasq of our own at an address; gives its port."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
    command = ["dnsmasq", "--keep-in-foreground", f"--conf-file={lines}", "--no-resolv", "--no-hosts", "--user="]
    command += [f"--listen-address={address}", "--bind-interfaces", f"--port={port}", "--pid-file="]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as running:
        try:
            _await_answer(address, port)
            yield port
        finally:
            running.terminate()


def _await_answer(address: str, port: int) -> None:
    for _ in range(50):
        try:
            dns.query.udp(dns.message.make_query(HUB, "A"), address, port=port, timeout=0.2)
        except (OSError, dns.exception.Timeout):
            continue
        return
    raise TimeoutError("dnsmasq did not come up")


def _part(text: str, origin: str) -> str:
    """The part of a zone file from one origin to the next."""
    return next(f"$ORIGIN {part}" for part in text.split("$ORIGIN ")[1:] if part.startswith(f"{origin}."))


def _records_below(origin: str) -> list[RecordSet]:
    return [record for zone in VIEW.zones for record in zone.records if zone.name.endswith(origin)]


def ask_of(record: RecordSet) -> dns.rrset.RRset:
    """The record set as the server answers with it."""
    asked = record.name.replace("*", "any")
    (found,) = [each for each in ask(NAMES, asked, record.type.value).answer if each.name.to_text() == f"{asked}."]
    return found


def _read(lines: list[str]) -> list[str]:
    """Answer lines of templates as `told` has them."""
    found = []
    for line in lines:
        name, ttl, in_, kind, value = line.split(" ", 4)
        record = dns.rrset.from_text(name, int(ttl), in_, kind, value)
        found += [f"{name} {kind} {each.to_text()}" for each in record]
    return found
