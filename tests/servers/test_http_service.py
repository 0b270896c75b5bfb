"""The service API as clients see it: statuses, headers, bodies, and both error envelopes."""

import asyncio
import re
from collections.abc import AsyncIterator
from urllib.parse import quote

import msgspec
import pytest
from azure.iot.hub.protocol import models

from devices.fakes import HUB, KEY, OTHER_KEY, FakeDevice
from isthmus.base.errors import Code, Hop, Refusal
from isthmus.base.ids import DeviceRef
from isthmus.base.state import JournalFilter
from isthmus.devices.ports import MethodAnswer
from isthmus.servers.gateway.http_app import JOURNALED_SECONDS
from servers.http_world import HOST, OTHER_HOST, Answer, HttpWorld

JSON = "application/json; charset=utf-8"
TRACKING = r"[0-9a-f]{32}-G:0-TimeStamp:\d\d/\d\d/\d{4} \d\d:\d\d:\d\d"
DEVICE = DeviceRef(HUB, "dev1")


@pytest.fixture
async def world() -> AsyncIterator[HttpWorld]:
    async with HttpWorld() as opened:
        yield opened


async def test_a_device_is_created_read_changed_and_deleted(world: HttpWorld) -> None:
    created = await world.ask("PUT", "/devices/dev1", {"deviceId": "dev1", "status": "Enabled"})
    assert created.status == 200
    assert created.headers["content-type"] == JSON
    device = models.Device.deserialize(created.json)
    assert created.headers["etag"] == f'"{device.etag}"'
    assert (await world.ask("GET", "/devices/dev1")).json == created.json
    changed = await world.ask("PUT", "/devices/dev1", {"status": "disabled"}, headers={"If-Match": f'"{device.etag}"'})
    assert models.Device.deserialize(changed.json).status == "disabled"
    gone = await world.ask("DELETE", "/devices/dev1", headers={"If-Match": '"*"'})
    assert (gone.status, gone.text) == (204, "")
    assert "content-type" not in gone.headers
    refused(await world.ask("GET", "/devices/dev1"), 404, "DeviceNotFound", "Device dev1 not registered")


async def test_a_device_has_all_members_clients_know(world: HttpWorld) -> None:
    keys = {"primaryKey": KEY, "secondaryKey": OTHER_KEY}
    world.commands.waiting[DEVICE] = 3
    answer = await world.ask("PUT", "/devices/dev1", {"authentication": {"type": "sas", "symmetricKey": keys}})
    never = "0001-01-01T00:00:00Z"
    device = models.Device.deserialize(answer.json)
    assert answer.json == {
        "deviceId": "dev1",
        "generationId": device.generation_id,
        "etag": device.etag,
        "connectionState": "Disconnected",
        "status": "enabled",
        "statusReason": None,
        "connectionStateUpdatedTime": never,
        "statusUpdatedTime": never,
        "lastActivityTime": never,
        "cloudToDeviceMessageCount": 3,
        "authentication": {
            "symmetricKey": keys,
            "x509Thumbprint": {"primaryThumbprint": None, "secondaryThumbprint": None},
            "type": "sas",
        },
        "capabilities": {"iotEdge": False},
    }
    assert not device.additional_properties


async def test_if_match_has_its_codes(world: HttpWorld) -> None:
    any_etag, wrong = {"If-Match": '"*"'}, {"If-Match": '"AAAA"'}
    refused(await world.ask("PUT", "/devices/dev1", {}, headers=any_etag), 404, "DeviceNotFound")
    await world.ask("PUT", "/devices/dev1", {})
    refused(await world.ask("PUT", "/devices/dev1", {}), 409, "DeviceAlreadyExists")
    refused(await world.ask("PUT", "/devices/dev1", {}, headers=wrong), 412, "PreconditionFailed")
    refused(await world.ask("DELETE", "/devices/dev1", headers=wrong), 412, "PreconditionFailed")
    refused(await world.ask("PATCH", "/twins/dev1", {}, headers=wrong), 412, "PreconditionFailed")
    assert (await world.ask("PUT", "/devices/dev1", {}, headers={"If-Match": "*"})).status == 200


