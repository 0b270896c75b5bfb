"""Outbound rules of a hub: the names it may deliver to (Microsoft.Devices/IotHubs, `restrictOutboundNetworkAccess`)."""

from collections.abc import Sequence

from isthmus.base.hosts import is_address, normal_host
from isthmus.resources.hub import HOST_NAME
from isthmus.resources.members import bad, text

NAMES_MAX = 100
"""Ten for each endpoint that a hub may have."""


def checked_names(values: Sequence[object], path: str) -> tuple[str, ...]:
    """The names of an ARM array in normal form, each once; raises HubError ArgumentInvalid."""
    names = tuple(dict.fromkeys(_checked(each, f"{path}[{place}]") for place, each in enumerate(values)))
    if len(names) > NAMES_MAX:
        raise bad(path, f"at most {NAMES_MAX} names")
    return names


def _checked(value: object, path: str) -> str:
    name = normal_host(text(value, path))
    if not HOST_NAME.fullmatch(name) and not is_address(name):
        raise bad(path, "a host name, such as account.blob.core.windows.net, or an address")
    return name
