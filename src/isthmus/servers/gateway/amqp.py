"""The AMQP pump: one connection, from the protocol header to its last link.

Theory of operation. The engine (`wire.amqp`) turns bytes into events; the pump answers each event at once or starts
work for it, and writes what the engine then has to say in one piece. Who the peer is comes from SASL PLAIN, or from
tokens put to `$cbs`; every proof enters the session index as a session of its own, so that a change of rules, keys or
doors cuts exactly the connections it concerns. A link is judged when it attaches: the hub that everything said so far
names, the node its address means, and what that node needs to be proved (`amqp_nodes.need_of`). When a token ends and
is not renewed, the links that nothing else carries are detached, and without any proof left the connection is closed.

`flush` is the one place where events are taken and bytes are written; it comes behind every read, every deadline, and
every call from outside that touched the engine: work that is done, a reader's turn, a link that another connection
stole. Called while it runs, it does nothing, because the call under way goes on until no events are left.

Work (a command on its way to its queue, an outcome of feedback) runs to its end whatever becomes of the connection: the
peer may settle and close in one breath. Reading pauses while `WORK_MAX` pieces run, while the engine says so, and while
the peer does not read what it is sent. A fault of ours, wherever it happens, is logged once and closes the connection
with `amqp:internal-error`.

One timer serves the engine's deadlines and the end of tokens. Traffic does not move it: when it comes, it asks what is
due, and how long to sleep again.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from isthmus.access.access_tokens import is_bearer
from isthmus.access.journal import BUILT_IN
from isthmus.access.refusals import denied, unauthorized
from isthmus.access.sas import resource_of
from isthmus.base.clock import Clock
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.resources.guarded import Guarded, ResourceKind
from isthmus.resources.hub import Hub
from isthmus.servers.gateway.amqp_contract import is_built_in
from isthmus.servers.gateway.amqp_links import LinkHandler, error_of
from isthmus.servers.gateway.amqp_node_set import NodeSet
from isthmus.servers.gateway.amqp_replies import Replies
from isthmus.servers.gateway.amqp_tokens import NEVER, Need, Proofs
from isthmus.servers.gateway.gate import Admitted, Gate, probe_of
from isthmus.servers.gateway.lasting_work import LastingWork
from isthmus.servers.gateway.plain import parse_plain_user
from isthmus.servers.gateway.plane import Plane
from isthmus.servers.gateway.ports import DeviceConnection, SessionIndex, Timer, Timers
from isthmus.servers.gateway.shaping import Pause, Reading
from isthmus.servers.gateway.socket_refusals import NOTHING_PROVED
from isthmus.wire.amqp.connection import Connection as Engine
from isthmus.wire.amqp.errors import Condition
from isthmus.wire.amqp.events import (
    ConnectionClosed,
    CreditGranted,
    DeliveryRefused,
    Disposition,
    Event,
    LinkAttached,
    LinkDetached,
    Opened,
    SaslInit,
    Transfer,
)
from isthmus.wire.amqp.link import Link
from isthmus.wire.amqp.states import Error

CONTAINER_ID: Final = "isthmus"

PLAIN_PARTS: Final = 3
"""Authorization identity, user name and password (RFC 4616)."""

WORK_MAX: Final = 256
"""Pieces of work of one connection under way at which reading pauses: enough to share commits, little to hold."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AmqpServices:
    """What all AMQP connections of a process share."""

    gate: Gate
    sessions: SessionIndex
    nodes: Mapping[ResourceKind, NodeSet]
    clock: Clock


class AmqpGateway:
    """Makes the pumps of a process and outlives them."""

    def __init__(self, services: AmqpServices, timers: Callable[[], Timers] = asyncio.get_running_loop) -> None:
        self.services = services
        self._timers = timers
        self._work = LastingWork()

    def make_pump(self) -> "AmqpPump":
        """A pump for one connection."""
        return AmqpPump(self.services, self._timers(), self._work.spawn)

    async def drained(self) -> None:
        """Returns when no work of any connection is left; for the time after all connections were closed."""
        await self._work.drained()


