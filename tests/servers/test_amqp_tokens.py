"""Tokens put to `$cbs`: what is accepted, renewed, refused and journaled, and what their end brings with it."""

import uuid

import pytest

from isthmus.access.journal import Verdict
from isthmus.servers.gateway import amqp_tokens
from isthmus.servers.gateway.amqp_tokens import TOKEN_GRACE_SECONDS
from isthmus.servers.gateway.sessions import Where
from isthmus.wire.amqp import message
from isthmus.wire.amqp.limits import LINK_CREDIT
from isthmus.wire.amqp.states import Error
from isthmus.wire.amqp.values import AmqpValue, Int, ULong
from servers.amqp_world import BUILT_IN, ENTITY, AmqpWorld, RequestPair, conditions
from servers.gate_world import HOST, WRONG_KEY, device_token
from servers.mqtt_world import settled

DEVICEBOUND = "/messages/devicebound"
ANY = Where()


@pytest.mark.parametrize(
    ("audience", "resource"),
    [
        (HOST, HOST),
        (f"https://{HOST}", HOST),
        (f"amqps://{HOST}/messages/devicebound", HOST),
        (f"sb://{HOST}/{ENTITY}/consumergroups/$default", f"sb://{HOST}/{ENTITY}"),
        (f"sb%3A%2F%2F{HOST}%2F{ENTITY}", f"sb://{HOST}/{ENTITY}"),
    ],
)
async def test_a_policys_token_is_answered_by_200(amqp: AmqpWorld, audience: str, resource: str) -> None:
    client = await amqp.opened()
    answer = await client.cbs_answer(audience, amqp.doors.policy_token("service", resource))
    assert (answer.status, answer.properties["status-description"]) == (200, "OK")
    assert isinstance(answer.properties["status-code"], Int)
    assert [each.principal for each in await amqp.doors.decisions()] == ["policy:service"]
    assert [session.principal.label for session in amqp.sessions.find(ANY)] == ["policy:service"]


@pytest.mark.parametrize("message_id", [ULong(0), uuid.UUID(int=7), "an id", b"bytes"])
async def test_the_answer_correlates_with_the_same_type(amqp: AmqpWorld, message_id: AmqpValue) -> None:
    client = await amqp.service()
    pair = RequestPair(client, await client.sender("$cbs"), await client.receiver("$cbs", credit=1))
    answer = await pair.ask({"operation": "nothing"}, b"", message_id=message_id)
    assert answer.received.properties.correlation_id == message_id
    assert type(answer.received.properties.correlation_id) is type(message_id)


@pytest.mark.parametrize(
    ("token", "rule"),
    [
        ("wrong key", "auth.signature"),
        ("expired", "auth.expired"),
        ("other audience", "auth.scope"),
        ("nonsense", "auth.malformed"),
        ("", "auth.missing"),
        ("device", "auth.unknown-policy"),
    ],
)
async def test_a_bad_token_is_answered_by_401_whatever_the_reason(amqp: AmqpWorld, token: str, rule: str) -> None:
    tokens = {
        "wrong key": amqp.doors.policy_token("service", key=WRONG_KEY),
        "expired": amqp.doors.policy_token("service", seconds=-1),
        "other audience": amqp.doors.policy_token("service", f"{HOST}/devices/dev1"),
        "device": device_token(),
    }
    client = await amqp.opened()
    answer = await client.cbs_answer(HOST, tokens.get(token, token))
    assert answer.status == 401
    assert str(answer.properties["status-description"]).startswith("Unauthorized TrackingId:")
    assert "error-condition" not in answer.properties
    assert await amqp.rules() == [rule]
    assert len(amqp.sessions) == 0
    assert not client.is_closed(), "the client may try another one"


async def test_an_audience_of_another_hub_is_refused(amqp: AmqpWorld) -> None:
    await amqp.doors.hubs.create("second", host_name="second.example.test", partitions=1)
    client = await amqp.opened()
    token = amqp.doors.policy_token("service", "second.example.test")
    assert (await client.cbs_answer("second.example.test", token)).status == 401
    assert await amqp.rules() == ["name.mismatch"]
    assert await client.put_token(HOST, amqp.doors.policy_token("service")) == 200


