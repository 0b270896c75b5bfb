"""The order of the front door: names, admission, authentication, rights; what strangers hear and what owners read."""

import base64
import hashlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest

from devices.fakes import HUB, KEY
from isthmus.access.journal import STORED_EACH_MAX, Verdict
from isthmus.access.principal import PrincipalKind, Right
from isthmus.access.x509 import fingerprint
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.ids import PROBE_PREFIX, DeviceRef
from isthmus.base.sas_token import sign
from isthmus.network.door import PUBLIC_DOOR, Door, DoorKind
from isthmus.network.door_policies import DoorPolicy, TagEquals
from isthmus.servers.gateway.gate import Admitted, secrets_of
from isthmus.servers.gateway.plain import PlainUser
from isthmus.servers.gateway.plane import Plane
from servers.gate_world import HOST, NOW_S, WRONG_KEY, FakePeer, GateWorld, device_token

DEV1 = DeviceRef(HUB, "dev1")
MQTT = Plane.MQTT
ON_SITE = DoorPolicy("site", ("private",), conditions=(TagEquals(("tags", "site"), "plant1"),))


@pytest.fixture
async def world() -> GateWorld:
    return await GateWorld().start()


def rule_of(error: HubError) -> str:
    assert error.refusal is not None
    return error.refusal.rule


# Names


@pytest.mark.parametrize(
    ("server_name", "names"),
    [
        (HOST, (HOST,)),
        ("", (HOST.upper(),)),
        (HOST, ()),
        ("", ()),
        ("plant.example.test", (f"{HOST}:8883",)),
        ("localhost", ("127.0.0.1:443", "[::1]:8883")),
        (HOST, ("localhost",)),
    ],
)
def test_all_names_of_a_peer_mean_one_hub(world: GateWorld, server_name: str, names: tuple[str, ...]) -> None:
    assert world.gate.resolve(FakePeer(server_name=server_name), MQTT, *names) is world.hub


async def test_names_of_two_hubs_are_a_mismatch(world: GateWorld) -> None:
    await world.hubs.create("second", host_name="second.example.test", partitions=1)
    with pytest.raises(HubError) as caught:
        world.gate.resolve(FakePeer(), MQTT, "second.example.test")
    assert rule_of(caught.value) == "name.mismatch"
    assert world.gate.resolve(FakePeer(server_name=""), MQTT, "second.example.test").name == "second"


async def test_with_two_hubs_a_peer_has_to_name_one(world: GateWorld) -> None:
    await world.hubs.create("second", host_name="second.example.test", partitions=1)
    with pytest.raises(HubError) as caught:
        world.gate.resolve(FakePeer(server_name=""), MQTT, "10.0.0.1")
    assert rule_of(caught.value) == "name.missing"
    assert caught.value.refusal is not None
    assert "second.example.test" in caught.value.refusal.remedy


async def test_at_a_private_door_nobody_needs_a_name(world: GateWorld) -> None:
    await world.hubs.create("second", host_name="second.example.test", partitions=1)
    peer = FakePeer(server_name="", door=await world.private_door())
    assert world.gate.resolve(peer, MQTT, "10.1.0.7").name == "hub"


async def test_localhost_is_a_name_where_it_is_a_hubs(world: GateWorld) -> None:
    await world.hubs.create("desk", host_name="localhost", partitions=1)
    assert world.gate.resolve(FakePeer(server_name=""), MQTT, "localhost").name == "desk"
    with pytest.raises(HubError) as caught:
        world.gate.resolve(FakePeer(), MQTT, "localhost")
    assert rule_of(caught.value) == "name.mismatch"


def test_a_name_that_is_no_hubs_is_unknown_and_sounds_like_a_wrong_key(world: GateWorld) -> None:
    with pytest.raises(HubError) as caught:
        world.gate.resolve(FakePeer(), MQTT, "other.example.test")
    assert rule_of(caught.value) == "name.unknown"
    assert (caught.value.code, caught.value.message) == (Code.UNAUTHORIZED_ACCESS, "Unauthorized")