async def test_modules_have_their_own_shape(world: HttpWorld) -> None:
    refused(await world.ask("PUT", "/devices/dev1/modules/mod1", {}), 404, "DeviceNotFound")
    await world.add("dev1")
    created = await world.ask("PUT", "/devices/dev1/modules/mod1", {"managedBy": "me"})
    assert created.status == 200
    module = models.Module.deserialize(created.json)
    assert (module.module_id, module.managed_by, module.authentication.type) == ("mod1", "me", "sas")
    assert not module.additional_properties
    listed = await world.ask("GET", "/devices/dev1/modules")
    assert listed.json == [created.json]
    assert (await world.ask("GET", "/devices/dev1/modules/mod1")).json == created.json
    refused(await world.ask("PUT", "/devices/dev1/modules/mod1", {}), 409, "ModuleAlreadyExistsOnDevice")
    agent = await world.ask("PUT", "/devices/dev1/modules/$edgeAgent", {})
    refused(agent, 401, "SystemModuleModifyUnauthorizedAccess")
    assert (await world.ask("DELETE", "/devices/dev1/modules/mod1")).status == 204
    refused(await world.ask("GET", "/devices/dev1/modules/mod1"), 404, "ModuleNotFound")


async def test_lists_have_a_top(world: HttpWorld) -> None:
    for name in ("a", "b", "c", "c/m"):
        await world.add(name)
    assert ids(await world.ask("GET", "/devices?top=2")) == ["a", "b"]
    for top in ("0", "1001", "x", "99999999999999999999", ""):
        assert ids(await world.ask("GET", f"/devices/?top={top}")) == ["a", "b", "c"]


async def test_statistics(world: HttpWorld) -> None:
    await world.add("a")
    await world.registry.put(await world.add("b"), {"status": "disabled"}, "*")
    world.connected.devices[DEVICE] = FakeDevice()
    registry = models.RegistryStatistics.deserialize((await world.ask("GET", "/statistics/devices")).json)
    counts = (registry.total_device_count, registry.enabled_device_count, registry.disabled_device_count)
    assert counts == (2, 1, 1)
    service = await world.ask("GET", "/statistics/service")
    assert models.ServiceStatistics.deserialize(service.json).connected_device_count == 1


async def test_a_twin_is_read_patched_and_replaced(world: HttpWorld) -> None:
    await world.add("dev1")
    read = await world.ask("GET", "/twins/dev1")
    twin = models.Twin.deserialize(read.json)
    assert read.headers["etag"] == f'"{twin.etag}"' == '"AAAAAAAAAAE="'
    assert (twin.version, twin.authentication_type, twin.device_id) == (1, "sas", "dev1")
    assert set(twin.additional_properties) == {"modelId"}
    patched = await world.ask("PATCH", "/twins/dev1", {"tags": {"a": 1}, "properties": {"desired": {"x": 1}}})
    assert patched.headers["etag"] == '"AAAAAAAAAAI="'
    whole = models.Twin.deserialize(patched.json)
    assert (whole.tags, whole.properties.desired["x"], whole.properties.desired["$version"]) == ({"a": 1}, 1, 2)
    replaced = await world.ask("PUT", "/twins/dev1", {"tags": {"b": 2}}, headers={"If-Match": '"AAAAAAAAAAI="'})
    assert models.Twin.deserialize(replaced.json).tags == {"b": 2}


async def test_a_module_twin_names_its_module(world: HttpWorld) -> None:
    await world.add("dev1")
    await world.add("dev1/mod1")
    twin = models.Twin.deserialize((await world.ask("PATCH", "/twins/dev1/modules/mod1", {"tags": {"a": 1}})).json)
    assert (twin.device_id, twin.module_id, twin.tags) == ("dev1", "mod1", {"a": 1})
    refused(await world.ask("GET", "/twins/dev1/modules/mod2"), 404, "ModuleNotFound")


async def test_only_newer_versions_know_the_model_id(world: HttpWorld) -> None:
    await world.add("dev1")
    assert "modelId" not in (await world.ask("GET", "/twins/dev1", version="2020-03-13")).text
    assert "modelId" in (await world.ask("GET", "/twins/dev1", version="2020-09-30")).text


async def test_a_bad_twin_is_refused(world: HttpWorld) -> None:
    await world.add("dev1")
    refused(await world.ask("PATCH", "/twins/dev1", {"tags": {"a;b c": 1}}), 400, "ArgumentInvalid")
    refused(await world.ask("PATCH", "/twins/dev1", b"{"), 400, "IotHubFormatError")
    refused(await world.ask("PATCH", "/twins/dev1", b"[" * 100_000), 400, "IotHubFormatError")


