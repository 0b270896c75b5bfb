"""Where a hub may go: the names its outbound rules list, and what these may resolve to.

Pure. Names are judged before they are resolved, addresses afterwards; a bare address is its own name. Neighbours that
this server hosts lead to itself whatever a name service says, but must be listed like any other target.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from isthmus.base.hosts import normal_host
from isthmus.routing.sink import Destination, FailureKind, SinkFailure


class Reachable(StrEnum):
    """Which addresses a target may have."""

    ANY = "any"
    PRIVATE = "private"
    PUBLIC = "public"


@dataclass(frozen=True, slots=True)
class OutboundRules:
    """Of one hub: with `restricted` it goes to the `allowed` names only, which are in normal form."""

    restricted: bool = False
    allowed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Hosted:
    """Where a neighbour that this server hosts is listened for: an address, and a port for each that clients ask."""

    address: str
    ports: Mapping[int, int]


def check_name(rules: OutboundRules, host: str) -> None:
    """Raises `SinkFailure` OUTBOUND for a name that the hub may not go to."""
    name = normal_host(host)
    if rules.restricted and name not in rules.allowed:
        listed = ", ".join(rules.allowed) or "none"
        reason = f"the hub's outbound rules do not list {name}; allowedFqdnList has: {listed}"
        raise SinkFailure(FailureKind.OUTBOUND, reason, "OutboundNameNotAllowed")


def hosted_destination(hosted: Mapping[str, Hosted], host: str, port: int) -> Destination | None:
    """Where a hosted neighbour is; None for a name that is nobody's here."""
    place = hosted.get(normal_host(host))
    return None if place is None else Destination(place.address, place.ports.get(port, port))


def check_addresses(reachable: Reachable, host: str, found: Sequence[Destination]) -> tuple[Destination, ...]:
    """The addresses of a name that the hub may go to; raises `SinkFailure` NAME where there is one it may not."""
    for each in found:
        is_public = ipaddress.ip_address(each.address).is_global
        if reachable is not Reachable.ANY and is_public is not (reachable is Reachable.PUBLIC):
            kind = "publicly" if is_public else "privately"
            reason = f"{host} resolves {kind}, to {each.address}; [egress] addresses is {reachable.value}"
            raise SinkFailure(FailureKind.NAME, reason, f"Resolves{kind.capitalize()}")
    return tuple(found)
