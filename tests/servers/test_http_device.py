"""Requests of devices: what is stored and when it is answered, what is handed out, and who is held back."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from devices.fakes import HUB
from isthmus.access.principal import Principal, PrincipalKind
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.ids import DeviceRef
from isthmus.base.limits import DEVICE_MESSAGES_PER_SECOND, LOG_BACKLOG_BYTES_MAX
from isthmus.commands.cloud_to_device import LOCK_MS
from isthmus.network.door import PUBLIC_DOOR
from isthmus.servers.gateway.device_rates import REMEMBERED_MAX, DeviceRates
from isthmus.servers.gateway.gate import Admitted
from isthmus.servers.gateway.http_device import DeviceCall
from isthmus.servers.gateway.http_device_contract import BATCH_TYPE
from isthmus.servers.gateway.http_routes import Action
from servers.device_http_world import DeviceHttpWorld
from servers.http_world import Answer

DEVICE = DeviceRef(HUB, "dev1")
BATCH = {"Content-Type": f"{BATCH_TYPE}; charset=utf-8"}
COMMANDS = "/devices/dev1/messages/devicebound"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[DeviceHttpWorld]:
    async with DeviceHttpWorld(tmp_path / "log") as opened:
        yield opened


async def test_a_message_is_durable_before_it_is_answered(world: DeviceHttpWorld) -> None:
    token = await world.device_token("dev1")
    headers = {"iothub-messageid": "m", "iothub-app-Line": "2", "Content-Type": "text/plain"}
    answer = await world.send(token, b"hello", headers)
    assert (answer.status, answer.text) == (204, "")
    ((envelope, payload),) = world.stored
    assert payload == b"hello"
    assert (envelope.device_id, envelope.module_id, envelope.principal) == ("dev1", "", "device:dev1")
    assert (envelope.system, envelope.properties) == ({"message-id": "m"}, {"Line": "2"})
    assert json.loads(envelope.auth_method)["scope"] == "device"
    assert envelope.generation_id == (await world.registry.require(DEVICE)).generation_id
    assert world.devices.messages == 1
    assert "sync" in world.disk.calls


async def test_what_the_disk_does_not_take_is_not_acknowledged(world: DeviceHttpWorld) -> None:
    token = await world.device_token("dev1")
    world.disk.fail("write", 100)
    assert refused(await world.send(token, b"lost")) == (503, "ServiceUnavailable")
    world.disk.mend()
    assert world.stored == []


async def test_a_batch_comes_whole_and_in_order(world: DeviceHttpWorld) -> None:
    token = await world.device_token("dev1")
    entries = [{"body": str(number), "base64Encoded": False} for number in range(200)]
    assert (await world.send(token, json.dumps(entries).encode(), BATCH)).status == 204
    assert [payload for _, payload in world.stored] == [b"%d" % number for number in range(200)]
    bad = json.dumps([*entries, {"body": "%"}]).encode()
    assert refused(await world.send(token, bad, BATCH)) == (400, "ArgumentInvalid")
    assert len(world.stored) == 200


async def test_a_module_has_telemetry_and_no_commands(world: DeviceHttpWorld) -> None:
    await world.device_token("dev1")
    token = await world.device_token("dev1/mod1")
    assert (await world.send(token, b"m", device="dev1/modules/mod1")).status == 204
    assert world.stored[0][0].module_id == "mod1"
    owner = await world.ask("GET", "/devices/dev1/modules/mod1/messages/devicebound")
    assert refused(owner) == (404, "GenericNotFound")
    assert refused(await world.ask("GET", COMMANDS, token=token)) == (401, "IotHubUnauthorizedAccess")


async def test_a_message_that_is_too_large_is_not_read(world: DeviceHttpWorld) -> None:
    token = await world.device_token("dev1")
    assert refused(await world.send(token, bytes(262_145))) == (413, "MessageTooLarge")
    assert (await world.refusals())[0].rule == "limit.message-size"
    assert (await world.send(token, bytes(262_144))).status == 204


async def test_a_device_ahead_of_its_rate_is_held_back_and_others_are_not(world: DeviceHttpWorld) -> None:
    token, other = await world.device_token("dev1"), await world.device_token("dev2")
    batch = b"[%b]" % b",".join([b'{"body":""}'] * DEVICE_MESSAGES_PER_SECOND)
    for _ in range(2):
        assert (await world.send(token, batch, BATCH)).status == 204
    answer = await world.send(token, b"more")
    assert refused(answer) == (429, "DeviceThrottlingLimitExceeded")
    assert "Wait 1 seconds and try again" in answer.text
    assert (await world.refusals())[0].rule == "limit.device-rate"
    assert (await world.send(other, b"x", device="dev2")).status == 204
    world.clock.now_ms += 1_000
    assert (await world.send(token, b"more")).status == 204


def test_of_more_devices_the_longest_unseen_is_forgotten() -> None:
    rates = DeviceRates(StoppedClock())
    for number in range(REMEMBERED_MAX + 1):
        rates.sent(DeviceRef(HUB, f"d{number}"), 2 * DEVICE_MESSAGES_PER_SECOND)
    rates.require_room(DeviceRef(HUB, "d0"))
    with pytest.raises(HubError):
        rates.require_room(DeviceRef(HUB, "d1"))


async def test_while_the_log_is_behind_messages_are_refused_and_commands_are_not(world: DeviceHttpWorld) -> None:
    token = await world.device_token("dev1")
    world.backlog.backlog_bytes = LOG_BACKLOG_BYTES_MAX + 1
    assert refused(await world.send(token, b"x")) == (503, "ServerBusy")
    assert (await world.refusals())[0].rule == "limit.backlog"
    assert (await world.ask("GET", COMMANDS, token=token)).status == 204


async def test_routes_are_judged_by_the_twin_of_a_device_that_is_not_connected(world: DeviceHttpWorld) -> None:
    token = await world.device_token("dev1")
    route = {
        "name": "north",
        "source": "DeviceMessages",
        "condition": "$twin.tags.hall = 'north'",
        "endpointNames": ["events"],
        "isEnabled": True,
    }
    fallback = {"source": "DeviceMessages", "condition": "true", "endpointNames": ["events"], "isEnabled": False}
    await world.hubs.update("hub", {"properties": {"routing": {"routes": [route], "fallbackRoute": fallback}}})
    sent = await asyncio.gather(*(world.send(token, b"not yet") for _ in range(5)))
    await world.twins.patch(DEVICE, {"tags": {"hall": "north"}}, None)
    sent += await asyncio.gather(*(world.send(token, b"now") for _ in range(5)))
    await world.twins.patch(DEVICE, {"tags": {"hall": "south"}}, None)
    sent.append(await world.send(token, b"no more"))
    assert {answer.status for answer in sent} == {204}
    assert [payload for _, payload in world.stored] == [b"now"] * 5
    assert world.accept.orphaned == 6


async def test_commands_are_locked_and_settled(world: DeviceHttpWorld) -> None:
    token = await world.device_token("dev1")
    assert (await world.ask("GET", COMMANDS, token=token)).status == 204
    await world.command(DEVICE, b"one", message_id="m-1")
    await world.command(DEVICE, b"two")
    first, second = [await world.ask("GET", COMMANDS, token=token) for _ in range(2)]
    assert (first.status, first.text, first.headers["iothub-messageid"]) == (200, "one", "m-1")
    assert second.text == "two"
    assert (await world.ask("GET", COMMANDS, token=token)).status == 204
    lock = first.headers["etag"].strip('"')
    assert (await world.ask("POST", f"{COMMANDS}/{lock}/abandon", token=token)).status == 204
    again = await world.ask("GET", COMMANDS, token=token)
    assert (again.text, again.headers["iothub-deliverycount"]) == ("one", "1")
    lost = await world.ask("DELETE", f"{COMMANDS}/{lock}", token=token)
    assert refused(lost) == (412, "DeviceMessageLockLost")
    for answer, query in ((again, ""), (second, "?reject")):
        path = f"{COMMANDS}/{answer.headers['etag'].strip(chr(34))}{query}"
        assert (await world.ask("DELETE", path, token=token)).status == 204
    assert await world.queues.count(DEVICE) == 0


async def test_a_lock_that_runs_out_gives_the_command_back(world: DeviceHttpWorld) -> None:
    token = await world.device_token("dev1")
    await world.command(DEVICE, b"one")
    first = await world.ask("GET", COMMANDS, token=token)
    world.clock.now_ms += LOCK_MS + 1
    again = await world.ask("GET", COMMANDS, token=token)
    assert (again.text, again.headers["iothub-deliverycount"]) == ("one", "0")
    assert again.headers["etag"] != first.headers["etag"]


async def test_another_device_s_lock_is_no_lock(world: DeviceHttpWorld) -> None:
    token, other = await world.device_token("dev1"), await world.device_token("dev2")
    await world.command(DEVICE, b"one")
    lock = (await world.ask("GET", COMMANDS, token=token)).headers["etag"].strip('"')
    path = f"/devices/dev2/messages/devicebound/{lock}"
    assert refused(await world.ask("DELETE", path, token=other)) == (412, "DeviceMessageLockLost")
    assert refused(await world.ask("DELETE", f"{COMMANDS}/{lock}", token=other)) == (401, "IotHubUnauthorizedAccess")


async def test_what_headers_cannot_carry_is_dead_lettered_and_the_next_is_served(world: DeviceHttpWorld) -> None:
    token = await world.device_token("dev1")
    await world.command(DEVICE, b"bad", properties={"a": "1\r\nx: 2"})
    await world.command(DEVICE, b"good", properties={"a": "1"})
    answer = await world.ask("GET", COMMANDS, token=token)
    assert (answer.text, answer.headers["iothub-app-a"]) == ("good", "1")
    assert await world.queues.count(DEVICE) == 1


async def test_a_request_that_is_cut_hears_what_a_stranger_hears(world: DeviceHttpWorld) -> None:
    token = await world.device_token("dev1")

    async def cut() -> None:
        await world.sessions.added.wait()
        refusal = Refusal(Hop.AUTHENTICATION, "auth.disabled", "dev1 is disabled", "enable it")
        world.sessions.live[0].cut(refusal, Code.UNAUTHORIZED_ACCESS)

    answer, _ = await asyncio.gather(world.send(token, b"x"), cut())
    assert refused(answer) == (401, "IotHubUnauthorizedAccess")
    assert (await world.refusals())[0].rule == "auth.disabled"


async def test_the_management_socket_carries_no_device(world: DeviceHttpWorld) -> None:
    await world.device_token("dev1")
    answer = await world.ask("POST", "/hubs/hub/devices/dev1/messages/events", b"x", token="")
    assert refused(answer) == (501, "NotImplemented")


async def test_a_probe_sends_itself_a_message_and_nothing_else(world: DeviceHttpWorld) -> None:
    ref = DeviceRef(HUB, "~probe-1")
    principal = Principal(PrincipalKind.DEVICE, ref.device_id, frozenset(), "device", "sas")
    admitted = Admitted(world.hub, principal, None, PUBLIC_DOOR, "127.0.0.1")
    call = DeviceCall(admitted, ref, {}, (), "", b"there")
    world.devices.check_offered(Action.SEND_EVENTS, ref)
    assert (await world.devices.answer(Action.SEND_EVENTS, call)).status == 204
    assert (world.probe_mail.sent, world.stored) == ([("~probe-1", b"there")], [])
    with pytest.raises(HubError, match="not implemented"):
        world.devices.check_offered(Action.RECEIVE_COMMAND, ref)


class StoppedClock:
    """A clock that stands."""

    def utc_ms(self) -> int:
        return 0

    def monotonic(self) -> float:
        return 0.0


def refused(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.code