async def test_a_method_comes_back_with_the_device_s_answer(world: HttpWorld) -> None:
    await world.add("dev1")
    await world.add("dev1/mod1")
    device = FakeDevice(MethodAnswer(418, b'{"tea": 1.50}'))
    world.connected.devices = {DEVICE: device, DEVICE._replace(module_id="mod1"): device}
    call = {"methodName": "brew", "payload": [1], "responseTimeoutInSeconds": 30, "connectTimeoutInSeconds": 0}
    for path in ("/twins/dev1/methods", "/twins/dev1/modules/mod1/methods"):
        answer = await world.ask("POST", path, call)
        assert (answer.status, answer.text) == (200, '{"status":418,"payload":{"tea": 1.50}}')
        assert models.CloudToDeviceMethodResult.deserialize(answer.json).payload == {"tea": 1.5}
    assert device.invoked == [("brew", b"[1]")] * 2


async def test_methods_are_refused_in_the_other_envelope(world: HttpWorld) -> None:
    await world.add("dev1")
    answer = await world.ask("POST", "/twins/dev1/methods", {"methodName": "m", "connectTimeoutInSeconds": 65})
    assert (answer.status, answer.code) == (404, "DeviceNotOnline")
    inner = refused_b(answer)
    assert (inner["errorCode"], inner["message"]) == (404103, "Timed out waiting for device to connect.")
    assert inner["info"] == {"timeout": "00:01:05"}
    assert inner["timestampUtc"] == "2026-01-01T00:00:00.1230000Z"
    unknown = refused_b(await world.ask("POST", "/twins/dev2/methods", {"methodName": "m"}))
    assert (unknown["errorCode"], unknown["info"]) == (404001, {})
    late = await world.ask("POST", "/twins/dev1/methods", {"methodName": "m", "responseTimeoutInSeconds": 4})
    assert refused_b(late)["message"] == "responseTimeoutInSeconds must be within [5; 300]."


async def test_queries_have_pages(world: HttpWorld) -> None:
    for name in ("a", "b", "c"):
        await world.add(name)
    query = {"query": "SELECT * FROM devices"}
    size = {"x-ms-max-item-count": "2"}
    first = await world.ask("POST", "/devices/query", query, headers=size)
    assert [twin.device_id for twin in twins(first)] == ["a", "b"]
    assert first.headers["x-ms-item-type"] == "Twin"
    more = {**size, "x-ms-continuation": first.headers["x-ms-continuation"]}
    last = await world.ask("POST", "/devices/query", query, headers=more)
    assert [twin.device_id for twin in twins(last)] == ["c"]
    assert "x-ms-continuation" not in last.headers


async def test_a_projection_is_raw(world: HttpWorld) -> None:
    await world.twins.patch(await world.add("a"), {"tags": {"hall": 2}}, None)
    query = {"query": "select deviceId, tags.hall as h from devices where tags.hall = 2"}
    answer = await world.ask("POST", "/devices/query", query)
    assert answer.json == [{"deviceId": "a", "h": 2}]
    assert answer.headers["x-ms-item-type"] == "Raw"


async def test_an_empty_page_has_a_type_too(world: HttpWorld) -> None:
    answer = await world.ask("POST", "/devices/query", {"query": "SELECT * FROM devices"})
    assert (answer.json, answer.headers["x-ms-item-type"]) == ([], "Twin")


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        ({}, {}, "ArgumentNull"),
        ({"query": 1}, {}, "ArgumentInvalid"),
        ({"query": "SELECT; * FROM devices"}, {}, "ArgumentInvalid"),
        ({"query": "SELECT * FROM devices WHERE LIKE(deviceId)"}, {}, "ArgumentInvalid"),
        ({"query": "SELECT * FROM devices"}, {"x-ms-max-item-count": "x"}, "ArgumentInvalid"),
        ({"query": "SELECT * FROM devices"}, {"x-ms-max-item-count": "0"}, "ArgumentInvalid"),
        ({"query": "SELECT * FROM devices"}, {"x-ms-continuation": "!"}, "ArgumentInvalid"),
    ],
)
async def test_bad_queries_are_refused(world: HttpWorld, body: object, headers: dict[str, str], code: str) -> None:
    refused(await world.ask("POST", "/devices/query", body, headers=headers), 400, code)