def test_a_hubs_name_stands_for_its_host_name(world: GateWorld) -> None:
    assert world.gate.host_of_label("HUB") == HOST
    assert world.gate.host_of_label("other") == "other"


# Devices


async def test_a_device_comes_in_with_its_key(world: GateWorld) -> None:
    peer = FakePeer()
    admitted = await world.gate.device(peer, MQTT, world.hub, DEV1, device_token())
    assert admitted.principal.label == "device:dev1"
    assert admitted.identity is world.identities.known[DEV1]
    assert (admitted.door, admitted.address, admitted.rule) == (PUBLIC_DOOR, "203.0.113.7", "network.public-access")
    assert peer.proven


async def test_a_module_comes_in_with_its_own_key(world: GateWorld) -> None:
    ref = DeviceRef(HUB, "dev1", "mod1")
    admitted = await world.gate.device(FakePeer(), MQTT, world.hub, ref, device_token("dev1/modules/mod1"))
    assert admitted.principal.kind is PrincipalKind.MODULE
    assert admitted.covers("devices/dev1/modules/mod1/messages/events")
    assert not admitted.covers("devices/dev1/messages/events")


async def test_a_policy_stands_in_for_a_device(world: GateWorld) -> None:
    admitted = await world.gate.device(FakePeer(), MQTT, world.hub, DEV1, world.policy_token("device"))
    assert admitted.principal.label == "policy:device"
    assert admitted.identity is not None


@pytest.mark.parametrize(
    ("switch", "rule", "name", "policy"),
    [
        ("disableLocalAuth", "auth.local-auth", "dev1", "device"),
        ("disableDeviceSAS", "auth.device-sas", "dev1", ""),
        ("disableModuleSAS", "auth.module-sas", "dev1/mod1", ""),
    ],
)
async def test_a_switch_refuses_good_keys_of_its_plane_only(
    world: GateWorld, switch: str, rule: str, name: str, policy: str
) -> None:
    device_id, _, module_id = name.partition("/")
    ref, path = DeviceRef(HUB, device_id, module_id), name.replace("/", "/modules/")
    token = world.policy_token(policy) if policy else device_token(path)
    switches = {"disableLocalAuth", "disableDeviceSAS", "disableModuleSAS"}
    await world.hubs.update("hub", {"properties": {each: each != switch for each in switches}})
    await world.gate.device(FakePeer(), MQTT, world.hub, ref, token)
    await world.hubs.update("hub", {"properties": {each: each == switch for each in switches}})
    with pytest.raises(HubError) as caught:
        await world.gate.device(FakePeer(), MQTT, world.hub, ref, token)
    assert rule_of(caught.value) == rule
    assert caught.value.refusal is not None
    assert (switch in caught.value.refusal.value, switch in caught.value.refusal.remedy) == (True, True)
    with pytest.raises(HubError) as wrong:
        await world.gate.device(FakePeer(), MQTT, world.hub, ref, device_token(path, key=WRONG_KEY))
    assert rule_of(wrong.value) == "auth.signature", "a wrong key does not learn of the switch"


async def test_services_come_by_no_key_when_local_auth_is_off_and_probes_do(world: GateWorld) -> None:
    switches = {"disableLocalAuth": True, "disableDeviceSAS": True}
    await world.hubs.update("hub", {"properties": switches})
    for built_in in (False, True):
        with pytest.raises(HubError) as caught:
            await world.gate.policy(
                FakePeer(), Plane.HTTPS, world.hub, world.policy_token("service"), HOST, built_in=built_in
            )
        assert rule_of(caught.value) == "auth.local-auth"
    probe = f"{PROBE_PREFIX}1"
    world.identities.add("template")
    ref = DeviceRef(HUB, probe)
    world.identities.known[ref] = world.identities.known[DeviceRef(HUB, "template")]
    admitted = await world.gate.device(FakePeer(), MQTT, world.hub, ref, device_token(probe))
    assert admitted.principal.type == "sas"


