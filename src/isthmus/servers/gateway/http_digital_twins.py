"""Digital twins over the service API: read, patched, and their commands, which are direct methods.

A command of a component is the method `component*command` (IoT Plug and Play documentation, "Conventions").
"""

from collections.abc import Mapping
from urllib.parse import quote

from isthmus.base.errors import Code, HubError
from isthmus.base.ids import Ids
from isthmus.base.numbers import whole_number
from isthmus.commands.methods import (
    CONNECT_SECONDS_DEFAULT,
    NULL,
    RESPONSE_SECONDS_DEFAULT,
    MethodRequest,
    Methods,
)
from isthmus.devices.digital_twin import desired_of, digital_twin
from isthmus.devices.twins import Twins
from isthmus.servers.gateway.http_message import JSON_TYPE, Call, Reply, json_reply
from isthmus.servers.gateway.http_routes import Action
from isthmus.servers.gateway.http_service import Handler

BETWEEN = "*"
"""Stands between a component and its command."""


class DigitalTwinsApi:
    """Answers the calls about digital twins."""

    def __init__(self, twins: Twins, methods: Methods, ids: Ids) -> None:
        self._twins = twins
        self._methods = methods
        self._ids = ids
        self.handlers: Mapping[Action, Handler] = {
            Action.GET_DIGITAL_TWIN: self._get,
            Action.PATCH_DIGITAL_TWIN: self._patch,
            Action.INVOKE_COMMAND: self._invoke,
        }

    async def _get(self, call: Call) -> Reply:
        twin = (await self._twins.get(call.ref)).twin
        return json_reply(digital_twin(call.ref.device_id, twin), etag=twin.etag)

    async def _patch(self, call: Call) -> Reply:
        operations = call.json()
        view = await self._twins.desire(call.ref, lambda twin: desired_of(twin, operations), call.if_match)
        place = f"https://{call.hub.host_name}/digitaltwins/{quote(call.ref.device_id, safe='')}"
        return Reply(202, headers={"ETag": f'"{view.twin.etag}"', "Location": place})

    async def _invoke(self, call: Call) -> Reply:
        name = f"{call.component}{BETWEEN}{call.name}" if call.component else call.name
        if call.body:
            call.json()
        request = MethodRequest(
            name,
            call.body or NULL,
            response_seconds=_seconds(call, "responseTimeoutInSeconds", RESPONSE_SECONDS_DEFAULT),
            connect_seconds=_seconds(call, "connectTimeoutInSeconds", CONNECT_SECONDS_DEFAULT),
        )
        answer = await self._methods.invoke(call.ref, request)
        told = {"x-ms-command-statuscode": str(answer.status), "x-ms-request-id": self._ids.uuid()}
        return Reply(200, answer.payload, {"Content-Type": JSON_TYPE, **told})


def _seconds(call: Call, name: str, default: int) -> int:
    text = call.query.get(name)
    if text is None:
        return default
    seconds = whole_number(text)
    if seconds is None:
        raise HubError(Code.ARGUMENT_INVALID, f"{name} must be a whole number")
    return seconds
