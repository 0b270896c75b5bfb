"""Bulk requests over a state in memory: what is carried out, what is told, and what is refused as a whole."""

import pytest

from devices.fakes import HUB, CountedIds
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import DeviceRef
from isthmus.jobs.bulk import ITEMS_MAX, BulkRegistry
from jobs.fakes import World

D, E, M = DeviceRef(HUB, "d"), DeviceRef(HUB, "e"), DeviceRef(HUB, "d", "m")


class Bulk(World):
    """A world with bulk requests."""

    def __init__(self) -> None:
        super().__init__()
        self.bulk = BulkRegistry(self.state, self.registry, self.twins, self.clock, CountedIds())


async def test_what_succeeds_is_there_and_what_fails_is_told() -> None:
    world = Bulk()
    await world.add("d")
    written = await world.bulk.write(
        HUB,
        [
            {"id": "d", "importMode": "create"},
            {"id": "e", "importMode": "create", "tags": {"hall": 1}},
            {"id": "d", "moduleId": "m", "importMode": "createOrUpdate"},
            {"id": "gone", "importMode": "Delete"},
        ],
    )
    assert [(error.device_id, error.code) for error in written.errors] == [
        ("d", Code.DEVICE_ALREADY_EXISTS),
        ("gone", Code.DEVICE_NOT_FOUND),
    ]
    assert (await world.twins.get(E)).twin.tags == {"hall": 1}
    assert await world.registry.get(M) is not None


async def test_an_item_that_is_none_is_an_error_of_its_own() -> None:
    world = Bulk()
    written = await world.bulk.write(HUB, [7, {"id": "e"}, {"id": "d", "importMode": "perhaps"}])
    assert [error.code for error in written.errors] == [Code.DESERIALIZATION_ERROR, Code.ARGUMENT_INVALID]
    assert await world.registry.get(E) is not None


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (None, Code.ARGUMENT_NULL),
        ({}, Code.ARGUMENT_INVALID),
        ([{"id": f"d{number}"} for number in range(ITEMS_MAX + 1)], Code.TOO_MANY_DEVICES),
        ([{"id": "d"}, {"id": "d", "importMode": "delete"}], Code.DEFINED_MULTIPLE_TIMES),
    ],
)
async def test_a_request_that_is_refused_as_a_whole_changes_nothing(body: object, code: Code) -> None:
    world = Bulk()
    with pytest.raises(HubError) as refused:
        await world.bulk.write(HUB, body)
    assert refused.value.code is code
    assert await world.registry.list(HUB) == []


async def test_as_many_as_are_allowed_come_in_one_commit() -> None:
    world = Bulk()
    written = await world.bulk.write(HUB, [{"id": f"d{number}"} for number in range(ITEMS_MAX)])
    assert written.errors == ()
    assert len(await world.registry.list(HUB)) == ITEMS_MAX


@pytest.mark.parametrize(
    ("policy_key", "kept"), [("primaryKey", "secondary_key"), ("secondaryKey", "primary_key"), ("both", "")]
)
async def test_keys_are_renewed(policy_key: str, kept: str) -> None:
    world = Bulk()
    await world.add("d")
    before = await world.registry.require(D)
    renewed = await world.bulk.renew_keys(HUB, {"policyKey": policy_key, "devices": [{"id": "d"}, {"id": "e"}]})
    after = await world.registry.require(D)
    assert renewed.identities == (after,)
    assert [(error.device_id, error.code) for error in renewed.errors] == [("e", Code.DEVICE_NOT_FOUND)]
    same = {name for name in ("primary_key", "secondary_key") if getattr(before, name) == getattr(after, name)}
    assert same == ({kept} if kept else set())
    assert (after.status, after.generation_id) == (before.status, before.generation_id)


async def test_an_identity_without_keys_has_none_renewed() -> None:
    world = Bulk()
    await world.registry.put(D, {"authentication": {"type": "certificateAuthority"}}, None)
    renewed = await world.bulk.renew_keys(HUB, {"policyKey": "both", "devices": [{"id": "d"}]})
    assert [error.code for error in renewed.errors] == [Code.ARGUMENT_INVALID]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ([], Code.INVALID_POLICY_KEY),
        ({"policyKey": "third", "devices": []}, Code.INVALID_POLICY_KEY),
        ({"policyKey": "both"}, Code.ARGUMENT_NULL),
        ({"policyKey": "both", "devices": [{"moduleId": "m"}]}, Code.ARGUMENT_INVALID),
        ({"policyKey": "both", "devices": [{"id": "d"}] * 2}, Code.DEFINED_MULTIPLE_TIMES),
        ({"policyKey": "both", "devices": [{"id": f"d{n}"} for n in range(ITEMS_MAX + 1)]}, Code.TOO_MANY_DEVICES),
    ],
)
async def test_a_renewal_that_is_refused_as_a_whole(body: object, code: Code) -> None:
    world = Bulk()
    with pytest.raises(HubError) as refused:
        await world.bulk.renew_keys(HUB, body)
    assert refused.value.code is code
