"""Private endpoint connections and private link resources of neighbours in ARM's paths, the same for every kind."""

from collections.abc import Callable
from dataclasses import replace

from isthmus.access.explain import change_texts
from isthmus.access.journal import Journal
from isthmus.network.private_endpoints import ConnectionStatus
from isthmus.resources.arm import connection_to_arm, link_resources_to_arm
from isthmus.resources.guarded import Guarded
from isthmus.resources.members import choice, mapping
from isthmus.resources.private_endpoints import PrivateEndpoints
from isthmus.servers.management.arm import NO_CONTENT, Routes, change_of
from isthmus.servers.management.request import Call, Reply


class ArmConnections:
    """Answers ARM calls about who may lead a private endpoint to neighbours of one kind; on the event loop only."""

    def __init__(
        self, base: str, find: Callable[[str], Guarded], endpoints: PrivateEndpoints, journal: Journal
    ) -> None:
        """`base` is the type in small letters, `find` gives a neighbour by its name or raises HubError."""
        self._find = find
        self._endpoints = endpoints
        self._journal = journal
        connection, resource = f"{base}/*/privateendpointconnections", f"{base}/*/privatelinkresources"
        self.routes: Routes = {
            ("GET", connection): self._list,
            ("GET", f"{connection}/*"): self._show,
            ("PUT", f"{connection}/*"): self._decide,
            ("DELETE", f"{connection}/*"): self._delete,
            ("GET", resource): self._link_resources,
        }
        """Handlers by method and path pattern; see `arm.Routes`."""

    async def _list(self, call: Call, names: tuple[str, ...]) -> Reply:
        found = self._find(names[0])
        return Reply(value={"value": [connection_to_arm(found, each) for each in found.connections]})

    async def _show(self, call: Call, names: tuple[str, ...]) -> Reply:
        return Reply(value=self._shown(*names))

    async def _decide(self, call: Call, names: tuple[str, ...]) -> Reply:
        properties = mapping(call.json().get("properties") or {}, "properties")
        path = "properties.privateLinkServiceConnectionState"
        wanted = mapping(properties.get("privateLinkServiceConnectionState") or {}, path)
        status = ConnectionStatus(
            choice(wanted.get("status"), f"{path}.status", [each.value for each in ConnectionStatus])
        )
        found, before = self._find(names[0]), self._shown(*names)
        description = str(wanted.get("description") or "")
        await self._endpoints.decide(found.resource_id, names[1], status, description)
        after = self._shown(*names)
        self._changed(call, found, f"private endpoint connection {names[1]}: {status.value}", before, after)
        return Reply(value=after)

    async def _delete(self, call: Call, names: tuple[str, ...]) -> Reply:
        found, before = self._find(names[0]), self._shown(*names)
        await self._endpoints.delete_connection(found.resource_id, names[1])
        self._changed(call, found, f"private endpoint connection {names[1]} deleted", before, None)
        return Reply(NO_CONTENT)

    async def _link_resources(self, call: Call, names: tuple[str, ...]) -> Reply:
        return Reply(value={"value": link_resources_to_arm(self._find(names[0]))})

    def _shown(self, name: str, connection: str) -> dict[str, object]:
        found = self._find(name)
        return connection_to_arm(found, self._endpoints.connection(found.resource_id, connection))

    def _changed(self, call: Call, found: Guarded, detail: str, before: object, after: object) -> None:
        was, now = change_texts(before, after)
        self._journal.write(replace(change_of(call, found.name, detail), before=was, after=now))
