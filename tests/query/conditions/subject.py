"""A message to judge conditions about."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class FakeMessage:
    """Properties, a parsed body and a twin, as the conditions' `Subject` has them."""

    properties: Mapping[str, str] = field(default_factory=dict)
    system: Mapping[str, str] = field(default_factory=dict)
    document: Mapping[str, object] | None = None
    sender: Mapping[str, object] | None = None

    def application_property(self, name: str) -> str | None:
        return next((value for key, value in self.properties.items() if key.lower() == name), None)

    def system_property(self, name: str) -> str | None:
        return next((value for key, value in self.system.items() if key.lower() == name), None)

    def body(self) -> Mapping[str, object] | None:
        return self.document

    def twin(self) -> Mapping[str, object] | None:
        return self.sender