async def test_another_request_is_answered_by_400(amqp: AmqpWorld) -> None:
    client = await amqp.opened()
    assert (await client.cbs_answer(HOST, "token", operation="delete-token")).status == 400
    assert (await client.cbs_answer(HOST, ["no", "text"])).status == 400
    assert await amqp.rules() == ["contract.cbs"] * 2


async def test_a_request_that_is_no_message_is_rejected(amqp: AmqpWorld) -> None:
    client = await amqp.opened()
    link = await client.sender("$cbs")
    link.send(b"\x00\x53\x73\x45\x00")
    await client.run()
    (outcome,) = client.outcomes(link)
    error = getattr(outcome, "error", None)
    assert isinstance(error, Error)
    assert error.condition == "com.microsoft:argument-error"
    assert await amqp.rules() == ["contract.message"]


async def test_an_answer_waits_for_credit_and_only_the_newest_are_kept(amqp: AmqpWorld) -> None:
    client = await amqp.opened()
    requests, replies = await client.sender("$cbs"), await client.receiver("$cbs")
    for number in range(70):
        requests.send(b"", b"\x00\x53\x73\xc0\x03\x01\x53" + bytes([number + 1]))
        await client.run()
    assert client.messages(replies) == []
    replies.grant(100)
    await client.run()
    assert [each.properties.correlation_id for each in client.messages(replies)] == list(range(7, 71))


