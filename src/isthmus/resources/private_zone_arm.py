"""Private DNS zones, their links and record sets, and zone groups in ARM's form, read and written.

Shapes: Microsoft.Network/privateDnsZones 2024-06-01 and privateEndpoints/privateDnsZoneGroups. A member that would
promise something that is not there is refused.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from isthmus.base.errors import Code, HubError
from isthmus.base.hosts import is_address
from isthmus.names.zone import (
    NEGATIVE_TTL_SECONDS,
    RecordType,
    checked_dns_name,
    normal_name,
)
from isthmus.network.virtual_networks import checked_name
from isthmus.resources.members import Json, bad, boolean, choice, integer, items, mapping, text
from isthmus.resources.private_endpoint import endpoint_resource_id
from isthmus.resources.private_zone import (
    APEX,
    LINKS_MAX,
    RECORD_SETS_MAX,
    RECORDS_MAX,
    ZONE_TYPE,
    ZONES_OF_GROUP_MAX,
    PrivateZone,
    ZoneGroup,
    ZoneLink,
    ZoneRecords,
    zone_id,
)
from isthmus.resources.virtual_network_arm import network_id

LOCATION = "global"
TTL_SECONDS_DEFAULT = 3_600
TTL_SECONDS_MAX = 2_147_483_647
TEXT_CHARACTERS_MAX = 1_024
"""The text of a TXT record ("Azure DNS limits")."""

STRING_CHARACTERS_MAX = 255
NETWORK_ID = re.compile(r"/.*/virtualNetworks/(?P<network>[^/]+)", re.IGNORECASE)
ZONE_ID = re.compile(rf"/.*/{ZONE_TYPE}/(?P<zone>[^/]+)", re.IGNORECASE)
REDIRECT = "NxDomainRedirect"
KEPT = "Default"
SUCCEEDED = "Succeeded"


def zone_to_arm(zone: PrivateZone, sets: int) -> dict[str, object]:
    """The zone; `sets` are its record sets without the SOA."""
    return {
        "id": zone.resource_id,
        "name": zone.name,
        "type": ZONE_TYPE,
        "location": LOCATION,
        "tags": dict(zone.tags),
        "etag": zone.etag,
        "properties": {
            "internalId": zone.guid,
            "maxNumberOfRecordSets": RECORD_SETS_MAX,
            "maxNumberOfVirtualNetworkLinks": LINKS_MAX,
            "maxNumberOfVirtualNetworkLinksWithRegistration": 0,
            "numberOfRecordSets": sets + 1,
            "numberOfVirtualNetworkLinks": len(zone.links),
            "numberOfVirtualNetworkLinksWithRegistration": 0,
            "provisioningState": SUCCEEDED,
        },
    }


def link_to_arm(zone: PrivateZone, link: ZoneLink) -> dict[str, object]:
    """A virtual network link."""
    return {
        "id": f"{zone.resource_id}/virtualNetworkLinks/{link.name}",
        "name": link.name,
        "type": f"{ZONE_TYPE}/virtualNetworkLinks",
        "location": LOCATION,
        "tags": dict(link.tags),
        "etag": link.etag,
        "properties": {
            "provisioningState": SUCCEEDED,
            "registrationEnabled": False,
            "resolutionPolicy": REDIRECT if link.redirect else KEPT,
            "virtualNetwork": {"id": network_id(link.network)},
            "virtualNetworkLinkState": "Completed",
        },
    }


def records_to_arm(zone: PrivateZone, records: ZoneRecords) -> dict[str, object]:
    """A record set."""
    member, write = _WRITERS[records.type]
    return _set_to_arm(
        zone,
        records.name,
        records.type.value,
        records.etag,
        {"metadata": dict(records.metadata), "ttl": records.ttl_seconds, member: write(records.values)},
    )


def soa_to_arm(zone: PrivateZone) -> dict[str, object]:
    """The record set that every zone has, and that nobody changes."""
    record = {
        "email": "nobody.invalid.",
        "expireTime": 604_800,
        "host": "localhost.",
        "minimumTtl": NEGATIVE_TTL_SECONDS,
        "refreshTime": 3_600,
        "retryTime": 1_200,
        "serialNumber": 1,
    }
    return _set_to_arm(zone, APEX, "SOA", zone.etag, {"ttl": NEGATIVE_TTL_SECONDS, "soaRecord": record})


def group_to_arm(group: ZoneGroup, records: Mapping[str, tuple[ZoneRecords, ...]]) -> dict[str, object]:
    """A zone group; `records` are what it puts into each zone, by the zone's name."""
    path = f"{endpoint_resource_id(group.endpoint)}/privateDnsZoneGroups/{group.name}"
    configurations = [
        {
            "id": f"{path}/privateDnsZoneConfigs/{name}",
            "name": name,
            "properties": {
                "privateDnsZoneId": zone_id(zone),
                "recordSets": [_group_record(zone, each) for each in records.get(zone, ())],
            },
        }
        for name, zone in group.zones
    ]
    return {
        "id": path,
        "name": group.name,
        "type": "Microsoft.Network/privateEndpoints/privateDnsZoneGroups",
        "etag": group.etag,
        "properties": {"privateDnsZoneConfigs": configurations, "provisioningState": SUCCEEDED},
    }


