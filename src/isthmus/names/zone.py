"""What the clients of one network see: zones with their record sets, and an index of them that answers look into.

A name is kept in lower case without the dot of the root, labels compared without case (RFC 1034 §3.1). A record set has
one name, one type and one time to live (RFC 2181 §5). A zone is authoritative: what is not in it does not exist, unless
it is `open`, as one is that only adds names to a domain which other servers know more of.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from isthmus.base.errors import Code, HubError

NEGATIVE_TTL_SECONDS = 10
"""SOA minimum, the life of "there is none" (RFC 2308 §4): after ten seconds everybody sees a new endpoint."""

RECORD_TTL_SECONDS = 10
"""Time to live of what follows an endpoint: it may be taken away as fast as it is made."""

ZONES_MAX = 256
"""Zones of one view; more are refused where zones are declared, and when a view is decoded."""

RECORDS_MAX = 100_000
"""Record sets of one view, as `ZONES_MAX`."""

NAME_CHARACTERS_MAX = 253
LABEL_CHARACTERS_MAX = 63
"""RFC 1035 §2.3.4, as text."""

STRING_BYTES_MAX = 255
"""One string of a TXT record (RFC 1035 §3.3)."""

LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
"""Letters, digits, dashes, and underscores, which names of services begin with (RFC 8552)."""

WILDCARD = "*"


class RecordType(StrEnum):
    """Types of records that a zone can have besides its SOA."""

    A = "A"
    AAAA = "AAAA"
    CNAME = "CNAME"
    TXT = "TXT"


@dataclass(frozen=True, slots=True)
class RecordSet:
    """The records of one name and type: addresses in normal form, texts, or the one name that a CNAME leads to."""

    name: str
    type: RecordType
    values: tuple[str, ...]
    ttl_seconds: int = RECORD_TTL_SECONDS


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone with its record sets; `open` when a name that is not in it may be asked of others."""

    name: str
    records: tuple[RecordSet, ...] = ()
    open: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """All zones that the clients of a network see; no two have one name."""

    zones: tuple[Zone, ...] = ()


class Names:
    """A view, indexed: the zone of a name, and what the zone has for it.

    `answers` is for whoever answers out of it, to keep what has been made once: a view never changes.
    """

    def __init__(self, view: View) -> None:
        self.view = view
        self.answers: dict[tuple[bytes, bool, bool], bytes] = {}
        self._zones = {zone.name: zone for zone in view.zones}
        self._sets = {zone.name: _by_name(zone) for zone in view.zones}

    def zone_of(self, name: str) -> Zone | None:
        """The zone that is nearest above a name, or the name's own; None when it is in none (RFC 1034 §4.3.2)."""
        return next((self._zones[each] for each in suffixes(name) if each in self._zones), None)

    def sets_of(self, zone: Zone, name: str) -> Mapping[RecordType, RecordSet] | None:
        """The record sets of a name in its zone, empty for a name that is only above others; None: no such name.

        A name that does not exist has those of the wildcard below its closest encloser (RFC 4592 §3.3.1).
        """
        known = self._sets[zone.name]
        found = known.get(name)
        if found is not None:
            return found
        encloser = next((each for each in suffixes(name) if each in known), zone.name)
        return known.get(f"{WILDCARD}.{encloser}")


def suffixes(name: str) -> Iterator[str]:
    """A name and all names above it, the nearest first; not the root."""
    while name:
        yield name
        name = name.partition(".")[2]


def normal_name(text: str) -> str:
    """A name as it is kept."""
    return text.strip().lower().rstrip(".")


def checked_dns_name(text: str, what: str, *, wildcard: bool = False) -> str:
    """The name in its kept form; raises HubError ArgumentInvalid when DNS has none such (RFC 1035 §2.3.4)."""
    name = normal_name(text)
    labels = name.split(".")
    if wildcard and labels[0] == WILDCARD:
        del labels[0]
    if len(name) > NAME_CHARACTERS_MAX or not all(LABEL.fullmatch(label) for label in labels):
        raise HubError(Code.ARGUMENT_INVALID, f"{what} {text!r} is no DNS name")
    return name


def private_name(host: str) -> str:
    """`hub.example.com` gives `hub.privatelink.example.com`; empty for a name without a domain.

    "Azure private endpoint DNS configuration".
    """
    label, _, domain = host.partition(".")
    return f"{label}.privatelink.{domain}" if domain else ""


