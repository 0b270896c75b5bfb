"""Admission: one table of doors, addresses and rules, and what comes of them."""

from dataclasses import dataclass

import pytest

from isthmus.base.errors import Hop
from isthmus.network.admission import Allow, Deny, admit
from isthmus.network.door import LOCAL_DOOR, PUBLIC_DOOR, Door, DoorKind
from isthmus.network.private_endpoints import ConnectionStatus, PrivateEndpointConnection
from isthmus.network.rules import DefaultAction, IpRule, NetworkRules

HUB_ID = "/subscriptions/s/resourceGroups/isthmus/providers/Microsoft.Devices/IotHubs/hub"
OTHER_ID = HUB_ID + "2"
CONNECTIONS = tuple(
    PrivateEndpointConnection(status.value.lower(), status, "", "id", "10.1.0.7")
    for status in (ConnectionStatus.APPROVED, ConnectionStatus.PENDING, ConnectionStatus.REJECTED)
)
OFFICE = IpRule("office", "203.0.113.0/24")
SIX = IpRule("six", "2001:db8::/32")
DENYING = NetworkRules(DefaultAction.DENY, apply_to_built_in=False, ip_rules=(OFFICE, SIX))
COVERING = NetworkRules(DefaultAction.DENY, apply_to_built_in=True, ip_rules=(OFFICE,))
ALLOWING = NetworkRules(DefaultAction.ALLOW, apply_to_built_in=True, ip_rules=(OFFICE,))
EMPTY = NetworkRules(DefaultAction.DENY, apply_to_built_in=True)


@dataclass(frozen=True)
class Guarded:
    """A resource with every kind of connection."""

    public_network_access: bool = True
    rules: NetworkRules | None = None
    name: str = "hub"
    group: str = "iot hub"
    resource_id: str = HUB_ID
    connections: tuple[PrivateEndpointConnection, ...] = CONNECTIONS


OPEN, CLOSED = Guarded(), Guarded(public_network_access=False)


def private(connection: str, resource_id: str = HUB_ID) -> Door:
    return Door(DoorKind.PRIVATE, resource_id, connection)


@pytest.mark.parametrize(
    ("resource", "door", "address", "built_in", "rule"),
    [
        (OPEN, PUBLIC_DOOR, "198.51.100.1", False, "network.public-access"),
        (OPEN, LOCAL_DOOR, "", False, "network.local"),
        (CLOSED, LOCAL_DOOR, "", False, "network.local"),
        (CLOSED, private("approved"), "10.0.0.9", False, "network.private-endpoint"),
        (Guarded(False, EMPTY), private("approved"), "10.0.0.9", True, "network.private-endpoint"),
        (CLOSED, private("approved", HUB_ID.lower()), "10.0.0.9", False, "network.private-endpoint"),
        (Guarded(rules=DENYING), PUBLIC_DOOR, "203.0.113.9", False, "network.ip-rule:office"),
        (Guarded(rules=DENYING), PUBLIC_DOOR, "::ffff:203.0.113.9", False, "network.ip-rule:office"),
        (Guarded(rules=DENYING), PUBLIC_DOOR, "2001:db8::9", False, "network.ip-rule:six"),
        (Guarded(rules=DENYING), PUBLIC_DOOR, "198.51.100.1", True, "network.public-access"),
        (Guarded(rules=COVERING), PUBLIC_DOOR, "203.0.113.9", True, "network.ip-rule:office"),
        (Guarded(rules=ALLOWING), PUBLIC_DOOR, "198.51.100.1", True, "network.ip-rule:default"),
    ],
)
def test_admits(resource: Guarded, door: Door, address: str, *, built_in: bool, rule: str) -> None:
    assert admit(resource, door=door, address=address, built_in=built_in) == Allow(door.label, rule)


@pytest.mark.parametrize(
    ("resource", "door", "address", "built_in", "rule"),
    [
        (CLOSED, PUBLIC_DOOR, "203.0.113.9", False, "network.public-access"),
        (CLOSED, PUBLIC_DOOR, "203.0.113.9", True, "network.public-access"),
        (Guarded(False, DENYING), PUBLIC_DOOR, "203.0.113.9", False, "network.public-access"),
        (OPEN, private("pending"), "10.0.0.9", False, "network.private-endpoint-pending"),
        (OPEN, private("rejected"), "10.0.0.9", False, "network.private-endpoint-rejected"),
        (OPEN, private("gone"), "10.0.0.9", False, "network.private-endpoint-disconnected"),
        (OPEN, private("approved", OTHER_ID), "10.0.0.9", False, "network.wrong-door"),
        (Guarded(rules=DENYING), PUBLIC_DOOR, "198.51.100.1", False, "network.ip-rule"),
        (Guarded(rules=DENYING), PUBLIC_DOOR, "2001:db9::1", False, "network.ip-rule"),
        (Guarded(rules=DENYING), PUBLIC_DOOR, "", False, "network.ip-rule"),
        (Guarded(rules=COVERING), PUBLIC_DOOR, "198.51.100.1", True, "network.ip-rule"),
        (Guarded(rules=EMPTY), PUBLIC_DOOR, "203.0.113.9", False, "network.ip-rule"),
    ],
)
def test_denies_and_says_why(resource: Guarded, door: Door, address: str, *, built_in: bool, rule: str) -> None:
    admission = admit(resource, door=door, address=address, built_in=built_in)
    assert isinstance(admission, Deny)
    assert admission.refusal.rule == rule
    assert admission.refusal.hop is Hop.NETWORK
    assert admission.refusal.value
    assert admission.refusal.remedy


def test_the_remedy_of_a_closed_door_is_a_command() -> None:
    admission = admit(CLOSED, door=PUBLIC_DOOR, address="203.0.113.9")
    assert isinstance(admission, Deny)
    assert "isthmus iot hub update -n hub --set properties.publicNetworkAccess=Enabled" in admission.refusal.remedy


def test_the_remedy_of_a_pending_endpoint_is_its_approval() -> None:
    admission = admit(OPEN, door=private("pending"), address="10.0.0.9")
    assert isinstance(admission, Deny)
    assert admission.refusal.remedy == (
        "isthmus network private-endpoint-connection approve -n pending --resource-name hub"
    )


@pytest.mark.parametrize("resource", [OPEN, CLOSED, Guarded(rules=NetworkRules(DefaultAction.DENY))])
def test_whom_a_resource_trusts_passes_its_public_door_from_anywhere(resource: Guarded) -> None:
    admission = admit(resource, door=PUBLIC_DOOR, address="203.0.113.9", trusted=True)
    assert admission == Allow("public", "network.trusted-service")


@pytest.mark.parametrize("connection", ["pending", "rejected", "gone"])
def test_trust_opens_no_private_door(connection: str) -> None:
    assert admit(OPEN, door=private(connection), address="10.0.0.9", trusted=True) == admit(
        OPEN, door=private(connection), address="10.0.0.9"
    )
    assert isinstance(admit(OPEN, door=private(connection), address="10.0.0.9", trusted=True), Deny)