async def test_a_queue_is_purged(world: HttpWorld) -> None:
    refused(await world.ask("DELETE", "/devices/dev1/commands"), 404, "DeviceNotFound")
    world.commands.waiting[await world.add("dev1")] = 3
    answer = await world.ask("DELETE", "/devices/dev1/commands")
    purged = models.PurgeMessageQueueResult.deserialize(answer.json)
    assert (purged.total_messages_purged, purged.device_id, purged.module_id) == (3, "dev1", None)


async def test_paths_have_no_case_and_ids_are_decoded_once(world: HttpWorld) -> None:
    for device_id in ("a%41", "x:@$',=!()*", "Q", "query"):
        path = f"/DEVICES/{quote(device_id, safe='')}/"
        assert models.Device.deserialize((await world.ask("PUT", path, {})).json).device_id == device_id
    refused(await world.ask("GET", "/devices/q"), 404, "DeviceNotFound")
    refused(await world.ask("PUT", "/devices/a%2Fb", {}), 400, "ArgumentInvalid")
    refused(await world.ask("GET", "/devices/Q%2Fm"), 404, "DeviceNotFound")
    refused(await world.ask("GET", "/devices/%ff"), 400, "ArgumentInvalid")


async def test_an_api_version_is_required(world: HttpWorld) -> None:
    for version in (None, "", "2030-01-01"):
        refused(await world.ask("GET", "/devices", version=version), 400, "InvalidProtocolVersion")


async def test_bodies_are_json_and_bounded(world: HttpWorld) -> None:
    text = await world.ask("PUT", "/devices/d", b"{}", headers={"Content-Type": "text/plain"})
    refused(text, 415, "GenericUnsupportedMediaType")
    refused(await world.ask("PUT", "/devices/d", b"x" * (512 * 1024 + 1)), 413, "GenericRequestEntityTooLarge")
    assert (await world.ask("GET", "/devices", headers={"Content-Type": "text/plain"})).status == 200


async def test_what_is_not_there_and_what_is_not_built(world: HttpWorld) -> None:
    refused(await world.ask("GET", "/nothing"), 404, "GenericNotFound")
    refused(await world.ask("GET", "/devices//x"), 404, "GenericNotFound")
    refused(await world.ask("DELETE", "/statistics/devices"), 405, "GenericMethodNotAllowed")
    for method, path in (("GET", "/jobs/v2/j1"), ("POST", "/devices"), ("GET", "/configurations/?top=5")):
        answer = await world.ask(method, path, [] if method == "POST" else None)
        refused(answer, 501, "NotImplemented", "This operation is not implemented yet")


async def test_a_device_s_paths_are_answered_to_the_device_only(world: HttpWorld) -> None:
    key = (await world.registry.require(await world.add("dev1"))).primary_key
    assert key is not None
    token = world.sign(f"{HOST}/devices/dev1", key)
    path = "/devices/dev1/files"
    refused(await world.ask("POST", path, b"{}", token=token), 501, "NotImplemented")
    refused(await world.ask("POST", path, b"{}", token=world.sign(f"{HOST}/devices/dev1", KEY)), 401, UNAUTHORIZED)


async def test_the_management_socket_opens_no_websocket(world: HttpWorld) -> None:
    refused(await world.ask("GET", "/hubs/hub/$iothub/websocket", token=""), 501, "NotImplemented")


async def test_a_closed_public_door_is_closed_here_too(world: HttpWorld) -> None:
    await world.hubs.update("hub", {"properties": {"publicNetworkAccess": "Disabled"}})
    refused(await world.ask("GET", "/devices"), 401, UNAUTHORIZED)
    assert (await world.refusals())[0].rule == "network.public-access"
    assert (await world.ask("GET", "/hubs/hub/devices", token="")).status == 200


UNAUTHORIZED = "IotHubUnauthorizedAccess"


async def test_strangers_hear_the_same_whatever_was_wrong(world: HttpWorld) -> None:
    await world.add("dev1")
    tokens = [
        "",
        "x",
        "Bearer y",
        world.token("device"),
        world.sign(HOST, KEY, "iothubowner"),
        world.sign(HOST, KEY, "no"),
    ]
    paths = ["/devices/dev1", "/devices/dev2", "/nothing", "/jobs"]
    answers = [await world.ask("GET", path, token=token) for token in tokens[:3] + tokens[4:] for path in paths]
    answers += [await world.ask("GET", "/devices/dev1", token=tokens[3])]
    answers += [await world.ask("GET", "/devices", token=tokens[1], version=None)]
    bodies = {re.sub(TRACKING, "T", answer.text) for answer in answers}
    assert bodies == {
        '{"Message":"ErrorCode:IotHubUnauthorizedAccess;Unauthorized","ExceptionMessage":"Tracking ID:T"}'
    }
    assert {answer.status for answer in answers} == {401}


