"""Trying routes on a message that somebody made up (Microsoft.Devices/IotHubs, Test Route and Test All Routes)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from isthmus.base.errors import NOT_JSON
from isthmus.query.conditions.values import Subject
from isthmus.resources.hub import Hub, Route, RouteSource
from isthmus.resources.routes import compiled_condition
from isthmus.routing.subject import body_encoding


@dataclass(frozen=True, slots=True)
class MadeUpMessage:
    """A message as a test call describes it; names of properties in any case, `document` is the body's text."""

    document: str = ""
    properties: Mapping[str, str] = field(default_factory=dict)
    system: Mapping[str, str] = field(default_factory=dict)
    sender: Mapping[str, object] | None = None

    def application_property(self, name: str) -> str | None:
        """An application property's text."""
        return _in_any_case(self.properties, name)

    def system_property(self, name: str) -> str | None:
        """A system property's text, under the names that conditions use."""
        return _in_any_case(self.system, name)

    def body(self) -> Mapping[str, object] | None:
        """The body where it may be asked and is a JSON object."""
        if body_encoding(self.system_property("contenttype"), self.system_property("contentencoding")) is None:
            return None
        try:
            return msgspec.json.decode(self.document, type=dict[str, object])
        except NOT_JSON:
            return None

    def twin(self) -> Mapping[str, object] | None:
        """The twin that came with the message."""
        return self.sender


def try_route(route: Route, message: Subject) -> bool | None:
    """Whether the message would take the route; None where its condition is undefined. Raises as saving does."""
    return compiled_condition(route).holds(message)


def routes_taken(hub: Hub, source: RouteSource, message: Subject) -> tuple[Route, ...]:
    """The hub's enabled routes that a message of a source would take, the fallback route when it took no other."""
    taken = [each for each in hub.routes if each.enabled and each.source is source and try_route(each, message)]
    last = hub.fallback_route
    if not taken and last.enabled and last.source is source and try_route(last, message):
        taken.append(last)
    return tuple(taken)


def _in_any_case(values: Mapping[str, str], name: str) -> str | None:
    return next((value for key, value in values.items() if key.lower() == name), None)
