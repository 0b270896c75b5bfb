"""Hosted namespaces for tests: made by the command line, and found by the SDKs under their own names."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from clients.names import resolved
from support.server import RunningHub


@dataclass(frozen=True)
class Namespace:
    """A namespace that a hub's server hosts; `words` is `eventhubs` or `servicebus`."""

    hub: RunningHub
    words: str
    name: str
    shown: dict[str, Any]

    @property
    def host(self) -> str:
        """Its host name."""
        return str(self.shown["serviceBusEndpoint"]).removeprefix("https://").partition(":")[0]

    @property
    def resource_id(self) -> str:
        return str(self.shown["id"])

    def connection_string(self, entity: str = "", policy: str = "") -> str:
        """As `isthmus connection-string --namespace` prints it."""
        more = [*(["--entity", entity] if entity else []), *(["--policy", policy] if policy else [])]
        return self.hub.isthmus("connection-string", "--namespace", self.name, *more).strip()

    def make(self, *command: str) -> Any:
        """Runs a command about what is in it, such as `eventhub create -n x`."""
        return self.hub.json(self.words, *command, "--namespace-name", self.name)


@contextmanager
def namespace(hub: RunningHub, words: str, *options: str) -> Iterator[Namespace]:
    """A new namespace whose name leads to the hub's address, deleted afterwards."""
    name = f"ns-{uuid.uuid4().hex[:10]}"
    made = Namespace(hub, words, name, hub.json(words, "namespace", "create", "-n", name, *options))
    with resolved(made.host, hub.address):
        yield made
    if hub.running and name in {each["name"] for each in hub.json(words, "namespace", "list")}:
        hub.isthmus(words, "namespace", "delete", "-n", name)


def identity_with(hub: RunningHub, role: str = "", scope: str = "") -> tuple[str, str]:
    """A new identity's name and object id, with a role at a scope."""
    name = f"id-{uuid.uuid4().hex[:10]}"
    principal = str(hub.json("identity", "create", "-n", name)["principalId"])
    if role:
        who = ("--assignee-object-id", principal)
        hub.json("role", "assignment", "create", *who, "--role", role, "--scope", scope)
    return name, principal
