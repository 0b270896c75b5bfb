"""What is not right at a target is told by its sink: each thing alone, at each kind, in the target's own words."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AccessToken

from clients.site import ENTITY, HOST, Site, assign, make_site
from isthmus.base.clock import SystemClock
from isthmus.base.ids import HubId, RandomIds
from isthmus.resources.routing_endpoint import (
    BlobEncoding,
    EndpointAuthentication,
    EndpointKind,
    RoutingEndpoint,
    StorageSettings,
)
from isthmus.routing.sink import Destination, FailureKind, Sink, SinkFailure, Unacceptable
from isthmus.sinks.factory import sink_factory
from sinks.deliveries import delivery
from sinks.egress import HUB, LaidEgress
from support.loopback import Loopback
from support.server import RunningHub

CONTAINER = "archive"
AMQPS, HTTPS = 5671, 443
KINDS = [EndpointKind.EVENT_HUB, EndpointKind.QUEUE, EndpointKind.TOPIC, EndpointKind.STORAGE]
SEND_CLAIM = "'Send' claim(s) are required to perform this operation"


@dataclass
class SiteEgress(LaidEgress):
    """Shows tokens of an identity of the site, changed as a test wants it."""

    ask: Callable[[str], AccessToken] | None = None

    async def token(self, hub: HubId, identity: str, scope: str) -> tuple[str, int]:
        assert self.ask is not None
        given = await asyncio.to_thread(self.ask, scope)
        return given.token, given.expires_on


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Closed neighbours; the reader's identity, which may not write, is whom these sinks are."""
    with Loopback() as loopback:
        folder, settings = tmp_path_factory.mktemp("site"), "[authority]\nenabled = true\n"
        hub = RunningHub(folder, loopback.take(), hostname=HOST, settings=settings)
        try:
            hub.start()
            site = make_site(hub, loopback.take)
            hub.isthmus("storage", "container", "create", "--account-name", site.storage.name, "-n", CONTAINER)
            yield site
            hub.stop()
        finally:
            hub.kill()


@pytest.fixture
def egress(site: Site) -> SiteEgress:
    """Leads to the private endpoints."""
    egress = SiteEgress(Path(site.hub.ca))
    egress.ask = site.reader.get_token
    lead(egress, site, inside=True)
    return egress


@pytest.mark.parametrize("kind", KINDS)
async def test_an_address_that_the_rules_refuse(site: Site, egress: SiteEgress, kind: EndpointKind) -> None:
    lead(egress, site, inside=False)
    failure = await refused(site, egress, kind)
    told = ("AuthorizationFailure", "This request is not authorized to perform this operation.")
    if kind is not EndpointKind.STORAGE:
        told = ("401", "Ip has been prevented to connect to the endpoint.")
    assert (failure.kind, failure.code) == (FailureKind.NETWORK, told[0])
    assert failure.reason.startswith(told[1])


@pytest.mark.parametrize("kind", KINDS)
async def test_an_identity_without_the_role(site: Site, egress: SiteEgress, kind: EndpointKind) -> None:
    failure = await refused(site, egress, kind)
    told = ("AuthorizationPermissionMismatch", "operation using this permission.")
    if kind is not EndpointKind.STORAGE:
        told = ("amqp:unauthorized-access", SEND_CLAIM)
    assert (failure.kind, failure.code) == (FailureKind.ROLE, told[0])
    assert told[1] in failure.reason


@pytest.mark.parametrize("kind", KINDS)
async def test_a_token_whose_signature_is_wrong(site: Site, egress: SiteEgress, kind: EndpointKind) -> None:
    egress.ask = lambda scope: forged(site.reader.get_token(scope))
    assert (await refused(site, egress, kind)).kind is FailureKind.AUTHENTICATION


