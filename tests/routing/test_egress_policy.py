"""Where a hub may go."""

import pytest

from isthmus.routing.egress_policy import (
    Hosted,
    OutboundRules,
    Reachable,
    check_addresses,
    check_name,
    hosted_destination,
)
from isthmus.routing.sink import Destination, FailureKind, SinkFailure

NAME = "store.blob.core.windows.net"
PRIVATE = Destination("10.1.2.3", 443)
PUBLIC = Destination("20.60.1.1", 443)


@pytest.mark.parametrize(
    ("rules", "host"),
    [
        (OutboundRules(), NAME),
        (OutboundRules(restricted=False, allowed=("other",)), NAME),
        (OutboundRules(restricted=True, allowed=(NAME,)), NAME),
        (OutboundRules(restricted=True, allowed=(NAME,)), "Store.Blob.Core.Windows.NET."),
        (OutboundRules(restricted=True, allowed=("10.1.2.3",)), "10.1.2.3"),
    ],
)
def test_names_that_may_be_gone_to(rules: OutboundRules, host: str) -> None:
    check_name(rules, host)


@pytest.mark.parametrize("allowed", [(), ("blob.core.windows.net",), ("x" + NAME,), ("10.1.2.3",)])
def test_a_restricted_hub_goes_to_listed_names_only(allowed: tuple[str, ...]) -> None:
    with pytest.raises(SinkFailure) as refused:
        check_name(OutboundRules(restricted=True, allowed=allowed), NAME)
    assert refused.value.kind is FailureKind.OUTBOUND
    assert NAME in refused.value.reason


@pytest.mark.parametrize(
    ("reachable", "found"),
    [
        (Reachable.ANY, (PRIVATE, PUBLIC)),
        (Reachable.PRIVATE, (PRIVATE, Destination("fd00::1", 443), Destination("127.0.0.1", 443))),
        (Reachable.PUBLIC, (PUBLIC, Destination("2603:1030::1", 443))),
    ],
)
def test_addresses_that_may_be_gone_to(reachable: Reachable, found: tuple[Destination, ...]) -> None:
    assert check_addresses(reachable, NAME, found) == found


@pytest.mark.parametrize(
    ("reachable", "found", "code"),
    [
        (Reachable.PRIVATE, (PRIVATE, PUBLIC), "ResolvesPublicly"),
        (Reachable.PRIVATE, (Destination("2603:1030::1", 443),), "ResolvesPublicly"),
        (Reachable.PUBLIC, (PRIVATE,), "ResolvesPrivately"),
    ],
)
def test_a_name_that_resolves_elsewhere_is_refused(
    reachable: Reachable, found: tuple[Destination, ...], code: str
) -> None:
    with pytest.raises(SinkFailure) as refused:
        check_addresses(reachable, NAME, found)
    assert (refused.value.kind, refused.value.code) == (FailureKind.NAME, code)


def test_hosted_names_lead_to_this_server_by_the_ports_it_has() -> None:
    hosted = {"ns.servicebus.plant.test": Hosted("127.0.0.5", {5671: 15671, 443: 8443})}
    assert hosted_destination(hosted, "NS.servicebus.plant.test", 5671) == Destination("127.0.0.5", 15671)
    assert hosted_destination(hosted, "ns.servicebus.plant.test", 8443) == Destination("127.0.0.5", 8443)
    assert hosted_destination(hosted, NAME, 443) is None
