"""Private DNS zones, links, record sets and zone groups in ARM's paths (Microsoft.Network), and exports of ours.

`GET …/virtualNetworks/{network}/privateNames/{format}` is ours: everything that the network's clients see, as text for
another DNS server, in `{"value": text}`.
"""

from collections.abc import Mapping
from dataclasses import replace

from isthmus.access.explain import change_texts
from isthmus.access.journal import Journal
from isthmus.base.errors import Code, HubError
from isthmus.names.export import Format, exported
from isthmus.names.zone import RecordType
from isthmus.resources.network_names import NetworkNames
from isthmus.resources.private_zone import PrivateZone, ZoneGroup
from isthmus.resources.private_zone_arm import (
    group_to_arm,
    link_to_arm,
    records_to_arm,
    soa_to_arm,
    zone_to_arm,
)
from isthmus.resources.private_zones import PrivateZones
from isthmus.resources.virtual_networks import VirtualNetworks
from isthmus.servers.management.arm import CREATED, NO_CONTENT, Handler, Routes, change_of
from isthmus.servers.management.request import Call, Reply

Json = dict[str, object]

ZONE = "microsoft.network/privatednszones"
LINK = f"{ZONE}/*/virtualnetworklinks"
GROUP = "microsoft.network/privateendpoints/*/privatednszonegroups"
EXPORT = "microsoft.network/virtualnetworks/*/privatenames"


