"""`network private-dns` and `network private-endpoint dns-zone-group`: names inside networks.

As in `az network private-dns`, what is printed is flat. `export` is ours.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import click

from isthmus.cli.command import Group, Words, three_state
from isthmus.cli.edits import Edits, read_pairs
from isthmus.cli.errors import CommandError
from isthmus.cli.identities import edit_options
from isthmus.cli.output import Readable
from isthmus.cli.target import NETWORK_PROVIDER, PRIVATE_DNS_API, Target
from isthmus.cli.virtual_networks import HUB_ONLY, flat

FORMATS = ("zone", "hosts", "dnsmasq", "coredns")
TTL_DEFAULT = 3_600

private_dns = Group(
    "private-dns",
    help="Private DNS zones, and what the clients of a network see of all names.",
    coming=("list",),
)
zone = Group("zone", help="Private DNS zones.", coming=("export", "import", "wait"))
link = Group("link", help="Links of private DNS zones.")
link_vnet = Group("vnet", help="Links to virtual networks, whose clients then see the zone.", coming=("wait",))
record_set = Group("record-set", help="Record sets of a zone.", coming=("mx", "ptr", "srv", "soa"))
zone_group = Group("dns-zone-group", help="Zones that have a private endpoint's names.", coming=("wait",))
private_dns.add_command(zone)
private_dns.add_command(link)
private_dns.add_command(record_set)
link.add_command(link_vnet)

_zone_name = click.option("--name", "-n", "name", required=True, help="The zone.")
_in_zone = click.option("--zone-name", "-z", "zone_name", required=True, help="The zone.")
_link_name = click.option("--name", "-n", "name", required=True, help="The link.")
_set_name = click.option("--name", "-n", "name", required=True, help="The record set, relative to the zone; @ for it.")
_tags = click.option("--tags", cls=Words, metavar="NAME=VALUE...", help="Tags.")
_metadata = click.option("--metadata", cls=Words, metavar="NAME=VALUE...", help="Notes on the record set.")
_ttl = click.option("--ttl", type=click.INT, default=TTL_DEFAULT, show_default=True, help="Seconds to live.")
_only_new = three_state("--if-none-match", "only_new", help="Only if there is none of that name yet.")
_yes = click.option("--yes", "-y", is_flag=True, help="For scripts of az; nothing is asked here.")
_endpoint = click.option("--endpoint-name", "endpoint", required=True, help="The private endpoint.")
_group_name = click.option("--name", "-n", "name", required=True, help="The zone group.")
_group_zone = click.option("--private-dns-zone", "zone_id", required=True, help="The zone, by name or id.")
_name_in_group = click.option("--zone-name", required=True, help="What the zone is called in the group.")
_policy = click.option(
    "--resolution-policy",
    type=click.Choice(("Default", "NxDomainRedirect")),
    help="NxDomainRedirect: names that the zone has not are asked of others.",
)


@private_dns.command("export", hub_flags=HUB_ONLY, remote=False)
@click.option("--vnet-name", "network", required=True, help="The virtual network whose clients are meant.")
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="zone", show_default=True, help="For which server."
)
def export(target: Target, network: str, form: str) -> Any:
    """Prints all that a network's clients see, as a file for another DNS server."""
    path = f"{target.resource_id(NETWORK_PROVIDER, 'virtualNetworks', network)}/privateNames/{form}"
    text = _call(target, "GET", path)["value"]
    return Readable(text, text)


@zone.command("create", hub_flags=HUB_ONLY, remote=False)
@_zone_name
@_only_new
@_tags
def create_zone(target: Target, name: str, only_new: bool | None, tags: Any) -> Any:
    """Creates a private DNS zone; link it to the networks whose clients shall see it."""
    body = {"location": "global", "tags": _pairs(tags, "--tags")}
    return flat(_call(target, "PUT", _zone_path(target, name), body, only_new=bool(only_new)))


@zone.command("list", hub_flags=HUB_ONLY, remote=False)
def list_zones(target: Target) -> Any:
    """Lists the private DNS zones."""
    return flat(_call(target, "GET", _zone_path(target))["value"])


@zone.command("show", hub_flags=HUB_ONLY, remote=False)
@_zone_name
def show_zone(target: Target, name: str) -> Any:
    """Shows a private DNS zone."""
    return flat(_call(target, "GET", _zone_path(target, name)))


