"""What the owner reads about connections of the link door that went no further; pure."""

from isthmus.base.errors import Hop, Refusal
from isthmus.resources.connector import Connector
from isthmus.servers.gateway.connection import Failure
from isthmus.servers.gateway.link_layer import HEADER_TOO_EARLY
from isthmus.wire.proxy_protocol import ProxyHeader

_FORGED = "whoever holds the connector's key says what is not so: find out who, and isthmus connector revoke -n {name}"

_HANDSHAKE_REMEDIES = {
    "unsupported protocol": "Let it use TLS 1.3.",
    "peer did not return a certificate": (
        "Only connectors dial this port: enrol it (isthmus connector enrol); devices connect to a private endpoint."
    ),
    HEADER_TOO_EARLY: "Let HAProxy send its header inside TLS, by two sections: docs/how-to/connect-a-plant.md.",
    "wrong version number": "Only connectors dial this port, and they use TLS 1.3.",
    "http request": "Only connectors dial this port, and they use TLS 1.3.",
    "unknown protocol": "Only connectors dial this port, and they use TLS 1.3.",
}


def address_refused(address: str) -> Refusal:
    """The link door's own address rules do not let a socket in."""
    return Refusal(
        Hop.NETWORK,
        "link.address",
        f"{address} is in none of the ranges of link.allow",
        "add the range that the connector dials from to link.allow in the configuration, and start again",
    )


def handshake_refused(failure: Failure, detail: str) -> Refusal:
    """The connector's handshake failed; `detail` is the TLS library's reason in lower-case words."""
    if failure is not Failure.TLS:
        return Refusal(Hop.TLS, "tls.time", "the handshake did not end in time", "Look for packet loss on the way.")
    if detail.startswith("certificate verify failed"):
        remedy = (
            "Enrol the connector anew (isthmus connector enrol): a certificate of this hub's connector CA is needed."
        )
        return Refusal(Hop.TLS, "link.certificate", detail, remedy)
    remedy = _HANDSHAKE_REMEDIES.get(detail, "Let a connector that is enrolled here dial this port, with TLS 1.3.")
    rule = "link.certificate" if detail == "peer did not return a certificate" else "link.handshake"
    return Refusal(Hop.TLS, rule, detail, remedy)


def not_a_connector() -> Refusal:
    """The connector CA signed a certificate that names no connector."""
    value = "the certificate names no connector"
    return Refusal(Hop.TLS, "link.certificate", value, "Enrol the connector anew: isthmus connector enrol.")


def header_refused(connector: Connector, what: str) -> Refusal:
    """What should be a PROXY header is none."""
    remedy = (
        "let whatever dials for the connector send PROXY protocol version 2 first: `isthmus connector run` does, "
        "HAProxy with `send-proxy-v2`"
    )
    return Refusal(Hop.CONTRACT, "link.header", f"{connector.name}: {what}", remedy)


def link_refused(connector: Connector, header: ProxyHeader) -> Refusal:
    """The header's link is not the certificate's."""
    value = f"{connector.name} is link {connector.link_id}, and a header of its says link {header.link_id}"
    return Refusal(Hop.AUTHENTICATION, "link.id", value, _FORGED.format(name=connector.name))


def destination_refused(connector: Connector, header: ProxyHeader) -> Refusal:
    """Nothing of the connector's is at the header's destination."""
    there = f"{header.destination_address}:{header.destination_port}"
    return Refusal(
        Hop.NAME,
        "link.destination",
        f"there is no private endpoint at {there} in {connector.network}, where {connector.name} is",
        f"connect to a private endpoint of {connector.network}, on a port of the hub "
        "(isthmus network private-endpoint list)",
    )


def network_refused(connector: Connector, header: ProxyHeader, network: str) -> Refusal:
    """The endpoint at the header's destination is in a network that the connector is not bound to."""
    value = f"{header.destination_address} is in {network or 'no network'}; {connector.name} is in {connector.network}"
    return Refusal(Hop.NETWORK, "link.network", value, _FORGED.format(name=connector.name))


def spoken_wrongly(what: str) -> Refusal:
    """A connector broke a rule of the link protocol."""
    remedy = "let connector and hub be of one version: isthmus --version on both"
    return Refusal(Hop.CONTRACT, "link.protocol", what, remedy)


def too_many(connector: Connector, most: int) -> Refusal:
    """A connector has as many control connections as it may."""
    value = f"{connector.name} has {most} control connections already"
    return Refusal(Hop.LIMIT, "link.connections", value, "run fewer processes of it, or enrol some under another name")
