"""What a network's clients see, as files for other DNS servers: zone file, hosts lines, dnsmasq, CoreDNS.

A zone file (RFC 1035 §5) has a zone with those below it; where there are several such zones, one follows the other,
each from its `$ORIGIN`. Hosts lines (hosts(5)) have the addresses that a name leads to in the end, for they know no
aliases; texts and wildcards, which they do not know either, are left out. The dnsmasq lines (dnsmasq(8)) answer for the
names, and have no question about them sent to others. The CoreDNS server blocks use the plug-ins `template`, which
needs no file beside it, and `forward` for a zone that is open.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum

import dns.rcode

from isthmus.names.answer import ALIASES_MAX, SERVER_TEXT, SOA_TEXT
from isthmus.names.zone import (
    NEGATIVE_TTL_SECONDS,
    STRING_BYTES_MAX,
    WILDCARD,
    Names,
    RecordSet,
    RecordType,
    View,
    Zone,
    presented,
    suffixes,
)

BELOW = f"{WILDCARD}."
ADDRESSES = (RecordType.A, RecordType.AAAA)


class Format(StrEnum):
    """Formats of an export, as the command line names them."""

    ZONE = "zone"
    HOSTS = "hosts"
    DNSMASQ = "dnsmasq"
    COREDNS = "coredns"


def exported(view: View, wanted: Format) -> str:
    """The view in a format; every line is ended."""
    lines = list(_WRITERS[wanted](view))
    return "".join(f"{line}\n" for line in lines)


def _zone_file(view: View) -> Iterator[str]:
    names = {zone.name for zone in view.zones}
    for zone in view.zones:
        if any(above in names for above in suffixes(zone.name.partition(".")[2])):
            continue
        inside = [each for each in view.zones if zone.name in suffixes(each.name)]
        yield f"$ORIGIN {zone.name}."
        yield f"$TTL {NEGATIVE_TTL_SECONDS}"
        yield f"@ IN SOA {SOA_TEXT}"
        yield f"@ IN NS {SERVER_TEXT}"
        for record in (record for each in inside for record in each.records):
            for value in presented(record):
                yield f"{record.name}. {record.ttl_seconds} IN {record.type.value} {value}"


def _hosts(view: View) -> Iterator[str]:
    names = Names(view)
    by_address: dict[str, list[str]] = {}
    for name in _plain_names(view):
        for kind in ADDRESSES:
            for record in _followed(names, name, kind)[-1:]:
                for address in record.values if record.type is kind else ():
                    by_address.setdefault(address, []).append(name)
    for address, found in by_address.items():
        yield f"{address} {' '.join(found)}"


def _dnsmasq(view: View) -> Iterator[str]:
    names = Names(view)
    for zone in view.zones:
        yield f"# {zone.name}"
        # What is local is never asked of others: a whole zone, or in an open one each of its names.
        for name in sorted({record.name for record in zone.records}) if zone.open else [zone.name]:
            yield f"local=/{name.removeprefix(BELOW)}/"
        for record in zone.records:
            yield from _DNSMASQ[record.type](names, record)


def _dnsmasq_addresses(_names: Names, record: RecordSet) -> Iterator[str]:
    for address in record.values:
        if record.name.startswith(BELOW):
            yield f"address=/{record.name.removeprefix(BELOW)}/{address}"
        else:
            yield f"host-record={record.name},{address},{record.ttl_seconds}"


def _dnsmasq_alias(names: Names, record: RecordSet) -> Iterator[str]:
    target = record.values[0]
    if names.zone_of(target) is None:
        yield f"# {record.name} is an alias of {target}, which dnsmasq would have to know itself"
    else:
        yield f"cname={record.name},{target},{record.ttl_seconds}"


def _dnsmasq_texts(_names: Names, record: RecordSet) -> Iterator[str]:
    for value in record.values:
        pieces = [value[start : start + STRING_BYTES_MAX] for start in range(0, max(len(value), 1), STRING_BYTES_MAX)]
        quoted = ['"' + piece.replace("\\", "\\\\").replace('"', '\\"') + '"' for piece in pieces]
        yield f"txt-record={record.name},{','.join(quoted)}"


def _coredns(view: View) -> Iterator[str]:
    names = Names(view)
    for zone in view.zones:
        yield f"{zone.name}:53 {{"
        yield "    errors"
        owners = {record.name for record in zone.records}
        for owner in sorted(owners, key=lambda each: (each.startswith(WILDCARD), each)):
            yield from _coredns_name(names, zone, owner)
        if zone.open:
            yield "    forward . /etc/resolv.conf"
        else:
            yield from _template("ANY", (), (f"rcode {dns.rcode.NXDOMAIN.name}", _soa(zone)))
        yield "}"


def _coredns_name(names: Names, zone: Zone, owner: str) -> Iterator[str]:
    """Templates that answer for a name: one for each type, and a last one for all others."""
    name = owner.replace(WILDCARD, "any", 1)
    match = "match " + _corefile_text(f"^{owner.replace('.', '[.]').replace(WILDCARD, '.+', 1)}[.]$")
    sets = {record.type: record for record in zone.records if record.name == owner}
    alias = sets.get(RecordType.CNAME)
    for kind in ADDRESSES if alias is not None else sets:
        chain = _followed(names, name, kind)
        if chain and chain[-1].type is kind:
            yield from _template(kind.value, (match,), _answers(chain, name, owner), fallthrough=True)
    aliases = [record for record in _followed(names, name, ADDRESSES[0]) if record.type is RecordType.CNAME]
    rest = _answers(aliases, name, owner) or (f"rcode {dns.rcode.NOERROR.name}", _soa(zone))
    yield from _template("ANY", (match,), rest, fallthrough=True)


def _answers(records: Sequence[RecordSet], name: str, owner: str) -> tuple[str, ...]:
    """Lines of a template that give records; a wildcard's have the name that was asked for."""
    return tuple(
        "answer " + _corefile_text(f"{_owner_text(record.name, name, owner)} {line}")
        for record in records
        for line in (f"{record.ttl_seconds} IN {record.type.value} {value}" for value in presented(record))
    )