@zone.command("update", hub_flags=HUB_ONLY, remote=False)
@_zone_name
@_tags
def update_zone(target: Target, name: str, tags: Any) -> Any:
    """Changes the tags of a private DNS zone."""
    return flat(_call(target, "PATCH", _zone_path(target, name), {"tags": _pairs(tags, "--tags")}))


@zone.command("delete", hub_flags=HUB_ONLY, remote=False)
@_zone_name
@_yes
def delete_zone(target: Target, name: str, yes: bool) -> Any:
    """Deletes a private DNS zone without links, and its record sets."""
    return _call(target, "DELETE", _zone_path(target, name))


@link_vnet.command("create", hub_flags=HUB_ONLY, remote=False)
@_in_zone
@_link_name
@click.option("--virtual-network", "-v", "network", required=True, help="The virtual network, by name or id.")
@three_state("--registration-enabled", "-e", help="Can only be false: nobody knows the machines of a network.")
@_policy
@_tags
def create_link(target: Target, zone_name: str, name: str, network: str, **given: Any) -> Any:
    """Lets the clients of a virtual network see a zone."""
    resource = network if network.startswith("/") else target.resource_id(NETWORK_PROVIDER, "virtualNetworks", network)
    properties = {
        "virtualNetwork": {"id": resource},
        "registrationEnabled": bool(given["registration_enabled"]),
        "resolutionPolicy": given["resolution_policy"] or "Default",
    }
    body = {"location": "global", "tags": _pairs(given["tags"], "--tags"), "properties": properties}
    return flat(_call(target, "PUT", _link_path(target, zone_name, name), body))


@link_vnet.command("list", hub_flags=HUB_ONLY, remote=False)
@_in_zone
def list_links(target: Target, zone_name: str) -> Any:
    """Lists the links of a zone."""
    return flat(_call(target, "GET", _link_path(target, zone_name))["value"])


@link_vnet.command("show", hub_flags=HUB_ONLY, remote=False)
@_in_zone
@_link_name
def show_link(target: Target, zone_name: str, name: str) -> Any:
    """Shows a link."""
    return flat(_call(target, "GET", _link_path(target, zone_name, name)))


@link_vnet.command("update", hub_flags=HUB_ONLY, remote=False)
@_in_zone
@_link_name
@three_state("--registration-enabled", "-e", help="Can only be false.")
@_policy
@_tags
def update_link(target: Target, zone_name: str, name: str, **given: Any) -> Any:
    """Changes a link."""
    properties: dict[str, Any] = {}
    if given["registration_enabled"] is not None:
        properties["registrationEnabled"] = given["registration_enabled"]
    if given["resolution_policy"]:
        properties["resolutionPolicy"] = given["resolution_policy"]
    body = {"properties": properties} | ({"tags": _pairs(given["tags"], "--tags")} if given["tags"] else {})
    return flat(_call(target, "PATCH", _link_path(target, zone_name, name), body))


@link_vnet.command("delete", hub_flags=HUB_ONLY, remote=False)
@_in_zone
@_link_name
@_yes
def delete_link(target: Target, zone_name: str, name: str, yes: bool) -> Any:
    """Deletes a link: the network's clients do not see the zone any more."""
    return _call(target, "DELETE", _link_path(target, zone_name, name))


@record_set.command("list", hub_flags=HUB_ONLY, remote=False)
@_in_zone
def list_sets(target: Target, zone_name: str) -> Any:
    """Lists all record sets of a zone, its SOA included."""
    return flat(_call(target, "GET", f"{_zone_path(target, zone_name)}/ALL")["value"])


@zone_group.command("create", hub_flags=HUB_ONLY, remote=False)
@_endpoint
@_group_name
@_group_zone
@_name_in_group
def create_group(target: Target, endpoint: str, name: str, zone_id: str, zone_name: str) -> Any:
    """Puts the names of a private endpoint into a zone, and keeps them in step with it."""
    return _put_group(target, endpoint, name, [_group_config(target, zone_name, zone_id)])


@zone_group.command("add", hub_flags=HUB_ONLY, remote=False)
@_endpoint
@_group_name
@_group_zone
@_name_in_group
def add_group_zone(target: Target, endpoint: str, name: str, zone_id: str, zone_name: str) -> Any:
    """Adds a zone to a zone group."""
    return _put_group(
        target, endpoint, name, [*_group_configs(target, endpoint, name), _group_config(target, zone_name, zone_id)]
    )


