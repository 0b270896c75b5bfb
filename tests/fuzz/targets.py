"""All targets there are: one for each decoder, and one for each door of which much is parsed by others."""

from fuzz import (
    amqp_target,
    blob_target,
    bodies_target,
    contracts_target,
    credentials_target,
    dns_target,
    documents_target,
    http_target,
    link_target,
    log_target,
    mqtt_target,
    proxy_protocol_target,
    pumps_target,
    queries_target,
    tls_target,
    websocket_target,
)
from fuzz.target import Target, pure

TARGETS: tuple[Target, ...] = (
    pure("amqp", amqp_target.check),
    pure("dns", dns_target.check),
    pure("link", link_target.check),
    pure("log", log_target.check),
    pure("mqtt", mqtt_target.check),
    pure("proxy_protocol", proxy_protocol_target.check),
    pure("websocket", websocket_target.check),
    *credentials_target.TARGETS,
    *contracts_target.TARGETS,
    *bodies_target.TARGETS,
    *queries_target.TARGETS,
    *blob_target.TARGETS,
    *documents_target.TARGETS,
    *tls_target.TARGETS,
    *http_target.TARGETS,
    *pumps_target.TARGETS,
)


def target(name: str) -> Target:
    """The target of that name."""
    return next(each for each in TARGETS if each.name == name)
