"""Virtual networks, subnets, peerings and local gateways in ARM's paths (Microsoft.Network)."""

from dataclasses import replace

from isthmus.access.explain import change_texts
from isthmus.access.journal import Journal
from isthmus.resources.members import known_members
from isthmus.resources.virtual_network_arm import (
    gateway_to_arm,
    network_to_arm,
    peering_to_arm,
    subnet_to_arm,
)
from isthmus.resources.virtual_networks import VirtualNetworks
from isthmus.servers.management.arm import CREATED, NO_CONTENT, Routes, change_of
from isthmus.servers.management.request import Call, Reply

Json = dict[str, object]


class ArmNetworks:
    """Answers ARM calls about declared networks; used on the event loop only."""

    def __init__(self, networks: VirtualNetworks, journal: Journal) -> None:
        self._networks = networks
        self._journal = journal
        network, gateway = "microsoft.network/virtualnetworks", "microsoft.network/localnetworkgateways"
        subnet, peering = f"{network}/*/subnets", f"{network}/*/virtualnetworkpeerings"
        self.routes: Routes = {
            ("GET", network): self._list_networks,
            ("GET", f"{network}/*"): self._show_network,
            ("PUT", f"{network}/*"): self._put_network,
            ("PATCH", f"{network}/*"): self._tag_network,
            ("DELETE", f"{network}/*"): self._delete_network,
            ("GET", subnet): self._list_subnets,
            ("GET", f"{subnet}/*"): self._show_subnet,
            ("PUT", f"{subnet}/*"): self._put_subnet,
            ("DELETE", f"{subnet}/*"): self._delete_subnet,
            ("GET", peering): self._list_peerings,
            ("GET", f"{peering}/*"): self._show_peering,
            ("PUT", f"{peering}/*"): self._put_peering,
            ("DELETE", f"{peering}/*"): self._delete_peering,
            ("GET", gateway): self._list_gateways,
            ("GET", f"{gateway}/*"): self._show_gateway,
            ("PUT", f"{gateway}/*"): self._put_gateway,
            ("PATCH", f"{gateway}/*"): self._tag_gateway,
            ("DELETE", f"{gateway}/*"): self._delete_gateway,
        }
        """Handlers by method and path pattern; see `arm.Routes`."""

    async def _list_networks(self, call: Call, names: tuple[str, ...]) -> Reply:
        return Reply(value={"value": [self._network(each.name) for each in self._networks.facts().networks]})

    async def _show_network(self, call: Call, names: tuple[str, ...]) -> Reply:
        return Reply(value=self._network(names[0]))

    async def _put_network(self, call: Call, names: tuple[str, ...]) -> Reply:
        before = self._network(names[0]) if self._networks.facts().network(names[0]) is not None else None
        made = await self._networks.put_network(names[0], call.json(), call.if_match)
        after = self._network(made.name)
        self._changed(call, f"virtual network {made.name}", before, after)
        return _put(before, after)

    async def _tag_network(self, call: Call, names: tuple[str, ...]) -> Reply:
        before = self._network(names[0])
        made = await self._networks.put_network(names[0], before | _tags(call), call.if_match)
        after = self._network(made.name)
        self._changed(call, f"virtual network {made.name}", before, after)
        return Reply(value=after)

    async def _delete_network(self, call: Call, names: tuple[str, ...]) -> Reply:
        before = self._network(names[0])
        await self._networks.delete_network(names[0])
        self._changed(call, f"virtual network {names[0]}", before, None)
        return Reply(NO_CONTENT)

    async def _list_subnets(self, call: Call, names: tuple[str, ...]) -> Reply:
        network = self._networks.facts().require(names[0])
        return Reply(value={"value": [self._subnet(network.name, each.name) for each in network.subnets]})

    async def _show_subnet(self, call: Call, names: tuple[str, ...]) -> Reply:
        return Reply(value=self._subnet(*names))

    async def _put_subnet(self, call: Call, names: tuple[str, ...]) -> Reply:
        known = self._networks.facts().require(names[0]).subnet(names[1]) is not None
        before = self._subnet(*names) if known else None
        await self._networks.put_subnet(names[0], names[1], call.json())
        after = self._subnet(*names)
        self._changed(call, f"subnet {names[1]} of {names[0]}", before, after)
        return _put(before, after)

    async def _delete_subnet(self, call: Call, names: tuple[str, ...]) -> Reply:
        before = self._subnet(*names)
        await self._networks.delete_subnet(*names)
        self._changed(call, f"subnet {names[1]} of {names[0]}", before, None)
        return Reply(NO_CONTENT)

    async def _list_peerings(self, call: Call, names: tuple[str, ...]) -> Reply:
        network = self._networks.facts().require(names[0])
        return Reply(value={"value": [self._peering(network.name, each.name) for each in network.peerings]})

    async def _show_peering(self, call: Call, names: tuple[str, ...]) -> Reply:
        return Reply(value=self._peering(*names))

    async def _put_peering(self, call: Call, names: tuple[str, ...]) -> Reply:
        known = self._networks.facts().require(names[0]).peering(names[1]) is not None
        before = self._peering(*names) if known else None
        await self._networks.put_peering(names[0], names[1], call.json())
        after = self._peering(*names)
        self._changed(call, f"peering {names[1]} of {names[0]}", before, after)
        return _put(before, after)

    async def _delete_peering(self, call: Call, names: tuple[str, ...]) -> Reply:
        before = self._peering(*names)
        await self._networks.delete_peering(*names)
        self._changed(call, f"peering {names[1]} of {names[0]}", before, None)
        return Reply(NO_CONTENT)

    async def _list_gateways(self, call: Call, names: tuple[str, ...]) -> Reply:
        return Reply(value={"value": [gateway_to_arm(each) for each in self._networks.facts().gateways]})

    async def _show_gateway(self, call: Call, names: tuple[str, ...]) -> Reply:
        return Reply(value=self._gateway(names[0]))

    async def _put_gateway(self, call: Call, names: tuple[str, ...]) -> Reply:
        before = self._gateway(names[0]) if self._networks.facts().gateway(names[0]) is not None else None
        await self._networks.put_gateway(names[0], call.json())
        after = self._gateway(names[0])
        self._changed(call, f"local gateway {names[0]}", before, after)
        return _put(before, after)

    async def _tag_gateway(self, call: Call, names: tuple[str, ...]) -> Reply:
        before = self._gateway(names[0])
        await self._networks.put_gateway(names[0], before | _tags(call))
        after = self._gateway(names[0])
        self._changed(call, f"local gateway {names[0]}", before, after)
        return Reply(value=after)

    async def _delete_gateway(self, call: Call, names: tuple[str, ...]) -> Reply:
        before = self._gateway(names[0])
        await self._networks.delete_gateway(names[0])
        self._changed(call, f"local gateway {names[0]}", before, None)
        return Reply(NO_CONTENT)

    def _network(self, name: str) -> Json:
        facts = self._networks.facts()
        return network_to_arm(facts.require(name), facts, self._networks.occupants, self._networks.served(name))

    def _subnet(self, network_name: str, name: str) -> Json:
        network = self._networks.facts().require(network_name)
        return subnet_to_arm(network, network.require_subnet(name), self._networks.occupants)

    def _peering(self, network_name: str, name: str) -> Json:
        facts = self._networks.facts()
        network = facts.require(network_name)
        return peering_to_arm(network, network.require_peering(name), facts)

    def _gateway(self, name: str) -> Json:
        return gateway_to_arm(self._networks.facts().require_gateway(name))

    def _changed(self, call: Call, what: str, before: Json | None, after: Json | None) -> None:
        done = "deleted" if after is None else "created" if before is None else "updated"
        was, now = change_texts(before, after)
        self._journal.write(replace(change_of(call, "", f"{what} {done}"), before=was, after=now))


def _tags(call: Call) -> Json:
    """What a PATCH of Microsoft.Network may say (`TagsObject`)."""
    body = call.json()
    known_members(body, "the body", ("tags",))
    return {"tags": body.get("tags") or {}}


def _put(before: Json | None, after: Json) -> Reply:
    return Reply(CREATED if before is None else 200, after)