async def test_a_device_comes_in_by_its_certificate(world: GateWorld) -> None:
    leaf = b"the DER of a certificate"
    thumbprint = hashlib.sha256(leaf).hexdigest()
    world.identities.add(
        "cert", authentication={"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": thumbprint}}
    )
    peer = FakePeer(peer_chain=(leaf, b"an intermediate"))
    admitted = await world.gate.device(peer, MQTT, world.hub, DeviceRef(HUB, "cert"), None)
    assert admitted.principal.type == "x509"
    assert (
        admitted.principal.key_fingerprint in secrets_of(world.identities.known[DeviceRef(HUB, "cert")]).fingerprints()
    )


@dataclass(frozen=True)
class Stranger:
    """An attempt that is refused."""

    rule: str
    ref: DeviceRef = DEV1
    password: str = device_token()
    door: Door = PUBLIC_DOOR


STRANGERS = {
    "unknown device": Stranger("auth.unknown-device", DeviceRef(HUB, "nobody"), device_token("nobody")),
    "wrong key": Stranger("auth.signature", password=device_token(key=WRONG_KEY)),
    "expired": Stranger("auth.expired", password=device_token(seconds=-3_600)),
    "disabled": Stranger("auth.disabled", DeviceRef(HUB, "off"), device_token("off")),
    "unknown policy": Stranger("auth.unknown-policy", password=sign(HOST, KEY, NOW_S + 60, "nobody")),
    "another hub's door": Stranger("network.wrong-door", door=Door(DoorKind.PRIVATE, "/other", "c")),
    "another hub's door, wrong key": Stranger(
        "network.wrong-door", password=device_token(key=WRONG_KEY), door=Door(DoorKind.PRIVATE, "/other", "c")
    ),
    "a connection that is gone": Stranger(
        "network.private-endpoint-disconnected", door=Door(DoorKind.PRIVATE, "", "c")
    ),
    "a slash in the id": Stranger("auth.unknown-device", DeviceRef(HUB, "dev1/mod1"), device_token("dev1/mod1")),
}


def door_of(stranger: Stranger, world: GateWorld) -> Door:
    """A private door without a resource stands for one of the hub itself."""
    if stranger.door.kind is DoorKind.PRIVATE and not stranger.door.resource_id:
        return replace(stranger.door, resource_id=world.hub.resource_id)
    return stranger.door


@pytest.mark.parametrize("name", STRANGERS)
async def test_strangers_are_refused_for_a_reason(world: GateWorld, name: str) -> None:
    stranger = STRANGERS[name]
    peer = FakePeer(door=door_of(stranger, world))
    with pytest.raises(HubError) as caught:
        await world.gate.device(peer, MQTT, world.hub, stranger.ref, stranger.password)
    assert rule_of(caught.value) == stranger.rule
    assert not peer.proven


async def test_strangers_cannot_tell_the_reasons_apart(world: GateWorld) -> None:
    """The same answer, the same look-ups and the same digests, whatever the reason."""
    seen = set()
    for stranger in STRANGERS.values():
        world.identities.asked.clear()
        world.digests = 0
        peer = FakePeer(door=door_of(stranger, world))
        with pytest.raises(HubError) as caught:
            await world.gate.device(peer, MQTT, world.hub, stranger.ref, stranger.password)
        seen.add((caught.value.code, caught.value.message, len(world.identities.asked), world.digests))
    assert seen == {(Code.UNAUTHORIZED_ACCESS, "Unauthorized", 1, 2)}


