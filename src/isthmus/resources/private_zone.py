"""Private DNS zones as they are declared: record sets, links to virtual networks, and the groups of private endpoints.

A zone is for the clients of the networks that are linked to it; peering carries no names. What a zone group says of a
private endpoint is not stored as records: they follow from the group, the endpoint and its hub, and so cannot differ
from them ("What is an Azure Private DNS zone", "What is a private endpoint?", DNS configuration).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import msgspec

from isthmus.base.errors import Code, HubError
from isthmus.base.etags import twin_etag
from isthmus.names.zone import RECORD_TTL_SECONDS, RecordSet, RecordType, Zone
from isthmus.resources.hub import GROUP_PATH

ZONE_TYPE = "Microsoft.Network/privateDnsZones"

PRIVATE_ZONES_MAX = 64
"""Declared zones of an installation."""

RECORD_SETS_MAX = 1_000
"""Record sets of a zone; it is one document, which a change writes as a whole."""

RECORDS_MAX = 20
"""Records of a set ("Azure DNS limits")."""

LINKS_MAX = 64
"""Links of a zone: each network has one at most."""

ZONES_OF_GROUP_MAX = 5
"""Zones of a group of a private endpoint ("Azure Private Link limits")."""

APEX = "@"
"""Stands for the zone's own name in the names of record sets."""


@dataclass(frozen=True, slots=True)
class ZoneRecords:
    """A record set of a zone; `name` is relative to the zone, `@` for its own."""

    name: str
    type: RecordType
    values: tuple[str, ...]
    ttl_seconds: int = RECORD_TTL_SECONDS
    metadata: dict[str, str] = field(default_factory=dict)
    version: int = 1

    @property
    def etag(self) -> str:
        return twin_etag(self.version)


@dataclass(frozen=True, slots=True)
class ZoneLink:
    """Says that a virtual network sees the zone; with `redirect` it asks others for names that the zone has not."""

    name: str
    network: str
    redirect: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    version: int = 1

    @property
    def etag(self) -> str:
        return twin_etag(self.version)


@dataclass(frozen=True, slots=True)
class PrivateZone:
    """A declared zone with all that is in it; `version` rises with each change of any of it."""

    name: str
    records: tuple[ZoneRecords, ...] = ()
    links: tuple[ZoneLink, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)
    guid: str = ""
    version: int = 1

    @property
    def resource_id(self) -> str:
        """The ARM id."""
        return zone_id(self.name)

    @property
    def etag(self) -> str:
        return twin_etag(self.version)

    def link(self, name: str) -> ZoneLink | None:
        """The link of that name, compared without case, or None."""
        return next((each for each in self.links if each.name.lower() == name.lower()), None)

    def link_to(self, network: str) -> ZoneLink | None:
        """The link to a network, or None."""
        return next((each for each in self.links if each.network.lower() == network.lower()), None)

    def require_link(self, name: str) -> ZoneLink:
        """As `link`; raises HubError GenericNotFound."""
        link = self.link(name)
        if link is None:
            raise HubError(Code.NOT_FOUND, f"The private DNS zone {self.name} has no virtual network link {name}")
        return link

    def set_of(self, kind: RecordType, name: str) -> ZoneRecords | None:
        """The record set of a type and relative name, or None."""
        return next((each for each in self.records if each.type is kind and each.name == name), None)

    def full_name(self, name: str) -> str:
        """The full name of a relative one."""
        return self.name if name == APEX else f"{name}.{self.name}"

    def with_records(self, records: ZoneRecords) -> "PrivateZone":
        """With a record set instead of the one there was."""
        others = (each for each in self.records if (each.name, each.type) != (records.name, records.type))
        return replace(self, records=tuple(sorted((*others, records), key=lambda each: (each.name, each.type))))

    def without_records(self, kind: RecordType, name: str) -> "PrivateZone":
        """Without a record set."""
        return replace(self, records=tuple(each for each in self.records if (each.type, each.name) != (kind, name)))

    def with_link(self, link: ZoneLink) -> "PrivateZone":
        """With a link instead of the one there was."""
        others = (each for each in self.links if each.name.lower() != link.name.lower())
        return replace(self, links=tuple(sorted((*others, link), key=lambda each: each.name.lower())))

    def without_link(self, name: str) -> "PrivateZone":
        """Without a link."""
        return replace(self, links=tuple(each for each in self.links if each.name.lower() != name.lower()))


@dataclass(frozen=True, slots=True)
class ZoneGroup:
    """Puts the names of a private endpoint into zones: each has a name of its own in the group.

    `endpoint_guid` tells the endpoint from a later one of the same name.
    """

    name: str
    endpoint: str
    endpoint_guid: str
    zones: tuple[tuple[str, str], ...]
    version: int = 1

    @property
    def etag(self) -> str:
        return twin_etag(self.version)


def zone_id(name: str) -> str:
    """The ARM id of the private DNS zone of that name."""
    return f"{GROUP_PATH}/providers/{ZONE_TYPE}/{name}"


def encode_zone(zone: PrivateZone) -> bytes:
    """The stored form."""
    return msgspec.json.encode(zone, order="deterministic")


def decode_zone(body: bytes) -> PrivateZone:
    """The zone of a stored form; raises `msgspec.DecodeError` on damage."""
    return msgspec.json.decode(body, type=PrivateZone)


def group_records(zone: str, hosts: Iterable[str], address: str, metadata: dict[str, str]) -> tuple[ZoneRecords, ...]:
    """What a zone group puts into one zone for an endpoint: an address for each host whose zone it is.

    A host `hub.example.com` has the zones `privatelink.example.com` and `example.com`.
    """
    kind = RecordType.AAAA if ":" in address else RecordType.A
    labels = [label for label, _, domain in (host.partition(".") for host in hosts) if zone in _zones_of(domain)]
    return tuple(ZoneRecords(label, kind, (address,), metadata=metadata) for label in labels)


def joined(stored: Iterable[ZoneRecords], derived: Iterable[ZoneRecords]) -> tuple[ZoneRecords, ...]:
    """All record sets of a zone in their order: what follows from zone groups comes before what was stored there."""
    found: dict[tuple[str, RecordType], ZoneRecords] = {}
    for each in derived:
        known = found.get((each.name, each.type))
        values = tuple(sorted({*(known.values if known is not None else ()), *each.values}))
        found[each.name, each.type] = replace(each, values=values)
    for each in stored:
        found.setdefault((each.name, each.type), each)
    return tuple(sorted(found.values(), key=lambda each: (each.name, each.type)))


def served_zone(zone: PrivateZone, records: Iterable[ZoneRecords], link: ZoneLink) -> Zone:
    """The zone as a linked network's clients see it; a record set without a record is not seen."""
    sets = tuple(
        RecordSet(zone.full_name(each.name), each.type, each.values, each.ttl_seconds)
        for each in records
        if each.values
    )
    return Zone(zone.name, sets, open=link.redirect)


def _zones_of(domain: str) -> tuple[str, ...]:
    return (f"privatelink.{domain}", domain) if domain else ()
