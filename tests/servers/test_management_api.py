"""The rest of the local owner's calls: names, reasons, health, commands for devices, and how failures are told."""

import base64

import pytest

from isthmus.base.errors import Code
from isthmus.base.ids import DeviceRef
from isthmus.servers.management.api import Part
from isthmus.servers.management.request import call_of
from servers.management_world import HUB, HUBS, ManagementWorld

MESSAGES = "/hubs/hub/messages/devicebound"


@pytest.fixture
async def world() -> ManagementWorld:
    made = await ManagementWorld().start()
    await made.domain.registry.put(ref(made), {}, None)
    return made


def ref(world: ManagementWorld) -> DeviceRef:
    return DeviceRef(world.domain.hubs.require("hub").number, "press")


async def test_hubs_by_name_with_the_port_of_the_service_api(world: ManagementWorld) -> None:
    assert (await world.ask("GET", "/hubs")).json == [
        {"name": "hub", "hostName": "hub.example.test", "httpsPort": 8443}
    ]


async def test_reasons_are_told(world: ManagementWorld) -> None:
    await world.ask("POST", f"{HUB}/listkeys")

    (told,) = (await world.ask("GET", "/explain")).json
    assert (told["verdict"], told["detail"]) == ("read", "keys of all policies read")
    assert (await world.ask("GET", "/explain?hub=other")).json == []
    assert (await world.ask("GET", "/explain?top=many")).code == "ArgumentInvalid"


async def test_health_tells_which_part_is_not_well(world: ManagementWorld) -> None:
    assert (await world.ask("GET", "/health")).json == {"ok": True, "parts": {"log": {"ok": True, "reason": ""}}}

    world.parts.append(Part("state", ok=False, reason="disk full"))
    unwell = await world.ask("GET", "/health")

    assert unwell.status == 503
    assert unwell.json["ok"] is False
    assert unwell.json["parts"]["state"] == {"ok": False, "reason": "disk full"}


async def test_a_command_is_sent_as_it_was_given(world: ManagementWorld) -> None:
    given = {
        "deviceId": "press",
        "body": base64.b64encode(b"\x00slow down").decode(),
        "messageId": "m1",
        "correlationId": "c1",
        "userId": "u1",
        "contentType": "text/plain",
        "contentEncoding": "utf-8",
        "expiryTimeUtc": "2030-01-01T00:00:00Z",
        "ack": "Full",
        "properties": {"line": "7"},
    }

    assert (await world.ask("POST", MESSAGES, given)).status == 204

    (locked,) = await world.domain.commands.receive(ref(world))
    assert locked.payload == b"\x00slow down"
    assert locked.properties == {"line": "7"}
    assert locked.expiry_ms == 1_893_456_000_000
    assert (locked.ack or "").lower() == "full"
    assert locked.system == {
        "message-id": "m1",
        "correlation-id": "c1",
        "user-id": "u1",
        "to": "/devices/press/messages/devicebound",
        "content-type": "text/plain",
        "content-encoding": "utf-8",
    }


@pytest.mark.parametrize("expiry", [1_893_456_000_000, "1893456000000", "2030-01-01T00:00:00Z"])
async def test_expiry_in_each_form(world: ManagementWorld, expiry: object) -> None:
    await world.ask("POST", MESSAGES, {"deviceId": "press", "expiryTimeUtc": expiry})

    (locked,) = await world.domain.commands.receive(ref(world))
    assert locked.expiry_ms == 1_893_456_000_000


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({}, "ArgumentInvalid"),
        ({"deviceId": "press", "body": "not base64!"}, "ArgumentInvalid"),
        ({"deviceId": "press", "hatch": 1}, "ArgumentInvalid"),
        ({"deviceId": "press", "ack": "perhaps"}, "ArgumentInvalid"),
        ({"deviceId": "press", "expiryTimeUtc": "tomorrow"}, "ArgumentInvalid"),
        ({"deviceId": "press", "expiryTimeUtc": 1}, "InvalidMessageExpiryTime"),
        ({"deviceId": "nobody"}, "DeviceNotFound"),
    ],
)
async def test_a_command_that_cannot_be_is_refused(world: ManagementWorld, given: dict[str, object], code: str) -> None:
    assert (await world.ask("POST", MESSAGES, given)).code == code


async def test_a_command_for_a_hub_that_is_not_there(world: ManagementWorld) -> None:
    refused = await world.ask("POST", "/hubs/none/messages/devicebound", {"deviceId": "press"})

    assert (refused.status, refused.code) == (404, "GenericNotFound")


@pytest.mark.parametrize(("method", "target"), [("GET", "/"), ("GET", "/hub"), ("POST", "/hubs"), ("GET", "/events")])
async def test_nothing_is_there(world: ManagementWorld, method: str, target: str) -> None:
    assert (await world.ask(method, target)).status == 404


async def test_a_closed_state_is_told_as_such(world: ManagementWorld) -> None:
    await world.state.close()

    refused = await world.ask("PATCH", HUB, {"tags": {"line": "7"}})

    assert (refused.status, refused.code) == (503, Code.SERVICE_UNAVAILABLE.wire_name)


async def test_a_fault_of_ours_is_logged_and_tells_nothing(
    world: ManagementWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world.parts = None  # type: ignore[assignment]

    refused = await world.ask("GET", "/health")

    assert (refused.status, refused.message) == (500, "The server failed; its log tells how")
    assert caplog.messages == ["management call failed"]


async def test_a_body_that_is_no_object_is_refused(world: ManagementWorld) -> None:
    reply = await world.api.answer(call_of("PATCH", HUB, body=b"[1]"))

    assert reply.status == 400
    assert b"not a JSON object" in reply.body


def test_segments_are_decoded_once() -> None:
    call = call_of("GET", "/hubs/a%2Fb/%2525?x=%20y&empty=", who="me")

    assert call.path == ("hubs", "a/b", "%25")
    assert call.query == {"x": " y"}


async def test_commands_and_feedback_of_a_hub_made_at_run_time(world: ManagementWorld) -> None:
    domain = world.domain
    await world.ask("PUT", f"{HUBS}/second", {})
    second = domain.hubs.require("second").number
    there = DeviceRef(second, "press")
    await domain.registry.put(there, {}, None)
    for _ in range(2):
        await world.ask("POST", "/hubs/second/messages/devicebound", {"deviceId": "press", "ack": "full"})

    (locked,) = await domain.commands.receive(there)
    await domain.commands.complete(there, locked.lock_token)
    await domain.feedback.tick()
    (told,) = await domain.feedback.batches.receive(second)
    await domain.feedback.batches.complete(second, told.lock_token)

    assert (told.user_id, b'"statusCode":"Success"' in told.body) == ("second", True)
    await world.ask("DELETE", f"{HUBS}/second")
    world.clock.now_ms += 10_000_000
    await domain.commands.tick()
    await domain.feedback.tick()
    assert (domain.commands.next_deadline_ms(), domain.feedback.next_deadline_ms()) == (None, None)
