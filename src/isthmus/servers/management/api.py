"""The management calls that end: hubs and endpoints in ARM's paths, explain, health, cloud-to-device messages."""

import base64
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from isthmus.access.explain import explained, filter_of
from isthmus.access.journal import Journal
from isthmus.base.clock import parse_iso_ms
from isthmus.base.errors import NOT_JSON, Code, HubError
from isthmus.base.numbers import whole_number
from isthmus.base.state import StateClosed
from isthmus.commands.cloud_to_device import C2DMessage, CloudToDevice, parse_ack
from isthmus.resources.hubs import Hubs
from isthmus.servers.management.arm import Arm
from isthmus.servers.management.audit import Audit
from isthmus.servers.management.authority_calls import AuthorityCalls
from isthmus.servers.management.backup_calls import BackupCalls
from isthmus.servers.management.connectors import ConnectorCalls
from isthmus.servers.management.dry_runs import DryRuns, is_dry_run
from isthmus.servers.management.endpoint_calls import EndpointCalls
from isthmus.servers.management.exposure import ExposureCalls
from isthmus.servers.management.path_calls import PathCalls
from isthmus.servers.management.permissions import ARM_ROOTS
from isthmus.servers.management.request import Call, Reply, refused
from isthmus.servers.management.token_calls import TokenCalls
from isthmus.servers.management.trace_calls import TraceCalls

logger = logging.getLogger(__name__)

QUESTIONS = frozenset({"listkeys", "checknameavailability", "$testall", "$testnew"})
"""Words behind which a POST changes nothing (ARM's form of a question that needs a body or tells a secret)."""


class CommandBody(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A cloud-to-device message as the command line sends it; `body` is base64."""

    device_id: str
    body: str = ""
    message_id: str | None = None
    correlation_id: str | None = None
    user_id: str | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    expiry_time_utc: str | int | None = None
    ack: str | None = None
    properties: dict[str, str] = {}


_Calls = TypeVar("_Calls", EndpointCalls, TraceCalls, BackupCalls)


@dataclass(frozen=True, slots=True)
class Part:
    """The health of one part of the house; `reason` tells why it is not well."""

    name: str
    ok: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ManagementApi:
    """Answers calls of the local owner; on the event loop only."""

    hubs: Hubs
    arm: Arm
    dry_runs: DryRuns
    journal: Journal
    audit: Audit
    connectors: ConnectorCalls
    exposure: ExposureCalls
    commands: CloudToDevice
    health: Callable[[], list[Part]]
    https_port: Callable[[], int]
    tokens: TokenCalls
    paths: PathCalls
    authority: AuthorityCalls
    routing_endpoints: EndpointCalls | None = None
    traces: TraceCalls | None = None
    backups: BackupCalls | None = None

    async def answer(self, call: Call) -> Reply:
        """The reply to a call, a refusal included."""
        try:
            return await self.act(call)
        except HubError as error:
            return refused(error)

    async def act(self, call: Call) -> Reply:
        """The reply to a call; raises HubError for a refusal and for whatever failed."""
        try:
            return await self._answer(call)
        except HubError as error:
            if error.code is Code.NOT_FOUND and call.path[0].lower() in ARM_ROOTS:
                raise HubError(Code.RESOURCE_NOT_FOUND, error.message, error.refusal) from error
            raise
        except StateClosed as error:
            raise HubError(Code.SERVICE_UNAVAILABLE, f"Nothing can be stored now: {error}") from error
        except Exception as error:
            logger.exception("management call failed", extra={"method": call.method, "path": "/".join(call.path)})
            raise HubError(Code.SERVER_ERROR, "The server failed; its log tells how") from error

    async def _answer(self, call: Call) -> Reply:
        if is_dry_run(call):
            return await self.dry_runs.answer(call)
        if _administers(call):
            self.journal.require_room()
        match call.method, call.path:
            case _, (first, *_) if first.lower() in ARM_ROOTS:
                return await self.arm.answer(call)
            case _, ("tokens", *names):
                return await self.tokens.answer(call, tuple(names))
            case _, ("authority", *_):
                return await self.authority.answer(call)
            case "GET", ("hubs",):
                return Reply(value=[self._named(hub.name, hub.host_name) for hub in self.hubs.all()])
            case "GET", ("explain",):
                decisions = await self.journal.read(filter_of(call.query))
                return Reply(value=[explained(decision) for decision in decisions])
            case _, ("audit", *_):
                return await self.audit.answer(call)
            case _, ("connectors", *_):
                return await self.connectors.answer(call)
            case "GET", ("exposure",):
                return self.exposure.answer(call)
            case _, ("check", "endpoint", *_):
                return await _running(self.routing_endpoints).answer(call)
            case "POST", ("trace",):
                return await _running(self.traces).answer(call)
            case _, ("backup", *_):
                return await _running(self.backups).answer(call)
            case _, ("check", *_):
                return await self.paths.answer(call)
            case "GET", ("health",):
                return health_reply(self.health())
            case "POST", ("hubs", name, "messages", "devicebound"):
                return await self._send(name, call.body)
            case _:
                raise HubError(Code.NOT_FOUND, f"There is nothing at {call.method} /{'/'.join(call.path)}")

    def _named(self, name: str, host_name: str) -> dict[str, object]:
        return {"name": name, "hostName": host_name, "httpsPort": self.https_port()}

    async def _send(self, name: str, body: bytes) -> Reply:
        hub = self.hubs.require(name)
        try:
            given = msgspec.json.decode(body, type=CommandBody)
            payload = base64.b64decode(given.body, validate=True)
        except (*NOT_JSON, ValueError) as error:
            raise HubError(Code.ARGUMENT_INVALID, f"The message is not valid: {error}") from error
        message = C2DMessage(
            payload=payload,
            message_id=given.message_id,
            correlation_id=given.correlation_id,
            user_id=given.user_id,
            content_type=given.content_type,
            content_encoding=given.content_encoding,
            expiry_ms=_expiry(given.expiry_time_utc),
            ack=parse_ack(given.ack) if given.ack else None,
            properties=dict(given.properties),
        )
        await self.commands.send(hub, given.device_id, message)
        return Reply(204)


def _running(part: _Calls | None) -> _Calls:
    """What only a server that runs has; raises HubError InvalidOperation without one."""
    if part is None:
        raise HubError(Code.INVALID_OPERATION, "Only a server that runs does that: isthmus up")
    return part


def _administers(call: Call) -> bool:
    """True for what changes a resource; making room in the journal is what helps when it is full."""
    reads = call.method in ("GET", "HEAD") or call.path[-1].lower() in QUESTIONS
    return not reads and call.path[0].lower() not in ("hubs", "audit", "check", "trace", "backup")


def health_reply(parts: Sequence[Part]) -> Reply:
    """All parts, with status 503 when one of them is not well."""
    well = all(part.ok for part in parts)
    shown = {part.name: {"ok": part.ok, "reason": part.reason} for part in parts}
    return Reply(200 if well else 503, {"ok": well, "parts": shown})


def _expiry(text: str | int | None) -> int | None:
    """Milliseconds since the epoch, given as such or as an ISO 8601 date."""
    if text is None or isinstance(text, int):
        return text
    number = whole_number(text)
    expiry = parse_iso_ms(text) if number is None else number
    if expiry is None:
        raise HubError(Code.ARGUMENT_INVALID, "expiryTimeUtc is milliseconds since 1970 or an ISO 8601 date and time")
    return expiry
