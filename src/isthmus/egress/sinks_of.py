"""The sinks of a worker, by the hub's settings."""

from isthmus.base.clock import SystemClock
from isthmus.base.ids import RandomIds
from isthmus.egress.messages import Settings
from isthmus.routing.sink import SinkFactory
from isthmus.sinks.azure_credentials import credentials_of
from isthmus.sinks.factory import sink_factory


def sinks_by(settings: Settings) -> SinkFactory:
    """The factory of all kinds."""
    return sink_factory(SystemClock(), RandomIds(), credentials_of(settings.credentials))
