"""The private DNS zones of an installation, and the zone groups of its private endpoints: read from memory, changed
under compare-and-set.

Theory of operation. A zone with its links and records is one document, a private endpoint's zone group another. A
change takes the snapshot, applies a pure rule, commits with the snapshot's revision as expectation, and on `Conflict`
reads and applies again; then the listeners are awaited, so that a change is answered when it is served. A group is
committed only while its zones are there; with its endpoint it goes. The records that follow from groups are told
afresh each time, from the endpoint and its resource as they are now.
"""

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import msgspec

from isthmus.base.errors import Code, HubError
from isthmus.base.etags import ALWAYS, Condition
from isthmus.base.ids import Ids
from isthmus.base.state import (
    COMMIT_TRIES_MAX,
    MUST_NOT_EXIST,
    NO_HUB,
    Change,
    Check,
    Conflict,
    Delete,
    Key,
    Put,
    State,
    StateClosed,
    Stored,
)
from isthmus.completion import Completion
from isthmus.names.zone import RecordType, normal_name
from isthmus.network.private_endpoints import ConnectionStatus
from isthmus.resources.directory import Directory
from isthmus.resources.members import Json
from isthmus.resources.private_endpoint import PrivateEndpoint
from isthmus.resources.private_endpoints import PrivateEndpoints
from isthmus.resources.private_zone import (
    LINKS_MAX,
    PRIVATE_ZONES_MAX,
    RECORD_SETS_MAX,
    PrivateZone,
    ZoneGroup,
    ZoneLink,
    ZoneRecords,
    decode_zone,
    encode_zone,
    group_records,
    joined,
)
from isthmus.resources.private_zone_arm import (
    checked_relative_name,
    parse_group,
    parse_link,
    parse_records,
    parse_zone,
)
from isthmus.resources.virtual_networks import VirtualNetworks

ZONE_KIND = "dns-zone"
GROUP_KIND = "dns-group"
GROUPS_MAX = 1_000
"""Zone groups of an installation: one for each private endpoint."""

ZonesListener = Callable[[], Awaitable[None]]
"""Is told that zones or groups have changed."""

Rule = Callable[[PrivateZone | None], PrivateZone | None]
"""Makes of a zone another; None stands for one that is not there."""


