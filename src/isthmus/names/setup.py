"""What a name service in another network is told: where to listen, what to answer, whom to ask for the rest."""

from dataclasses import dataclass, replace

import msgspec

from isthmus.names.forward import DNS_PORT
from isthmus.names.zone import View, decode_view, encode_view


@dataclass(frozen=True, slots=True)
class NamesSetup:
    """The name service of one network: the same view at each of its addresses.

    `forward` are servers that are asked for names outside the view, each an address with a port or without; with none,
    these names are refused.
    """

    view: View
    listeners: tuple[str, ...] = ()
    forward: tuple[str, ...] = ()
    port: int = DNS_PORT


def encode_names_setup(setup: NamesSetup) -> dict[str, object]:
    """As JSON values: `listeners`, `port`, `forward`, and `zones`, which are the view's."""
    own = {"listeners": list(setup.listeners), "port": setup.port, "forward": list(setup.forward)}
    return own | encode_view(setup.view)


def decode_names_setup(value: dict[str, object]) -> NamesSetup:
    """What was encoded; an empty object is a service without an address. Raises `msgspec.ValidationError`."""
    own = {name: value[name] for name in ("listeners", "port", "forward") if name in value}
    decoded = msgspec.convert(own | {"view": {}}, NamesSetup)
    return replace(decoded, view=decode_view({"zones": value.get("zones", [])}))
