"""Where a target's name leads, judged before and after it is resolved."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from isthmus.base.ids import HubId
from isthmus.egress import judged
from isthmus.egress.judged import JudgedEgress, system_lookup
from isthmus.egress.messages import Settings
from isthmus.routing.egress_policy import Hosted, OutboundRules, Reachable
from isthmus.routing.sink import Destination, FailureKind, SinkFailure

HUB = HubId(1)
NAME = "store.blob.core.windows.net"
PUBLIC = Destination("20.60.1.1", 443)


def egress(
    found: Sequence[Destination] | OSError = (),
    *,
    reachable: Reachable = Reachable.ANY,
    rules: OutboundRules | None = None,
) -> JudgedEgress:
    settings = Settings("ca.pem", {"ns.test": Hosted("127.0.0.5", {5671: 15671})}, reachable)

    async def token(hub: HubId, identity: str, scope: str) -> tuple[str, int]:
        return f"{hub} {identity} {scope}", 7

    async def lookup(host: str, port: int) -> Sequence[Destination]:
        if isinstance(found, OSError):
            raise found
        return found

    return JudgedEgress(lambda: settings, lambda hub: rules or OutboundRules(), token, lookup)


async def refused(way: JudgedEgress, host: str) -> tuple[FailureKind, str]:
    with pytest.raises(SinkFailure) as failure:
        await way.resolve(HUB, host, 443)
    return failure.value.kind, failure.value.code


async def test_names_addresses_and_hosted_neighbours_lead_where_they_should() -> None:
    way = egress((PUBLIC,))
    assert await way.resolve(HUB, NAME, 443) == (PUBLIC,)
    assert await way.resolve(HUB, "ns.test", 5671) == (Destination("127.0.0.5", 15671),)
    assert await way.resolve(HUB, "10.0.0.1", 443) == (Destination("10.0.0.1", 443),)
    assert way.ca_file == Path("ca.pem")
    assert await way.token(HUB, "i", "s") == ("1 i s", 7)


async def test_a_name_that_starts_to_resolve_publicly_is_refused_where_that_is_wanted() -> None:
    way = egress((Destination("10.0.0.1", 443), PUBLIC), reachable=Reachable.PRIVATE)
    assert await refused(way, NAME) == (FailureKind.NAME, "ResolvesPublicly")
    assert await refused(way, "20.60.1.1") == (FailureKind.NAME, "ResolvesPublicly")
    assert await way.resolve(HUB, "ns.test", 443) == (Destination("127.0.0.5", 443),)


async def test_rules_of_the_hub_come_before_everything_also_for_what_is_hosted() -> None:
    way = egress(OSError("not asked"), rules=OutboundRules(restricted=True, allowed=("other",)))
    for host in (NAME, "ns.test", "10.0.0.1"):
        assert await refused(way, host) == (FailureKind.OUTBOUND, "OutboundNameNotAllowed")


async def test_a_name_that_does_not_resolve_says_so() -> None:
    way = egress(OSError(-2, "Name or service not known"))
    assert await refused(way, NAME) == (FailureKind.NAME, "NameNotResolved")


async def test_a_resolver_that_says_nothing_is_waited_for_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judged, "RESOLVE_SECONDS_MAX", 0.01)

    async def silent(host: str, port: int) -> Sequence[Destination]:
        await asyncio.Event().wait()
        return ()

    way = JudgedEgress(lambda: Settings("ca.pem", {}), lambda hub: OutboundRules(), _no_token, silent)
    assert await refused(way, NAME) == (FailureKind.NAME, "NameNotResolved")


async def test_the_system_knows_this_machine() -> None:
    found = await system_lookup("localhost", 443)
    assert {each.address for each in found} <= {"127.0.0.1", "::1"}
    assert {each.port for each in found} == {443}


async def _no_token(hub: HubId, identity: str, scope: str) -> tuple[str, int]:
    raise AssertionError("nobody asks")
