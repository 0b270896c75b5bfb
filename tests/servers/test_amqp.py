"""The AMQP pump: mechanisms, names, cuts, faults, pace and the end of a connection."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from devices.fakes import HUB, OTHER_KEY
from isthmus.access.principal import SharedAccessPolicy
from isthmus.base.errors import Code, Hop, Refusal
from isthmus.base.ids import DeviceRef
from isthmus.commands.cloud_to_device import C2DMessage
from isthmus.resources.hub import Hub
from isthmus.servers.gateway import amqp as amqp_module
from isthmus.servers.gateway.sessions import Where
from isthmus.wire.amqp.connection import EMPTY_FRAME
from isthmus.wire.amqp.events import ConnectionClosed, Transfer
from isthmus.wire.amqp.link import LinkState
from isthmus.wire.amqp.performatives import Open, SaslChoice, SaslCode
from servers.amqp_world import BUILT_IN, AmqpClient, AmqpWorld, command, plain
from servers.gate_world import HOST, WRONG_KEY, device_token
from servers.mqtt_world import settled

DEVICEBOUND = "/messages/devicebound"
FEEDBACK = "/messages/serviceBound/feedback"
DEVICE = DeviceRef(HUB, "dev1")


# Mechanisms and names


@pytest.mark.parametrize("mechanism", ["ANONYMOUS", "MSSBCBS", "EXTERNAL", None])
async def test_who_proves_nothing_at_first_may_put_a_token(amqp: AmqpWorld, mechanism: str | None) -> None:
    client = await amqp.client().open(SaslChoice(mechanism, b"p") if mechanism else None)
    assert client.sasl is (SaslCode.OK if mechanism else None)
    link = await client.sender(DEVICEBOUND)
    assert client.condition(link) == "amqp:unauthorized-access"
    assert await amqp.rules() == ["auth.missing"]
    assert await client.put_token(HOST, amqp.doors.policy_token("service")) == 200
    assert (await client.sender(DEVICEBOUND)).attached


@pytest.mark.parametrize("user", ["service@sas.root.hub", f"service@sas.root.{HOST}"])
async def test_a_policy_comes_in_by_plain_and_needs_no_token(amqp: AmqpWorld, user: str) -> None:
    client = await amqp.client().open(plain(user, amqp.doors.policy_token("service")))
    assert client.sasl is SaslCode.OK
    assert (await client.sender(DEVICEBOUND)).attached
    assert (await client.reader()).attached
    assert [session.principal.label for session in amqp.sessions.find(Where())] == ["policy:service"]


@pytest.mark.rule("AMQP-5.3.2", "AMQP-5.3.3.6")
@pytest.mark.parametrize(
    ("user", "rule"),
    [
        ("service@sas.root.hub", "auth.signature"),
        ("nobody@sas.root.hub", "auth.unknown-policy"),
        ("device@sas.root.hub", "auth.unknown-policy"),
        ("service@sas.root.other", "name.unknown"),
        ("dev1@sas.hub", "auth.plain-user"),
        ("service", "auth.plain-user"),
    ],
)
async def test_plain_is_refused_by_its_outcome_and_the_socket_closed(amqp: AmqpWorld, user: str, rule: str) -> None:
    token = amqp.doors.policy_token("service", key=WRONG_KEY)
    client = await amqp.client().open(plain(user, token))
    assert client.sasl is SaslCode.AUTH
    assert client.is_closed()
    assert client.connection.reason == rule
    assert await amqp.rules() == [rule]
    assert len(amqp.sessions) == 0


async def test_a_device_is_told_which_protocol_it_may_use(amqp: AmqpWorld) -> None:
    client = await amqp.client().open(plain("dev1@sas.hub", device_token()))
    assert client.sasl is SaslCode.AUTH
    (decision,) = await amqp.doors.decisions()
    assert "MQTT" in decision.remedy


async def test_plain_that_is_not_plain_is_refused(amqp: AmqpWorld) -> None:
    client = await amqp.client().open(SaslChoice("PLAIN", b"\xff", HOST))
    assert client.sasl is SaslCode.AUTH
    assert await amqp.rules() == ["auth.plain-user"]


async def test_plain_at_a_closed_door_sounds_like_a_wrong_key(amqp: AmqpWorld) -> None:
    await amqp.doors.close_public()
    outcomes = []
    for key in ("", WRONG_KEY):
        client = amqp.client()
        await client.open(plain("service@sas.root.hub", amqp.doors.policy_token("service", key=key)))
        outcomes.append((client.sasl, client.is_closed()))
    assert outcomes == [(SaslCode.AUTH, True)] * 2
    assert await amqp.rules() == ["network.public-access"] * 2


@pytest.mark.parametrize(
    ("server_name", "hostname", "rule"),
    [
        (HOST, "other.example.test", "name.unknown"),
        ("", "second.example.test", ""),
        (HOST, "second.example.test", "name.mismatch"),
        ("", "localhost", "name.missing"),
        (HOST, "127.0.0.1", ""),
        ("", f"{HOST}:5671", ""),
    ],
)
async def test_sni_and_open_must_name_one_hub(amqp: AmqpWorld, server_name: str, hostname: str, rule: str) -> None:
    await amqp.doors.hubs.create("second", host_name="second.example.test", partitions=1)
    client = await amqp.client(server_name=server_name).open(SaslChoice("ANONYMOUS"), hostname)
    assert await amqp.rules() == ([rule] if rule else [])
    assert client.is_closed() == bool(rule)
    if rule:
        assert client.end is not None
        assert client.end.condition == "amqp:unauthorized-access"


async def test_plain_names_a_hub_that_open_may_not_contradict(amqp: AmqpWorld) -> None:
    await amqp.doors.hubs.create("second", host_name="second.example.test", partitions=1)
    choice = SaslChoice("PLAIN", plain("service@sas.root.hub", amqp.doors.policy_token("service")).initial_response)
    client = await amqp.client(server_name="").open(choice, "second.example.test")
    assert client.sasl is SaslCode.OK
    assert await amqp.rules() == ["name.mismatch"]
    assert client.is_closed()


async def test_links_of_a_deleted_hub_are_refused(amqp: AmqpWorld) -> None:
    client = await amqp.opened()
    await amqp.doors.hubs.delete("hub")
    assert client.condition(await client.sender("$cbs")) == "amqp:unauthorized-access"


# Cuts


async def test_closing_the_public_door_cuts_with_the_condition_and_empties_the_index(amqp: AmqpWorld) -> None:
    client = await amqp.service()
    await client.put_token(BUILT_IN, amqp.doors.policy_token("service", BUILT_IN))
    await client.reader()
    assert len(amqp.sessions) == 2
    await amqp.doors.close_public()
    assert len(amqp.sessions) == 0
    client.receive()
    assert client.end is not None
    assert client.end.condition == "amqp:unauthorized-access"
    assert client.connection.reason == "network.public-access"
    assert await amqp.rules() == ["network.public-access"], "once, however many tokens it had"


async def test_a_private_door_stays_when_the_public_one_closes(amqp: AmqpWorld) -> None:
    client = await amqp.service(door=await amqp.doors.private_door())
    await amqp.doors.close_public()
    await client.run()
    assert (await client.sender(DEVICEBOUND)).attached


async def test_a_new_key_cuts_who_used_the_former(amqp: AmqpWorld) -> None:
    client, other = await amqp.service("service"), await amqp.service("iothubowner")

    def with_new_key(hub: Hub) -> Hub:
        policies = [policy for policy in hub.policies if policy.name != "service"]
        old = hub.policy("service")
        assert old is not None
        renewed = SharedAccessPolicy("service", old.rights, OTHER_KEY, old.secondary_key)
        return replace(hub, policies=(*policies, renewed))

    await amqp.doors.hubs.change("hub", with_new_key)
    client.receive()
    assert client.end is not None
    assert client.end.condition == "amqp:unauthorized-access"
    assert await amqp.rules() == ["auth.signature"]
    assert not other.is_closed()


async def test_a_cut_during_the_handshake_closes(amqp: AmqpWorld) -> None:
    client = amqp.client()
    client.engine.open(Open("client", HOST), plain("service@sas.root.hub", amqp.doors.policy_token("service")))
    while not len(amqp.sessions):
        client.send()
        await settled()
        client.receive()
    (session,) = amqp.sessions.find(Where())
    session.cut(Refusal(Hop.NETWORK, "network.public-access", "Disabled", "open it"), Code.UNAUTHORIZED_ACCESS)
    await settled()
    assert client.is_closed()
    assert len(amqp.sessions) == 0


# Faults


async def broken_spawned_work(client: AmqpClient) -> None:
    """Commands that cannot be stored."""
    link = await client.sender(DEVICEBOUND)
    link.send(command())
    link.send(command())
    await client.run()


async def broken_turn(client: AmqpClient) -> None:
    """A reader whose log cannot be read."""
    await client.reader()


async def broken_attach(client: AmqpClient) -> None:
    """A reader whose place cannot be found."""
    await client.reader(selector="amqp.annotation.x-opt-sequence-number > '1'")


@pytest.mark.parametrize("fault", [broken_spawned_work, broken_turn, broken_attach])
async def test_a_fault_of_ours_closes_with_internal_error_and_is_logged_once(
    amqp: AmqpWorld,
    fault: Callable[[AmqpClient], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = await amqp.service()

    async def fail(hub: Hub, device_id: str, message: C2DMessage) -> None:
        raise ZeroDivisionError

    def fail_to_read(*_: object) -> None:
        raise ZeroDivisionError

    await client.sender(DEVICEBOUND)
    monkeypatch.setattr(amqp.commands, "send", fail)
    monkeypatch.setattr(amqp.log, "read", fail_to_read)
    monkeypatch.setattr(amqp.log, "seek_sequence", fail_to_read)
    await fault(client)
    await client.run()
    assert client.end is not None
    assert client.end.condition == "amqp:internal-error"
    assert client.connection.reason == "internal error"
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == [
        "amqp connection failed"
    ]
    assert len(amqp.sessions) == 0


async def test_a_fault_of_the_peer_is_journaled_and_closed(amqp: AmqpWorld) -> None:
    client = await amqp.service()
    client.pump.received(b"\x00\x00\x00\x04\x02\x00\x00\x00")
    await client.run()
    assert client.end is not None
    assert client.end.condition == "amqp:connection:framing-error"
    assert client.connection.reason == "contract.protocol"
    assert await amqp.rules() == ["contract.protocol"]


@pytest.mark.rule("AMQP-2.2")
async def test_what_is_not_amqp_is_answered_by_a_header_and_closed(amqp: AmqpWorld) -> None:
    client = amqp.client()
    client.pump.received(b"GET / HTTP/1.1\r\n\r\n")
    assert client.connection.writes == [b"AMQP\x03\x01\x00\x00"]
    assert client.connection.reason == "no protocol in common"
    assert await amqp.rules() == ["contract.protocol"]


async def test_a_message_above_the_links_size_is_rejected_and_journaled(amqp: AmqpWorld) -> None:
    client = await amqp.service()
    link = await client.sender(DEVICEBOUND)
    link.send(bytes(1_100_000))
    await client.run()
    (outcome,) = client.outcomes(link)
    assert getattr(outcome, "error", None) is not None
    assert await amqp.rules() == ["limit.message-size"]


# Pace


async def test_reading_pauses_while_as_much_work_as_allowed_is_under_way(
    amqp: AmqpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(amqp_module, "WORK_MAX", 3)
    gate = asyncio.Event()
    send = amqp.commands.send

    async def held(hub: Hub, device_id: str, message: C2DMessage) -> None:
        await gate.wait()
        await send(hub, device_id, message)

    monkeypatch.setattr(amqp.commands, "send", held)
    client = await amqp.service()
    link = await client.sender(DEVICEBOUND)
    for _ in range(3):
        link.send(command())
    client.send()
    await settled()
    assert not client.is_read()
    gate.set()
    await settled()
    assert client.is_read()
    client.receive()
    assert len(client.outcomes(link)) == 3


async def test_reading_pauses_while_credentials_are_judged(amqp: AmqpWorld) -> None:
    client = amqp.client()
    client.engine.open(Open("client", HOST), plain("service@sas.root.hub", amqp.doors.policy_token("service")))
    client.send()
    client.receive()
    client.send()
    assert not client.is_read()
    await settled()
    assert client.is_read()


async def test_reading_pauses_while_the_peer_does_not_read(amqp: AmqpWorld) -> None:
    client = await amqp.service()
    client.connection.congested = True
    client.pump.received(EMPTY_FRAME)
    assert not client.is_read()
    client.connection.congested = False
    client.pump.writable()
    assert client.is_read()


async def test_the_timer_sleeps_until_the_first_deadline_and_is_not_moved_by_traffic(amqp: AmqpWorld) -> None:
    client = await amqp.opened()
    assert len(amqp.timers.waiting) == 1
    amqp.timers.move(30)
    (idle,) = amqp.timers.waiting
    assert 440 < idle <= 480, "the handshake's deadline has passed, silence's comes"
    before = amqp.timers.calls[:]
    for _ in range(50):
        client.pump.received(EMPTY_FRAME)
    assert [call for call in amqp.timers.calls if not call.cancelled] == before
    await client.drop()
    assert amqp.timers.waiting == []


async def test_a_silent_peer_is_closed_and_one_that_waits_for_us_hears_of_us(amqp: AmqpWorld) -> None:
    client = await amqp.client().open(None, idle_timeout_ms=60_000)
    amqp.timers.move(31)
    assert client.connection.writes == [EMPTY_FRAME]
    amqp.timers.move(500)
    client.receive()
    assert client.end is not None
    assert client.end.condition == "amqp:resource-limit-exceeded"
    assert client.connection.reason == "nothing was heard within the idle time-out"
    assert await amqp.rules() == [], "nobody was refused anything"


async def test_a_peer_that_opens_nothing_is_closed_in_time(amqp: AmqpWorld) -> None:
    client = amqp.client()
    amqp.timers.move(29)
    assert not client.is_closed()
    amqp.timers.move(2)
    assert client.connection.reason == "no open in time"
    assert await amqp.rules() == ["auth.time"]


# The end


async def test_the_end_is_one_line_of_the_log(amqp: AmqpWorld, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    client = await amqp.service()
    await client.stay(2)
    client.engine.close()
    await client.run()
    (record,) = [record for record in caplog.records if record.message == "connection ended"]
    assert {name: getattr(record, name) for name in ("hub", "plane", "principal", "door", "address", "reason")} == {
        "hub": "hub",
        "plane": "amqp",
        "principal": "policy:service",
        "door": "public",
        "address": "192.0.2.7",
        "reason": "closed by the peer",
    }
    assert getattr(record, "duration_ms", 0) == 2000


async def test_work_under_way_ends_although_the_connection_has(amqp: AmqpWorld) -> None:
    client = await amqp.service()
    link = await client.sender(DEVICEBOUND)
    link.send(command(b"kept"))
    client.send()
    await client.drop()
    await amqp.gateway.drained()
    (locked,) = await amqp.commands.receive(DEVICE, 5)
    assert locked.payload == b"kept"


async def test_every_link_ends_with_its_connection(amqp: AmqpWorld) -> None:
    client = await amqp.service()
    links = [await client.reader(), await client.sender(DEVICEBOUND), await client.receiver(FEEDBACK, credit=1)]
    client.engine.close()
    await client.run()
    assert {link.state for link in links} == {LinkState.GONE}
    assert [event.by_peer for event in client.of(ConnectionClosed)] == [False]
    await amqp.tell(b"nobody reads")
    await settled()
    assert client.of(Transfer)[1:] == []
