"""The nodes of a hub: what each needs to be proved, what is refused and how, and where readers are sent."""

from dataclasses import replace

import pytest

from isthmus.access.principal import Right, SharedAccessPolicy
from isthmus.resources.hub import Hub
from isthmus.wire.amqp.events import LinkAttached, LinkDetached
from isthmus.wire.amqp.values import Int, Symbol
from servers.amqp_world import BUILT_IN, ENTITY, AmqpClient, AmqpWorld, conditions, plain
from servers.gate_world import HOST

READER = f"{ENTITY}/ConsumerGroups/$Default/Partitions/0"
FEEDBACK = "/messages/serviceBound/feedback"
REDIRECT = f"amqps://{HOST}/messages/events/$management"


async def every_link(client: AmqpClient) -> dict[str, bool]:
    """Which of all nodes can be attached to."""
    links = {
        "send": await client.sender(f"amqps://{HOST}/messages/devicebound"),
        "feedback": await client.receiver(FEEDBACK),
        "read": await client.receiver(READER),
        "ask": await client.sender("$management"),
        "answer": await client.receiver(f"{ENTITY}/$management"),
    }
    return {name: link.attached for name, link in links.items()}


ALL = {"send": True, "feedback": True, "read": True, "ask": True, "answer": True}
NONE = dict.fromkeys(ALL, False)
READING = NONE | {"read": True, "ask": True, "answer": True}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("iothubowner", ALL), ("service", ALL), ("device", NONE), ("registryRead", NONE), ("registryReadWrite", NONE)],
)
async def test_all_nodes_ask_for_service_connect(amqp: AmqpWorld, policy: str, expected: dict[str, bool]) -> None:
    client = await amqp.service(policy)
    assert await every_link(client) == expected
    assert set(await amqp.rules()) == (set() if expected is ALL else {"auth.right"})


@pytest.mark.parametrize(
    ("audience", "resource", "expected"),
    [
        (HOST, HOST, ALL),
        (BUILT_IN, BUILT_IN, READING),
        (BUILT_IN, HOST, READING),
        (f"{BUILT_IN}/$management", f"{BUILT_IN}/$management", NONE | {"ask": True, "answer": True}),
        (f"{BUILT_IN}/consumergroups/$default", f"{BUILT_IN}/consumergroups/$default", NONE | {"read": True}),
        (f"sb://{HOST}/{READER}", f"sb://{HOST}/{READER}", NONE | {"read": True}),
        (f"sb://{HOST}/{READER[:-1]}1", f"sb://{HOST}/{READER[:-1]}1", NONE),
        (f"{HOST}/messages", f"{HOST}/messages", NONE | {"send": True, "feedback": True}),
        (f"{HOST}/messages/devicebound", f"{HOST}/messages/devicebound", NONE | {"send": True}),
    ],
)
async def test_a_token_reaches_what_its_resource_covers(
    amqp: AmqpWorld, audience: str, resource: str, expected: dict[str, bool]
) -> None:
    client = await amqp.opened()
    assert await client.put_token(audience, amqp.doors.policy_token("service", resource)) == 200
    assert await every_link(client) == expected
    assert set(await amqp.rules()) <= {"auth.scope"}


async def test_of_several_tokens_the_one_with_the_right_counts(amqp: AmqpWorld) -> None:
    client = await amqp.opened()
    assert await client.put_token(HOST, amqp.doors.policy_token("registryRead")) == 200
    assert not (await client.receiver(READER)).attached
    assert await client.put_token(BUILT_IN, amqp.doors.policy_token("service", BUILT_IN)) == 200
    assert (await client.receiver(READER)).attached


async def test_a_stranger_learns_nothing_of_groups_and_partitions(amqp: AmqpWorld) -> None:
    client = await amqp.opened()
    addresses = (READER, f"{ENTITY}/ConsumerGroups/none/Partitions/0", f"{ENTITY}/ConsumerGroups/$Default/Partitions/9")
    links = [await client.receiver(address) for address in (*addresses, "other/ConsumerGroups/x/Partitions/0")]
    assert {refused_by(client, link) for link in links} == {("amqp:unauthorized-access", "Unauthorized")}