def host_zones(addresses: Mapping[str, Sequence[str]]) -> tuple[Zone, ...]:
    """The zones that lead hosts to private addresses: each by an alias to its private name, which has the addresses.

    The zone of the domain is open, for there may be other names in it; that of the private names is not. A host without
    a domain has its addresses itself.
    """
    zones: dict[str, Zone] = {}
    for host, found in sorted(addresses.items()):
        private, domain = private_name(host), host.partition(".")[2]
        if private:
            _add(zones, domain, (RecordSet(host, RecordType.CNAME, (private,)),), is_open=True)
        _add(zones, f"privatelink.{domain}" if domain else host, _addresses(private or host, found), is_open=not domain)
    return tuple(zones.values())


def merged(zones: Iterable[Zone]) -> View:
    """One view of many zones: of two with one name, and of two record sets for one question, the first one counts.

    A name with a CNAME has nothing else (RFC 1034 §3.6.2).
    """
    found: dict[str, Zone] = {}
    for zone in zones:
        known = found.get(zone.name)
        found[zone.name] = zone if known is None else Zone(zone.name, _joined(known, zone), open=known.open)
    return View(tuple(found[name] for name in sorted(found)))


def presented(record: RecordSet) -> tuple[str, ...]:
    """The values of a record set as a zone file has them (RFC 1035 §5.1)."""
    match record.type:
        case RecordType.CNAME:
            return tuple(f"{value}." for value in record.values)
        case RecordType.TXT:
            return tuple(_quoted(value) for value in record.values)
        case _:
            return record.values


def encode_view(view: View) -> dict[str, object]:
    """The view as JSON values."""
    encoded = msgspec.to_builtins(view)
    assert isinstance(encoded, dict)
    return encoded


def decode_view(value: object) -> View:
    """The view of JSON values; raises `msgspec.ValidationError` for what is none, or is beyond the limits."""
    view = msgspec.convert(value, View)
    if len(view.zones) > ZONES_MAX or sum(len(zone.records) for zone in view.zones) > RECORDS_MAX:
        raise msgspec.ValidationError(f"A view has {ZONES_MAX} zones and {RECORDS_MAX} record sets at most")
    return view


def _addresses(name: str, addresses: Sequence[str]) -> tuple[RecordSet, ...]:
    by_type = {
        RecordType.A: tuple(each for each in addresses if ":" not in each),
        RecordType.AAAA: tuple(each for each in addresses if ":" in each),
    }
    return tuple(RecordSet(name, kind, found) for kind, found in by_type.items() if found)


def _add(zones: dict[str, Zone], name: str, records: tuple[RecordSet, ...], *, is_open: bool) -> None:
    known = zones.get(name)
    zones[name] = Zone(name, (*(known.records if known is not None else ()), *records), open=is_open)


def _by_name(zone: Zone) -> Mapping[str, Mapping[RecordType, RecordSet]]:
    known: dict[str, dict[RecordType, RecordSet]] = {zone.name: {}}
    for record in zone.records:
        known.setdefault(record.name, {})[record.type] = record
        for above in suffixes(record.name.partition(".")[2]):
            if above in known:
                break
            known[above] = {}
    return known


def _joined(first: Zone, second: Zone) -> tuple[RecordSet, ...]:
    aliases = {record.name for record in first.records if record.type is RecordType.CNAME}
    names = {record.name for record in first.records}
    taken = {(record.name, record.type) for record in first.records}
    added = (
        record
        for record in second.records
        if record.name not in aliases
        and (record.name, record.type) not in taken
        and not (record.type is RecordType.CNAME and record.name in names)
    )
    return (*first.records, *added)


def _quoted(text: str) -> str:
    """A text as one or more quoted strings of at most 255 bytes (RFC 1035 §3.3.14)."""
    data = text.encode()
    pieces = [data[start : start + STRING_BYTES_MAX] for start in range(0, len(data), STRING_BYTES_MAX)] or [b""]
    return " ".join(f'"{"".join(map(_escaped, piece))}"' for piece in pieces)


def _escaped(byte: int) -> str:
    # By its number, because what reads a zone's text within another text (a Corefile) has escapes of its own.
    return chr(byte) if 0x20 <= byte <= 0x7E and byte not in b'"\\' else f"\\{byte:03d}"
