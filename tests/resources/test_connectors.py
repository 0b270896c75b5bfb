"""Connectors: who is invited, enrolled, renewed and revoked, and what is left of a token when a process dies."""

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from devices.fakes import CountedIds, StandingClock
from isthmus.access.connector_authority import ConnectorIdentity, IssuedCertificate
from isthmus.backends.memory import MemoryState
from isthmus.base.errors import Code, HubError
from isthmus.base.state import NO_HUB, Key
from isthmus.network.virtual_networks import NetworkFacts, Presence, PresenceKind, VirtualNetwork
from isthmus.resources.connector import OPEN_TOKENS_MAX, TOKEN_SECONDS, Connector, ConnectorState
from isthmus.resources.connectors import CONNECTORS_MAX, Connectors

PLANT = VirtualNetwork("plant", ("10.1.0.0/16",), presence=Presence(PresenceKind.CONNECTOR, "plant-a"))
OTHER = VirtualNetwork("other", ("10.1.0.0/16",), presence=Presence(PresenceKind.CONNECTOR, "plant-b"))
HERE = VirtualNetwork("here", ("10.2.0.0/16",))
CSR = "a request"


@dataclass
class World:
    """One process's connectors; a second one over the same `state` is a restart, or a rival."""

    state: MemoryState = field(default_factory=MemoryState)
    clock: StandingClock = field(default_factory=StandingClock)
    ids: CountedIds = field(default_factory=CountedIds)
    facts: NetworkFacts = field(default_factory=lambda: NetworkFacts((PLANT, OTHER, HERE)))
    told: list[tuple[Connector | None, Connector | None]] = field(default_factory=list)
    issued: list[IssuedCertificate] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.connectors = Connectors(self.state, self.clock, self.ids, lambda: self.facts)
        self.connectors.on_change(self._changed)

    async def again(self) -> "World":
        """After a restart."""
        world = replace(self, told=[], issued=[])
        await world.connectors.load()
        return world

    async def secret(self, name: str = "plant-a") -> str:
        return (await self.connectors.invite(name, "", TOKEN_SECONDS))[1]

    async def enrolled(self) -> ConnectorIdentity:
        return (await self.connectors.enrol(await self.secret(), CSR, self.issue))[1].identity

    def issue(self, csr: str, name: str, link_id: int) -> IssuedCertificate:
        if csr != CSR:
            raise HubError(Code.ARGUMENT_INVALID, "no request")
        identity = ConnectorIdentity(name, link_id, f"{len(self.issued):x}", self.clock.utc_ms() + 86_400_000)
        self.issued.append(IssuedCertificate("PEM", identity))
        return self.issued[-1]

    async def _changed(self, old: Connector | None, new: Connector | None) -> None:
        self.told.append((old, new))


def rule_of(refused: pytest.ExceptionInfo[HubError]) -> str:
    assert refused.value.refusal is not None
    return refused.value.refusal.rule


async def test_a_connector_is_invited_and_enrolled() -> None:
    world = World()
    connector, secret, expires_ms = await world.connectors.invite("plant-a", "plant", TOKEN_SECONDS)
    assert connector.state is ConnectorState.INVITED
    assert expires_ms == world.clock.utc_ms() + 900_000

    enrolled, issued = await world.connectors.enrol(secret, CSR, world.issue)

    assert enrolled.state is ConnectorState.ENROLLED
    assert (issued.identity.name, issued.identity.link_id) == ("plant-a", enrolled.link_id)
    assert world.connectors.admit(issued.identity) == enrolled
    assert [new for _, new in world.told] == [connector, enrolled]


async def test_a_secret_has_128_bits_and_is_not_stored() -> None:
    world = World()
    secret = await world.secret()

    assert len(secret) >= 22
    stored = await world.state.get(Key("connector", NO_HUB, "plant-a"))
    assert stored is not None
    assert secret.encode() not in stored.body


