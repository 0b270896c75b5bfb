"""Which interface is given an address."""

import ipaddress

import pytest

from isthmus.namespaces.addresses import LOOPBACK_INDEX, Held, interface_for

THERE = (
    Held(LOOPBACK_INDEX, ipaddress.ip_interface("127.0.0.1/8")),
    Held(2, ipaddress.ip_interface("10.0.0.1/8")),
    Held(3, ipaddress.ip_interface("10.1.0.1/24")),
    Held(4, ipaddress.ip_interface("fd00:1::1/64")),
    Held(5, ipaddress.ip_interface("10.9.9.9/32")),
)


@pytest.mark.parametrize(
    ("address", "index"),
    [
        ("10.1.0.5", 3),
        ("10.2.0.5", 2),
        ("192.168.0.5", LOOPBACK_INDEX),
        ("fd00:1::5", 4),
        ("fd00:2::5", LOOPBACK_INDEX),
    ],
)
def test_the_closest_network_has_it(address: str, index: int) -> None:
    assert interface_for(ipaddress.ip_address(address), THERE) == index
