"""Which sink delivers to an endpoint, by its kind."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from isthmus.base.clock import Clock, SystemClock
from isthmus.base.ids import Ids, RandomIds
from isthmus.egress.messages import Settings
from isthmus.resources.routing_endpoint import EndpointKind, RoutingEndpoint
from isthmus.routing.sink import Egress, HubName, Sink, SinkFactory
from isthmus.sinks.clients import WayOut
from isthmus.sinks.storage import StorageSink

Make = Callable[[HubName, RoutingEndpoint, WayOut, Clock, Ids], Sink]

MAKES: Mapping[EndpointKind, Make] = MappingProxyType({EndpointKind.STORAGE: StorageSink})


def sink_factory(settings: Settings) -> SinkFactory:
    """The factory of all kinds."""
    clock, ids = SystemClock(), RandomIds()

    def make(hub: HubName, endpoint: RoutingEndpoint, egress: Egress) -> Sink:
        return MAKES[endpoint.kind](hub, endpoint, WayOut(hub.number, egress), clock, ids)

    return make