def parse_zone(name: str, body: Json, present: PrivateZone | None) -> PrivateZone:
    """The zone that a whole body asks for; what is in it stays. Raises HubError ArgumentInvalid."""
    location = text(body.get("location") or LOCATION, "location")
    if location.lower() != LOCATION:
        raise bad("location", LOCATION)
    if "." not in normal_name(name):
        raise bad("name", "a domain name of two labels at least")
    zone = present or PrivateZone(checked_dns_name(name, "The zone"))
    return replace(zone, tags=_texts(body, "tags"))


def parse_link(name: str, body: Json) -> ZoneLink:
    """The link that a whole body asks for; raises HubError ArgumentInvalid, NotImplemented for registration."""
    properties = mapping(body.get("properties"), "properties")
    network = mapping(properties.get("virtualNetwork"), "properties.virtualNetwork")
    found = NETWORK_ID.fullmatch(text(network.get("id"), "properties.virtualNetwork.id"))
    if found is None:
        raise bad("properties.virtualNetwork.id", "the id of a virtual network")
    if boolean(properties.get("registrationEnabled") or False, "properties.registrationEnabled"):
        message = "properties.registrationEnabled can only be false: nobody knows the machines of a network"
        raise HubError(Code.NOT_IMPLEMENTED, message)
    policy = choice(properties.get("resolutionPolicy") or KEPT, "properties.resolutionPolicy", (KEPT, REDIRECT))
    return ZoneLink(
        checked_name(name, "A link's name"), found["network"], redirect=policy == REDIRECT, tags=_texts(body, "tags")
    )


def parse_records(kind: RecordType, name: str, body: Json) -> ZoneRecords:
    """The record set that a whole body asks for; it may be empty. Raises HubError ArgumentInvalid."""
    properties = mapping(body.get("properties"), "properties")
    member, read = _READERS[kind]
    values = read(properties.get(member), f"properties.{member}")
    if len(values) > RECORDS_MAX:
        raise bad(f"properties.{member}", f"{RECORDS_MAX} records at most")
    relative = checked_relative_name(name)
    if kind is RecordType.CNAME and relative == APEX:
        raise bad("name", "below the zone's own, which has other records and so cannot be an alias")
    ttl = properties.get("ttl")
    return ZoneRecords(
        relative,
        kind,
        tuple(dict.fromkeys(values)),
        ttl_seconds=TTL_SECONDS_DEFAULT
        if ttl is None
        else integer(ttl, "properties.ttl", least=0, most=TTL_SECONDS_MAX),
        metadata=_texts(properties, "metadata"),
    )


def parse_group(name: str, body: Json) -> tuple[tuple[str, str], ...]:
    """The zones of the zone group that a body asks for, each with its name in the group."""
    checked_name(name, "A zone group's name")
    properties = mapping(body.get("properties"), "properties")
    path = "properties.privateDnsZoneConfigs"
    given = items(properties.get("privateDnsZoneConfigs"), path)
    if not 1 <= len(given) <= ZONES_OF_GROUP_MAX:
        raise bad(path, f"1 to {ZONES_OF_GROUP_MAX} zones")
    zones = tuple(_configuration(mapping(each, f"{path}[]"), f"{path}[]") for each in given)
    for part in zip(*zones, strict=True):
        if len({each.lower() for each in part}) < len(part):
            raise bad(path, "zones and names of which no two are the same")
    return zones