@zone_group.command("remove", hub_flags=HUB_ONLY, remote=False)
@_endpoint
@_group_name
@_name_in_group
def remove_group_zone(target: Target, endpoint: str, name: str, zone_name: str) -> Any:
    """Removes a zone from a zone group, by its name in it."""
    present = _group_configs(target, endpoint, name)
    kept = [each for each in present if each["name"].lower() != zone_name.lower()]
    if len(kept) == len(present):
        raise CommandError(f"The zone group {name} has no zone called {zone_name}.")
    return _put_group(target, endpoint, name, kept)


@zone_group.command("list", hub_flags=HUB_ONLY, remote=False)
@_endpoint
def list_groups(target: Target, endpoint: str) -> Any:
    """Lists the zone groups of a private endpoint: it can have one."""
    return flat(_call(target, "GET", _group_path(target, endpoint))["value"])


@zone_group.command("show", hub_flags=HUB_ONLY, remote=False)
@_endpoint
@_group_name
def show_group(target: Target, endpoint: str, name: str) -> Any:
    """Shows a zone group with the records that it makes."""
    return flat(_call(target, "GET", _group_path(target, endpoint, name)))


@zone_group.command("delete", hub_flags=HUB_ONLY, remote=False)
@_endpoint
@_group_name
def delete_group(target: Target, endpoint: str, name: str) -> Any:
    """Takes the names of a private endpoint out of the zones again."""
    return _call(target, "DELETE", _group_path(target, endpoint, name))


@dataclass(frozen=True, slots=True)
class RecordKind:
    """How `az` calls a type of record, and where ARM keeps its records; `single` for the one record of a CNAME."""

    word: str
    member: str
    flags: tuple[str, ...]
    record: Callable[[Any], dict[str, Any]]
    help: str
    single: bool = False
    words: bool = False


RECORD_KINDS = (
    RecordKind("a", "aRecords", ("--ipv4-address", "-a"), lambda value: {"ipv4Address": value}, "IPv4 address."),
    RecordKind("aaaa", "aaaaRecords", ("--ipv6-address", "-a"), lambda value: {"ipv6Address": value}, "IPv6 address."),
    RecordKind(
        "cname", "cnameRecord", ("--cname", "-c"), lambda value: {"cname": value}, "The other name.", single=True
    ),
    RecordKind(
        *("txt", "txtRecords", ("--value", "-v")),
        lambda groups: {"value": _words(groups)},
        "Text, in one or several strings.",
        words=True,
    ),
)


def _group_of(kind: RecordKind) -> Group:
    """The commands for one type of record."""
    group = Group(kind.word, help=f"{kind.word.upper()} record sets of a zone.")
    for add in (_add_whole_sets, _add_reading, _add_records):
        add(group, kind)
    return group


def _add_whole_sets(group: Group, kind: RecordKind) -> None:
    @group.command("create", hub_flags=HUB_ONLY, remote=False, help="Creates an empty record set.")
    @_in_zone
    @_set_name
    @_ttl
    @_only_new
    @_metadata
    def create(target: Target, zone_name: str, name: str, ttl: int, only_new: bool | None, metadata: Any) -> Any:
        body = {"properties": {"ttl": ttl, "metadata": _pairs(metadata, "--metadata")}}
        return flat(_call(target, "PUT", _set_path(target, zone_name, kind, name), body, only_new=bool(only_new)))

    @group.command("update", hub_flags=HUB_ONLY, remote=False, help="Changes a record set.")
    @_in_zone
    @_set_name
    @_metadata
    @edit_options
    def update(target: Target, zone_name: str, name: str, metadata: Any, **given: Any) -> Any:
        path = _set_path(target, zone_name, kind, name)
        found = flat(_call(target, "GET", path))
        if metadata:
            found["metadata"] = _pairs(metadata, "--metadata")
        Edits(given["to_set"], given["to_add"], given["to_remove"]).apply(found)
        return flat(_call(target, "PUT", path, {"properties": found}))

    @group.command("delete", hub_flags=HUB_ONLY, remote=False, help="Deletes a record set.")
    @_in_zone
    @_set_name
    @_yes
    def delete(target: Target, zone_name: str, name: str, yes: bool) -> Any:
        return _call(target, "DELETE", _set_path(target, zone_name, kind, name))


def _add_reading(group: Group, kind: RecordKind) -> None:
    @group.command("list", hub_flags=HUB_ONLY, remote=False, help="Lists the record sets of this type.")
    @_in_zone
    def listed(target: Target, zone_name: str) -> Any:
        return flat(_call(target, "GET", _set_path(target, zone_name, kind))["value"])

    @group.command("show", hub_flags=HUB_ONLY, remote=False, help="Shows a record set.")
    @_in_zone
    @_set_name
    def show(target: Target, zone_name: str, name: str) -> Any:
        return flat(_call(target, "GET", _set_path(target, zone_name, kind, name)))