@pytest.mark.parametrize(
    ("address", "sends", "condition", "rule"),
    [
        ("/devices/dev1/messages/events", True, "amqp:not-implemented", "contract.not-implemented"),
        ("/devices/dev1/messages/devicebound", False, "amqp:not-implemented", "contract.not-implemented"),
        ("/messages/serviceBound/filenotifications", True, "amqp:not-found", "contract.address"),
        (ENTITY, True, "amqp:not-allowed", "contract.address"),
        (f"{ENTITY}/Partitions/0", True, "amqp:not-allowed", "contract.address"),
        (READER, True, "amqp:not-found", "contract.address"),
        ("/messages/devicebound", False, "amqp:not-found", "contract.address"),
        (FEEDBACK, True, "amqp:not-found", "contract.address"),
        ("/messages/events", True, "amqp:not-found", "contract.address"),
        ("/no/such/node", True, "amqp:not-found", "contract.address"),
        ("", True, "amqp:not-found", "contract.address"),
        (ENTITY, False, "amqp:not-found", "contract.address"),
    ],
)
async def test_what_cannot_be_attached_to_is_refused_with_its_condition(
    amqp: AmqpWorld, address: str, sends: bool, condition: str, rule: str
) -> None:
    client = await amqp.service()
    link = await (client.sender(address) if sends else client.receiver(address))
    assert client.condition(link) == condition
    assert (link.source, link.target) == (None, None)
    assert "TrackingId:" in (client.refusal(link).description or "")
    assert await amqp.rules() == [rule]


@pytest.mark.parametrize("suffix", ["", "/$management", "/ConsumerGroups/$Default/Partitions/0"])
async def test_readers_of_the_hub_are_sent_to_the_built_in_endpoint(amqp: AmqpWorld, suffix: str) -> None:
    client = await amqp.client().open(plain("service@sas.root.hub", amqp.doors.policy_token("service")))
    link = await client.receiver(f"amqps://{HOST}/messages/events{suffix}")
    attached = [event.link for event in client.of(LinkAttached)]
    assert attached == [link]
    assert client.of(LinkDetached) == [], "who reads both at once misses the second"
    amqp.timers.move(0.11)
    await client.run()
    error = client.refusal(link)
    assert error.condition == "amqp:link:redirect"
    assert error.description
    assert error.info == {
        Symbol("hostname"): HOST,
        Symbol("network-host"): HOST,
        Symbol("port"): 5671,
        Symbol("address"): f"amqps://{HOST}:5671/{ENTITY}{suffix}",
    }
    assert isinstance(error.info[Symbol("port")], Int)
    assert await amqp.rules() == [], "to be sent elsewhere is no refusal"


async def test_the_redirect_leads_to_where_the_same_policy_reads(amqp: AmqpWorld) -> None:
    await amqp.tell(b"here")
    client = await amqp.client().open(plain("service@sas.root.hub", amqp.doors.policy_token("service")))
    moved = await client.receiver(f"amqps://{HOST}/messages/events/ConsumerGroups/$Default/Partitions/0")
    amqp.timers.move(0.11)
    await client.run()
    info = client.refusal(moved).info
    assert info is not None
    reader = await client.receiver(str(info[Symbol("address")]), credit=1)
    assert client.bodies(reader) == [b"here"]


async def test_a_redirect_needs_the_right_too(amqp: AmqpWorld) -> None:
    stranger, reader = await amqp.opened(), await amqp.service("registryRead")
    assert conditions(stranger, [await stranger.receiver(REDIRECT)]) == ["amqp:unauthorized-access"]
    assert conditions(reader, [await reader.receiver(REDIRECT)]) == ["amqp:unauthorized-access"]
    assert set(await amqp.rules()) == {"auth.missing", "auth.right"}


async def test_the_right_is_asked_for_as_the_policy_has_it_now(amqp: AmqpWorld) -> None:
    def without_right(hub: Hub) -> Hub:
        policies = [policy for policy in hub.policies if policy.name != "service"]
        old = hub.policy("service")
        assert old is not None
        lesser = SharedAccessPolicy("service", frozenset({Right.REGISTRY_READ}), old.primary_key, old.secondary_key)
        return replace(hub, policies=(*policies, lesser))

    client = await amqp.service()
    await amqp.doors.hubs.change("hub", without_right)
    assert await client.put_token(HOST, amqp.doors.policy_token("service")) == 200
    assert not (await client.receiver(READER)).attached
    assert await amqp.rules() == ["auth.right"]


def refused_by(client: AmqpClient, link: object) -> tuple[str, str]:
    """Condition and words of a refusal, but for the tracking id."""
    (error,) = [event.error for event in client.of(LinkDetached) if event.link is link]
    assert error is not None
    return error.condition, (error.description or "").partition(" TrackingId:")[0]