async def test_modules_cost_the_same_whether_or_not_they_exist(world: GateWorld) -> None:
    seen = set()
    for device, module in (("dev1", "mod1"), ("dev1", "nobody"), ("nobody", "mod1"), ("off", "mod1")):
        world.identities.asked.clear()
        world.digests = 0
        token = device_token(f"{device}/modules/{module}", key=WRONG_KEY if device == "dev1" else KEY)
        with pytest.raises(HubError):
            await world.gate.device(FakePeer(), MQTT, world.hub, DeviceRef(HUB, device, module), token)
        seen.add((len(world.identities.asked), world.digests))
    assert seen == {(2, 2)}


async def test_a_module_of_a_disabled_device_is_disabled(world: GateWorld) -> None:
    with pytest.raises(HubError) as caught:
        await world.gate.device(
            FakePeer(), MQTT, world.hub, DeviceRef(HUB, "off", "mod1"), device_token("off/modules/mod1")
        )
    assert rule_of(caught.value) == "auth.disabled"


async def test_a_closed_public_door_is_told_after_the_credentials_were_checked(world: GateWorld) -> None:
    await world.close_public()
    for token in (device_token(), device_token(key=WRONG_KEY), "nonsense"):
        world.digests = 0
        with pytest.raises(HubError) as caught:
            await world.gate.device(FakePeer(), MQTT, world.hub, DEV1, token)
        assert rule_of(caught.value) == "network.public-access"
        assert world.digests == (0 if token == "nonsense" else 2)


async def test_who_is_inside_and_comes_by_the_closed_public_door_is_advised(world: GateWorld) -> None:
    await world.close_public()
    for address, advised in (("10.77.0.1", True), ("192.0.2.1", False)):
        with pytest.raises(HubError) as caught:
            await world.gate.device(FakePeer(peer_address=address), MQTT, world.hub, DEV1, device_token())
        refusal = caught.value.refusal
        assert refusal is not None
        assert refusal.remedy.startswith(f"{address} is inside; or ") is advised
        assert "is inside" not in caught.value.message


async def test_the_private_door_stays_open(world: GateWorld) -> None:
    door = await world.private_door()
    await world.close_public()
    admitted = await world.gate.device(FakePeer(door=door), MQTT, world.hub, DEV1, device_token())
    assert admitted.door.label.startswith("private:plant.")


async def test_a_pending_private_door_is_closed(world: GateWorld) -> None:
    door = await world.private_door(manual=True)
    with pytest.raises(HubError) as caught:
        await world.gate.device(FakePeer(door=door), MQTT, world.hub, DEV1, device_token())
    assert rule_of(caught.value) == "network.private-endpoint-pending"


async def test_a_door_that_closes_while_the_registry_is_asked_is_closed(world: GateWorld) -> None:
    hub = world.hub
    ask = world.identities.get

    async def closing(ref: DeviceRef) -> object:
        await world.close_public()
        return await ask(ref)

    world.identities.get = closing  # type: ignore[method-assign, assignment]
    with pytest.raises(HubError) as caught:
        await world.gate.device(FakePeer(), MQTT, hub, DEV1, device_token())
    assert rule_of(caught.value) == "network.public-access"


async def test_the_right_key_at_a_door_that_a_policy_closes_is_a_wrong_key(world: GateWorld) -> None:
    await world.bind(DoorPolicy("bound", ("private",), device_ids=frozenset({"dev1"})))
    door = await world.private_door()
    seen = set()
    for token in (device_token(), device_token(key=WRONG_KEY)):
        world.identities.asked.clear()
        peer = FakePeer()
        with pytest.raises(HubError) as caught:
            await world.gate.device(peer, MQTT, world.hub, DEV1, token)
        seen.add((caught.value.code, caught.value.message, len(world.identities.asked), peer.proven))
    assert seen == {(Code.UNAUTHORIZED_ACCESS, "Unauthorized", 1, False)}
    assert (await world.gate.device(FakePeer(door=door), MQTT, world.hub, DEV1, device_token())).door is door