@pytest.mark.parametrize(
    ("policy", "allowed"),
    [
        ("iothubowner", {"registryRead", "registryWrite", "service"}),
        ("registryRead", {"registryRead"}),
        ("registryReadWrite", {"registryRead", "registryWrite"}),
        ("service", {"service"}),
        ("device", set()),
    ],
)
async def test_each_policy_may_what_its_rights_say(world: HttpWorld, policy: str, allowed: set[str]) -> None:
    await world.add("dev1")
    needs = {
        "registryRead": [("GET", "/devices"), ("GET", "/devices/dev1"), ("GET", "/statistics/devices")],
        "registryWrite": [("PUT", "/devices/dev1"), ("POST", "/devices")],
        "service": [
            ("GET", "/twins/dev1"),
            ("PATCH", "/twins/dev1"),
            ("GET", "/jobs/v2/j"),
            ("POST", "/devices/query"),
        ],
    }
    for right, calls in needs.items():
        for method, path in calls:
            answer = await world.ask(method, path, token=world.token(policy))
            assert (answer.status != 401) is (right in allowed), (method, path)


async def test_a_token_may_cover_a_part_of_the_paths(world: HttpWorld) -> None:
    await world.add("dev1")
    token = world.token(resource=f"{HOST}/devices/dev1")
    assert (await world.ask("GET", "/devices/dev1", token=token)).status == 200
    refused(await world.ask("GET", "/devices", token=token), 401, UNAUTHORIZED)


async def test_the_host_names_the_hub(world: HttpWorld) -> None:
    await world.add("dev1")
    refused(await world.ask("GET", "/devices", headers={"Host": "nobody.isthmus.test"}), 401, UNAUTHORIZED)
    refused(await world.ask("GET", "/devices", headers={"Host": OTHER_HOST}), 401, UNAUTHORIZED)
    assert (await world.ask("GET", "/devices", headers={"Host": f"{HOST.upper()}:8443"})).status == 200
    world.peer.server_name = OTHER_HOST
    refused(await world.ask("GET", "/devices"), 401, UNAUTHORIZED)


async def test_a_refusal_is_found_by_its_tracking_id(world: HttpWorld) -> None:
    answer = await world.ask("GET", "/devices/dev1", token=world.token("service"))
    decision = (await world.refusals())[0]
    assert decision.tracking_id in answer.text
    assert (decision.hub, decision.device, decision.rule) == ("hub", "dev1", "auth.right")
    assert decision.principal == "policy:service"
    missing = await world.ask("GET", "/devices/dev1")
    assert (await world.refusals())[0].tracking_id in missing.text


async def test_a_connection_is_journaled_once(world: HttpWorld) -> None:
    for _ in range(3):
        await world.ask("GET", "/devices")
    await world.ask("GET", "/devices", token=world.token("registryRead"))
    assert world.counters.admissions == 2
    world.clock.now_ms += round(JOURNALED_SECONDS * 1000)
    await world.ask("GET", "/devices")
    assert world.counters.admissions == 3, "a dry run looks back some days, and this connection may be older"


async def test_a_request_under_way_is_cut_when_its_right_is_gone(world: HttpWorld) -> None:
    await world.add("dev1")
    silent = world.connected.devices[DEVICE] = Silent()
    asking = asyncio.create_task(world.ask("POST", "/twins/dev1/methods", {"methodName": "m"}))
    await silent.called.wait()
    [session] = world.sessions.live
    assert (session.hub, session.address, session.principal.name) == (HUB, "127.0.0.1", "iothubowner")
    for _ in range(2):
        session.cut(Refusal(Hop.NETWORK, "network.public-access", "public", "open it"), Code.UNAUTHORIZED_ACCESS)
    answer = await asking
    assert (answer.status, answer.code, answer.headers["connection"]) == (401, UNAUTHORIZED, "close")
    assert world.sessions.live == []
    assert (await world.refusals())[0].rule == "network.public-access"


