"""User-assigned identities: kept with their secrets, ended for ever, and as many as are allowed."""

import pytest

from isthmus.backends.memory import MemoryState
from isthmus.base.clock import SystemClock
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import RandomIds
from isthmus.base.state import NO_HUB
from isthmus.resources import user_identities
from isthmus.resources.user_identities import SECRET_SECONDS_MAX, SECRETS_MAX, UserIdentities


def identities(state: MemoryState) -> UserIdentities:
    return UserIdentities(state, SystemClock(), RandomIds())


async def test_an_identity_and_its_secret_hold_after_a_restart_until_they_end() -> None:
    state = MemoryState()
    kept = identities(state)
    made, is_new = await kept.put("plant", {"tags": {"hall": "2"}})
    secret, shown = await kept.add_secret("plant", "first", {})
    assert is_new
    again = identities(state)
    await again.load()
    found = again.by_secret(shown)
    assert found is not None
    assert (found[0].principal_id, found[1]) == (made.principal_id, secret)
    assert shown.encode() not in b"".join([each.body for each in await state.scan("user-identity", NO_HUB, limit=9)])
    await again.delete_secret("plant", "first")
    assert again.by_secret(shown) is None
    await again.delete("plant")
    last = identities(state)
    await last.load()
    assert last.all() == ()


async def test_a_secret_ends_within_a_year_and_there_are_few() -> None:
    kept = identities(MemoryState())
    await kept.put("plant", {})
    with pytest.raises(HubError) as refused:
        await kept.add_secret("plant", "long", {"expiresIn": SECRET_SECONDS_MAX + 1})
    assert refused.value.code is Code.ARGUMENT_INVALID
    for number in range(SECRETS_MAX):
        await kept.add_secret("plant", f"s{number}", {"expiresIn": SECRET_SECONDS_MAX})
    with pytest.raises(HubError) as refused:
        await kept.add_secret("plant", "more", {})
    assert refused.value.code is Code.QUOTA_EXCEEDED


async def test_identities_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_identities, "IDENTITIES_MAX", 2)
    kept = identities(MemoryState())
    await kept.put("one", {})
    await kept.put("two", {})
    with pytest.raises(HubError) as refused:
        await kept.put("three", {})
    assert refused.value.code is Code.QUOTA_EXCEEDED
    assert not (await kept.put("two", {"tags": {"a": "b"}}))[1]