@pytest.mark.parametrize(
    ("ref", "name", "rule"),
    [
        (DEV1, "dev1", "policy.wrong-door"),
        (DeviceRef(HUB, "dev1", "mod1"), "dev1/modules/mod1", "policy.wrong-door"),
        (DeviceRef(HUB, "nobody"), "nobody", "auth.unknown-device"),
    ],
)
async def test_tags_are_asked_for_whether_or_not_there_is_a_device(
    world: GateWorld, ref: DeviceRef, name: str, rule: str
) -> None:
    world.tags.known["dev1"] = {"site": "plant1"}
    await world.bind(ON_SITE)
    with pytest.raises(HubError) as caught:
        await world.gate.device(FakePeer(), MQTT, world.hub, ref, device_token(name))
    assert rule_of(caught.value) == rule
    assert world.tags.asked == [ref._replace(module_id="")]


async def test_nobody_asks_for_tags_where_no_policy_does(world: GateWorld) -> None:
    await world.gate.device(FakePeer(), MQTT, world.hub, DEV1, device_token())
    await world.bind(DoorPolicy("bound", ("public",), device_ids=frozenset({"dev1"})))
    await world.gate.device(FakePeer(), MQTT, world.hub, DEV1, device_token())
    assert world.tags.asked == []


async def test_a_policy_that_comes_while_the_registry_is_asked_holds(world: GateWorld) -> None:
    hub = world.hub
    ask = world.identities.get

    async def binding(ref: DeviceRef) -> object:
        await world.bind(ON_SITE)
        return await ask(ref)

    world.tags.known["dev1"] = {"site": "plant1"}
    world.identities.get = binding  # type: ignore[method-assign, assignment]
    with pytest.raises(HubError) as caught:
        await world.gate.device(FakePeer(), MQTT, hub, DEV1, device_token())
    assert rule_of(caught.value) == "policy.wrong-door"


async def test_a_shared_access_policy_is_bound_for_services_and_for_devices(world: GateWorld) -> None:
    await world.bind(DoorPolicy("bound", ("private",), shared_access_policy="iothubowner"))
    with pytest.raises(HubError) as service:
        await world.gate.policy(FakePeer(), Plane.HTTPS, world.hub, world.policy_token("iothubowner"))
    with pytest.raises(HubError) as device:
        await world.gate.device(FakePeer(), MQTT, world.hub, DEV1, world.policy_token("iothubowner"))
    assert (rule_of(service.value), rule_of(device.value)) == ("policy.wrong-door", "policy.wrong-door")
    await world.gate.policy(FakePeer(), Plane.HTTPS, world.hub, world.policy_token("service"))


async def test_a_hub_that_is_deleted_meanwhile_lets_nobody_in(world: GateWorld) -> None:
    hub = world.hub
    await world.hubs.delete("hub")
    with pytest.raises(HubError) as caught:
        await world.gate.device(FakePeer(), MQTT, hub, DEV1, device_token())
    assert rule_of(caught.value) == "name.unknown"


# Policies


async def test_a_policy_comes_in_with_its_rights(world: GateWorld) -> None:
    token = world.policy_token("service")
    admitted = await world.gate.policy(FakePeer(), Plane.HTTPS, world.hub, token, f"{HOST}/twins/dev1")
    assert admitted.principal.rights == {Right.SERVICE_CONNECT}


@pytest.mark.parametrize(
    ("token", "rule"),
    [
        (lambda world: "", "auth.missing"),
        (lambda world: "Bearer eyJ0", "auth.malformed"),
        (lambda world: world.policy_token("service", key=WRONG_KEY), "auth.signature"),
        (lambda world: world.policy_token("service", seconds=-1), "auth.expired"),
        (lambda world: world.policy_token("nobody"), "auth.unknown-policy"),
        (lambda world: world.policy_token("service", "other.example.test"), "auth.scope"),
        (lambda world: world.policy_token("service", f"{HOST}/devices"), "auth.scope"),
        (lambda world: device_token(), "auth.unknown-policy"),
    ],
)
async def test_policies_are_refused_alike(world: GateWorld, token: Callable[[GateWorld], str], rule: str) -> None:
    with pytest.raises(HubError) as caught:
        await world.gate.policy(FakePeer(), Plane.HTTPS, world.hub, token(world), f"{HOST}/twins/dev1")
    assert rule_of(caught.value) == rule
    assert (caught.value.code, caught.value.message) == (Code.UNAUTHORIZED_ACCESS, "Unauthorized")


