"""Links of hosted event hubs: who may send and read, what is accepted when, what ends them, what is kept."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from isthmus.access.principal import Right
from isthmus.base.limits import LOG_BACKLOG_BYTES_MAX
from isthmus.neighbours.event_hub import HOUR_MS, EntityStatus, put_group, remove_group
from isthmus.neighbours.namespace_arm import apply_namespace, apply_rule_set
from isthmus.telemetry.log import SegmentLog
from isthmus.telemetry.ports import Partition
from isthmus.wire.amqp import message as m
from isthmus.wire.amqp.events import CreditGranted
from isthmus.wire.amqp.message import BATCH_FORMAT, Section
from isthmus.wire.amqp.states import Accepted, Rejected
from isthmus.wire.amqp.values import Long, Symbol
from servers.hosted_world import AUDIENCE, ENTITY, HOST, NAMESPACE, HostedWorld, hosted_world, read_all, send, until

SENDER = "Azure Event Hubs Data Sender"
RECEIVER = "Azure Event Hubs Data Receiver"
CLOSED = {"properties": {"defaultAction": "Deny", "ipRules": [{"ipMask": "198.51.100.1"}]}}
TRUSTING = {"properties": {**CLOSED["properties"], "trustedServiceAccessEnabled": True}}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[HostedWorld]:
    async with hosted_world(tmp_path) as made:
        yield made


def keyed(key: str) -> bytes:
    return m.annotations(Section.MESSAGE_ANNOTATIONS, {Symbol("x-opt-partition-key"): key})


# Sending and reading.


async def test_a_batch_is_accepted_once_and_lies_in_one_partition(world: HostedWorld) -> None:
    client = await world.client()
    link = await client.sender(ENTITY)
    batch = keyed("k") + m.batch([m.data(b"%d" % number) for number in range(300)])
    assert isinstance(await send(client, link, batch, message_format=BATCH_FORMAT), Accepted)
    place = world.event_hub.partition_of("k")
    records, _ = world.log.read(Partition(world.event_hub.number, place), 0, 1_000, 1 << 20)
    assert len(records) == 300
    assert len({record.enqueued_ms for record in records}) == 1


async def test_events_without_a_key_take_turns_and_addresses_come_first(world: HostedWorld) -> None:
    client = await world.client()
    anywhere, first = await client.sender(ENTITY), await client.sender(f"amqps://{HOST}/{ENTITY}/Partitions/0")
    for _ in range(4):
        await send(client, anywhere, m.data(b"turn"))
    await send(client, first, keyed("some key of which the hash is not asked"), m.data(b"addressed"))
    readers = [await read_all(client, partition) for partition in ("0", "1")]
    assert [client.bodies(reader) for reader in readers] == [[b"turn", b"turn", b"addressed"], [b"turn", b"turn"]]


async def test_a_publisher_stays_in_its_partition(world: HostedWorld) -> None:
    client = await world.client()
    link = await client.sender(f"{ENTITY}/Publishers/press")
    for _ in range(3):
        await send(client, link, m.data(b"x"))
    reader = await read_all(client, str(world.event_hub.partition_of("press")))
    events = client.messages(reader)
    assert [event.annotations[Symbol("x-opt-publisher")] for event in events] == ["press"] * 3


async def test_a_settled_transfer_is_stored_and_not_answered(world: HostedWorld) -> None:
    client = await world.client()
    link = await client.sender(f"{ENTITY}/Partitions/0")
    reader = await read_all(client)
    link.send(m.data(b"fire and forget"), settled=True)
    await until(client, lambda: bool(client.bodies(reader)))
    assert client.outcomes(link) == []


async def test_what_is_no_message_is_rejected_and_the_link_lives(world: HostedWorld) -> None:
    client = await world.client()
    link = await client.sender(ENTITY)
    outcome = await send(client, link, m.value("no batch"), message_format=BATCH_FORMAT)
    assert isinstance(outcome, Rejected)
    assert outcome.error is not None
    assert outcome.error.condition == "com.microsoft:argument-error"
    assert isinstance(await send(client, link, m.data(b"good")), Accepted)


async def test_credit_goes_on_as_it_is_used(world: HostedWorld) -> None:
    client = await world.client()
    link = await client.sender(ENTITY)
    for _ in range(1_200):
        if not link.sendable:
            await client.run()
        link.send(m.data(b"x"))
    await until(client, lambda: len(client.outcomes(link)) == 1_200)
    assert len(client.of(CreditGranted)) >= 2


async def test_a_log_that_is_behind_is_busy(world: HostedWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await world.client()
    link = await client.sender(ENTITY)
    monkeypatch.setattr(SegmentLog, "backlog_bytes", property(lambda _: LOG_BACKLOG_BYTES_MAX + 1))
    outcome = await send(client, link, m.data(b"x"))
    assert isinstance(outcome, Rejected)
    assert outcome.error is not None
    assert outcome.error.condition == "com.microsoft:server-busy"
    assert await world.rules() == ["limit.backlog"]


async def test_what_the_log_did_not_store_is_rejected_in_order(
    world: HostedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await world.client()
    link = await client.sender(ENTITY)
    await world.log.close()
    outcome = await send(client, link, m.batch([m.data(b"1"), m.data(b"2")]), message_format=BATCH_FORMAT)
    assert isinstance(outcome, Rejected)
    assert outcome.error is not None
    assert outcome.error.condition == "amqp:internal-error"
    assert len(client.outcomes(link)) == 1


async def test_events_older_than_the_retention_are_given_to_nobody(world: HostedWorld) -> None:
    client = await world.client()
    await world.change(retention_hours=1)
    link = await client.sender(f"{ENTITY}/Partitions/0")
    await send(client, link, m.data(b"old"))
    world.clock.now_ms += HOUR_MS // 2
    await send(client, link, m.data(b"young"))
    world.clock.now_ms += HOUR_MS // 2 + 1
    later = await world.client()
    assert later.bodies(await read_all(later)) == [b"young"]
    asked = {"operation": "READ", "type": "com.microsoft:partition", "name": ENTITY, "partition": "0"}
    facts = (await later.manage(**asked)).body
    assert (facts["begin_sequence_number"], facts["last_enqueued_sequence_number"]) == (1, 1)
    world.clock.now_ms += HOUR_MS
    facts = (await (await world.client()).manage(**asked)).body
    assert (facts["begin_sequence_number"], facts["is_partition_empty"]) == (2, True)


async def test_the_runtime_information_is_for_whoever_may_do_anything_there(world: HostedWorld) -> None:
    asked = {"operation": "READ", "type": "com.microsoft:eventhub", "name": ENTITY}
    sends = await world.client(await world.rule("sends", Right.SEND), "sends")
    assert (await sends.manage(**asked)).body["partition_ids"].items == ("0", "1")
    assert (await sends.manage(**{**asked, "name": "other"})).status == 401
    everywhere = await world.client(audience=f"sb://{HOST}")
    assert (await everywhere.manage(**{**asked, "name": "other"})).status == 404
    assert (await (await world.opened()).manage(**asked)).status == 401


# Who may.


async def test_a_right_that_is_missing_is_named(world: HostedWorld) -> None:
    sends = await world.client(await world.rule("sends", Right.SEND), "sends")
    refusal = sends.refusal(await read_all(sends))
    assert refusal.condition == "amqp:unauthorized-access"
    assert (refusal.description or "").startswith(
        "Unauthorized access. 'Listen' claim(s) are required to perform this operation. "
        f"Resource: 'sb://{HOST}/{ENTITY}/consumergroups/$default/partitions/0'. TrackingId:"
    )
    assert (await world.rules())[0] == "auth.right"


async def test_the_key_of_an_event_hub_opens_no_other_whatever_its_token_says(world: HostedWorld) -> None:
    await world.make("other")
    key = await world.rule("sends", Right.SEND)
    client = await world.opened()
    wide = world.token(f"sb://{HOST}/", key, "sends")
    assert await client.put_token(AUDIENCE, wide) == 200
    assert isinstance(await send(client, await client.sender(ENTITY), m.data(b"own")), Accepted)
    assert client.condition(await client.sender("other")) == "amqp:unauthorized-access"
    assert (await world.rules())[0] == "auth.scope"
    assert await client.put_token(f"sb://{HOST}/other", wide) == 401
    assert await client.put_token(f"sb://{HOST}", wide) == 401


async def test_rules_of_one_name_at_both_places_are_both_good(world: HostedWorld) -> None:
    of_entity = await world.rule("same", Right.SEND)
    of_namespace = await world.rule("same", Right.LISTEN, entity="")
    sends, listens = await world.client(of_entity, "same"), await world.client(of_namespace, "same")
    assert isinstance(await send(sends, await sends.sender(ENTITY), m.data(b"x")), Accepted)
    assert await read_all(listens)
    assert listens.condition(await listens.sender(ENTITY)) == "amqp:unauthorized-access"


async def test_a_rule_that_ends_cuts_who_lives_by_it_and_nobody_else(world: HostedWorld) -> None:
    sends, root = await world.client(await world.rule("sends", Right.SEND), "sends"), await world.client()
    await world.domain.namespaces.change(NAMESPACE, lambda now: replace(now, tags={"a": "b"}))
    assert not sends.is_closed()
    await world.change(policies=())
    assert (sends.is_closed(), root.is_closed()) == (True, False)


async def test_a_token_that_proves_nobody_is_told_so(world: HostedWorld) -> None:
    client = await world.opened()
    for token, text in (
        (world.token(key="AAAA"), "InvalidSignature: "),
        (world.token(policy="nobody"), "Unauthorized access. "),
        ("nothing", "Unauthorized access. "),
        (world.token(f"sb://{HOST}/other"), "Unauthorized access. "),
    ):
        answer = await client.cbs_answer(AUDIENCE, token)
        assert answer.status == 401
        assert str(answer.properties["status-description"]).startswith(text)
    remedies = {decision.rule: decision.remedy for decision in await world.decisions()}
    assert remedies["auth.signature"] == f"use the key in: isthmus connection-string --namespace {NAMESPACE}"
    assert f"authorization-rule list --namespace-name {NAMESPACE}" in remedies["auth.unknown-policy"]
    late = world.token()
    world.clock.now_ms += 3_600_000
    answer = await (await world.opened()).cbs_answer(AUDIENCE, late)
    assert str(answer.properties["status-description"]).startswith("ExpiredToken: ")


async def test_keys_that_are_switched_off_are_told_how_to_be_switched_on(world: HostedWorld) -> None:
    off = {"properties": {"disableLocalAuth": True}}
    await world.domain.namespaces.change(NAMESPACE, lambda now: apply_namespace(now, off))
    assert await (await world.opened()).put_token(AUDIENCE, world.token()) == 401
    told = (await world.decisions())[0]
    assert (told.rule, "--disable-local-auth false" in told.remedy) == ("auth.local-auth", True)


# The firewall, and whom it trusts.


async def test_the_firewall_is_told_whatever_was_proved(world: HostedWorld) -> None:
    await world.domain.namespaces.change(NAMESPACE, lambda now: apply_rule_set(now, CLOSED))
    client = await world.opened()
    for token in (
        world.token(),
        "SharedAccessSignature sr=x&sig=x&se=1",
        await world.bearer(await world.hub_identity()),
    ):
        answer = await client.cbs_answer(AUDIENCE, token)
        assert answer.status == 401
        told = str(answer.properties["status-description"])
        assert told.startswith("Ip has been prevented to connect to the endpoint. TrackingId:")
    assert await world.rules() == ["network.ip-rule"] * 3


async def test_the_hubs_own_identity_passes_where_services_are_trusted_and_nobody_else_does(world: HostedWorld) -> None:
    principal = await world.hub_identity()
    await world.assign(principal, SENDER)
    await world.domain.namespaces.change(NAMESPACE, lambda now: apply_rule_set(now, CLOSED))
    client = await world.opened()
    assert await client.put_token(AUDIENCE, await world.bearer()) == 401
    assert "--enable-trusted-service-access true" in (await world.decisions())[0].remedy
    await world.domain.namespaces.change(NAMESPACE, lambda now: apply_rule_set(now, TRUSTING))
    assert await client.put_token(AUDIENCE, await world.bearer()) == 200
    assert isinstance(await send(client, await client.sender(ENTITY), m.data(b"routed")), Accepted)
    plant = (await world.domain.identities.put("plant", {}))[0]
    await world.assign(plant.principal_id, SENDER)
    for token in (world.token(), await world.bearer(plant.principal_id)):
        assert await (await world.opened()).put_token(AUDIENCE, token) == 401
    await world.domain.namespaces.change(NAMESPACE, lambda now: apply_rule_set(now, CLOSED))
    assert client.is_closed()


async def test_trust_is_no_role(world: HostedWorld) -> None:
    principal = await world.hub_identity()
    await world.domain.namespaces.change(NAMESPACE, lambda now: apply_rule_set(now, TRUSTING))
    client = await world.opened()
    assert await client.put_token(AUDIENCE, await world.bearer()) == 200
    refusal = client.refusal(await client.sender(ENTITY))
    assert "'Send' claim(s) are required" in (refusal.description or "")
    assert (await world.rules())[0] == "auth.role-missing"
    await world.make("other")
    await world.assign(principal, SENDER, "other")
    again = await world.opened()
    await again.put_token(AUDIENCE, await world.bearer())
    assert "'Send' claim(s)" in (again.refusal(await again.sender(ENTITY)).description or "")
    assert (await world.rules())[0] == "auth.role-scope"


async def test_a_role_is_for_what_it_says(world: HostedWorld) -> None:
    principal = await world.hub_identity()
    await world.assign(principal, RECEIVER, "")
    client = await world.opened()
    assert await client.put_token(AUDIENCE, await world.bearer()) == 200
    assert await read_all(client)
    assert client.condition(await client.sender(ENTITY)) == "amqp:unauthorized-access"


async def test_a_token_for_another_service_is_none(world: HostedWorld) -> None:
    await world.hub_identity()
    client = await world.opened()
    storage = await world.bearer(scope="https://storage.azure.com/.default")
    assert await client.put_token(AUDIENCE, storage) == 401
    assert (await world.rules())[0] == "auth.bearer-audience"


# Changes.


async def test_a_deleted_event_hub_ends_its_links(world: HostedWorld) -> None:
    client = await world.client()
    links = [await client.sender(ENTITY), await read_all(client)]
    await world.domain.event_hubs.delete(world.namespace.number, ENTITY)
    await client.run()
    assert [client.condition(link) for link in links] == ["amqp:not-found"] * 2
    assert client.condition(await client.sender(ENTITY)) == "amqp:not-found"


async def test_a_deleted_group_ends_its_readers_only(world: HostedWorld) -> None:
    number = world.namespace.number
    second = await world.domain.event_hubs.change(
        number, ENTITY, lambda now: put_group(now, "second", user_metadata="", now_ms=0)
    )
    client = await world.client()
    ours, theirs = await read_all(client), await read_all(client, group="SECOND")
    await world.domain.event_hubs.change(number, ENTITY, lambda now: remove_group(now, "second"))
    await client.run()
    assert (ours.attached, client.condition(theirs)) == (True, "amqp:not-found")
    assert second.group("second") is not None


@pytest.mark.parametrize(
    ("status", "sends", "reads"),
    [
        (EntityStatus.DISABLED, False, False),
        (EntityStatus.SEND_DISABLED, False, True),
        (EntityStatus.RECEIVE_DISABLED, True, False),
    ],
)
async def test_a_status_ends_the_links_it_does_not_let_in(
    world: HostedWorld, status: EntityStatus, sends: bool, reads: bool
) -> None:
    client = await world.client()
    sender, reader = await client.sender(ENTITY), await read_all(client)
    await world.change(status=status)
    await client.run()
    assert (sender.attached, reader.attached) == (sends, reads)
    for link, goes_on in ((sender, sends), (reader, reads)):
        assert goes_on or client.condition(link) == "com.microsoft:entity-disabled"


async def test_a_higher_epoch_owns_the_partition(world: HostedWorld) -> None:
    client = await world.client()
    epoch = Symbol("com.microsoft:epoch")
    first = await read_all(client, properties={epoch: Long(1)})
    second = await read_all(client, properties={epoch: Long(2)})
    assert (client.condition(first), second.attached) == ("amqp:link:stolen", True)


@pytest.mark.parametrize(
    ("address", "condition"),
    [
        (f"{ENTITY}/Partitions/2", "com.microsoft:argument-out-of-range"),
        (f"{ENTITY}/Partitions/x", "com.microsoft:argument-out-of-range"),
        ("nothing", "amqp:not-found"),
        (f"{ENTITY}/elsewhere", "amqp:not-found"),
        ("", "amqp:not-found"),
    ],
)
async def test_addresses_that_mean_nothing(world: HostedWorld, address: str, condition: str) -> None:
    client = await world.client(audience=f"sb://{HOST}")
    assert client.condition(await client.sender(address)) == condition


async def test_a_group_that_is_not_there_has_no_readers(world: HostedWorld) -> None:
    client = await world.client()
    assert client.condition(await read_all(client, group="nobody")) == "amqp:not-found"
    assert client.condition(await read_all(client, "7")) == "com.microsoft:argument-out-of-range"