@pytest.mark.parametrize("kind", KINDS)
async def test_a_token_for_somebody_else(site: Site, egress: SiteEgress, kind: EndpointKind) -> None:
    egress.ask = lambda scope: site.reader.get_token("https://iothubs.azure.net/.default")
    assert (await refused(site, egress, kind)).kind is FailureKind.AUTHENTICATION


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_not_there(site: Site, egress: SiteEgress, kind: EndpointKind) -> None:
    with may_write(site, kind):
        failure = await refused(site, egress, kind, entity="absent")
        assert failure.kind is FailureKind.NOT_FOUND
        assert await answer(site, egress, kind) is None, "the same way, to what is there"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_message_that_no_target_of_the_kind_takes(site: Site, egress: SiteEgress, kind: EndpointKind) -> None:
    """It is told apart from those before it, which have arrived, and holds up nobody for ever."""
    batch = [delivery(b"before", number=0), delivery(b"x" * 2_000_000, number=1), delivery(b"behind", number=2)]
    sink = sink_factory(SystemClock(), RandomIds())(HUB, endpoint(site, kind, ""), egress)
    with may_write(site, kind):
        with pytest.raises(Unacceptable) as caught:
            await sink.deliver(0, batch)
        assert caught.value.index == 1
        await sink.deliver(0, batch[2:])
    await sink.close()


@contextmanager
def may_write(site: Site, kind: EndpointKind) -> Iterator[None]:
    """While it lasts, the identity has the role for targets of a kind."""
    role, scope = {
        EndpointKind.STORAGE: ("Storage Blob Data Contributor", site.storage.resource_id),
        EndpointKind.EVENT_HUB: ("Azure Event Hubs Data Sender", site.events.resource_id),
    }.get(kind, ("Azure Service Bus Data Sender", site.bus.resource_id))
    principal = site.hub.json("identity", "show", "-n", "reader")["principalId"]
    assign(site.hub, principal, role, scope)
    yield
    site.hub.isthmus("role", "assignment", "delete", "--assignee", principal, "--role", role, "--scope", scope)


async def refused(site: Site, egress: SiteEgress, kind: EndpointKind, entity: str = "") -> SinkFailure:
    """The failure of a delivery, of which a probe says the same."""
    probed, delivered = await answer(site, egress, kind, entity, probe=True), await answer(site, egress, kind, entity)
    assert probed is not None
    assert delivered is not None
    assert (probed.kind, probed.code) == (delivered.kind, delivered.code)
    return delivered


async def answer(
    site: Site, egress: SiteEgress, kind: EndpointKind, entity: str = "", *, probe: bool = False
) -> SinkFailure | None:
    sink: Sink = sink_factory(SystemClock(), RandomIds())(HUB, endpoint(site, kind, entity), egress)
    try:
        await (sink.probe() if probe else sink.deliver(0, [delivery()]))
    except SinkFailure as failure:
        return failure
    finally:
        await sink.close()
    return None


def endpoint(site: Site, kind: EndpointKind, entity: str) -> RoutingEndpoint:
    found = {EndpointKind.EVENT_HUB: ENTITY, EndpointKind.QUEUE: "orders", EndpointKind.TOPIC: "news"}
    names: dict[str, Any] = {"entity_path": entity or found.get(kind, "")}
    host = site.events.host if kind is EndpointKind.EVENT_HUB else site.bus.host
    if kind is EndpointKind.STORAGE:
        host, names = site.storage.host, {"storage": StorageSettings(entity or CONTAINER, encoding=BlobEncoding.JSON)}
    scheme = "https" if kind is EndpointKind.STORAGE else "sb"
    identity = EndpointAuthentication.IDENTITY
    return RoutingEndpoint(2, "0", "target", kind, identity, endpoint_uri=f"{scheme}://{host}", **names)


def lead(egress: SiteEgress, site: Site, *, inside: bool) -> None:
    """Names lead to the private endpoints, or to the public door."""
    for neighbour, port in ((site.events, AMQPS), (site.bus, AMQPS), (site.storage, HTTPS)):
        address = neighbour.private_address if inside else site.hub.address
        egress.names[neighbour.host] = [Destination(address, port)]


def forged(token: AccessToken) -> AccessToken:
    head, claims, _ = token.token.split(".")
    return AccessToken(f"{head}.{claims}.{'A' * 86}", token.expires_on)
