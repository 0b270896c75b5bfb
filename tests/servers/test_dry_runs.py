"""Dry runs: they agree with what happens afterwards, they change nothing, and they tell who, from where and why.

The peers here come through the real gate. Whoever came in before a change and does not come in after it has to be what
the dry run of the change lists, with the rule that he is then refused by.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.fakes import HUB as HUB_NUMBER
from devices.fakes import KEY, CountedIds
from isthmus.access.arrivals import Arrival
from isthmus.access.journal import BUILT_IN, asked_of_group
from isthmus.base.errors import HubError
from isthmus.base.ids import DeviceRef
from isthmus.base.sas_token import sign
from isthmus.network.door import PUBLIC_DOOR, Door
from isthmus.resources.consumer_groups import add_group
from isthmus.resources.hub import GROUP_PATH
from isthmus.resources.virtual_network_arm import subnet_id
from isthmus.servers.gateway.amqp_reader import check_group_door
from isthmus.servers.gateway.gate import Gate
from isthmus.servers.gateway.plane import Plane
from isthmus.servers.management import dry_runs
from resources.world import endpoint_body, in_subnet, network_body, peering_body, site_body
from servers.gate_world import FakeCounters, FakePeer
from servers.management_world import ADDRESS, HUB, Answer, ManagementWorld

HOST = "hub.example.test"
NETWORK = f"{GROUP_PATH}/providers/Microsoft.Network"
WORKS, OFFICE = f"{NETWORK}/virtualNetworks/works", f"{NETWORK}/virtualNetworks/office"
OUTSIDE, BRANCH, INSIDE, DEPOT, PEER = "203.0.113.7", "198.51.100.9", "10.1.7.7", "192.168.0.9", "10.30.0.9"


class Plant:
    """A hub with two devices, two consumer groups and a private endpoint, in a network with a peer and a site."""

    def __init__(self) -> None:
        self.management = ManagementWorld()
        domain = self.management.domain
        self.domain = domain
        self.gate = Gate(
            domain.directory,
            domain.registry,
            domain.journal,
            FakeCounters(),
            self.management.clock,
            CountedIds(),
            facts=domain.networks.facts,
            tags=domain.twins,
        )
        self.door: Door

    async def start(self) -> "Plant":
        domain = self.domain
        await self.management.start()
        await domain.hubs.change("hub", lambda hub: add_group(hub, "billing"))
        for name, tags in (("press", {"site": "plant1"}), ("oven", {})):
            ref = DeviceRef(HUB_NUMBER, name)
            keys = {"symmetricKey": {"primaryKey": KEY, "secondaryKey": KEY}}
            await domain.registry.put(ref, {"deviceId": name, "authentication": keys}, None)
            await domain.twins.patch(ref, {"tags": tags}, None)
        await domain.networks.put_network("works", network_body("10.1.0.0/16", line="10.1.0.0/24"))
        await domain.networks.put_network("office", network_body("10.30.0.0/16"))
        for one, other in (("works", "office"), ("office", "works")):
            body = peering_body(other, allowVirtualNetworkAccess=True)
            await domain.networks.put_peering(one, f"to-{other}", body)
        await domain.networks.put_gateway("depot", site_body("works", "192.168.0.0/16"))
        body = in_subnet(endpoint_body(HUB, ADDRESS), subnet_id("works", "line"))
        self.door = (await domain.endpoints.create("line", body)).door
        return self

    def token(self, policy: str, resource: str = HOST) -> str:
        known = self.domain.hubs.require("hub").policy(policy)
        key = known.primary_key if known is not None else KEY
        return sign(resource, key, self.management.clock.utc_ms() // 1000 + 86_400, policy)

    async def dry_run(self, method: str, path: str, body: object = None, *, since: str = "") -> Answer:
        query = f"?dryRun=true&since={since}"
        return await self.management.ask(method, f"{path}{query}", body)


@dataclass(frozen=True)
class Peer:
    """Somebody who comes from an address by a door, and how he proves himself."""

    name: str
    address: str
    private: bool

    async def come(self, plant: Plant) -> str:
        """The rule that refuses him, empty when he is let in; then he is in the journal."""
        peer = FakePeer(plant.door if self.private else PUBLIC_DOOR, self.address)
        try:
            await COMING[self.name](plant, peer)
        except HubError as error:
            return error.refusal.rule if error.refusal is not None else error.message
        return ""

    def key(self, plant: Plant) -> tuple[str, str, str, str]:
        door = plant.door.label if self.private else "public"
        return (self.name, self.address, door, "")


async def device(plant: Plant, peer: FakePeer, name: str) -> None:
    ref = DeviceRef(HUB_NUMBER, name)
    token = sign(f"{HOST}/devices/{name}", KEY, plant.management.clock.utc_ms() // 1000 + 86_400)
    hub = plant.domain.hubs.require("hub")
    plant.gate.admitted(peer, Plane.MQTT, await plant.gate.device(peer, Plane.MQTT, hub, ref, token))


async def service(plant: Plant, peer: FakePeer) -> None:
    hub = plant.domain.hubs.require("hub")
    admitted = await plant.gate.policy(peer, Plane.HTTPS, hub, plant.token("service"), HOST)
    plant.gate.admitted(peer, Plane.HTTPS, admitted)


async def reader(plant: Plant, peer: FakePeer) -> None:
    hub = plant.domain.hubs.require("hub")
    audience = f"sb://{HOST}/hub"
    token = plant.token("iothubowner", audience)
    await plant.gate.token(peer, Plane.AMQP, hub, token, audience, built_in=True)
    check_group_door(hub, "billing", peer.door)
    plant.gate.reading(peer, hub, "policy:iothubowner", "billing")


COMING: Mapping[str, Callable[[Plant, FakePeer], Awaitable[None]]] = {
    "press": lambda plant, peer: device(plant, peer, "press"),
    "oven": lambda plant, peer: device(plant, peer, "oven"),
    "service": service,
    "billing": reader,
}
PLACES = ((OUTSIDE, False), (BRANCH, False), (INSIDE, True), (DEPOT, True), (PEER, True))
PEERS = [Peer(name, address, private) for name in COMING for address, private in PLACES]


@dataclass(frozen=True)
class Change:
    """A management call that may cut somebody off."""

    method: str
    path: str
    body: Any = None

    def body_of(self, plant: Plant) -> Any:
        return self.body

    def path_of(self, plant: Plant) -> str:
        return self.path.replace("CONNECTION", plant.door.connection)


def rules(*masks: str, built_in: bool) -> dict[str, Any]:
    ip_rules = [{"filterName": f"r{n}", "ipMask": mask, "action": "Allow"} for n, mask in enumerate(masks)]
    sets = {"defaultAction": "Deny", "applyToBuiltInEventHubEndpoint": built_in, "ipRules": ip_rules}
    return {"properties": {"networkRuleSets": sets}}


def bound(name: str, doors: list[str], **subject: object) -> Change:
    return Change("PUT", f"{HUB}/doorPolicies/{name}", {"properties": {"doors": doors, **subject}})


def rejected() -> dict[str, Any]:
    return {"properties": {"privateLinkServiceConnectionState": {"status": "Rejected", "description": "no"}}}


CHANGES = [
    Change("PATCH", HUB, {"properties": {"publicNetworkAccess": "Disabled"}}),
    Change("PATCH", HUB, rules("198.51.100.0/24", built_in=False)),
    Change("PATCH", HUB, rules("198.51.100.0/24", built_in=True)),
    Change("PATCH", HUB, {"tags": {"a": "b"}}),
    Change("PATCH", HUB, {"properties": {"disableLocalAuth": True}}),
    Change("PATCH", HUB, {"properties": {"disableDeviceSAS": True, "disableModuleSAS": True}}),
    Change("PATCH", HUB, {"properties": {"authorizationPolicies": [{"keyName": "iothubowner"}]}}),
    Change("PUT", f"{HUB}/privateEndpointConnections/CONNECTION", rejected()),
    Change("DELETE", f"{HUB}/privateEndpointConnections/CONNECTION"),
    Change("DELETE", f"{NETWORK}/privateEndpoints/line"),
    Change("DELETE", f"{NETWORK}/localNetworkGateways/depot"),
    Change("DELETE", f"{WORKS}/virtualNetworkPeerings/to-office"),
    Change("DELETE", f"{OFFICE}/virtualNetworkPeerings/to-works"),
    Change("DELETE", OFFICE),
    bound("a", ["private"], deviceIds=["press", "later"]),
    bound("b", ["public"], query="tags.site = 'plant1'"),
    bound("c", ["private:line"], sharedAccessPolicy="service"),
    bound("d", ["network:works"], consumerGroup="billing"),
    bound("e", ["public"], sharedAccessPolicy="iothubowner"),
    bound("f", ["public"], deviceIds=["press"], enabled=False),
]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(CHANGES), min_size=1, max_size=3, unique_by=id))
async def test_a_dry_run_agrees_with_what_happens(changes: list[Change]) -> None:
    plant = await Plant().start()
    for change in changes:
        came = [peer for peer in PEERS if await peer.come(plant) == ""]
        path = change.path_of(plant)
        told = await plant.dry_run(change.method, path, change.body)
        done = await plant.management.ask(change.method, path, change.body)
        if done.status >= 400:
            assert (told.status, told.json) == (done.status, done.json), "refused alike"
            continue
        assert told.status == 200, told.json
        expected = {peer.key(plant)[:3]: rule for peer in came if (rule := await peer.come(plant))}
        listed = {key_of(each): each["rule"] for each in told.json["affected"]}
        assert listed == expected


async def test_a_dry_run_changes_and_journals_nothing() -> None:
    plant = await Plant().start()
    before = await everything(plant)
    for change in CHANGES:
        assert (await plant.dry_run(change.method, change.path_of(plant), change.body)).status == 200
    assert await everything(plant) == before


async def test_who_is_listed_from_where_and_why() -> None:
    plant = await Plant().start()
    assert await Peer("press", OUTSIDE, private=False).come(plant) == ""
    assert await Peer("billing", BRANCH, private=False).come(plant) == ""
    told = await plant.dry_run("PATCH", HUB, {"properties": {"publicNetworkAccess": "Disabled"}})
    reading, sending = sorted(told.json["affected"], key=lambda each: str(each["device"]))
    assert sending | {"remedy": "", "value": ""} == {
        "hub": "hub",
        "device": "press",
        "principal": "device:press",
        "address": OUTSIDE,
        "door": "public",
        "plane": "mqtt",
        "consumerGroup": "",
        "lastSeen": "2026-01-01T00:00:00.1230000Z",
        "live": False,
        "rule": "network.public-access",
        "value": "",
        "remedy": "",
    }
    assert (reading["principal"], reading["consumerGroup"]) == ("policy:iothubowner", "billing")
    assert (told.json["affectedTotal"], told.json["admitted"], told.json["complete"]) == (2, 0, True)
    assert told.json["dryRun"] is True


async def test_live_sessions_are_listed_first_and_count_as_seen_now() -> None:
    plant = await Plant().start()
    live = Arrival("oven", "device:oven", OUTSIDE, "public", "mqtt")
    reading = Arrival("", "policy:service", OUTSIDE, "public", "amqp", asked_of_group("billing"))
    lasting = Arrival("", "policy:service", OUTSIDE, "public", "amqp", BUILT_IN)
    assert await Peer("press", OUTSIDE, private=False).come(plant) == ""
    plant.management.clock.now_ms += 60_000
    plant.management.live = [live, reading, lasting]
    told = await plant.dry_run("PATCH", HUB, {"properties": {"publicNetworkAccess": "Disabled"}})
    assert [each["live"] for each in told.json["affected"]] == [True, True, False]
    assert {each["lastSeen"] for each in told.json["affected"][:2]} == {"2026-01-01T00:01:00.1230000Z"}
    assert {each["consumerGroup"] for each in told.json["affected"][:2]} == {"", "billing"}, "a reader counts once"
    assert told.json["affected"][2]["device"] == "press"


async def test_only_the_last_days_are_looked_at() -> None:
    plant = await Plant().start()
    closing = ("PATCH", HUB, {"properties": {"publicNetworkAccess": "Disabled"}})
    assert await Peer("press", OUTSIDE, private=False).come(plant) == ""
    plant.management.clock.now_ms += 8 * 86_400_000
    assert (await plant.dry_run(*closing)).json["affected"] == []
    assert len((await plant.dry_run(*closing, since="2026-01-01T00:00:00Z")).json["affected"]) == 1


async def test_a_roll_lists_who_came_with_the_key_that_goes_and_not_who_came_with_the_other() -> None:
    plant = await Plant().start()
    policy = plant.domain.hubs.require("hub").policy("service")
    assert policy is not None
    assert await Peer("service", OUTSIDE, private=False).come(plant) == ""
    moved = sign(HOST, policy.secondary_key, plant.management.clock.utc_ms() // 1000 + 60, "service")
    peer = FakePeer(PUBLIC_DOOR, BRANCH)
    hub = plant.domain.hubs.require("hub")
    plant.gate.admitted(peer, Plane.HTTPS, await plant.gate.policy(peer, Plane.HTTPS, hub, moved, HOST))
    older = Arrival("", "policy:service", INSIDE, "public", "amqp")
    plant.management.live = [older]
    kept = [{"keyName": each.name} for each in hub.policies if each.name != "service"]
    body = {"properties": {"authorizationPolicies": [*kept, {"keyName": "service", "primaryKey": KEY}]}}

    told = await plant.dry_run("PATCH", HUB, body)

    listed = {each["address"]: (each["rule"], each["value"]) for each in told.json["affected"]}
    assert listed == {
        OUTSIDE: ("auth.signature", "the key of service was replaced"),
        INSIDE: ("auth.signature", "a key of service was replaced; which one was used is not known"),
    }
    assert told.json["admitted"] == 1


@pytest.mark.parametrize("gone", ["deleted", "disabled"])
async def test_who_is_not_there_any_more_is_not_listed(gone: str) -> None:
    plant = await Plant().start()
    assert await Peer("press", OUTSIDE, private=False).come(plant) == ""
    ref = DeviceRef(HUB_NUMBER, "press")
    if gone == "deleted":
        await plant.domain.registry.delete(ref, None)
    else:
        await plant.domain.registry.put(ref, {"deviceId": "press", "status": "disabled"}, "*")
    told = await plant.dry_run("PATCH", HUB, {"properties": {"publicNetworkAccess": "Disabled"}})
    assert (told.json["affected"], told.json["refusedAlready"]) == ([], 1)


async def test_a_long_list_is_cut_and_says_how_long_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_runs, "AFFECTED_MAX", 1)
    plant = await Plant().start()
    for name in ("press", "oven"):
        assert await Peer(name, OUTSIDE, private=False).come(plant) == ""
    told = await plant.dry_run("PATCH", HUB, {"properties": {"publicNetworkAccess": "Disabled"}})
    assert (len(told.json["affected"]), told.json["affectedTotal"]) == (1, 2)


@pytest.mark.parametrize(
    ("method", "query", "said"),
    [
        ("GET", "dryRun=true", "PUT, PATCH and DELETE"),
        ("POST", "dryRun=true", "PUT, PATCH and DELETE"),
        ("PATCH", "dryRun=maybe", "true or false"),
        ("PATCH", "dryRun=true&since=yesterday", "ISO 8601"),
    ],
)
async def test_what_cannot_be_rehearsed_says_so(method: str, query: str, said: str) -> None:
    plant = await Plant().start()
    answer = await plant.management.ask(method, f"{HUB}?{query}", {})
    assert (answer.status, answer.code) == (400, "ArgumentInvalid")
    assert said in answer.message


async def test_without_the_word_true_a_change_is_made() -> None:
    plant = await Plant().start()
    answer = await plant.management.ask("PATCH", f"{HUB}?dryRun=FALSE", {"tags": {"a": "b"}})
    assert answer.status == 200
    assert plant.domain.hubs.require("hub").tags == {"a": "b"}


def key_of(listed: Mapping[str, Any]) -> tuple[str, str, str]:
    name = listed["device"] or listed["consumerGroup"] or str(listed["principal"]).removeprefix("policy:")
    return (name, listed["address"], listed["door"])


async def everything(plant: Plant) -> list[object]:
    state = plant.management.state
    documents = [await state.scan(kind, hub) for kind in ("hub", "endpoint", "network", "meta") for hub in (0, 1)]  # type: ignore[arg-type]
    return [documents, plant.domain.hubs.all(), plant.domain.networks.facts(), await plant.management.noted()]
