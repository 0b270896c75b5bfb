"""Where an event hub, queue or topic is, and what its client is given to get there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from isthmus.resources.routing_endpoint import EndpointAuthentication, RoutingEndpoint
from isthmus.routing.sink import Destination, FailureKind, SinkFailure
from isthmus.sinks.clients import WayOut, trust_by_name

AMQPS_PORT: Final = 5671
EMULATOR_PORT: Final = 5672
"""Emulators speak AMQP without TLS, and their connection strings say so."""

SEND_SECONDS_MAX: Final = 30
"""One batch, from its first byte to its outcome; a target that is slower is not there."""


@dataclass(frozen=True, slots=True)
class MessagingTarget:
    """One namespace's entity as an endpoint names it."""

    endpoint: RoutingEndpoint

    @property
    def by_key(self) -> bool:
        """True where the hub shows a key, and no token."""
        return self.endpoint.authentication is EndpointAuthentication.KEY

    @property
    def is_emulator(self) -> bool:
        """True for a connection string of a vendor's emulator, which has no TLS."""
        return self.by_key and self.endpoint.connection_part("UseDevelopmentEmulator").lower() == "true"

    @property
    def connection_string(self) -> str:
        """As clients read it: the entity is told to them apart."""
        parts = [part for part in self.endpoint.connection_string.split(";") if part.strip()]
        return ";".join(part for part in parts if part.partition("=")[0].strip().lower() != "entitypath")

    @property
    def port(self) -> int:
        """Where the target listens unless it is a hosted one that is elsewhere."""
        address = self.endpoint.connection_part("Endpoint") if self.by_key else self.endpoint.endpoint_uri
        try:
            told = urlsplit(address).port
        except ValueError:
            told = None
        return told or (EMULATOR_PORT if self.is_emulator else AMQPS_PORT)

    async def destinations(self, way: WayOut) -> Sequence[Destination]:
        """Addresses, at least one; raises `SinkFailure` NAME or OUTBOUND."""
        found = await way.resolve(self.endpoint.host, self.port)
        if not found:
            raise SinkFailure(FailureKind.NAME, f"{self.endpoint.host} has no address", "NoAddress")
        return found

    def options(self, way: WayOut, destination: Destination) -> dict[str, object]:
        """What both clients take alike: the address that was resolved, trust, and bounds."""
        address = f"[{destination.address}]" if ":" in destination.address else destination.address
        options: dict[str, object] = {
            "custom_endpoint_address": f"sb://{address}:{destination.port}",
            "retry_total": 0,
            "auth_timeout": SEND_SECONDS_MAX,
        }
        if not self.is_emulator:
            options["ssl_context"] = trust_by_name(way, self.endpoint.host)
        return options
