"""Host names and addresses in normal form."""

import pytest

from isthmus.base.hosts import address_and_port, is_unnamed, normal_address, normal_host


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("Hub.Example.Test", "hub.example.test"),
        ("hub.example.test:8443", "hub.example.test"),
        ("hub.example.test.", "hub.example.test"),
        (" 127.0.0.1:443 ", "127.0.0.1"),
        ("[::1]:8883", "::1"),
        ("::1", "::1"),
        ("", ""),
    ],
)
def test_normal_host(text: str, host: str) -> None:
    assert normal_host(text) == host


@pytest.mark.parametrize("host", ["", "localhost", "127.0.0.1", "::1", "10.20.30.40"])
def test_addresses_and_localhost_name_nobody(host: str) -> None:
    assert is_unnamed(host)


@pytest.mark.parametrize("host", ["hub", "hub.example.test", "127.0.0.1.example.test"])
def test_names_name_somebody(host: str) -> None:
    assert not is_unnamed(host)


@pytest.mark.parametrize(
    ("text", "address"),
    [("::ffff:10.0.0.7", "10.0.0.7"), ("0:0::1", "::1"), ("10.0.0.7", "10.0.0.7"), ("unix", "unix")],
)
def test_normal_address(text: str, address: str) -> None:
    assert normal_address(text) == address


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("10.0.0.1", ("10.0.0.1", 53)),
        ("10.0.0.1:5353", ("10.0.0.1", 5353)),
        ("fd00::1", ("fd00::1", 53)),
        ("[fd00::1]:5353", ("fd00::1", 5353)),
        ("hub.test", None),
        ("10.0.0.1:0", None),
        ("10.0.0.1:65536", None),
        ("10.0.0.1:x", None),
        ("[10.0.0.1", None),
        ("", None),
    ],
)
def test_an_address_has_a_port_or_the_usual_one(text: str, found: tuple[str, int] | None) -> None:
    assert address_and_port(text, 53) == found