class ArmPrivateDns:
    """Answers ARM calls about private names; used on the event loop only."""

    def __init__(self, zones: PrivateZones, names: NetworkNames, networks: VirtualNetworks, journal: Journal) -> None:
        self._zones = zones
        self._names = names
        self._networks = networks
        self._journal = journal
        self.routes: Routes = {
            ("GET", ZONE): self._list_zones,
            ("GET", f"{ZONE}/*"): self._show_zone,
            ("PUT", f"{ZONE}/*"): self._put_zone,
            ("PATCH", f"{ZONE}/*"): self._patch_zone,
            ("DELETE", f"{ZONE}/*"): self._delete_zone,
            ("GET", LINK): self._list_links,
            ("GET", f"{LINK}/*"): self._show_link,
            ("PUT", f"{LINK}/*"): self._put_link,
            ("PATCH", f"{LINK}/*"): self._patch_link,
            ("DELETE", f"{LINK}/*"): self._delete_link,
            ("GET", f"{ZONE}/*/all"): self._list_all,
            ("GET", f"{ZONE}/*/soa"): self._list_soa,
            ("GET", f"{ZONE}/*/soa/*"): self._show_soa,
            ("GET", GROUP): self._list_groups,
            ("GET", f"{GROUP}/*"): self._show_group,
            ("PUT", f"{GROUP}/*"): self._put_group,
            ("DELETE", f"{GROUP}/*"): self._delete_group,
            ("GET", f"{EXPORT}/*"): self._export,
            **{route: handler for kind in RecordType for route, handler in self._routes_of(kind).items()},
        }
        """Handlers by method and path pattern; see `arm.Routes`."""

    def _routes_of(self, kind: RecordType) -> Mapping[tuple[str, str], Handler]:
        """The routes of one type of record set."""
        path = f"{ZONE}/*/{kind.value.lower()}"

        async def listed(call: Call, names: tuple[str, ...]) -> Reply:
            zone = self._zones.require(names[0])
            found = [records_to_arm(zone, each) for each in self._zones.records(zone) if each.type is kind]
            return Reply(value={"value": found})

        async def show(call: Call, names: tuple[str, ...]) -> Reply:
            return Reply(value=self._records(kind, names))

        async def put(call: Call, names: tuple[str, ...]) -> Reply:
            return await self._put_records(call, kind, names, call.json())

        async def patch(call: Call, names: tuple[str, ...]) -> Reply:
            return await self._put_records(call, kind, names, _overlaid(self._records(kind, names), call.json()))

        async def delete(call: Call, names: tuple[str, ...]) -> Reply:
            return await self._delete_records(call, kind, names)

        return {
            ("GET", path): listed,
            ("GET", f"{path}/*"): show,
            ("PUT", f"{path}/*"): put,
            ("PATCH", f"{path}/*"): patch,
            ("DELETE", f"{path}/*"): delete,
        }

    async def _list_zones(self, call: Call, names: tuple[str, ...]) -> Reply:
        return Reply(value={"value": [self._zone(each.name) for each in self._zones.all()]})

    async def _show_zone(self, call: Call, names: tuple[str, ...]) -> Reply:
        return Reply(value=self._zone(names[0]))

    async def _put_zone(self, call: Call, names: tuple[str, ...]) -> Reply:
        before = self._zone(names[0]) if self._zones.find(names[0]) is not None else None
        await self._zones.put_zone(names[0], call.json(), call.condition)
        return self._put(call, f"private DNS zone {names[0]}", before, self._zone(names[0]))

    async def _patch_zone(self, call: Call, names: tuple[str, ...]) -> Reply:
        before = self._zone(names[0])
        await self._zones.put_zone(names[0], _overlaid(before, call.json()), call.condition)
        return self._put(call, f"private DNS zone {names[0]}", before, self._zone(names[0]))

    async def _delete_zone(self, call: Call, names: tuple[str, ...]) -> Reply:
        before = self._zone(names[0])
        await self._zones.delete_zone(names[0], call.condition)
        return self._deleted(call, f"private DNS zone {names[0]}", before)

    async def _list_links(self, call: Call, names: tuple[str, ...]) -> Reply:
        zone = self._zones.require(names[0])
        return Reply(value={"value": [link_to_arm(zone, each) for each in zone.links]})

    async def _show_link(self, call: Call, names: tuple[str, ...]) -> Reply:
        return Reply(value=self._link(*names))

    async def _put_link(self, call: Call, names: tuple[str, ...]) -> Reply:
        known = self._zones.require(names[0]).link(names[1]) is not None
        before = self._link(*names) if known else None
        await self._zones.put_link(names[0], names[1], call.json(), call.condition)
        return self._put(call, f"link {names[1]} of {names[0]}", before, self._link(*names))

    async def _patch_link(self, call: Call, names: tuple[str, ...]) -> Reply:
        before = self._link(*names)
        await self._zones.put_link(names[0], names[1], _overlaid(before, call.json()), call.condition)
        return self._put(call, f"link {names[1]} of {names[0]}", before, self._link(*names))

    async def _delete_link(self, call: Call, names: tuple[str, ...]) -> Reply:
        before = self._link(*names)
        await self._zones.delete_link(*names)
        return self._deleted(call, f"link {names[1]} of {names[0]}", before)

    async def _list_all(self, call: Call, names: tuple[str, ...]) -> Reply:
        zone = self._zones.require(names[0])
        found = [records_to_arm(zone, each) for each in self._zones.records(zone)]
        return Reply(value={"value": [soa_to_arm(zone), *found]})

    async def _list_soa(self, call: Call, names: tuple[str, ...]) -> Reply:
        return Reply(value={"value": [soa_to_arm(self._zones.require(names[0]))]})

    async def _show_soa(self, call: Call, names: tuple[str, ...]) -> Reply:
        return Reply(value=soa_to_arm(self._zones.require(names[0])))

    async def _put_records(
        self, call: Call, kind: RecordType, names: tuple[str, ...], body: Mapping[str, object]
    ) -> Reply:
        known = self._zones.find_records(self._zones.require(names[0]), kind, names[1]) is not None
        before = self._records(kind, names) if known else None
        await self._zones.put_records(names[0], kind, names[1], body, call.condition)
        return self._put(call, _set_text(kind, names), before, self._records(kind, names))

    async def _delete_records(self, call: Call, kind: RecordType, names: tuple[str, ...]) -> Reply:
        before = self._records(kind, names)
        await self._zones.delete_records(names[0], kind, names[1], call.condition)
        return self._deleted(call, _set_text(kind, names), before)

    async def _list_groups(self, call: Call, names: tuple[str, ...]) -> Reply:
        group = self._zones.group_of(names[0])
        return Reply(value={"value": [self._group(group)] if group is not None else []})

    async def _show_group(self, call: Call, names: tuple[str, ...]) -> Reply:
        return Reply(value=self._group(self._zones.require_group(*names)))

    async def _put_group(self, call: Call, names: tuple[str, ...]) -> Reply:
        present = self._zones.group_of(names[0])
        before = self._group(present) if present is not None else None
        after = self._group(await self._zones.put_group(names[0], names[1], call.json()))
        return self._put(call, f"DNS zone group {names[1]} of {names[0]}", before, after)

    async def _delete_group(self, call: Call, names: tuple[str, ...]) -> Reply:
        before = self._group(self._zones.require_group(*names))
        await self._zones.delete_group(*names)
        return self._deleted(call, f"DNS zone group {names[1]} of {names[0]}", before)

    async def _export(self, call: Call, names: tuple[str, ...]) -> Reply:
        network = self._networks.facts().require(names[0])
        wanted = {each.value: each for each in Format}.get(names[1].lower())
        if wanted is None:
            raise HubError(Code.ARGUMENT_INVALID, f"format is one of {', '.join(Format)}, not {names[1]!r}")
        return Reply(value={"value": exported(self._names.names(network.name).view, wanted)})

    def _zone(self, name: str) -> Json:
        zone = self._zones.require(name)
        return zone_to_arm(zone, len(self._zones.records(zone)))

    def _link(self, zone_name: str, name: str) -> Json:
        zone = self._zones.require(zone_name)
        return link_to_arm(zone, zone.require_link(name))

    def _records(self, kind: RecordType, names: tuple[str, ...]) -> Json:
        zone: PrivateZone = self._zones.require(names[0])
        return records_to_arm(zone, self._zones.require_records(names[0], kind, names[1]))

    def _group(self, group: ZoneGroup) -> Json:
        return group_to_arm(group, self._zones.records_of_group(group))

    def _put(self, call: Call, what: str, before: Json | None, after: Json) -> Reply:
        self._changed(call, what, before, after)
        return Reply(CREATED if before is None else 200, after)

    def _deleted(self, call: Call, what: str, before: Json) -> Reply:
        self._changed(call, what, before, None)
        return Reply(NO_CONTENT)

    def _changed(self, call: Call, what: str, before: Json | None, after: Json | None) -> None:
        done = "deleted" if after is None else "created" if before is None else "updated"
        was, now = change_texts(before, after)
        self._journal.write(replace(change_of(call, "", f"{what} {done}"), before=was, after=now))


def _set_text(kind: RecordType, names: tuple[str, ...]) -> str:
    return f"{kind.value} record set {names[1]} of {names[0]}"


def _overlaid(present: Json, body: Mapping[str, object]) -> Json:
    """What is there, with the members of a PATCH body over it; those of `properties` one by one."""
    properties, new = present.get("properties"), body.get("properties")
    merged = {**present, **body}
    if isinstance(properties, dict) and isinstance(new, dict):
        merged["properties"] = {**properties, **new}
    elif new is None:
        merged["properties"] = properties
    return merged