class AmqpPump:
    """Carries one AMQP connection of services and readers; use it on its loop only."""

    connection: DeviceConnection

    def __init__(
        self,
        services: AmqpServices,
        timers: Timers,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._services = services
        self._timers = timers
        self._spawn = spawn
        self._since = services.clock.monotonic()
        self._engine = Engine(container_id=CONTAINER_ID, now=self._since)
        self._proofs = Proofs(self, services.sessions, services.clock)
        self._replies = Replies()
        self._handlers: dict[Link, LinkHandler] = {}
        self._resource: Guarded | None = None
        self._groups: set[str] = set()
        self._timer: Timer | None = None
        self._timer_at = NEVER
        self._working = 0
        self._flushing = False
        self._ticking = False
        self._is_over = False
        self._is_broken = False
        self._reason = ""
        self._probe = ""

    # ── the connection's side ────────────────────────────────────────────────────────────────────────────────────

    def opened(self, connection: DeviceConnection) -> None:
        """Waits for the protocol header."""
        self.connection = connection
        self._reading = Reading(connection)
        self._arm()

    def received(self, data: bytes) -> None:
        """Takes one read."""
        self._engine.receive(data, self._services.clock.monotonic())
        self.flush()

    def writable(self) -> None:
        """The peer reads again."""
        self._reading.resume(Pause.CONGESTED)
        for handler in list(self._handlers.values()):
            handler.writable()

    def closed(self, reason: str) -> None:
        """The socket is gone: the links hear of their end."""
        self._reason = self._reason or reason
        self._engine.lost()
        self.flush()
        self._proofs.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._log_end()

    # ── the links' side (see `amqp_links.Pump`) ──────────────────────────────────────────────────────────────────

    @property
    def principal(self) -> str:
        """The label of who proved himself last."""
        return self._proofs.principal

    @property
    def congested(self) -> bool:
        """True while nothing should be written."""
        return self.connection.congested

    def flush(self) -> None:
        """Takes the engine's events and sends its bytes."""
        if self._flushing:
            return
        self._flushing = True
        self._take_events()
        self._flushing = False
        if data := self._engine.data_to_send():
            self.connection.write(data)
        if self._is_over:
            self.connection.close(self._reason)
        else:
            self._pace()
        self._arm()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs work to its end, also beyond the connection's."""
        self._working += 1
        self._spawn(work).add_done_callback(self._work_ended)

    def soon(self, action: Callable[[], None]) -> asyncio.Handle:
        """Calls back in the loop's next turn and flushes."""
        return asyncio.get_running_loop().call_soon(self._run, action)

    def refused(self, error: HubError, device: str = "") -> Error:
        """Journals a refusal and gives what the peer may hear of it."""
        name = self._resource.name if self._resource is not None else ""
        device = device or self._probe
        tracking_id = self._services.gate.refused(
            self.connection, Plane.AMQP, name, device, error, principal=self._proofs.principal
        )
        return error_of(self._told(error), tracking_id)

    async def put_token(self, token: str, audience: str) -> None:
        """Judges a put-token and keeps the proof; raises HubError."""
        self._probe = probe_of(audience)
        resource = self._name() if is_bearer(token) else self._name(audience)
        if not isinstance(resource, Hub):
            if is_bearer(token):
                await self._services.gate.prepare(token)
            self._put_to_neighbour(resource, token, audience)
            return
        if is_bearer(token):
            await self._put_bearer(resource, token, audience)
            return
        hub, built_in = resource, is_built_in(audience)
        admitted = await self._services.gate.token(self.connection, Plane.AMQP, hub, token, audience, built_in=built_in)
        self._keep(audience, admitted, built_in=built_in)

    async def _put_bearer(self, hub: Hub, token: str, audience: str) -> None:
        """As `put_token`; the audience is the scope that the token was asked for, which names no hub, or a node."""
        built_in = audience.lower().startswith("sb://") or is_built_in(audience)
        admitted = await self._services.gate.bearer(self.connection, Plane.AMQP, hub, token, built_in=built_in)
        self._keep(audience, admitted, built_in=built_in)

    def _put_to_neighbour(self, resource: Guarded, token: str, audience: str) -> None:
        further = self._services.nodes[resource.kind].policies(resource, audience)
        try:
            admitted = self._services.gate.namespace(self.connection, resource, token, audience, further)
        except HubError as error:
            raise self._told(error) from error
        self._keep(audience, admitted, built_in=False)

    def _told(self, error: HubError) -> HubError:
        """The error in the words of the service that was asked."""
        if self._resource is None or isinstance(self._resource, Hub):
            return error
        return self._services.nodes[self._resource.kind].told(error, self._resource)

    def require(self, need: Need) -> None:
        """Raises HubError unless this connection has proved what is needed."""
        self._proofs.require(need)

    def reading(self, group: str) -> None:
        """Journals a reader of a consumer group, the first one of each; no more of them than a hub has groups."""
        if group not in self._groups and self._resource is not None:
            self._groups.add(group)
            self._services.gate.reading(self.connection, self._resource, self.principal, group)

    def cut(self, refusal: Refusal, code: Code) -> None:
        """Says goodbye in AMQP's words and closes the connection; once, whichever of its proofs is concerned."""
        if not self._is_over:
            self._turn_away(HubError(code, "Unauthorized", refusal))
            self.flush()

    # ── events ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _take_events(self) -> None:
        """Takes all there are; where one cannot be handled, the events of the end follow."""
        while True:
            try:
                for event in self._engine.events():
                    self._handle(event)
                return
            except Exception as error:
                self._broken(error)

    def _handle(self, event: Event) -> None:
        match event:
            case Transfer(link=link):
                if handler := self._handlers.get(link):
                    handler.transfer(event)
            case Disposition(link=link):
                if handler := self._handlers.get(link):
                    handler.disposition(event)
            case CreditGranted(link=link):
                if handler := self._handlers.get(link):
                    handler.credit(event)
            case LinkDetached(link=link):
                if handler := self._handlers.pop(link, None):
                    handler.detached()
            case LinkAttached(link):
                self._attach(link)
            case DeliveryRefused(link, _, size):
                self.refused(_too_large(size, link.max_message_size))
            case SaslInit():
                self._authenticate(event)
            case Opened():
                self._open(event)
            case ConnectionClosed():
                self._ended(event)
            case _:
                pass

    def _authenticate(self, init: SaslInit) -> None:
        """PLAIN proves somebody at once; the other mechanisms leave that to `$cbs`."""
        if init.mechanism == "PLAIN":
            self.spawn(self._judge_plain(init))
        else:
            self._engine.sasl_accept()

    def _open(self, opened: Opened) -> None:
        try:
            self._name(opened.hostname)
        except HubError as error:
            self._turn_away(error)

    def _attach(self, link: Link) -> None:
        try:
            resource = self._name()
            handler = self._services.nodes[resource.kind].attach(link, self, self._replies, resource)
        except HubError as error:
            link.refuse(self.refused(error))
            return
        if handler is not None:
            self._handlers[link] = handler

    def _ended(self, closed: ConnectionClosed) -> None:
        """The connection is over for the engine: by the peer, by us, or by a fault the engine found."""
        self._is_over = True
        error = closed.error
        if self._reason:
            return
        if closed.by_peer:
            self._reason = error.condition[:200] if error is not None else "closed by the peer"
        elif error is None:
            self._reason = "no protocol in common"
            self.refused(_protocol_fault(Error(self._reason, "these are no first bytes of AMQP 1.0")))
        elif self._ticking:
            self._reason = error.description or error.condition
            if self._resource is None:
                self.refused(HubError(Code.UNAUTHORIZED, "There was no open in time", NOTHING_PROVED))
        else:
            fault = _protocol_fault(error)
            self._reason = fault.refusal.rule if fault.refusal is not None else ""
            self.refused(fault)

    # ── proofs ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _judge_plain(self, init: SaslInit) -> None:
        try:
            await self._plain(init)
        except HubError as error:
            self._reason = self._reason or _rule_of(error)
            self.refused(error)
            self._engine.sasl_refuse()
        else:
            self._engine.sasl_accept()
        self.flush()

    async def _plain(self, init: SaslInit) -> None:
        name, password = _plain_parts(init.response)
        user = parse_plain_user(name)
        if user is None or user.device_id:
            raise _refused_user(name)
        gate = self._services.gate
        hub = self._name(gate.host_of_label(user.hub), init.hostname)
        if not isinstance(hub, Hub):
            raise _refused_user(name)
        admitted = await gate.plain(self.connection, Plane.AMQP, hub, user, password)
        self._keep(hub.host_name, admitted, built_in=False)

    def _keep(self, audience: str, admitted: Admitted, *, built_in: bool) -> None:
        """Enters a proof into the index, unless the connection has ended; the first of an audience is journaled."""
        if not self._is_over and self._proofs.add(audience, admitted, built_in=built_in):
            asked = BUILT_IN if built_in else ""
            self._services.gate.admitted(self.connection, Plane.AMQP, admitted, asked=asked)

    def _name(self, *names: str) -> Guarded:
        """The one resource that these names and everything said before mean; raises HubError."""
        known = (self._resource.host_name,) if self._resource is not None else ()
        hosts = (_host_of(name) for name in names)
        found = self._services.gate.find(self.connection, Plane.AMQP, *known, *hosts)
        if found.kind not in self._services.nodes:
            raise _no_amqp(found)
        self._resource = found
        return found

    def _end_tokens(self) -> None:
        """Ends the links that no proof carries any more, without any proof the connection."""
        ended = Refusal(Hop.AUTHENTICATION, "auth.expired", "token", "put a new token before the old one ends")
        if not self._proofs:
            self._turn_away(denied(ended))
            return
        needs = [(link, handler.need) for link, handler in self._handlers.items() if handler.need is not None]
        lost = [link for link, need in needs if not self._proofs.suffice(need)]
        if lost:
            told = self.refused(denied(ended))
            for link in lost:
                link.detach(told)

    # ── pace, deadlines and ends ─────────────────────────────────────────────────────────────────────────────────

    def _pace(self) -> None:
        """Reads or pauses, for each of the reasons there are."""
        for reason, holds in (
            (Pause.IN_FLIGHT, self._engine.paused),
            (Pause.REQUESTS, self._working >= WORK_MAX),
            (Pause.CONGESTED, self.connection.congested),
        ):
            if holds:
                self._reading.pause(reason)
            else:
                self._reading.resume(reason)

    def _arm(self) -> None:
        """Sets the timer, unless it comes before the first deadline anyway."""
        engine = self._engine.next_deadline
        deadline = min(NEVER if engine is None else engine, self._proofs.next_deadline)
        if deadline >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        delay = max(0.0, deadline - self._services.clock.monotonic())
        self._timer = self._timers.call_later(delay, partial(self._run, self._tick))

    def _tick(self) -> None:
        self._timer, self._timer_at = None, NEVER
        if self._proofs.drop_ended() and not self._is_over:
            self._end_tokens()
        self._engine.tick(self._services.clock.monotonic())
        self._ticking = True
        self.flush()
        self._ticking = False

    def _run(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self._broken(error)
        self.flush()

    def _work_ended(self, task: asyncio.Task[None]) -> None:
        self._working -= 1
        failure = None if task.cancelled() else task.exception()
        if isinstance(failure, Exception):
            self._broken(failure)
        self.flush()

    def _broken(self, error: Exception) -> None:
        """Closes the connection for whatever stopped its work."""
        if isinstance(error, HubError):
            self._turn_away(error)
            return
        if not self._is_broken:
            extra = {"connection_id": self.connection.connection_id}
            logger.error("amqp connection failed", extra=extra, exc_info=error)
        self._is_broken = True
        self._reason = self._reason or "internal error"
        self._engine.close(Error(str(Condition.INTERNAL_ERROR), "The service failed."))

    def _turn_away(self, error: HubError) -> None:
        """Journals why and closes; the bytes leave with the next flush."""
        self._reason = self._reason or _rule_of(error)
        self._engine.close(self.refused(error))

    def _log_end(self) -> None:
        duration = self._services.clock.monotonic() - self._since
        logger.info(
            "connection ended",
            extra={
                "hub": self._resource.name if self._resource is not None else "",
                "principal": self._proofs.principal,
                "plane": Plane.AMQP.value,
                "door": self.connection.door.label,
                "address": self.connection.peer_address,
                "connection_id": self.connection.connection_id,
                "duration_ms": round(duration * 1000),
                "reason": self._reason,
            },
        )


def _plain_parts(response: bytes) -> tuple[str, str]:
    """User name and password of a PLAIN response (RFC 4616)."""
    parts = response.decode("utf-8", "replace").split("\0")
    return (parts[1], parts[2]) if len(parts) == PLAIN_PARTS else ("", "")


def _host_of(name: str) -> str:
    """The host of a host name, an audience or a URI, percent-encoded or not."""
    return resource_of(name).host if name else ""


def _rule_of(error: HubError) -> str:
    return error.refusal.rule if error.refusal is not None else error.code.wire_name


def _refused_user(name: str) -> HubError:
    return unauthorized(
        "auth.plain-user",
        name[:200],
        "use {policy}@sas.root.{hub} with a policy's token; devices connect by MQTT, port 8883",
    )


def _no_amqp(resource: Guarded) -> HubError:
    return unauthorized("name.unknown", resource.host_name, f"{resource.kind.word} does not speak AMQP", Hop.NAME)


def _protocol_fault(error: Error) -> HubError:
    refusal = Refusal(
        Hop.CONTRACT, "contract.protocol", f"{error.condition}: {error.description}", "Send what AMQP 1.0 allows."
    )
    return HubError(Code.GENERIC_BAD_REQUEST, "Protocol error", refusal)


def _too_large(size: int, bytes_max: int) -> HubError:
    refusal = Refusal(Hop.LIMIT, "limit.message-size", f"{size} bytes", f"Keep messages below {bytes_max} bytes.")
    return HubError(Code.MESSAGE_TOO_LARGE, "The message is too large.", refusal)
