"""Makes the sink of an endpoint, by its kind."""

from isthmus.base.clock import Clock
from isthmus.base.ids import Ids
from isthmus.resources.routing_endpoint import EndpointKind, RoutingEndpoint
from isthmus.routing.sink import Egress, HubName, Sink, SinkFactory
from isthmus.sinks.clients import CredentialFactory, HubCredential, WayOut
from isthmus.sinks.event_hubs import EventHubSink
from isthmus.sinks.service_bus import ServiceBusSink
from isthmus.sinks.storage import StorageSink


def sink_factory(clock: Clock, ids: Ids, credentials: CredentialFactory = HubCredential) -> SinkFactory:
    """What makes sinks; `credentials` says whose tokens they show."""

    def make(hub: HubName, endpoint: RoutingEndpoint, egress: Egress) -> Sink:
        way = WayOut(hub.number, egress, credentials)
        match endpoint.kind:
            case EndpointKind.STORAGE:
                return StorageSink(hub, endpoint, way, clock, ids)
            case EndpointKind.EVENT_HUB:
                return EventHubSink(endpoint, way)
            case EndpointKind.QUEUE | EndpointKind.TOPIC:
                return ServiceBusSink(endpoint, way)

    return make
