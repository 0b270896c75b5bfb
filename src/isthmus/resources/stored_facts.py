"""The document of all declared networks: their values, and a network's presence in the words it was asked for."""

import msgspec

from isthmus.base.errors import HubError
from isthmus.network.virtual_networks import LocalGateway, NetworkFacts, Presence, VirtualNetwork, parse_presence


class _StoredNetwork(msgspec.Struct):
    """The one member of a network that is stored in another form."""

    presence: str = Presence().text


class _StoredFacts(msgspec.Struct):
    networks: tuple[dict[str, object], ...] = ()
    gateways: tuple[LocalGateway, ...] = ()


def encode_facts(facts: NetworkFacts) -> bytes:
    """The stored form."""
    networks = tuple(msgspec.to_builtins(each) | {"presence": each.presence.text} for each in facts.networks)
    return msgspec.json.encode(_StoredFacts(networks, facts.gateways))


def decode_facts(body: bytes) -> NetworkFacts:
    """The facts of a stored form; raises `msgspec.DecodeError` on damage."""
    stored = msgspec.json.decode(body, type=_StoredFacts)
    return NetworkFacts(tuple(_network(each) for each in stored.networks), stored.gateways)


def _network(members: dict[str, object]) -> VirtualNetwork:
    text = msgspec.convert(members, _StoredNetwork).presence
    try:
        presence = parse_presence(text)
    except HubError as error:
        raise msgspec.DecodeError(error.message) from error
    return msgspec.convert(members | {"presence": msgspec.to_builtins(presence)}, VirtualNetwork)