def checked_relative_name(name: str) -> str:
    """The relative name of a record set in its kept form; raises HubError ArgumentInvalid."""
    return APEX if name == APEX else checked_dns_name(name, "The record set", wildcard=True)


def _configuration(configuration: Json, path: str) -> tuple[str, str]:
    properties = mapping(configuration.get("properties"), f"{path}.properties")
    found = ZONE_ID.fullmatch(text(properties.get("privateDnsZoneId"), f"{path}.properties.privateDnsZoneId"))
    if found is None:
        raise bad(f"{path}.properties.privateDnsZoneId", "the id of a private DNS zone")
    return text(configuration.get("name"), f"{path}.name"), normal_name(found["zone"])


def _group_record(zone: str, records: ZoneRecords) -> dict[str, object]:
    return {
        "fqdn": f"{records.name}.{zone}",
        "ipAddresses": list(records.values),
        "provisioningState": SUCCEEDED,
        "recordSetName": records.name,
        "recordType": records.type.value,
        "ttl": records.ttl_seconds,
    }


def _set_to_arm(zone: PrivateZone, name: str, kind: str, etag: str, properties: Json) -> dict[str, object]:
    return {
        "id": f"{zone.resource_id}/{kind}/{name}",
        "name": name,
        "type": f"{ZONE_TYPE}/{kind}",
        "etag": etag,
        "properties": {"fqdn": f"{zone.full_name(name)}.", "isAutoRegistered": False, **properties},
    }


def _texts(members: Json, name: str) -> dict[str, str]:
    return {key: text(value, f"{name}.{key}") for key, value in mapping(members.get(name) or {}, name).items()}


def _addresses(member: str, version: int) -> Callable[[object, str], tuple[str, ...]]:
    def read(value: object, path: str) -> tuple[str, ...]:
        found = []
        for each in items(value, path):
            address = text(mapping(each, f"{path}[]").get(member), f"{path}[].{member}")
            if not is_address(address) or (":" in address) is not (version == 6) or "%" in address:
                raise bad(f"{path}[].{member}", f"an IPv{version} address")
            found.append(str(ipaddress.ip_address(address)))
        return tuple(found)

    return read


def _alias(value: object, path: str) -> tuple[str, ...]:
    if value is None:
        return ()
    name = text(mapping(value, path).get("cname"), f"{path}.cname")
    return (checked_dns_name(name, f"{path}.cname"),)


def _read_texts(value: object, path: str) -> tuple[str, ...]:
    found = []
    for each in items(value, path):
        strings = items(mapping(each, f"{path}[]").get("value"), f"{path}[].value")
        whole = "".join(text(string, f"{path}[].value[]") for string in strings)
        if not whole.isascii() or len(whole) > TEXT_CHARACTERS_MAX:
            raise bad(f"{path}[].value", f"ASCII text of at most {TEXT_CHARACTERS_MAX} characters")
        found.append(whole)
    return tuple(found)


def _text_to_arm(value: str) -> dict[str, object]:
    starts = range(0, max(len(value), 1), STRING_CHARACTERS_MAX)
    return {"value": [value[start : start + STRING_CHARACTERS_MAX] for start in starts]}


_READERS: Mapping[RecordType, tuple[str, Callable[[object, str], tuple[str, ...]]]] = {
    RecordType.A: ("aRecords", _addresses("ipv4Address", 4)),
    RecordType.AAAA: ("aaaaRecords", _addresses("ipv6Address", 6)),
    RecordType.CNAME: ("cnameRecord", _alias),
    RecordType.TXT: ("txtRecords", _read_texts),
}
_WRITERS: Mapping[RecordType, tuple[str, Callable[[tuple[str, ...]], object]]] = {
    RecordType.A: ("aRecords", lambda values: [{"ipv4Address": each} for each in values]),
    RecordType.AAAA: ("aaaaRecords", lambda values: [{"ipv6Address": each} for each in values]),
    RecordType.CNAME: ("cnameRecord", lambda values: {"cname": values[0]} if values else None),
    RecordType.TXT: ("txtRecords", lambda values: [_text_to_arm(each) for each in values]),
}
