"""IP rules of the public door: allow rules without an order, and what happens to everybody else."""

import ipaddress
import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from isthmus.base.errors import Code, HubError
from isthmus.base.hosts import normal_address

IP_RULES_MAX = 100
"""Rules of one resource ("IoT Hub quotas and throttling": 100, raisable)."""

NETWORKS_KEPT = 8_192
"""Parsed masks kept: all rules of all hubs of a process; beyond it the least used are parsed again."""

RULE_NAME = re.compile(r"[A-Za-z0-9\-:.+%_#*?!(),=@;']{1,128}")
"""Names of IP rules ("Use IP filters")."""

MAPPED_BITS = 96
"""Bits before the IPv4 address in one that is mapped into IPv6 (RFC 4291 §2.5.5.2)."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class DefaultAction(Enum):
    """What happens to an address that no rule names."""

    ALLOW = "Allow"
    DENY = "Deny"


@dataclass(frozen=True, slots=True)
class IpRule:
    """Allows the addresses of a mask: an address or a CIDR block, IPv4 or IPv6."""

    name: str
    mask: str

    def allows(self, address: str) -> bool:
        """True when the mask holds the address (normal form); never for text that is no address."""
        try:
            return ipaddress.ip_address(address) in network_of(self.mask)
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class NetworkRules:
    """The network rule set of a resource; `apply_to_built_in` extends it to the built-in endpoint."""

    default_action: DefaultAction = DefaultAction.DENY
    apply_to_built_in: bool = False
    ip_rules: tuple[IpRule, ...] = ()

    def matching(self, address: str) -> IpRule | None:
        """The first rule that allows the address; which one is told does not matter, any of them allows."""
        normal = normal_address(address)
        return next((rule for rule in self.ip_rules if rule.allows(normal)), None)


@lru_cache(maxsize=NETWORKS_KEPT)
def network_of(mask: str) -> Network:
    """The block of a mask, host bits ignored; raises ValueError when it is none.

    A block of IPv4 addresses that are mapped into IPv6 is the IPv4 block, as the addresses are (RFC 4291 §2.5.5.2). The
    length of a prefix is a number (RFC 4632 §3.1): `/0.0.0.255` could be meant in two ways.
    """
    _, slash, length = mask.partition("/")
    if slash and not (length.isascii() and length.isdigit()):
        raise ValueError(f"{length!r} is no length of a prefix")
    network = ipaddress.ip_network(mask, strict=False)
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= MAPPED_BITS:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.ip_network((int(mapped), network.prefixlen - MAPPED_BITS), strict=False)
    return network


def checked_ip_rule(name: str, mask: str) -> IpRule:
    """A rule with a good name and mask; raises HubError ArgumentInvalid."""
    if not RULE_NAME.fullmatch(name):
        raise HubError(Code.ARGUMENT_INVALID, f"filterName {name!r} is not 1 to 128 of the allowed characters")
    try:
        network_of(mask)
    except ValueError as error:
        raise HubError(Code.ARGUMENT_INVALID, f"ipMask {mask!r} of {name} is no address and no CIDR block") from error
    return IpRule(name, mask)


def checked_rules(rules: NetworkRules) -> NetworkRules:
    """The rule set when its names are unique (without case) and not too many; raises HubError ArgumentInvalid."""
    names = [rule.name.lower() for rule in rules.ip_rules]
    if len(names) > IP_RULES_MAX:
        raise HubError(Code.ARGUMENT_INVALID, f"{len(names)} IP rules; {IP_RULES_MAX} are allowed")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise HubError(Code.ARGUMENT_INVALID, f"filterName {twice} stands twice")
    return rules
