"""The service API: identities, twins, direct methods, queries and statistics of one hub (IoT Hub REST reference).

A call arrives here authenticated and permitted; who asks, and by which door, is settled in `http_app`.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

import msgspec

from isthmus.base.errors import Code, HubError
from isthmus.base.ids import DeviceRef
from isthmus.commands.methods import Methods, parse_method
from isthmus.devices.fleet import PAGE_MAX, Fleet, Table, project
from isthmus.devices.identity import Identity
from isthmus.devices.ports import ConnectedDevices
from isthmus.devices.registry import LIST_MAX, Registered, Registry
from isthmus.devices.twins import Twins, TwinView
from isthmus.devices.views import identity_to_wire, twin_to_wire
from isthmus.query.parser import parse
from isthmus.query.syntax import Collection, Query
from isthmus.servers.gateway.http_message import Call, Change, Reply, json_reply
from isthmus.servers.gateway.http_routes import Action

MODEL_ID_SINCE = "2020-09-30"
"""The first API version whose twins have a `modelId`."""


class DeviceCommands(Protocol):
    """The cloud-to-device queues, as far as the service API needs them."""

    async def count(self, ref: DeviceRef) -> int:
        """Messages that wait for a device."""

    async def purge(self, ref: DeviceRef) -> int:
        """Takes all waiting messages of a device out and returns how many there were."""


Handler = Callable[[Call], Awaitable[Reply]]
"""Answers a call; raises `HubError`."""

JobRows = Callable[[Call, Query], Awaitable[Reply]]
"""Answers a query over `devices.jobs`; raises `HubError`."""


class ServiceApi:
    """Answers the calls of the service API; `more` and `job_rows` answer what has a room of its own."""

    def __init__(
        self,
        registry: Registry,
        twins: Twins,
        fleet: Fleet,
        methods: Methods,
        connected: ConnectedDevices,
        commands: DeviceCommands,
        more: Mapping[Action, Handler] = MappingProxyType({}),
        job_rows: JobRows | None = None,
    ) -> None:
        self._registry = registry
        self._twins = twins
        self._fleet = fleet
        self._methods = methods
        self._connected = connected
        self._commands = commands
        self._job_rows = job_rows
        self._handlers: Mapping[Action, Handler] = {
            **more,
            Action.LIST_DEVICES: self._list_devices,
            Action.GET_IDENTITY: self._get_identity,
            Action.PUT_IDENTITY: self._put_identity,
            Action.DELETE_IDENTITY: self._delete_identity,
            Action.LIST_MODULES: self._list_modules,
            Action.GET_TWIN: self._get_twin,
            Action.PATCH_TWIN: self._patch_twin,
            Action.PUT_TWIN: self._put_twin,
            Action.INVOKE_METHOD: self._invoke_method,
            Action.REGISTRY_STATISTICS: self._registry_statistics,
            Action.SERVICE_STATISTICS: self._service_statistics,
            Action.QUERY: self._query,
            Action.PURGE: self._purge,
        }

    def check_offered(self, action: Action) -> None:
        """Raises `HubError` `NOT_IMPLEMENTED` for what is not built; asked before a body is judged."""
        if action not in self._handlers:
            raise HubError(Code.NOT_IMPLEMENTED, "This operation is not implemented yet")

    async def answer(self, action: Action, call: Call) -> Reply:
        """The reply to a call that is offered; raises `HubError`."""
        return await self._handlers[action](call)

    async def _list_devices(self, call: Call) -> Reply:
        return await self._identities(await self._registry.list(call.hub.number, _top(call)))

    async def _list_modules(self, call: Call) -> Reply:
        return await self._identities(await self._registry.modules(call.hub.number, call.ref.device_id))

    async def _get_identity(self, call: Call) -> Reply:
        return await self._identity(await self._registry.view(call.ref))

    async def _put_identity(self, call: Call) -> Reply:
        before = await self._registry.get(call.ref)
        identity = await self._registry.put(call.ref, call.json(), call.if_match)
        found = Registered(call.ref, identity, await self._registry.presence(call.ref))
        return await self._identity(found, Change(_told(before), _told(identity)))

    async def _delete_identity(self, call: Call) -> Reply:
        before = await self._registry.get(call.ref)
        await self._registry.delete(call.ref, call.if_match)
        return Reply(204, change=Change(_told(before), None))

    async def _get_twin(self, call: Call) -> Reply:
        return await self._twin(call, await self._twins.get(call.ref))

    async def _patch_twin(self, call: Call) -> Reply:
        return await self._written(call, self._twins.patch)

    async def _put_twin(self, call: Call) -> Reply:
        return await self._written(call, self._twins.replace)

    async def _written(
        self, call: Call, write: Callable[[DeviceRef, object, str | None], Awaitable[TwinView]]
    ) -> Reply:
        """Writes a twin. Tags say what a device is and through which doors it may come: their change is told."""
        body = call.json()
        touched = isinstance(body, dict) and "tags" in body
        before = (await self._twins.get(call.ref)).twin.tags if touched else {}
        view = await write(call.ref, body, call.if_match)
        change = Change(before, view.twin.tags) if touched and before != view.twin.tags else None
        return await self._twin(call, view, change)

    async def _invoke_method(self, call: Call) -> Reply:
        answer = await self._methods.invoke(call.ref, parse_method(call.body))
        return json_reply({"status": answer.status, "payload": msgspec.Raw(answer.payload)})

    async def _registry_statistics(self, call: Call) -> Reply:
        found = await self._registry.statistics(call.hub.number)
        return json_reply(
            {
                "totalDeviceCount": found.total,
                "enabledDeviceCount": found.enabled,
                "disabledDeviceCount": found.disabled,
            }
        )

    async def _service_statistics(self, call: Call) -> Reply:
        return json_reply({"connectedDeviceCount": self._connected.count(call.hub.number)})

    async def _query(self, call: Call) -> Reply:
        text = _query_text(call.json())
        if self._job_rows is not None and (query := parse(text)).collection is Collection.JOBS:
            return await self._job_rows(call, query)
        page = await self._fleet.query(
            call.hub.number,
            text,
            page_size=page_size(call),
            continuation=call.headers.get("x-ms-continuation"),
        )
        # An empty x-ms-continuation would make clients ask for ever: on the last page there is none.
        more = {} if page.continuation is None else {"x-ms-continuation": page.continuation}
        if isinstance(page, Table):
            return json_reply(page.rows, headers={"x-ms-item-type": "Raw", **more})
        rows = [await self._twin_to_wire(call, view) for view in page.rows]
        if page.columns:
            rows = [project(row, page.columns) for row in rows]
        return json_reply(rows, headers={"x-ms-item-type": "Raw" if page.columns else "Twin", **more})

    async def _purge(self, call: Call) -> Reply:
        await self._registry.require(call.ref)
        purged = await self._commands.purge(call.ref)
        reply = {"totalMessagesPurged": purged, "deviceId": call.ref.device_id, "moduleId": None}
        return json_reply(reply, change=Change({"waiting": purged}, {"waiting": 0}))

    async def _identity(self, found: Registered, change: Change | None = None) -> Reply:
        wire = identity_to_wire(found, await self._queued(found.ref))
        return json_reply(wire, etag=found.identity.etag, change=change)

    async def _identities(self, found: Sequence[Registered]) -> Reply:
        return json_reply([identity_to_wire(each, await self._queued(each.ref)) for each in found])

    async def _twin(self, call: Call, view: TwinView, change: Change | None = None) -> Reply:
        return json_reply(await self._twin_to_wire(call, view), etag=view.twin.etag, change=change)

    async def _twin_to_wire(self, call: Call, view: TwinView) -> dict[str, object]:
        return twin_to_wire(view, await self._queued(view.ref), with_model_id=call.api_version >= MODEL_ID_SINCE)

    async def _queued(self, ref: DeviceRef) -> int:
        """Waiting commands; a module has no queue (IoT Hub developer guide, "Cloud-to-device messaging")."""
        return 0 if ref.module_id else await self._commands.count(ref)


def _told(identity: Identity | None) -> object:
    """An identity as the journal tells it; secrets are taken out there."""
    return None if identity is None else msgspec.to_builtins(identity)


def _top(call: Call) -> int:
    text = call.query.get("top", "")
    return int(text) if text.isdecimal() and len(text) <= len(str(LIST_MAX)) else LIST_MAX


def page_size(call: Call) -> int:
    """The rows of a page that a client asks for, at most `PAGE_MAX`; raises `ARGUMENT_INVALID`."""
    text = call.headers.get("x-ms-max-item-count")
    if text is None:
        return PAGE_MAX
    if not text.isdecimal() or not text.isascii():
        raise HubError(Code.ARGUMENT_INVALID, "x-ms-max-item-count must be a whole number")
    return int(text) if len(text) <= len(str(PAGE_MAX)) else PAGE_MAX


def _query_text(body: object) -> str:
    text = body.get("query") if isinstance(body, dict) else None
    if text is None:
        raise HubError(Code.ARGUMENT_NULL, "BadRequest")
    if not isinstance(text, str):
        raise HubError(Code.ARGUMENT_INVALID, "query must be a string")
    return text