async def test_network_rules_may_leave_out_the_built_in_endpoint(world: GateWorld) -> None:
    rules = {"ipRules": [], "applyToBuiltInEventHubEndpoint": False}
    await world.hubs.update("hub", {"properties": {"networkRuleSets": rules}})
    token = world.policy_token("service")
    audience = f"sb://{HOST}/hub"
    admitted = await world.gate.token(FakePeer(), Plane.AMQP, world.hub, token, audience, built_in=True)
    assert admitted.rule == "network.public-access"
    with pytest.raises(HubError) as caught:
        await world.gate.token(FakePeer(), Plane.AMQP, world.hub, token, audience)
    assert rule_of(caught.value) == "network.ip-rule"


@pytest.mark.parametrize(
    ("resource", "audience", "opens", "not_opens"),
    [
        (HOST, f"https://{HOST}", "messages/devicebound", ""),
        (HOST, HOST, "hub/ConsumerGroups/$Default/Partitions/0", ""),
        (f"sb://{HOST}/hub", f"sb://{HOST}/hub", "hub/ConsumerGroups/$Default/Partitions/0", "messages/devicebound"),
        (f"sb://{HOST}/hub", f"sb%3A%2F%2F{HOST}%2Fhub%2FConsumerGroups", "Hub/$management", "other"),
    ],
)
async def test_a_put_token_opens_the_links_its_token_covers(
    world: GateWorld, resource: str, audience: str, opens: str, not_opens: str
) -> None:
    token = world.policy_token("service", resource)
    admitted = await world.gate.token(FakePeer(), Plane.AMQP, world.hub, token, audience)
    assert admitted.covers(opens)
    assert not (not_opens and admitted.covers(not_opens))


async def test_a_put_token_must_cover_its_audience(world: GateWorld) -> None:
    token = world.policy_token("service", f"sb://{HOST}/hub")
    with pytest.raises(HubError) as caught:
        await world.gate.token(FakePeer(), Plane.AMQP, world.hub, token, f"sb://{HOST}/other")
    assert rule_of(caught.value) == "auth.scope"


async def test_event_hubs_tokens_are_signed_with_a_keys_text(world: GateWorld) -> None:
    policy = world.hub.policies[1]
    text_as_key = base64.b64encode(policy.secondary_key.encode()).decode()
    token = world.policy_token("service", f"sb://{HOST}/hub", key=text_as_key)
    audience = f"sb://{HOST}/hub"
    admitted = await world.gate.token(FakePeer(), Plane.AMQP, world.hub, token, audience, built_in=True)
    assert admitted.principal.key_fingerprint == fingerprint(policy.secondary_key)
    with pytest.raises(HubError) as caught:
        await world.gate.token(FakePeer(), Plane.AMQP, world.hub, token, audience)
    assert rule_of(caught.value) == "auth.signature"


# SASL PLAIN


async def test_a_policy_comes_in_by_plain(world: GateWorld) -> None:
    user = PlainUser("hub", policy="service")
    unnamed = sign(HOST, world.hub.policies[1].secondary_key, NOW_S + 60)
    for token in (world.policy_token("service"), unnamed):
        admitted = await world.gate.plain(FakePeer(), Plane.AMQP, world.hub, user, token)
        assert admitted.principal.label == "policy:service"