def _owner_text(record: str, name: str, owner: str) -> str:
    return "{{ .Name }}" if record == name and owner.startswith(WILDCARD) else f"{record}."


def _soa(zone: Zone) -> str:
    return "authority " + _corefile_text(f"{zone.name}. {NEGATIVE_TTL_SECONDS} IN SOA {SOA_TEXT}")


def _template(kind: str, matches: Sequence[str], lines: Sequence[str], *, fallthrough: bool = False) -> Iterator[str]:
    yield f"    template IN {kind} {{"
    for line in (*matches, *lines, *(("fallthrough",) if fallthrough else ())):
        yield f"        {line}"
    yield "    }"


def _corefile_text(text: str) -> str:
    """A token of a Corefile in quotes, in which a quote alone is escaped."""
    return '"' + text.replace('"', '\\"') + '"'


def _followed(names: Names, name: str, kind: RecordType) -> list[RecordSet]:
    """The aliases that a name leads through, and in the end its records of a type, where there are any."""
    found: list[RecordSet] = []
    while len(found) < ALIASES_MAX:
        zone = names.zone_of(name)
        sets = (names.sets_of(zone, name) if zone is not None else None) or {}
        record = sets.get(kind) or sets.get(RecordType.CNAME)
        if record is None:
            break
        found.append(replace(record, name=name))
        if record.type is kind:
            break
        name = record.values[0]
    return found


def _plain_names(view: View) -> list[str]:
    """All names that have records of their own, wildcards left out, in the order of the zones."""
    found = (record.name for zone in view.zones for record in zone.records)
    return [name for name in dict.fromkeys(found) if not name.startswith(WILDCARD)]


_DNSMASQ: Mapping[RecordType, Callable[[Names, RecordSet], Iterator[str]]] = {
    RecordType.A: _dnsmasq_addresses,
    RecordType.AAAA: _dnsmasq_addresses,
    RecordType.CNAME: _dnsmasq_alias,
    RecordType.TXT: _dnsmasq_texts,
}
_WRITERS: Mapping[Format, Callable[[View], Iterator[str]]] = {
    Format.ZONE: _zone_file,
    Format.HOSTS: _hosts,
    Format.DNSMASQ: _dnsmasq,
    Format.COREDNS: _coredns,
}
