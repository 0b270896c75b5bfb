"""What ends because something changed: the sessions that lost their right, and before the change is answered."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from access.chains import registered
from devices.fakes import HUB, KEY, OTHER_KEY, CountedIds
from isthmus.access.ca_certificate import CaCertificate
from isthmus.access.principal import Principal, PrincipalKind, Right
from isthmus.access.x509 import fingerprint
from isthmus.base.errors import Code, Refusal
from isthmus.base.ids import PROBE_PREFIX, DeviceRef, HubId
from isthmus.devices.identity import Identity, changed_identity, new_identity, parse_identity
from isthmus.devices.ports import MethodAnswer
from isthmus.network.door import LOCAL_DOOR, PUBLIC_DOOR, Door
from isthmus.network.door_policies import DoorPolicy, TagEquals
from isthmus.network.private_endpoints import ConnectionStatus
from isthmus.resources.hub import hub_resource_id
from isthmus.resources.virtual_network_arm import subnet_id
from isthmus.servers.gateway.connected import Connected
from isthmus.servers.gateway.cutting import Cutting
from isthmus.servers.gateway.plane import Plane
from isthmus.servers.gateway.sessions import Sessions
from resources.world import World, endpoint_body, in_subnet, network_body, site_body
from servers.gate_world import FakeTags
from support.certificates import issue

HUB_ID = hub_resource_id("hub")

NEW_KEY = "MjEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
PRIVATE_ADDRESS = "10.1.0.7"
NOW_MS = 1_767_225_600_000


@dataclass(eq=False)
class LiveSession:
    """A session that notes why it was cut, and is gone then."""

    sessions: Sessions
    principal: Principal
    hub: HubId = HUB
    door: Door = PUBLIC_DOOR
    address: str = "203.0.113.7"
    plane: Plane = Plane.MQTT
    built_in: bool = False
    device: str = ""
    rules: list[str] = field(default_factory=list)
    codes: list[Code] = field(default_factory=list)
    connected_ms: int = NOW_MS

    def __post_init__(self) -> None:
        self.sessions.add(self)

    def cut(self, refusal: Refusal, code: Code) -> None:
        self.rules.append(refusal.rule)
        self.codes.append(code)
        self.sessions.remove(self)

    def replaced(self) -> None:
        return

    async def gone(self) -> None:
        return

    def accepts_methods(self) -> bool:
        return True

    async def invoke(self, name: str, payload: bytes) -> MethodAnswer:
        raise NotImplementedError

    def desired_changed(self, patch: bytes, version: int) -> None:
        return

    def c2d_available(self) -> None:
        return


class NoPresence:
    """Nobody asks here who is connected."""

    def connected(self, ref: DeviceRef, at_ms: int) -> None:
        return

    def disconnected(self, ref: DeviceRef, at_ms: int) -> None:
        return


class Cut:
    """Hubs, sessions and connected devices with what cuts them."""

    def __init__(self) -> None:
        self.world = World()
        self.sessions = Sessions()
        self.connected = Connected(NoPresence(), self.world.clock)
        self.tags = FakeTags()
        self.cutting = Cutting(
            self.sessions,
            self.connected,
            self.world.networks.facts,
            tags=self.tags,
            hub_of=self.world.hubs.by_number,
        )
        self.world.hubs.on_change(self.cutting.hub_changed)
        self.world.networks.on_change(lambda _: self.cutting.networks_changed(self.world.hubs.all()))

    def session(
        self, *, key: str = KEY, kind: PrincipalKind = PrincipalKind.DEVICE, hub: HubId = HUB, door: Door = PUBLIC_DOOR,
        address: str = "203.0.113.7", built_in: bool = False, device: str = "", plane: Plane = Plane.MQTT
    ) -> LiveSession:  # fmt: skip
        principal = Principal(kind, "service", frozenset(), "hub", "sas", fingerprint(key))
        return LiveSession(self.sessions, principal, hub, door, address, plane, built_in, device)

    async def device(self, name: str, key: str = KEY) -> LiveSession:
        device_id, _, module_id = name.partition("/")
        session = self.session(key=key)
        await self.connected.enter(DeviceRef(HUB, device_id, module_id), session)
        return session

    async def bind(self, *policies: DoorPolicy) -> None:
        await self.world.hubs.change("hub", lambda hub: replace(hub, door_policies=policies))

    async def update(self, properties: dict[str, object]) -> None:
        await self.world.hubs.update("hub", {"properties": properties})


@pytest.fixture
async def cut() -> Cut:
    made = Cut()
    await made.world.with_hub("hub")
    await made.world.with_hub("other")
    return made


async def test_closing_the_public_door_cuts_who_came_by_it(cut: Cut) -> None:
    public = [cut.session(address=f"203.0.113.{number}") for number in range(3)]
    door = await plant(cut)
    private, local, other = cut.session(door=door), cut.session(door=LOCAL_DOOR), cut.session(hub=HubId(2))

    await cut.update({"publicNetworkAccess": "Disabled"})

    assert [session.rules for session in public] == [["network.public-access"]] * 3
    assert {code for session in public for code in session.codes} == {Code.UNAUTHORIZED_ACCESS}
    assert [private.rules, local.rules, other.rules] == [[], [], []]


async def test_rejecting_an_endpoint_cuts_who_came_by_its_door(cut: Cut) -> None:
    door = await plant(cut)
    public, private = cut.session(), cut.session(door=door)

    await cut.world.endpoints.decide(HUB_ID, door.connection, ConnectionStatus.REJECTED, "no more")

    assert (public.rules, private.rules) == ([], ["network.private-endpoint-rejected"])


async def test_deleting_an_endpoint_cuts_who_came_by_its_door(cut: Cut) -> None:
    door = await plant(cut)
    public, private = cut.session(), cut.session(door=door)

    await cut.world.endpoints.delete("plant")

    assert (public.rules, private.rules) == ([], ["network.private-endpoint-disconnected"])


async def test_ip_rules_cut_whom_they_do_not_name_and_spare_the_built_in_endpoint(cut: Cut) -> None:
    allowed = cut.session(address="198.51.100.1")
    strange, reading = cut.session(address="203.0.113.7"), cut.session(address="203.0.113.7", built_in=True)

    rule = {"filterName": "office", "ipMask": "198.51.100.0/24", "action": "Allow"}
    await cut.update(
        {"networkRuleSets": {"defaultAction": "Deny", "applyToBuiltInEventHubEndpoint": False, "ipRules": [rule]}}
    )

    assert [allowed.rules, strange.rules, reading.rules] == [[], ["network.ip-rule"], []]


async def test_networks_cut_whom_they_do_not_let_reach_his_door_any_more(cut: Cut) -> None:
    networks, hub = cut.world.networks, cut.world.hubs.require("hub")
    await networks.put_network("plant", network_body("10.1.0.0/16", line="10.1.0.0/24"))
    await networks.put_gateway("works", site_body("plant", "192.168.0.0/16"))
    body = in_subnet(endpoint_body(hub.resource_id, PRIVATE_ADDRESS), subnet_id("plant", "line"))
    door = (await cut.world.endpoints.create("plant", body)).door
    inside, site = (cut.session(door=door, address=address) for address in ("10.1.7.7", "192.168.0.7"))
    public = cut.session(address="192.168.0.7")

    await networks.delete_gateway("works")

    assert [inside.rules, site.rules, public.rules] == [[], ["network.not-in-network"], []]


async def test_deleting_a_hub_cuts_all_its_sessions(cut: Cut) -> None:
    here, elsewhere = cut.session(door=LOCAL_DOOR), cut.session(hub=HubId(2))

    await cut.world.hubs.delete("hub")

    assert (here.rules, elsewhere.rules) == (["name.unknown"], [])


async def test_a_policy_key_that_is_gone_ends_its_sessions(cut: Cut) -> None:
    policy = cut.world.hubs.require("hub").policy("service")
    assert policy is not None
    good = cut.session(key=policy.primary_key, kind=PrincipalKind.POLICY)
    gone = cut.session(key=NEW_KEY, kind=PrincipalKind.POLICY)

    await cut.update({"cloudToDevice": {"maxDeliveryCount": 5}})

    assert (good.rules, gone.rules) == ([], ["auth.signature"])


async def test_a_roll_ends_who_uses_the_former_key_and_a_swap_nobody(cut: Cut) -> None:
    policy = cut.world.hubs.require("hub").policy("service")
    assert policy is not None
    on_primary, on_secondary = (cut.session(key=key, kind=PrincipalKind.POLICY) for key in policy.keys)

    await cut.update(with_keys(policy.secondary_key, policy.primary_key))
    assert (on_primary.rules, on_secondary.rules) == ([], [])

    await cut.update(with_keys(policy.secondary_key, NEW_KEY))
    assert (on_primary.rules, on_secondary.rules) == (["auth.signature"], [])


async def test_a_key_of_another_policy_is_not_its_own(cut: Cut) -> None:
    other = cut.world.hubs.require("hub").policies[0]
    session = cut.session(key=other.primary_key, kind=PrincipalKind.POLICY)

    await cut.update({"cloudToDevice": {"maxDeliveryCount": 5}})

    assert session.rules == ["auth.signature"]


async def test_a_policy_that_is_deleted_or_loses_a_right_ends_its_sessions(cut: Cut) -> None:
    policy = cut.world.hubs.require("hub").policy("service")
    assert policy is not None
    right = frozenset({Right.SERVICE_CONNECT})
    principal = Principal(PrincipalKind.POLICY, "service", right, "hub", "sas", fingerprint(policy.primary_key))
    working = LiveSession(cut.sessions, principal)
    idle = cut.session(key=policy.primary_key, kind=PrincipalKind.POLICY)

    await cut.update({"authorizationPolicies": [{"keyName": "service", "rights": "RegistryRead"}]})
    assert (working.rules, idle.rules) == (["auth.right"], [])

    await cut.update({"authorizationPolicies": []})
    assert idle.rules == ["auth.unknown-policy"]


@pytest.mark.parametrize(
    ("switch", "rule", "kind"),
    [
        ("disableLocalAuth", "auth.local-auth", PrincipalKind.POLICY),
        ("disableDeviceSAS", "auth.device-sas", PrincipalKind.DEVICE),
        ("disableModuleSAS", "auth.module-sas", PrincipalKind.MODULE),
    ],
)
async def test_a_switch_ends_sessions_by_keys_of_its_plane_and_no_others(
    cut: Cut, switch: str, rule: str, kind: PrincipalKind
) -> None:
    policy = cut.world.hubs.require("hub").policy("service")
    assert policy is not None
    kinds = (PrincipalKind.POLICY, PrincipalKind.DEVICE, PrincipalKind.MODULE)
    sessions = {each: cut.session(key=policy.primary_key, kind=each) for each in kinds}
    certified = LiveSession(cut.sessions, Principal(kind, "press", frozenset(), "device", "x509", "F"))
    probing = cut.session(kind=kind, device=f"{PROBE_PREFIX}1")

    await cut.update({switch: True})

    assert {each: session.rules for each, session in sessions.items()} == {
        each: [rule] if each is kind else [] for each in kinds
    }
    assert (certified.rules, probing.rules) == ([], [])


async def test_a_change_that_takes_nothing_away_cuts_nobody(cut: Cut) -> None:
    sessions = [cut.session(), cut.session(door=await plant(cut))]

    await cut.update({"cloudToDevice": {"maxDeliveryCount": 5}})
    await cut.world.with_hub("third")

    assert [session.rules for session in sessions] == [[], []]


ON_SITE = DoorPolicy("site", ("private",), conditions=(TagEquals(("tags", "site"), "plant1"),))


async def test_a_policy_cuts_its_devices_at_other_doors_with_their_modules(cut: Cut) -> None:
    door = await plant(cut)
    public = [cut.session(device=name) for name in ("press", "press/vision", "oven", "")]
    private = cut.session(device="press", door=door)

    await cut.bind(DoorPolicy("bound", ("private:plant",), device_ids=frozenset({"press"})))

    assert [session.rules for session in public] == [["policy.wrong-door"], ["policy.wrong-door"], [], []]
    assert private.rules == []
    assert public[0].codes == [Code.UNAUTHORIZED_ACCESS]
    assert cut.tags.asked == []


async def test_a_policy_cuts_who_came_by_a_shared_access_policy(cut: Cut) -> None:
    policy = cut.world.hubs.require("hub").policy("service")
    assert policy is not None
    key = policy.primary_key
    service = cut.session(key=key, kind=PrincipalKind.POLICY)
    device = cut.session(key=key, kind=PrincipalKind.POLICY, device="press")
    own = cut.session(device="press")

    await cut.bind(DoorPolicy("bound", ("private",), shared_access_policy="service"))

    assert [service.rules, device.rules, own.rules] == [["policy.wrong-door"], ["policy.wrong-door"], []]


async def test_a_query_cuts_the_devices_that_have_the_tags(cut: Cut) -> None:
    cut.tags.known = {"press": {"site": "plant1"}, "oven": {"site": "plant2"}}
    sessions = [cut.session(device=name) for name in ("press", "press/vision", "oven")]

    await cut.bind(ON_SITE)

    assert [session.rules for session in sessions] == [["policy.wrong-door"], ["policy.wrong-door"], []]
    assert {ref.name for ref in cut.tags.asked} == {"press", "oven"}


async def test_new_tags_cut_the_device_they_bind_to_another_door(cut: Cut) -> None:
    device, module, neighbour = (cut.session(device=name) for name in ("press", "press/vision", "press2"))
    await cut.bind(ON_SITE)

    cut.cutting.tags_changed(DeviceRef(HUB, "press"), {"site": "plant2"})
    cut.cutting.tags_changed(DeviceRef(HUB, "press", "vision"), {"site": "plant1"})
    assert [device.rules, module.rules] == [[], []]

    cut.cutting.tags_changed(DeviceRef(HUB, "press"), {"site": "plant1"})
    assert [device.rules, module.rules, neighbour.rules] == [["policy.wrong-door"], ["policy.wrong-door"], []]


async def test_a_policy_that_is_switched_off_cuts_nobody(cut: Cut) -> None:
    device = cut.session(device="press")

    await cut.bind(DoorPolicy("bound", ("private",), device_ids=frozenset({"press"}), enabled=False))

    assert device.rules == []


def identity(name: str = "press") -> Identity:
    device_id, _, module_id = name.partition("/")
    ref = DeviceRef(HUB, device_id, module_id)
    keys = {"symmetricKey": {"primaryKey": KEY, "secondaryKey": OTHER_KEY}}
    return new_identity(ref, parse_identity(ref, {"authentication": keys}), CountedIds(), NOW_MS)


def changed(old: Identity, **body: object) -> Identity:
    ref = DeviceRef(HUB, "press")
    keys = {"symmetricKey": {"primaryKey": KEY, "secondaryKey": OTHER_KEY}}
    parsed = parse_identity(ref, {"authentication": keys} | body)
    return changed_identity(old, parsed, CountedIds(), NOW_MS)


@pytest.mark.parametrize(
    ("made", "rule"),
    [
        (lambda old: None, "auth.unknown-device"),
        (lambda old: changed(old, status="disabled"), "auth.disabled"),
        (lambda old: identity_made_again(), "auth.unknown-device"),
    ],
    ids=["deleted", "disabled", "made again"],
)
async def test_a_device_that_lost_itself_is_cut_with_its_modules(
    cut: Cut, made: Callable[[Identity], Identity | None], rule: str
) -> None:
    device, module, neighbour = [await cut.device(name) for name in ("press", "press/vision", "press2")]
    old = identity()

    cut.cutting.identity_changed(DeviceRef(HUB, "press"), old, made(old))

    assert [device.rules, module.rules, neighbour.rules] == [[rule], [rule], []]


async def test_only_sessions_of_the_replaced_key_are_cut(cut: Cut) -> None:
    device, module = await cut.device("press"), await cut.device("press/vision", NEW_KEY)
    old = identity()
    keys = {"symmetricKey": {"primaryKey": NEW_KEY, "secondaryKey": KEY}}
    swapped = changed(old, authentication=keys)

    cut.cutting.identity_changed(DeviceRef(HUB, "press"), old, swapped)
    assert (device.rules, module.rules) == ([], [])

    gone = changed(old, authentication={"symmetricKey": {"primaryKey": NEW_KEY, "secondaryKey": OTHER_KEY}})
    cut.cutting.identity_changed(DeviceRef(HUB, "press"), swapped, gone)
    assert (device.rules, module.rules) == (["auth.signature"], [])


async def test_a_module_alone_is_cut_alone(cut: Cut) -> None:
    device, module = await cut.device("press"), await cut.device("press/vision")

    cut.cutting.identity_changed(DeviceRef(HUB, "press", "vision"), identity("press/vision"), None)

    assert (device.rules, module.rules) == ([], ["auth.unknown-device"])


async def test_requests_under_way_are_cut_as_sessions_are(cut: Cut) -> None:
    names = ("press", "press/vision", "press2", "")
    device, module, neighbour, service = [cut.session(device=name, plane=Plane.HTTPS) for name in names]
    old = identity()
    keys = {"symmetricKey": {"primaryKey": NEW_KEY, "secondaryKey": OTHER_KEY}}

    cut.cutting.identity_changed(DeviceRef(HUB, "press"), old, changed(old, authentication=keys))
    assert (device.rules, module.rules) == (["auth.signature"], [])

    cut.cutting.identity_changed(DeviceRef(HUB, "press"), old, changed(old, status="disabled"))
    assert (module.rules, module.codes) == (["auth.disabled"], [Code.UNAUTHORIZED_ACCESS])
    assert (neighbour.rules, service.rules) == ([], [])


async def test_a_new_identity_cuts_nobody(cut: Cut) -> None:
    device = await cut.device("press")

    cut.cutting.identity_changed(DeviceRef(HUB, "press"), None, identity())

    assert device.rules == []


def identity_made_again() -> Identity:
    ref = DeviceRef(HUB, "press")
    ids = CountedIds(made=1_000)
    return new_identity(ref, parse_identity(ref, {}), ids, NOW_MS + 1)


async def plant(cut: Cut) -> Door:
    hub = cut.world.hubs.require("hub")
    return (await cut.world.endpoints.create("plant", endpoint_body(hub.resource_id, PRIVATE_ADDRESS))).door


def with_keys(primary: str, secondary: str) -> dict[str, object]:
    policy = {"keyName": "service", "rights": "ServiceConnect", "primaryKey": primary, "secondaryKey": secondary}
    return {"authorizationPolicies": [policy]}


async def test_the_certificate_that_vouched_goes_and_takes_its_devices_along(cut: Cut) -> None:
    root, other = registered(issue("Root", authority=True)), registered(issue("Other", authority=True), "other")
    await cut.world.hubs.change("hub", lambda hub: replace(hub, certificates=(root, other)))
    below, beside = (LiveSession(cut.sessions, vouched_for(each), device=each.name) for each in (root, other))

    await cut.world.hubs.change("hub", lambda hub: replace(hub, certificates=(root, replace(other, code="asked"))))
    assert (below.rules, beside.rules) == ([], [])

    await cut.world.hubs.change("hub", lambda hub: replace(hub, certificates=(replace(root, is_verified=False), other)))
    assert (below.rules, beside.rules) == (["auth.ca-unknown"], [])
    assert below.codes == [Code.UNAUTHORIZED_ACCESS]


async def test_a_device_that_changes_its_method_loses_the_session_that_an_authority_let_in(cut: Cut) -> None:
    session = LiveSession(cut.sessions, vouched_for(registered(issue("Root", authority=True))))
    await cut.connected.enter(DeviceRef(HUB, "press"), session)
    by_authority = {"type": "certificateAuthority"}
    old = changed(identity(), authentication=by_authority)

    looked_at = changed(old, authentication=by_authority, statusReason="looked at")
    cut.cutting.identity_changed(DeviceRef(HUB, "press"), old, looked_at)
    assert session.rules == []

    cut.cutting.identity_changed(DeviceRef(HUB, "press"), old, changed(old, authentication={"type": "sas"}))
    assert session.rules == ["auth.signature"]


def vouched_for(certificate: CaCertificate) -> Principal:
    return Principal(
        *(PrincipalKind.DEVICE, "press", frozenset(), "device", "x509", certificate.fingerprint), by_authority=True
    )