@pytest.mark.parametrize(("name", "network"), [("plant-a", ""), ("", "plant"), ("plant-a", "PLANT")])
async def test_name_or_network_may_be_left_out(name: str, network: str) -> None:
    connector, _, _ = await World().connectors.invite(name, network, TOKEN_SECONDS)

    assert (connector.name, connector.network, connector.place) == ("plant-a", "plant", "connector:plant-a")


@pytest.mark.parametrize(
    ("name", "network", "said"),
    [
        ("gateway", "here", "isthmus network vnet update -n here --presence connector:gateway"),
        ("", "here", "--presence connector:NAME"),
        ("gateway", "plant", "presence of plant is connector:plant-a"),
        ("gateway", "", "No network has the presence connector:gateway"),
        ("../x", "plant", "letters"),
        ("plant-a", "nowhere", "no virtual network nowhere"),
    ],
)
async def test_a_network_without_the_presence_gets_no_connector(name: str, network: str, said: str) -> None:
    with pytest.raises(HubError, match=said.replace("(", "\\(")):
        await World().connectors.invite(name, network, TOKEN_SECONDS)


async def test_a_token_is_used_once() -> None:
    world = World()
    secret = await world.secret()
    await world.connectors.enrol(secret, CSR, world.issue)

    with pytest.raises(HubError) as refused:
        await world.connectors.enrol(secret, CSR, world.issue)
    assert rule_of(refused) == "link.token-used"
    assert len(world.issued) == 1


async def test_a_token_is_used_once_also_by_two_at_a_time() -> None:
    world = World()
    secret = await world.secret()
    rival = await world.again()

    ends = await asyncio.gather(
        *(each.connectors.enrol(secret, CSR, each.issue) for each in (world, rival, world)), return_exceptions=True
    )
    assert sum(not isinstance(end, BaseException) for end in ends) == 1
    assert all(isinstance(end, HubError) for end in ends if isinstance(end, BaseException))


async def test_a_used_token_is_used_after_a_crash() -> None:
    world = World()
    secret = await world.secret()
    await world.connectors.enrol(secret, CSR, world.issue)
    later = await world.again()

    with pytest.raises(HubError) as refused:
        await later.connectors.enrol(secret, CSR, later.issue)
    assert rule_of(refused) == "link.token-used"


async def test_an_unused_token_survives_a_crash() -> None:
    world = World()
    secret = await world.secret()
    later = await world.again()

    assert later.connectors.any_may_dial
    assert (await later.connectors.enrol(secret, CSR, later.issue))[0].state is ConnectorState.ENROLLED


async def test_a_late_token_is_refused() -> None:
    world = World()
    secret = await world.secret()
    world.clock.now_ms += TOKEN_SECONDS * 1_000

    with pytest.raises(HubError) as refused:
        await world.connectors.enrol(secret, CSR, world.issue)
    assert rule_of(refused) == "link.token-expired"
    assert not world.connectors.any_may_dial


async def test_an_unknown_token_is_refused_in_the_same_words() -> None:
    world = World()
    secret = await world.secret()
    await world.connectors.enrol(secret, CSR, world.issue)

    with pytest.raises(HubError) as unknown:
        await world.connectors.enrol("x" * 43, CSR, world.issue)
    with pytest.raises(HubError) as used:
        await world.connectors.enrol(secret, CSR, world.issue)
    assert rule_of(unknown) == "link.token-unknown"
    assert (unknown.value.code, unknown.value.message) == (used.value.code, used.value.message)


async def test_a_bad_request_leaves_the_token() -> None:
    world = World()
    secret = await world.secret()
    with pytest.raises(HubError, match="no request"):
        await world.connectors.enrol(secret, "nonsense", world.issue)

    assert (await world.connectors.enrol(secret, CSR, world.issue))[0].state is ConnectorState.ENROLLED


async def test_processes_of_one_connector_have_a_token_each_and_one_link() -> None:
    world = World()
    secrets = [await world.secret() for _ in range(2)]
    identities = [(await world.connectors.enrol(secret, CSR, world.issue))[1].identity for secret in secrets]

    assert identities[0].link_id == identities[1].link_id
    for identity in identities:
        world.connectors.admit(identity)