async def test_the_owner_may_everything_by_the_management_socket(world: HttpWorld) -> None:
    created = await world.ask("PUT", "/hubs/hub/devices/dev1", {}, token="")
    assert created.status == 200
    assert ids(await world.ask("GET", "/hubs/HUB/devices", token="")) == ["dev1"]
    assert ids(await world.ask("GET", "/hubs/other/devices", token="")) == []
    refused(await world.ask("GET", "/hubs/none/devices", token=""), 404, "GenericNotFound")
    refused(await world.ask("GET", "/hubs/hub", token=""), 404, "GenericNotFound")
    assert (await world.refusals())[0].principal == "owner:uid:1000"


async def test_only_the_management_socket_makes_an_owner(world: HttpWorld) -> None:
    world.owner.door = world.peer.door
    refused(await world.ask("GET", "/hubs/hub/devices", token=""), 401, UNAUTHORIZED)


async def test_a_fault_is_an_answer_with_a_tracking_id(world: HttpWorld, caplog: pytest.LogCaptureFixture) -> None:
    world.commands.waiting = None  # type: ignore[assignment]
    await world.add("dev1")
    refused(await world.ask("GET", "/devices/dev1"), 500, "ServerError", "Internal error")
    assert "request failed" in caplog.text
    await world.state.close()
    refused(await world.ask("GET", "/devices/dev1"), 503, "ServiceUnavailable")


async def test_an_expected_continue_is_given_after_the_token_was_checked(world: HttpWorld) -> None:
    answer = await world.ask("PUT", "/devices/dev1", {}, headers={"Expect": "100-continue"})
    assert answer.status == 200


class Silent(FakeDevice):
    """A device that never answers."""

    def __init__(self) -> None:
        super().__init__()
        self.called = asyncio.Event()

    async def invoke(self, name: str, payload: bytes) -> MethodAnswer:
        self.called.set()
        never: asyncio.Future[MethodAnswer] = asyncio.get_running_loop().create_future()
        return await never


def ids(answer: Answer) -> list[str]:
    assert isinstance(answer.json, list)
    return [models.Device.deserialize(each).device_id for each in answer.json]


def twins(answer: Answer) -> list[models.Twin]:
    assert isinstance(answer.json, list)
    return [models.Twin.deserialize(each) for each in answer.json]


def refused(answer: Answer, status: int, code: str, message: str | None = None) -> None:
    """Envelope A, as clients read it: code and message joined by the only semicolon."""
    assert (answer.status, answer.code) == (status, code), answer.text
    assert answer.headers["content-type"] == JSON
    body = answer.json
    assert isinstance(body, dict)
    assert list(body) == ["Message", "ExceptionMessage"]
    head, text = body["Message"].split(";")
    assert head == f"ErrorCode:{code}"
    assert message is None or text == message
    assert re.fullmatch(f"Tracking ID:{TRACKING}", body["ExceptionMessage"])


def refused_b(answer: Answer) -> dict[str, object]:
    """The text inside envelope B."""
    body = answer.json
    assert isinstance(body, dict)
    assert body["ExceptionMessage"] == ""
    inner = msgspec.json.decode(body["Message"], type=dict[str, object])
    assert list(inner) == ["errorCode", "trackingId", "message", "info", "timestampUtc"]
    assert re.fullmatch(TRACKING, str(inner["trackingId"]))
    return inner


async def test_changes_of_identities_are_journaled_with_who_made_them(world: HttpWorld) -> None:
    await world.ask("PUT", "/devices/dev1", {"deviceId": "dev1"})
    await world.ask("GET", "/devices/dev1")
    await world.ask("PUT", "/devices/dev1", {"deviceId": "dev1"})
    await world.ask("DELETE", "/devices/dev1")
    changes = await world.journal.read(JournalFilter(verdict="changed"))
    assert [(change.device, change.principal, change.detail) for change in reversed(changes)] == [
        ("dev1", "policy:iothubowner", "identity written"),
        ("dev1", "policy:iothubowner", "identity deleted"),
    ]


async def test_what_is_not_built_says_so_before_its_body_is_judged(world: HttpWorld) -> None:
    created = await world.ask("PUT", "/devices/dev1", {"deviceId": "dev1"})
    key = msgspec.json.decode(created.text)["authentication"]["symmetricKey"]["primaryKey"]
    token = world.sign(f"{HOST}/devices/dev1", key)
    form = {"Content-Type": "text/plain"}
    answer = await world.ask("POST", "/devices/dev1/files", b"21", token=token, headers=form)
    assert answer.status == 501