async def test_plain_needs_the_token_of_the_policy_it_names(world: GateWorld) -> None:
    user = PlainUser("hub", policy="service")
    with pytest.raises(HubError) as caught:
        await world.gate.plain(FakePeer(), Plane.AMQP, world.hub, user, world.policy_token("device"))
    assert rule_of(caught.value) == "auth.unknown-policy"


async def test_a_device_comes_in_by_plain(world: GateWorld) -> None:
    user = PlainUser("hub", device_id="dev1")
    admitted = await world.gate.plain(FakePeer(), Plane.AMQP, world.hub, user, device_token())
    assert admitted.principal.label == "device:dev1"


# The journal


async def refusal_of(attempt: Awaitable[Admitted]) -> HubError:
    with pytest.raises(HubError) as caught:
        await attempt
    return caught.value


async def test_a_refusal_is_journaled_counted_and_logged(world: GateWorld, caplog: pytest.LogCaptureFixture) -> None:
    token = device_token(key=WRONG_KEY)
    error = await refusal_of(world.gate.device(FakePeer(), MQTT, world.hub, DEV1, token))
    with caplog.at_level(logging.WARNING):
        tracking_id = world.gate.refused(FakePeer(), MQTT, "hub", "dev1", error)
    (decision,) = await world.decisions()
    assert decision.tracking_id == tracking_id
    assert (decision.verdict, decision.hub, decision.device) == (Verdict.REFUSED, "hub", "dev1")
    assert (decision.plane, decision.door, decision.address) == ("mqtt", "public", "203.0.113.7")
    assert (decision.hop, decision.rule) == ("authentication", "auth.signature")
    assert decision.code == "IotHubUnauthorizedAccess"
    assert decision.remedy == "use the key in: isthmus connection-string --device-id dev1"
    assert world.counters.refusals == [("mqtt", "auth.signature")]
    (record,) = caplog.records
    assert record.getMessage() == "admission denied"
    assert record.__dict__["rule"] == "auth.signature"
    assert record.__dict__["tracking_id"] == tracking_id
    assert KEY not in str(record.__dict__)


async def test_metrics_count_what_the_journal_only_sums_up(world: GateWorld, caplog: pytest.LogCaptureFixture) -> None:
    error = await refusal_of(world.gate.device(FakePeer(), MQTT, world.hub, DEV1, None))
    for _ in range(STORED_EACH_MAX + 30):
        world.gate.refused(FakePeer(), MQTT, "hub", "dev1", error)
    assert len(world.counters.refusals) == STORED_EACH_MAX + 30
    assert len(caplog.records) == STORED_EACH_MAX


async def test_an_error_without_a_refusal_is_journaled_by_its_code(world: GateWorld) -> None:
    world.gate.refused(FakePeer(), MQTT, "hub", "dev1", HubError(Code.THROTTLED, "Slow down"), principal="device:dev1")
    (decision,) = await world.decisions()
    assert (decision.rule, decision.value) == ("error.ThrottlingException", "Slow down")
    assert decision.principal == "device:dev1"


async def test_an_admission_is_journaled_and_counted(world: GateWorld) -> None:
    admitted = await world.gate.device(FakePeer(), MQTT, world.hub, DEV1, device_token())
    world.gate.admitted(FakePeer(), MQTT, admitted)
    (decision,) = await world.decisions()
    assert (decision.verdict, decision.device, decision.principal) == (Verdict.ALLOWED, "dev1", "device:dev1")
    assert decision.rule == "network.public-access"
    assert world.counters.admissions == ["mqtt"]


async def test_a_socket_that_ends_before_it_says_anything_is_journaled(world: GateWorld) -> None:
    world.gate.turned_away(PUBLIC_DOOR, MQTT, "203.0.113.7", Refusal(Hop.SOCKET, "socket.budget", "full", "wait"))
    (decision,) = await world.decisions()
    assert (decision.hop, decision.rule, decision.address) == ("socket", "socket.budget", "203.0.113.7")
    assert world.counters.refusals == [("mqtt", "socket.budget")]
