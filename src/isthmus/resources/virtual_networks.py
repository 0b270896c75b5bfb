"""The declared networks of an installation: loaded once, read from memory, changed under compare-and-set.

Theory of operation. All facts are one document, so that a rule over several networks is judged and committed at once. A
change takes the snapshot, applies a pure rule, commits with the snapshot's revision as expectation, and on `Conflict`
reads and applies again. After the commit the snapshot is replaced and all listeners are awaited: a change is answered
when the sessions that do not reach their endpoint any more are cut. Who makes a private endpoint in a subnet commits
together with `unchanged`, so that the subnet cannot go meanwhile; who removes a subnet asks first who is in it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from isthmus.base.errors import Code, HubError
from isthmus.base.etags import parse_if_match, twin_etag
from isthmus.base.ids import Ids
from isthmus.base.state import COMMIT_TRIES_MAX, NO_HUB, Check, Conflict, Key, Put, State
from isthmus.completion import Completion
from isthmus.network.peerings import (
    checked,
    put_gateway,
    put_peering,
    remove_gateway,
    remove_network,
    remove_peering,
)
from isthmus.network.virtual_networks import (
    BIND,
    GATEWAYS_MAX,
    NETWORKS_MAX,
    NO_FACTS,
    NetworkFacts,
    Presence,
    Subnet,
    VirtualNetwork,
    checked_network,
)
from isthmus.resources.members import Json
from isthmus.resources.stored_facts import decode_facts, encode_facts
from isthmus.resources.virtual_network_arm import (
    Occupants,
    parse_gateway,
    parse_network,
    parse_peering,
    parse_subnet,
    parse_subnet_id,
)

FACTS = Key("network", NO_HUB, "facts")
"""The document of all declared networks."""

Servers = Callable[[str], tuple[str, ...]]
"""Addresses where names are served in a network, by its name."""

FactsListener = Callable[[NetworkFacts], Awaitable[None]]
"""Is told of the facts that are in force now."""


class VirtualNetworks:
    """All declared networks; `load` first. Reading is synchronous; on the event loop only."""

    def __init__(self, state: State, ids: Ids) -> None:
        self._state = state
        self._ids = ids
        self._completion = Completion()
        self._listeners: list[FactsListener] = []
        self._facts = NO_FACTS
        self._revision = 0
        self._servers: Servers = lambda network: ()
        self._occupants: Occupants = lambda network, subnet: ()

    async def load(self) -> None:
        """Reads the facts; listeners are not told."""
        await self._read()

    def on_change(self, listener: FactsListener) -> None:
        """Awaits `listener(facts)` after each change, before the change is answered."""
        self._listeners.append(listener)

    def facts(self) -> NetworkFacts:
        """What is declared now."""
        return self._facts

    def ask_first(self, occupants: Occupants) -> None:
        """Has `occupants` asked who is in a subnet before it goes or changes."""
        self._occupants = occupants

    def occupants(self, network: str, subnet: str) -> tuple[str, ...]:
        """Resource ids of the private endpoints in a subnet."""
        return self._occupants(network, subnet)

    def serve_names_at(self, servers: Servers) -> None:
        """Has `servers` asked where names are served in a network, besides the servers that somebody named."""
        self._servers = servers

    def served(self, network: str) -> tuple[str, ...]:
        """Addresses where names are served in a network, those that somebody named first."""
        declared = self._facts.network(network)
        named = declared.dns_servers if declared is not None else ()
        return tuple(dict.fromkeys((*named, *self._servers(network))))

    @property
    def unchanged(self) -> Check:
        """Lets a commit pass only while the facts are those of now."""
        return Check(FACTS, self._revision)

    def declares(self, resource_id: str) -> bool:
        """True when the network that an ARM id of a subnet names is declared here."""
        return self._facts.network(parse_subnet_id(resource_id)[0]) is not None

    def subnet_of(self, resource_id: str) -> tuple[VirtualNetwork, Subnet]:
        """Network and subnet of an ARM id; raises HubError GenericNotFound with the command that declares them."""
        network_name, subnet_name = parse_subnet_id(resource_id)
        network = self._facts.network(network_name)
        subnet = network.subnet(subnet_name) if network is not None else None
        if network is None or subnet is None:
            command = (
                "network vnet create" if network is None else f"network vnet subnet create --vnet-name {network.name}"
            )
            raise HubError(Code.NOT_FOUND, f"There is no subnet {resource_id} here; declare it: isthmus {command}")
        return network, subnet

    async def put_network(self, name: str, body: Json, if_match: str | None = None) -> VirtualNetwork:
        """Declares a network as a whole ARM body says, or changes it: subnets that it leaves out go.

        `if_match` is an If-Match header's text. Raises HubError PreconditionFailed, ArgumentInvalid, InvalidOperation
        for a subnet that is in use, QuotaExceeded, NotImplemented.
        """
        guid = self._ids.uuid()

        def rule(facts: NetworkFacts) -> NetworkFacts:
            present = facts.network(name)
            _check_etag(name, present, if_match)
            network = checked_network(parse_network(name, body, present, self.served(name)))
            if present is None:
                _check_room(len(facts.networks), NETWORKS_MAX, "virtual networks")
                network = replace(network, guid=guid)
            else:
                self._check_kept(present, network)
            self._check_presence(present.presence if present is not None else BIND, network)
            return checked(facts.with_network(network), network.name)

        return (await self._change(rule)).require(name)

    async def delete_network(self, name: str) -> None:
        """Takes a network back; its peers' sides are Disconnected. Raises InvalidOperation while it is in use."""

        def rule(facts: NetworkFacts) -> NetworkFacts:
            network = facts.require(name)
            self._check_kept(network, replace(network, subnets=()))
            return remove_network(facts, name)

        await self._change(rule)

    async def put_subnet(self, network_name: str, name: str, body: Json) -> Subnet:
        """Declares a subnet, or changes its range while nobody is in it. Raises as `put_network`."""
        asked = parse_subnet(name, body)

        def rule(facts: NetworkFacts) -> NetworkFacts:
            network = facts.require(network_name)
            present = network.subnet(name)
            named = replace(asked, name=present.name) if present is not None else asked
            kept = tuple(named if each is present else each for each in network.subnets)
            return self._with(facts, network, kept if present is not None else (*network.subnets, named))

        return (await self._change(rule)).require(network_name).require_subnet(name)

    async def delete_subnet(self, network_name: str, name: str) -> None:
        """Takes a subnet back; raises HubError GenericNotFound, InvalidOperation while an endpoint is in it."""

        def rule(facts: NetworkFacts) -> NetworkFacts:
            network = facts.require(network_name)
            gone = network.require_subnet(name)
            return self._with(facts, network, tuple(each for each in network.subnets if each is not gone))

        await self._change(rule)

    async def put_peering(self, network: str, name: str, body: Json) -> None:
        """Makes one side of a peering, or changes what it allows; raises as `peerings.put_peering`."""
        asked = parse_peering(name, body)
        await self._change(lambda facts: put_peering(facts, network, asked))

    async def delete_peering(self, network: str, name: str) -> None:
        """Deletes one side of a peering; the other is Disconnected. Raises HubError GenericNotFound."""
        await self._change(lambda facts: remove_peering(facts, network, name))

    async def put_gateway(self, name: str, body: Json) -> None:
        """Declares a site behind a network's gateway, or changes it; raises as `peerings.put_gateway`."""
        guid = self._ids.uuid()

        def rule(facts: NetworkFacts) -> NetworkFacts:
            present = facts.gateway(name)
            gateway = parse_gateway(name, body, present)
            if present is None:
                _check_room(len(facts.gateways), GATEWAYS_MAX, "local gateways")
                gateway = replace(gateway, guid=guid)
            return put_gateway(facts, gateway)

        await self._change(rule)

    async def delete_gateway(self, name: str) -> None:
        """Takes a site back; raises HubError GenericNotFound, ArgumentInvalid while a peer uses the gateway."""
        await self._change(lambda facts: remove_gateway(facts, name))

    def _with(self, facts: NetworkFacts, network: VirtualNetwork, subnets: tuple[Subnet, ...]) -> NetworkFacts:
        changed = checked_network(replace(network, subnets=subnets))
        self._check_kept(network, changed)
        return facts.with_network(changed)

    def _check_kept(self, old: VirtualNetwork, new: VirtualNetwork) -> None:
        """Raises HubError InvalidOperation when a subnet with private endpoints goes, or gets another range."""
        for subnet in old.subnets:
            kept = new.subnet(subnet.name)
            if kept is not None and kept.prefix == subnet.prefix:
                continue
            inside = self.occupants(old.name, subnet.name)
            if inside:
                message = f"The subnet {subnet.name} of {old.name} is in use by {', '.join(inside)}; delete that first"
                raise HubError(Code.INVALID_OPERATION, message)

    def _check_presence(self, old: Presence, new: VirtualNetwork) -> None:
        """Raises HubError InvalidOperation when private endpoints would move to another place."""
        inside = [each for subnet in new.subnets for each in self.occupants(new.name, subnet.name)]
        if old.place != new.presence.place and inside:
            message = (
                f"The presence of {new.name} is {old.text} and cannot become {new.presence.text} while it has "
                f"{', '.join(inside)}; delete that first"
            )
            raise HubError(Code.INVALID_OPERATION, message)

    async def _change(self, rule: Callable[[NetworkFacts], NetworkFacts]) -> NetworkFacts:
        return await self._completion.run(self._commit(rule))

    async def _commit(self, rule: Callable[[NetworkFacts], NetworkFacts]) -> NetworkFacts:
        for _ in range(COMMIT_TRIES_MAX):
            old, revision = self._facts, self._revision
            new = rule(old)
            if new == old:
                return old
            try:
                (committed,) = await self._state.commit([Put(FACTS, encode_facts(new), revision)])
            except Conflict:
                await self._read()
                continue
            self._take(new, committed)
            for listener in self._listeners:
                await listener(self._facts)
            return new
        raise HubError(Code.SERVER_BUSY, "The networks are being changed by others; try again")

    async def _read(self) -> None:
        stored = await self._state.get(FACTS)
        if stored is not None:
            self._take(decode_facts(stored.body), stored.revision)

    def _take(self, facts: NetworkFacts, revision: int) -> None:
        """Replaces the snapshot, never by an older one."""
        if revision > self._revision:
            self._facts, self._revision = facts, revision


def _check_etag(name: str, present: VirtualNetwork | None, if_match: str | None) -> None:
    wanted = parse_if_match(if_match)
    if wanted is not None and (present is None or wanted not in ("*", twin_etag(present.version))):
        raise HubError(Code.PRECONDITION_FAILED, f"The virtual network {name} was changed since it was read")


def _check_room(count: int, most: int, what: str) -> None:
    if count >= most:
        raise HubError(Code.QUOTA_EXCEEDED, f"{most} {what} are allowed")
