"""The HTTP faces: of the management API on the local owner's Unix socket, of metrics and health elsewhere."""

import re
from collections.abc import Callable, Sequence

from aiohttp import web

from isthmus.base.errors import Code, HubError
from isthmus.servers.gateway.http_app import Front, connection_of
from isthmus.servers.gateway.http_body import read_body
from isthmus.servers.management.api import ManagementApi, Part, health_reply
from isthmus.servers.management.events import watch_of, watched
from isthmus.servers.management.metrics import Metrics
from isthmus.servers.management.request import Reply, call_of, refused
from isthmus.telemetry.ports import Log

BODY_BYTES_MAX = 1024 * 1024
"""A management call's body; more is refused."""

_SERVICE = re.compile(r"/hubs/[^/]+/(devices|twins|statistics|digitaltwins|configurations|jobs|messages/serviceBound)")
"""Paths of the service API below a hub; the rest is management's own."""

_EVENTS = re.compile(r"/hubs/([^/]+)/events")


class ManagementServer:
    """Takes requests of the Unix socket to whom they are for; `handle` is a handler for `aiohttp.web.Server`."""

    def __init__(self, api: ManagementApi, service: Front, log: Log, metrics: Metrics) -> None:
        self._api = api
        self._service = service
        self._log = log
        self._metrics = metrics

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers a request."""
        path = request.rel_url.raw_path
        if _SERVICE.match(path):
            return await self._service.handle(request)
        if path == "/metrics":
            return metrics_response(self._metrics)
        if found := _EVENTS.fullmatch(path):
            return await self._stream(request, found[1])
        try:
            body = await read_body(request, check_body_size)
        except HubError as error:
            return json_response(refused(error))
        connection = connection_of(request)
        call = call_of(
            request.method,
            request.raw_path,
            body=body,
            if_match=request.headers.get("If-Match"),
            if_none_match=request.headers.get("If-None-Match"),
            who=f"owner:uid:{connection.peer_uid}" if connection is not None else "owner",
        )
        return json_response(await self._api.answer(call))

    async def _stream(self, request: web.BaseRequest, name: str) -> web.StreamResponse:
        try:
            hub = self._api.hubs.require(name)
            watch = watch_of(hub, request.query)
        except HubError as error:
            return json_response(refused(error))
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        async for line in watched(self._log, hub, watch):
            await response.write(line)
        return response


class Monitoring:
    """Metrics and health, and nothing else, for whoever reaches the listener that the configuration asks for.

    Each connection carries one request: its peer proves nothing, and may not hold a socket.
    """

    def __init__(self, health: Callable[[], Sequence[Part]], metrics: Metrics) -> None:
        self._health = health
        self._metrics = metrics

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers a request."""
        match request.method, request.rel_url.raw_path:
            case "GET" | "HEAD", "/metrics":
                response = metrics_response(self._metrics)
            case "GET" | "HEAD", "/health":
                response = json_response(health_reply(self._health()))
            case _:
                response = json_response(refused(HubError(Code.NOT_FOUND, "There are /metrics and /health")))
        response.force_close()
        return response


def check_body_size(size: int) -> None:
    """Raises HubError GenericRequestEntityTooLarge when a management call's body is too large."""
    if size > BODY_BYTES_MAX:
        raise HubError(Code.ENTITY_TOO_LARGE, f"A body has {BODY_BYTES_MAX} bytes at most")


def metrics_response(metrics: Metrics) -> web.Response:
    """All metrics, as Prometheus reads them."""
    return web.Response(body=metrics.text(), content_type="text/plain", charset="utf-8")


def json_response(reply: Reply) -> web.Response:
    """A reply as HTTP."""
    return web.Response(status=reply.status, body=reply.body or None, content_type="application/json")
