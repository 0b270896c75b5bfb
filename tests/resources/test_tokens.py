"""Tokens of management: made once, kept as a hash, verified with the same work whatever is shown."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from devices.fakes import CountedIds, StandingClock
from isthmus.access.roles import Role
from isthmus.backends.memory import MemoryState
from isthmus.base.errors import Code, HubError
from isthmus.base.state import NO_HUB, Key
from isthmus.resources import tokens as module
from isthmus.resources.hub import GROUP_PATH, hub_resource_id
from isthmus.resources.tokens import LIFE_SECONDS_MAX, ManagementToken, Tokens


@dataclass
class World:
    state: MemoryState = field(default_factory=MemoryState)
    clock: StandingClock = field(default_factory=StandingClock)

    def __post_init__(self) -> None:
        self.tokens = Tokens(self.state, self.clock, CountedIds())

    async def make(self, name: str = "ops", **body: object) -> tuple[ManagementToken, str]:
        return await self.tokens.create(name, body, "owner:uid:0")


@pytest.fixture
def world() -> World:
    return World()


async def test_a_token_is_known_by_its_text_and_kept_as_a_hash(world: World) -> None:
    made, shown = await world.make(role="network approver", scope=hub_resource_id("hub"), expiresIn=60)

    assert world.tokens.verify(shown) == made
    assert (made.role, made.label, made.created_by) == (Role.NETWORK_APPROVER, "token:ops", "owner:uid:0")
    stored = await world.state.get(Key("token", NO_HUB, "ops"))
    assert stored is not None
    assert shown.encode() not in stored.body
    assert shown not in repr(made)
    assert made.digest not in repr(made)


async def test_the_least_is_given_when_nothing_is_said(world: World) -> None:
    made, _ = await world.make()

    assert (made.role, made.scope) == (Role.READER, "/")
    assert made.expires_ms - made.created_ms == 30 * 86_400_000


async def test_tokens_outlive_the_process(world: World) -> None:
    made, shown = await world.make()
    later = Tokens(world.state, world.clock, CountedIds())
    await later.load()

    assert later.verify(shown) == made
    assert later.all() == (made,)


@pytest.mark.parametrize("shown", ["", "isthmus-management-1.", "x" * 8000, "\udcff", "isthmus-management-1.AAAA"])
async def test_what_is_no_token_is_refused_the_same(world: World, shown: str) -> None:
    await world.make()

    with pytest.raises(HubError) as refused:
        world.tokens.verify(shown)

    assert refused.value.code is Code.INVALID_TOKEN
    assert refused.value.refusal is not None
    assert refused.value.refusal.rule == "auth.unknown-token"


async def test_an_expired_token_hears_what_an_unknown_one_hears(world: World) -> None:
    _, shown = await world.make(expiresIn=60)
    world.clock.now_ms += 59_999
    world.tokens.verify(shown)
    world.clock.now_ms += 1

    with pytest.raises(HubError) as expired:
        world.tokens.verify(shown)
    with pytest.raises(HubError) as unknown:
        world.tokens.verify("other")

    assert (expired.value.code, expired.value.message) == (unknown.value.code, unknown.value.message)
    assert expired.value.refusal is not None
    assert expired.value.refusal.rule == "auth.expired"


async def test_every_verdict_costs_one_hash(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _, shown = await world.make(expiresIn=60)
    hashed: list[bytes] = []
    sha256 = hashlib.sha256

    def counted(data: bytes) -> object:
        hashed.append(data)
        return sha256(data)

    monkeypatch.setattr(hashlib, "sha256", counted)

    for moved_ms, text, good in ((0, shown, True), (0, "unknown", False), (0, "", False), (60_000, shown, False)):
        world.clock.now_ms += moved_ms
        hashed.clear()
        try:
            world.tokens.verify(text)
        except HubError:
            assert not good
        assert len(hashed) == 1


async def test_a_deleted_token_is_gone_and_its_listeners_know(world: World) -> None:
    made, shown = await world.make()
    told: list[ManagementToken] = []

    async def listener(token: ManagementToken) -> None:
        with pytest.raises(HubError):
            world.tokens.verify(shown)
        told.append(token)

    world.tokens.on_delete(listener)
    await world.tokens.delete("OPS")

    assert told == [made]
    with pytest.raises(HubError, match="no token ops"):
        world.tokens.require("ops")
    again, other = await world.make()
    assert again.name == "ops"
    assert other != shown


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("", {}),
        ("a/b", {}),
        ("-a", {}),
        ("x" * 65, {}),
        ("ops", {"role": "King"}),
        ("ops", {"expiresIn": 0}),
        ("ops", {"expiresIn": LIFE_SECONDS_MAX + 1}),
        ("ops", {"hatch": 1}),
        ("ops", {"scope": "/subscriptions/1"}),
        ("ops", {"scope": "/hubs/hub"}),
        ("ops", {"scope": f"{GROUP_PATH}/providers"}),
        ("ops", {"scope": f"{GROUP_PATH}/providers/Microsoft.Devices/IotHubs"}),
        ("ops", {"scope": f"{GROUP_PATH}/elsewhere/Microsoft.Devices/IotHubs/hub"}),
    ],
)
async def test_what_cannot_be_a_token_is_none(world: World, name: str, body: Mapping[str, object]) -> None:
    with pytest.raises(HubError) as refused:
        await world.tokens.create(name, body, "")

    assert refused.value.code is Code.ARGUMENT_INVALID
    assert world.tokens.all() == ()


async def test_a_name_is_given_once(world: World) -> None:
    await world.make()

    with pytest.raises(HubError, match="already"):
        await world.make("OPS")


async def test_tokens_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOKENS_MAX", 1)
    await world.make("one")

    with pytest.raises(HubError) as refused:
        await world.make("two")
    assert refused.value.code is Code.QUOTA_EXCEEDED