async def test_too_many_open_tokens_are_refused_until_they_run_out() -> None:
    world = World()
    for _ in range(OPEN_TOKENS_MAX):
        await world.secret()
    with pytest.raises(HubError) as refused:
        await world.secret()
    assert refused.value.code is Code.QUOTA_EXCEEDED

    world.clock.now_ms += TOKEN_SECONDS * 1_000
    await world.secret()


async def test_a_connector_renews() -> None:
    world = World()
    identity = await world.enrolled()
    world.clock.now_ms += 1_000

    renewed = await world.connectors.renew(identity, CSR, world.issue)
    assert renewed.identity.not_after_ms > identity.not_after_ms
    assert world.connectors.require("plant-a").certificate_serial == renewed.identity.serial


async def test_a_revoked_connector_is_out_also_after_a_restart() -> None:
    world = World()
    identity = await world.enrolled()
    revoked = await world.connectors.revoke("plant-a")

    assert revoked.state is ConnectorState.REVOKED
    for each in (world, await world.again()):
        with pytest.raises(HubError) as refused:
            each.connectors.admit(identity)
        assert rule_of(refused) == "link.revoked"
        with pytest.raises(HubError) as not_renewed:
            await each.connectors.renew(identity, CSR, each.issue)
        assert rule_of(not_renewed) == "link.revoked"
    assert not world.connectors.any_may_dial


async def test_revoking_takes_open_tokens_along() -> None:
    world = World()
    secret = await world.secret()
    await world.connectors.revoke("plant-a")

    with pytest.raises(HubError) as refused:
        await world.connectors.enrol(secret, CSR, world.issue)
    assert rule_of(refused) == "link.token-expired"


async def test_a_revoked_connector_comes_back_as_another_link() -> None:
    world = World()
    old = await world.enrolled()
    await world.connectors.revoke("plant-a")
    secret = await world.secret()
    assert world.connectors.require("plant-a").state is ConnectorState.REVOKED

    new = (await world.connectors.enrol(secret, CSR, world.issue))[1].identity
    assert new.link_id != old.link_id
    world.connectors.admit(new)
    with pytest.raises(HubError):
        world.connectors.admit(old)


async def test_a_certificate_of_nobody_is_refused() -> None:
    with pytest.raises(HubError) as refused:
        World().connectors.admit(ConnectorIdentity("ghost", 1, "1", 0))
    assert rule_of(refused) == "link.unknown-connector"


async def test_a_connector_stays_in_its_network() -> None:
    world = World()
    await world.enrolled()
    world.facts = NetworkFacts((replace(OTHER, presence=PLANT.presence),))

    with pytest.raises(HubError, match="bound to plant"):
        await world.connectors.invite("plant-a", "other", TOKEN_SECONDS)
    await world.connectors.revoke("plant-a")
    assert (await world.connectors.invite("plant-a", "other", TOKEN_SECONDS))[0].network == "other"


@pytest.mark.parametrize("seconds", [0, 86_401])
async def test_a_token_lasts_no_longer_than_a_day(seconds: int) -> None:
    with pytest.raises(HubError, match="86400 seconds"):
        await World().connectors.invite("plant-a", "", seconds)


async def test_the_one_revoked_first_is_forgotten_when_there_is_no_room() -> None:
    world = World()
    names = [f"c{number}" for number in range(CONNECTORS_MAX)]
    networks = [
        VirtualNetwork(name, ("10.1.0.0/16",), presence=Presence(PresenceKind.CONNECTOR, name))
        for name in [*names, "last"]
    ]
    world.facts = NetworkFacts(tuple(networks))
    for name in names:
        await world.secret(name)
    with pytest.raises(HubError) as refused:
        await world.secret("last")
    assert refused.value.code is Code.QUOTA_EXCEEDED

    await world.connectors.revoke("c7")
    await world.secret("last")
    assert world.connectors.by_name("c7") is None
    assert (await world.again()).connectors.by_name("c7") is None