def _add_records(group: Group, kind: RecordKind) -> None:
    named = click.option("--record-set-name", "-n", "name", required=True, help="The record set; it may be new.")
    value: Callable[[Any], Any] = click.option(*kind.flags, "value", required=True, help=kind.help)
    if kind.words:
        value = click.option(*kind.flags, "value", cls=Words, required=True, metavar="TEXT...", help=kind.help)
    keep = click.option("--keep-empty-record-set", "keep", is_flag=True, help="Keep it, though it has no record left.")

    @group.command(
        "set-record" if kind.single else "add-record", hub_flags=HUB_ONLY, remote=False, help="Adds a record to a set."
    )
    @_in_zone
    @named
    @value
    @_ttl
    def add(target: Target, zone_name: str, name: str, value: Any, ttl: int) -> Any:
        path = _set_path(target, zone_name, kind, name)
        properties = _found_set(target, zone_name, kind, name) or {"ttl": ttl}
        record = kind.record(value)
        properties[kind.member] = record if kind.single else [*(properties.get(kind.member) or []), record]
        return flat(_call(target, "PUT", path, {"properties": properties}))

    @group.command("remove-record", hub_flags=HUB_ONLY, remote=False, help="Removes a record, and a set without one.")
    @_in_zone
    @named
    @value
    @keep
    def remove(target: Target, zone_name: str, name: str, value: Any, keep: bool) -> Any:
        path = _set_path(target, zone_name, kind, name)
        properties = _call(target, "GET", path)["properties"]
        present = properties.get(kind.member)
        records = [present] if kind.single and present else present or []
        kept = [each for each in records if each != kind.record(value)]
        if len(kept) == len(records):
            raise CommandError(f"The record set {name} has no such record.")
        if not kept and not keep:
            return _call(target, "DELETE", path)
        properties[kind.member] = (kept or [None])[0] if kind.single else kept
        return flat(_call(target, "PUT", path, {"properties": properties}))


def _found_set(target: Target, zone_name: str, kind: RecordKind, name: str) -> dict[str, Any] | None:
    """The members of a record set that is there, or None."""
    sets = _call(target, "GET", _set_path(target, zone_name, kind))["value"]
    return next((dict(each["properties"]) for each in sets if each["name"] == name.lower()), None)


def _put_group(target: Target, endpoint: str, name: str, configs: list[dict[str, Any]]) -> Any:
    body = {"properties": {"privateDnsZoneConfigs": configs}}
    return flat(_call(target, "PUT", _group_path(target, endpoint, name), body))


def _group_config(target: Target, name: str, given: str) -> dict[str, Any]:
    resource = given if given.startswith("/") else _zone_path(target, given)
    return {"name": name, "properties": {"privateDnsZoneId": resource}}


def _group_configs(target: Target, endpoint: str, name: str) -> list[dict[str, Any]]:
    found = _call(target, "GET", _group_path(target, endpoint, name))
    return list(found["properties"]["privateDnsZoneConfigs"])


def _pairs(groups: Iterable[Iterable[str]], flag: str) -> dict[str, str]:
    return read_pairs(_words(groups), flag)


def _words(groups: Iterable[Iterable[str]]) -> list[str]:
    return [word for group in groups for word in group]


def _zone_path(target: Target, name: str = "") -> str:
    return target.resource_id(NETWORK_PROVIDER, "privateDnsZones", name)


def _link_path(target: Target, zone_name: str, name: str = "") -> str:
    path = f"{_zone_path(target, zone_name)}/virtualNetworkLinks"
    return f"{path}/{name}" if name else path


def _set_path(target: Target, zone_name: str, kind: RecordKind, name: str = "") -> str:
    path = f"{_zone_path(target, zone_name)}/{kind.word.upper()}"
    return f"{path}/{name}" if name else path


def _group_path(target: Target, endpoint: str, name: str = "") -> str:
    path = f"{target.resource_id(NETWORK_PROVIDER, 'privateEndpoints', endpoint)}/privateDnsZoneGroups"
    return f"{path}/{name}" if name else path


def _call(target: Target, method: str, path: str, body: object | None = None, *, only_new: bool = False) -> Any:
    return target.manage(method, path, body, only_new=only_new, query={"api-version": PRIVATE_DNS_API})


for each in RECORD_KINDS:
    record_set.add_command(_group_of(each))
