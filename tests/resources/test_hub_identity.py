"""A hub's identities: its own, which ends with it, and those that it is given."""

from typing import Any

import pytest

from isthmus.backends.memory import MemoryState
from isthmus.base.clock import SystemClock
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import RandomIds
from isthmus.resources.hub_identity import identity_to_arm
from isthmus.resources.hubs import Hubs
from isthmus.resources.user_identities import UserIdentities


async def world(state: MemoryState) -> tuple[Hubs, UserIdentities]:
    identities = UserIdentities(state, SystemClock(), RandomIds())
    hubs = Hubs(state, SystemClock(), RandomIds(), identities.attached)
    await identities.load()
    await hubs.load()
    return hubs, identities


async def made(state: MemoryState) -> tuple[Hubs, UserIdentities]:
    hubs, identities = await world(state)
    await hubs.create("hub", host_name="hub.isthmus.test", partitions=2)
    return hubs, identities


def body(kind: str, *ids: str) -> dict[str, Any]:
    return {"identity": {"type": kind, **({"userAssignedIdentities": {each: {} for each in ids}} if ids else {})}}


async def test_the_hubs_own_identity_stays_through_changes_and_restarts_and_is_another_one_after_its_end() -> None:
    state = MemoryState()
    hubs, _ = await made(state)
    first = (await hubs.update("hub", body("SystemAssigned"))).identity.principal_id
    assert len(first) == 36
    assert (await hubs.update("hub", {"tags": {"a": "b"}})).identity.principal_id == first
    assert (await hubs.replace("hub", {"tags": {}})).identity.principal_id == first
    hubs, _ = await world(state)
    assert hubs.require("hub").identity.principal_id == first

    assert (await hubs.update("hub", body("None"))).identity.principal_id == ""
    assert (await hubs.update("hub", body("SystemAssigned"))).identity.principal_id not in ("", first)


async def test_an_attached_identity_is_told_with_its_ids_and_lives_on_when_detached() -> None:
    hubs, identities = await made(MemoryState())
    plant, _ = await identities.put("plant", {})
    both = await hubs.update("hub", body("SystemAssigned, UserAssigned", plant.resource_id.upper()))

    shown = identity_to_arm(both.identity)
    assert shown["type"] == "SystemAssigned, UserAssigned"
    assert shown["userAssignedIdentities"] == {
        plant.resource_id: {"principalId": plant.principal_id, "clientId": plant.client_id}
    }
    assert await hubs.update("hub", {"identity": shown}) == both
    assert identity_to_arm((await hubs.update("hub", body("SystemAssigned"))).identity).keys() == {
        *("type", "principalId", "tenantId")
    }
    assert identities.require("PLANT") == plant


async def test_an_identity_that_is_not_there_is_refused_and_nothing_changes() -> None:
    hubs, _ = await made(MemoryState())
    before = hubs.require("hub")
    with pytest.raises(HubError) as caught:
        await hubs.update("hub", body("UserAssigned", "/subscriptions/0/nobody"))
    assert caught.value.code is Code.ARGUMENT_INVALID
    assert hubs.require("hub") == before


async def test_a_secret_is_kept_as_a_hash_found_by_its_text_and_gone_when_deleted() -> None:
    state = MemoryState()
    _, identities = await made(state)
    await identities.put("plant", {})
    secret, shown = await identities.add_secret("plant", "first", {"expiresIn": 60})
    assert shown not in repr(identities.all())
    _, again = await world(state)
    found = again.by_secret(shown)
    assert found is not None
    assert (found[0].name, found[1]) == ("plant", secret)
    assert again.by_secret(f"{shown}x") is None
    await again.delete_secret("plant", secret.key_id)
    assert again.by_secret(shown) is None


async def test_an_identity_made_anew_is_another_one() -> None:
    _, identities = await made(MemoryState())
    first, is_new = await identities.put("plant", {"tags": {"site": "north"}})
    assert is_new
    changed, is_new = await identities.put("plant", {"tags": {}})
    assert (changed.principal_id, is_new) == (first.principal_id, False)
    await identities.delete("plant")
    again, is_new = await identities.put("plant", {})
    assert is_new
    assert {again.principal_id, again.client_id}.isdisjoint({first.principal_id, first.client_id})