class PrivateZones:
    """All private DNS zones and zone groups; `load` first. Reading is synchronous; on the event loop only."""

    def __init__(
        self, state: State, ids: Ids, directory: Directory, endpoints: PrivateEndpoints, networks: VirtualNetworks
    ) -> None:
        self._state = state
        self._ids = ids
        self._directory = directory
        self._endpoints = endpoints
        self._networks = networks
        self._completion = Completion()
        self._listeners: list[ZonesListener] = []
        self._zones: dict[str, tuple[PrivateZone, int]] = {}
        self._groups: dict[str, tuple[ZoneGroup, int]] = {}
        endpoints.on_change(self._endpoint_changed)

    async def load(self) -> None:
        """Reads all zones and groups; listeners are not told."""
        for stored in await self._state.scan(ZONE_KIND, NO_HUB, limit=PRIVATE_ZONES_MAX):
            self._take_zone(stored.key.name, stored)
        for stored in await self._state.scan(GROUP_KIND, NO_HUB, limit=GROUPS_MAX):
            self._take_group(stored.key.name, stored)

    def on_change(self, listener: ZonesListener) -> None:
        """Awaits `listener()` after each change, before the change is answered."""
        self._listeners.append(listener)

    def all(self) -> tuple[PrivateZone, ...]:
        """All zones in the order of their names."""
        return tuple(self._zones[name][0] for name in sorted(self._zones))

    def find(self, name: str) -> PrivateZone | None:
        """The zone of that name, or None."""
        return self._zones.get(normal_name(name), (None, 0))[0]

    def require(self, name: str) -> PrivateZone:
        """As `find`; raises HubError GenericNotFound."""
        return _there(self.find(name), name)

    def records(self, zone: PrivateZone) -> tuple[ZoneRecords, ...]:
        """All record sets of a zone, those of zone groups included."""
        return joined(zone.records, (each for group in self.groups() for each in self._of_group(group, zone.name)))

    def require_records(self, zone_name: str, kind: RecordType, name: str) -> ZoneRecords:
        """One record set; raises HubError GenericNotFound."""
        zone = self.require(zone_name)
        found = self.find_records(zone, kind, name)
        if found is None:
            raise HubError(Code.NOT_FOUND, f"The private DNS zone {zone.name} has no {kind.value} record set {name}")
        return found

    def find_records(self, zone: PrivateZone, kind: RecordType, name: str) -> ZoneRecords | None:
        """One record set of a zone, or None."""
        wanted = (kind, checked_relative_name(name))
        return next((each for each in self.records(zone) if (each.type, each.name) == wanted), None)

    def groups(self) -> tuple[ZoneGroup, ...]:
        """The zone groups of all private endpoints that are there."""
        return tuple(group for name in sorted(self._groups) if (group := self.group_of(name)) is not None)

    def group_of(self, endpoint_name: str) -> ZoneGroup | None:
        """The zone group of a private endpoint, or None; the only one that it can have."""
        group = self._groups.get(endpoint_name.lower(), (None, 0))[0]
        return group if group is not None and self._endpoint_of(group) is not None else None

    def require_group(self, endpoint_name: str, name: str) -> ZoneGroup:
        """The zone group of that name; raises HubError GenericNotFound."""
        endpoint = self._endpoints.require(endpoint_name)
        group = self.group_of(endpoint.name)
        if group is None or group.name.lower() != name.lower():
            raise HubError(Code.NOT_FOUND, f"The private endpoint {endpoint.name} has no DNS zone group {name}")
        return group

    def records_of_group(self, group: ZoneGroup) -> Mapping[str, tuple[ZoneRecords, ...]]:
        """What a zone group puts into zones, by the zone's name."""
        return {zone: self._of_group(group, zone) for _, zone in group.zones}

    async def put_zone(self, name: str, body: Json, condition: Condition = ALWAYS) -> PrivateZone:
        """Declares a zone, or changes its tags; raises HubError ArgumentInvalid, PreconditionFailed, QuotaExceeded."""
        guid = self._ids.uuid()

        def rule(present: PrivateZone | None) -> PrivateZone:
            _check_etag(f"private DNS zone {name}", present.etag if present is not None else None, condition)
            if present is None and len(self._zones) >= PRIVATE_ZONES_MAX:
                raise HubError(Code.QUOTA_EXCEEDED, f"{PRIVATE_ZONES_MAX} private DNS zones are allowed")
            zone = parse_zone(name, body, present)
            return zone if present is not None else replace(zone, guid=guid)

        return _there(await self._change(name, rule), name)

    async def delete_zone(self, name: str, condition: Condition = ALWAYS) -> None:
        """Takes a zone back; raises HubError GenericNotFound, GenericConflict while a link or a group has it."""

        def rule(present: PrivateZone | None) -> None:
            zone = _there(present, name)
            _check_etag(f"private DNS zone {name}", zone.etag, condition)
            users = [f"the link {link.name}" for link in zone.links]
            users += [
                f"the zone group of {group.endpoint}"
                for group in self.groups()
                if any(each == zone.name for _, each in group.zones)
            ]
            if users:
                raise HubError(Code.CONFLICT, f"{zone.name} is in use by {', '.join(users)}; delete that first")

        await self._change(name, rule)

    async def put_link(self, zone_name: str, name: str, body: Json, condition: Condition = ALWAYS) -> ZoneLink:
        """Links a zone to a declared network, or changes the link; raises HubError as `put_zone`, GenericNotFound."""
        asked = parse_link(name, body)
        network = self._networks.facts().require(asked.network)

        def rule(present: PrivateZone | None) -> PrivateZone:
            zone = _there(present, zone_name)
            known, other = zone.link(name), zone.link_to(network.name)
            _check_etag(f"virtual network link {name}", known.etag if known is not None else None, condition)
            if other is not None and other is not known:
                raise HubError(Code.CONFLICT, f"{network.name} is linked to {zone.name} already, by {other.name}")
            if known is None:
                _check_room(len(zone.links), LINKS_MAX, "virtual network links")
                return zone.with_link(replace(asked, network=network.name))
            same = replace(asked, name=known.name, network=network.name, version=known.version)
            return zone if same == known else zone.with_link(replace(same, version=known.version + 1))

        return _there(await self._change(zone_name, rule), zone_name).require_link(name)

    async def delete_link(self, zone_name: str, name: str) -> None:
        """Deletes a link: the network's clients do not see the zone any more. Raises HubError GenericNotFound."""
        await self._change(
            zone_name, lambda present: (zone := _there(present, zone_name)).without_link(zone.require_link(name).name)
        )

    async def put_records(
        self, zone_name: str, kind: RecordType, name: str, body: Json, condition: Condition = ALWAYS
    ) -> ZoneRecords:
        """Writes a whole record set; raises HubError as `put_zone`, GenericNotFound, GenericConflict by an alias."""
        asked = parse_records(kind, name, body)

        def rule(present: PrivateZone | None) -> PrivateZone:
            zone = _there(present, zone_name)
            known = self._own_records(zone, kind, asked.name)
            _check_etag(f"record set {name}", known.etag if known is not None else None, condition)
            if known is None:
                _check_room(len(zone.records), RECORD_SETS_MAX, "record sets")
                self._check_alias(zone, asked)
                return zone.with_records(asked)
            same = replace(asked, version=known.version)
            return zone if same == known else zone.with_records(replace(same, version=known.version + 1))

        zone = _there(await self._change(zone_name, rule), zone_name)
        found = zone.set_of(kind, asked.name)
        assert found is not None
        return found

    async def delete_records(self, zone_name: str, kind: RecordType, name: str, condition: Condition = ALWAYS) -> None:
        """Deletes a record set; raises HubError GenericNotFound, InvalidOperation for a zone group's."""
        relative = checked_relative_name(name)

        def rule(present: PrivateZone | None) -> PrivateZone:
            zone = _there(present, zone_name)
            known = self._own_records(zone, kind, relative)
            if known is None:
                raise HubError(
                    Code.NOT_FOUND, f"The private DNS zone {zone.name} has no {kind.value} record set {name}"
                )
            _check_etag(f"record set {name}", known.etag, condition)
            return zone.without_records(kind, relative)

        await self._change(zone_name, rule)

    async def put_group(self, endpoint_name: str, name: str, body: Json) -> ZoneGroup:
        """Puts a private endpoint's names into zones; as a whole: it can have one group.

        Raises HubError GenericNotFound, ArgumentInvalid, GenericConflict.
        """
        zones = parse_group(name, body)
        return await self._completion.run(self._put_group(endpoint_name, name, zones))

    async def delete_group(self, endpoint_name: str, name: str) -> None:
        """Takes a private endpoint's names out of the zones again; raises HubError GenericNotFound."""
        group = self.require_group(endpoint_name, name)
        await self._completion.run(self._delete_group(group.endpoint.lower()))

    async def _put_group(self, endpoint_name: str, name: str, zones: tuple[tuple[str, str], ...]) -> ZoneGroup:
        for _ in range(COMMIT_TRIES_MAX):
            endpoint = self._endpoints.require(endpoint_name)
            known, revision = self._groups.get(endpoint.name.lower(), (None, MUST_NOT_EXIST))
            present = known if known is not None and known.endpoint_guid == endpoint.guid else None
            if present is not None and present.name.lower() != name.lower():
                raise HubError(Code.CONFLICT, f"{endpoint.name} has the DNS zone group {present.name} already")
            group = ZoneGroup(name, endpoint.name, endpoint.guid, zones)
            if present is not None:
                group = replace(group, name=present.name, version=present.version + 1)
            key = Key(GROUP_KIND, NO_HUB, endpoint.name.lower())
            checks: list[Change] = [Check(_key(zone), self._revision(zone)) for _, zone in zones]
            try:
                (committed, *_) = await self._state.commit([Put(key, msgspec.json.encode(group), revision), *checks])
            except Conflict:
                await self._read_again(endpoint.name.lower(), *(zone for _, zone in zones))
                continue
            self._groups[key.name] = (group, committed)
            await self._tell()
            return group
        raise _busy()

    async def _delete_group(self, endpoint_name: str) -> None:
        await self._state.commit([Delete(Key(GROUP_KIND, NO_HUB, endpoint_name))])
        self._groups.pop(endpoint_name, None)
        await self._tell()

    async def _endpoint_changed(self, old: PrivateEndpoint | None, new: PrivateEndpoint | None) -> None:
        """Clears up behind a deleted endpoint, whose group counts for nothing any more: nothing else depends on it."""
        if old is not None and new is None and self._groups.pop(old.name.lower(), None) is not None:
            with contextlib.suppress(StateClosed):
                await self._state.commit([Delete(Key(GROUP_KIND, NO_HUB, old.name.lower()))])

    async def _change(self, name: str, rule: Rule) -> PrivateZone | None:
        return await self._completion.run(self._commit(normal_name(name), rule))

    async def _commit(self, name: str, rule: Rule) -> PrivateZone | None:
        for _ in range(COMMIT_TRIES_MAX):
            old, revision = self._zones.get(name, (None, MUST_NOT_EXIST))
            new = rule(old)
            if new == old:
                return old
            if new is not None and old is not None:
                new = replace(new, version=old.version + 1)
            change = Delete(_key(name), revision) if new is None else Put(_key(name), encode_zone(new), revision)
            try:
                (committed,) = await self._state.commit([change])
            except Conflict:
                await self._read_again("", name)
                continue
            if new is None:
                self._zones.pop(name, None)
            else:
                self._zones[name] = (new, committed)
            await self._tell()
            return new
        raise _busy()

    async def _read_again(self, endpoint: str, *zones: str) -> None:
        for name in zones:
            self._take_zone(name, await self._state.get(_key(name)))
        if endpoint:
            self._take_group(endpoint, await self._state.get(Key(GROUP_KIND, NO_HUB, endpoint)))

    def _take_zone(self, name: str, stored: Stored | None) -> None:
        if stored is None:
            self._zones.pop(name, None)
        else:
            self._zones[name] = (decode_zone(stored.body), stored.revision)

    def _take_group(self, name: str, stored: Stored | None) -> None:
        if stored is None:
            self._groups.pop(name, None)
        else:
            self._groups[name] = (msgspec.json.decode(stored.body, type=ZoneGroup), stored.revision)

    def _revision(self, zone: str) -> int:
        self.require(zone)
        return self._zones[zone][1]

    def _endpoint_of(self, group: ZoneGroup) -> PrivateEndpoint | None:
        endpoint = self._endpoints.find(group.endpoint)
        return endpoint if endpoint is not None and endpoint.guid == group.endpoint_guid else None

    def _of_group(self, group: ZoneGroup, zone: str) -> tuple[ZoneRecords, ...]:
        """What a group puts into a zone: nothing where it does not name it, or its connection is gone."""
        endpoint = self._endpoint_of(group)
        if endpoint is None or all(each != zone for _, each in group.zones):
            return ()
        target = self._directory.by_resource_id(endpoint.target_id)
        if target is None or self._endpoints.status(endpoint) is ConnectionStatus.DISCONNECTED:
            return ()
        creator = f"created by private endpoint {endpoint.name} with resource guid {endpoint.guid}"
        return group_records(zone, target.hosts, endpoint.address, {"creator": creator})

    def _own_records(self, zone: PrivateZone, kind: RecordType, name: str) -> ZoneRecords | None:
        """A stored record set, or None; raises HubError InvalidOperation for one that a zone group makes."""
        for group in self.groups():
            if any((each.type, each.name) == (kind, name) for each in self._of_group(group, zone.name)):
                message = f"{name} of {zone.name} follows from the zone group {group.name} of {group.endpoint}"
                raise HubError(Code.INVALID_OPERATION, f"{message}; change that instead")
        return zone.set_of(kind, name)

    def _check_alias(self, zone: PrivateZone, asked: ZoneRecords) -> None:
        """Raises HubError GenericConflict when a name would have an alias and something else (RFC 1034 §3.6.2)."""
        beside = [each for each in self.records(zone) if each.name == asked.name and each.type is not asked.type]
        if any(RecordType.CNAME in (each.type, asked.type) for each in beside):
            kinds = ", ".join(each.type.value for each in beside)
            raise HubError(Code.CONFLICT, f"{asked.name} has {kinds} records: a CNAME is the only record of its name")

    async def _tell(self) -> None:
        for listener in self._listeners:
            await listener()


def _key(zone: str) -> Key:
    return Key(ZONE_KIND, NO_HUB, zone)


def _there(zone: PrivateZone | None, name: str) -> PrivateZone:
    if zone is None:
        raise HubError(Code.NOT_FOUND, f"There is no private DNS zone {name}")
    return zone


def _check_etag(what: str, present: str | None, condition: Condition) -> None:
    if not condition.holds(present):
        raise HubError(Code.PRECONDITION_FAILED, f"The {what} is not as it should be: somebody has changed or made it")


def _check_room(count: int, most: int, what: str) -> None:
    if count >= most:
        raise HubError(Code.QUOTA_EXCEEDED, f"{most} {what} are allowed")


def _busy() -> HubError:
    return HubError(Code.SERVER_BUSY, "The zones are being changed by others; try again")