async def test_requests_never_run_out_of_credit(amqp: AmqpWorld) -> None:
    client = await amqp.opened()
    requests = await client.sender("$cbs")
    for _ in range(LINK_CREDIT // 2):
        requests.send(b"nonsense", settled=True)
    await client.run()
    assert requests.credit == LINK_CREDIT


async def test_an_answer_goes_to_the_newest_link_of_the_requests_session(amqp: AmqpWorld) -> None:
    client = await amqp.opened()
    requests = await client.sender("$cbs")
    former, newer = await client.receiver("$cbs", credit=9), await client.receiver("$cbs", credit=9)
    former.detach()
    client.session = client.engine.begin()
    elsewhere = await client.receiver("$cbs", credit=9)
    requests.send(b"\x00\x53\x77\x40")
    await client.run()
    assert [len(client.messages(link)) for link in (former, newer, elsewhere)] == [0, 1, 0]


async def test_a_renewed_token_takes_the_place_of_the_former(amqp: AmqpWorld) -> None:
    client = await amqp.service()
    (former,) = amqp.sessions.find(ANY)
    await client.stay(3000)
    token = amqp.doors.policy_token("service", seconds=7200)
    assert await client.put_token(HOST.upper(), token) == 200
    (session,) = amqp.sessions.find(ANY)
    assert session is not former
    assert [each.verdict for each in await amqp.doors.decisions()] == [Verdict.ALLOWED], "journaled once"
    await client.stay(3600 - 3000 + TOKEN_GRACE_SECONDS + 1)
    assert not client.is_closed()


async def test_a_connection_ends_when_its_only_token_is_over(amqp: AmqpWorld) -> None:
    client = await amqp.service()
    link = await client.sender(DEVICEBOUND)
    await client.stay(3600 + TOKEN_GRACE_SECONDS - 1)
    assert not client.is_closed()
    await client.stay(2)
    assert client.end is not None
    assert client.end.condition == "amqp:unauthorized-access"
    assert not link.attached
    assert client.is_closed()
    assert await amqp.rules() == ["auth.expired"]
    assert len(amqp.sessions) == 0


async def test_links_end_with_the_token_that_carried_them_and_others_stay(amqp: AmqpWorld) -> None:
    client = await amqp.opened()
    paths = [f"sb://{HOST}/{ENTITY}/ConsumerGroups/$Default/Partitions/{number}" for number in range(2)]
    for path, seconds in zip(paths, (600, 6000), strict=True):
        assert await client.put_token(path, amqp.doors.policy_token("service", path, seconds=seconds)) == 200
    links = [await client.reader(str(number)) for number in (0, 1, 0)]
    await client.stay(600 + TOKEN_GRACE_SECONDS + 1)
    assert conditions(client, [links[0], links[2]]) == ["amqp:unauthorized-access"] * 2
    assert links[1].attached
    assert await amqp.rules() == ["auth.expired"], "once"
    assert len(amqp.sessions) == 1
    await amqp.tell(b"still")
    await amqp.tell(b"there", partition=1)
    await client.run()
    assert [client.bodies(link) for link in links] == [[], [b"there"], []]


async def test_a_token_without_an_end_of_its_links_disturbs_nobody(amqp: AmqpWorld) -> None:
    client = await amqp.service()
    link = await client.sender(DEVICEBOUND)
    assert await client.put_token(BUILT_IN, amqp.doors.policy_token("service", BUILT_IN, seconds=60)) == 200
    await client.stay(60 + TOKEN_GRACE_SECONDS + 1)
    assert link.attached
    assert len(amqp.sessions) == 1


async def test_a_connection_holds_so_many_tokens(amqp: AmqpWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amqp_tokens, "PROOFS_MAX", 2)
    client = await amqp.opened()
    token = amqp.doors.policy_token("service", seconds=3600)
    statuses = [await client.put_token(f"{HOST}/{path}", token) for path in ("a", "b", "c", "a")]
    assert statuses == [200, 200, 403, 200]
    assert await amqp.rules() == ["limit.cbs-tokens"]
    assert len(amqp.sessions) == 2


async def test_a_token_judged_when_the_connection_has_gone_enters_no_index(amqp: AmqpWorld) -> None:
    client = await amqp.opened()
    pair = RequestPair(client, await client.sender("$cbs"), await client.receiver("$cbs", credit=1))
    properties: dict[str, AmqpValue] = {"operation": "put-token", "name": HOST}
    pair.requests.send(*put(properties, amqp.doors.policy_token("service")))
    client.send()
    await client.drop()
    assert len(amqp.sessions) == 0
    assert await amqp.doors.decisions() == []


async def test_the_network_is_judged_before_the_key_and_answered_alike(amqp: AmqpWorld) -> None:
    client = await amqp.opened()
    await amqp.doors.close_public()
    answers = [
        await client.cbs_answer(HOST, token)
        for token in (amqp.doors.policy_token("service"), amqp.doors.policy_token("service", key=WRONG_KEY))
    ]
    assert len({told(answer.properties) for answer in answers}) == 1
    assert set(await amqp.rules()) == {"network.public-access"}


async def test_right_and_wrong_keys_sound_alike_at_a_closed_door_and_an_open_one(amqp: AmqpWorld) -> None:
    client = await amqp.opened()
    wrong = await client.cbs_answer(HOST, amqp.doors.policy_token("service", key=WRONG_KEY))
    await amqp.doors.close_public()
    closed = await client.cbs_answer(HOST, amqp.doors.policy_token("service"))
    assert told(wrong.properties) == told(closed.properties)


async def test_rules_that_leave_the_built_in_endpoint_out_open_nothing_else(amqp: AmqpWorld) -> None:
    rules = {"networkRuleSets": {"defaultAction": "Deny", "applyToBuiltInEventHubEndpoint": False, "ipRules": []}}
    await amqp.doors.hubs.update("hub", {"properties": rules})
    client = await amqp.opened()
    whole = amqp.doors.policy_token("service", seconds=600)
    assert await client.put_token(HOST, whole) == 401
    assert await client.put_token(BUILT_IN, whole) == 200
    reader, sender = await client.reader(), await client.sender(DEVICEBOUND)
    assert reader.attached
    assert client.condition(sender) == "amqp:unauthorized-access"
    assert set(await amqp.rules()) == {"network.ip-rule", "auth.scope"}
    await amqp.doors.hubs.update("hub", {"tags": {"a": "b"}})
    await settled()
    assert not client.is_closed(), "and a change judges the reader as it was judged at first"


def put(properties: dict[str, AmqpValue], token: str) -> tuple[bytes, ...]:
    """The sections of a put-token."""
    return (message.application_properties(properties), message.value(token))


def told(properties: dict[str, AmqpValue]) -> tuple[object, ...]:
    """What an answer says, but for the tracking id."""
    text = str(properties["status-description"]).partition("TrackingId:")[0]
    return (properties["status-code"], text, len(str(properties["status-description"])))
