"""The AMQP pump: one connection, from the protocol header to its last link.

Theory of operation. The engine (`wire.amqp`) turns bytes into events; the pump answers each event at once or starts
work for it, and writes what the engine then has to say in one piece. Who the peer is comes from SASL PLAIN, or from
tokens put to `$cbs`; every proof enters the session index as a session of its own, so that a change of rules, keys or
doors cuts exactly the connections it concerns. A link is judged when it attaches: the hub the open frame (or SNI)
named, the node its address means, the right that node asks for, and the scope of the token. One timer serves the
engine's deadlines and the end of tokens.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final

from isthmus.access.refusals import unauthorized
from isthmus.access.sas import resource_of
from isthmus.base.clock import Clock
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.ids import HubId
from isthmus.resources.hub import Hub
from isthmus.servers.gateway.amqp_links import LinkHandler, error_of
from isthmus.servers.gateway.amqp_nodes import Nodes
from isthmus.servers.gateway.amqp_replies import Replies
from isthmus.servers.gateway.amqp_tokens import NEVER, Proofs
from isthmus.servers.gateway.connection import WRITE_HIGH_BYTES, Connection
from isthmus.servers.gateway.gate import Admitted, Gate
from isthmus.servers.gateway.plain import parse_plain_user
from isthmus.servers.gateway.plane import Plane
from isthmus.servers.gateway.sessions import Sessions
from isthmus.wire.amqp.connection import Connection as Engine
from isthmus.wire.amqp.errors import Condition
from isthmus.wire.amqp.events import (
    ConnectionClosed,
    CreditGranted,
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

logger = logging.getLogger(__name__)


class AmqpPump:
    """Carries one AMQP connection of devices' services and readers; use it on its loop only."""

    def __init__(self, gate: Gate, sessions: Sessions, nodes: Nodes, clock: Clock) -> None:
        self._gate = gate
        self._nodes = nodes
        self._clock = clock
        self._engine = Engine(container_id=CONTAINER_ID, now=clock.monotonic())
        self._proofs = Proofs(self, sessions, clock)
        self.replies = Replies()
        self._handlers: dict[Link, LinkHandler] = {}
        self._work: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._hub: Hub | None = None
        self._reason = ""
        self.connection: Connection

    # The connection's side.

    def opened(self, connection: Connection) -> None:
        self.connection = connection
        self._arm()

    def received(self, data: bytes) -> None:
        self._engine.receive(data, self._clock.monotonic())
        self._handle_events()

    def writable(self) -> None:
        for handler in list(self._handlers.values()):
            handler.writable()

    def closed(self, reason: str) -> None:
        self._reason = self._reason or reason
        for work in self._work:
            work.cancel()
        self._engine.lost()
        for event in self._engine.events():
            self._handle(event)
        self._proofs.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._log_end()

    # The links' side (see `amqp_links.Pump`).

    @property
    def congested(self) -> bool:
        return self.connection.buffered > WRITE_HIGH_BYTES

    def flush(self) -> None:
        if data := self._engine.data_to_send():
            self.connection.write(data)
        self._arm()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._finished)

    def refused(self, error: HubError, device: str = "") -> Error:
        proof = self._proofs.latest
        principal = proof.principal.label if proof else ""
        hub_name = self._hub.name if self._hub else ""
        tracking_id = self._gate.refused(self.connection, Plane.AMQP, hub_name, device, error, principal=principal)
        return error_of(error, tracking_id)

    def proof_for(self, hub: HubId, path: str) -> Admitted | None:
        return self._proofs.for_path(hub, path)

    async def put_token(self, token: str, audience: str) -> None:
        """Judges a put-token of `$cbs`; raises HubError, already journaled by nobody."""
        hub = self._the_hub(audience)
        built_in = self._nodes.is_built_in(audience)
        admitted = await self._gate.token(self.connection, Plane.AMQP, hub, token, audience, built_in=built_in)
        self._proofs.add(audience, admitted)
        self._gate.admitted(self.connection, Plane.AMQP, admitted)
        self._arm()

    def cut(self, refusal: Refusal, code: Code) -> None:
        """Says why in AMQP's words and closes the connection."""
        self._reason = refusal.rule
        self.refused(HubError(code, "Unauthorized access.", refusal))
        self.close(Error(str(Condition.UNAUTHORIZED_ACCESS), "Unauthorized access."))

    def close(self, error: Error | None) -> None:
        """Closes the AMQP connection, then the socket."""
        self._engine.close(error)
        self.flush()
        self.connection.close()

    # The engine's side.

    def _handle_events(self) -> None:
        for event in self._engine.events():
            self._handle(event)
        self.flush()
        if self._engine.finished:
            self.connection.close()
        elif self._engine.paused:
            self.connection.pause_reading()
        else:
            self.connection.resume_reading()

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
            case LinkAttached(link):
                self._attach(link)
            case LinkDetached(link=link):
                if handler := self._handlers.pop(link, None):
                    handler.detached()
            case SaslInit():
                self.spawn(self._authenticate(event))
            case Opened():
                self._open(event)
            case ConnectionClosed(error=error):
                self._reason = self._reason or (error.condition if error else "closed by the peer")
            case _:
                pass

    def _open(self, opened: Opened) -> None:
        try:
            self._hub = self._gate.resolve(self.connection, Plane.AMQP, opened.hostname, *self._hosts_known())
        except HubError as error:
            self.close(self.refused(error))

    def _attach(self, link: Link) -> None:
        try:
            handler = self._nodes.attach(link, self, self._the_hub)
        except HubError as error:
            link.refuse(self.refused(error))
            return
        if handler is not None:
            self._handlers[link] = handler

    async def _authenticate(self, init: SaslInit) -> None:
        """PLAIN proves somebody at once; the other mechanisms leave that to `$cbs`."""
        if init.mechanism == "PLAIN":
            try:
                await self._plain(init)
            except HubError as error:
                self.refused(error)
                self._engine.sasl_refuse()
                self._handle_events()
                return
        self._engine.sasl_accept()
        self._handle_events()

    async def _plain(self, init: SaslInit) -> None:
        name, password = _plain_parts(init.response)
        user = parse_plain_user(name)
        if user is None or user.device_id:
            raise _refused_user(name)
        hub = self._the_hub(self._gate.host_of_label(user.hub), init.hostname)
        admitted = await self._gate.plain(self.connection, Plane.AMQP, hub, user, password)
        self._proofs.add(hub.host_name, admitted)
        self._gate.admitted(self.connection, Plane.AMQP, admitted)

    def _the_hub(self, *names: str) -> Hub:
        """The hub that everything said so far names."""
        known = (self._hub.host_name,) if self._hub else ()
        return self._gate.resolve(self.connection, Plane.AMQP, *known, *(_host_of(name) for name in names))

    def _hosts_known(self) -> tuple[str, ...]:
        proof = self._proofs.latest
        return (proof.hub.host_name,) if proof else ()

    # Time and ends.

    def _arm(self) -> None:
        engine = self._engine.next_deadline
        deadline = min(NEVER if engine is None else engine, self._proofs.next_deadline())
        if self._timer is not None:
            if self._timer.when() <= deadline:
                return
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        delay = max(0.0, deadline - self._clock.monotonic())
        self._timer = loop.call_later(delay, self._tick) if deadline < NEVER else None

    def _tick(self) -> None:
        self._timer = None
        if self._proofs.expired():
            expired = Refusal(Hop.AUTHENTICATION, "auth.expired", "token", "put a new token before the old one ends")
            self.cut(expired, Code.UNAUTHORIZED_ACCESS)
            return
        self._engine.tick(self._clock.monotonic())
        self._handle_events()

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        if task.cancelled() or (failure := task.exception()) is None:
            return
        logger.error("amqp work failed", exc_info=failure, extra={"connection_id": self.connection.connection_id})
        self.close(Error(str(Condition.INTERNAL_ERROR), "The service failed."))

    def _log_end(self) -> None:
        proof = self._proofs.latest
        logger.info(
            "connection ended",
            extra={
                "hub": self._hub.name if self._hub else "",
                "plane": Plane.AMQP.value,
                "principal": proof.principal.label if proof else "",
                "door": self.connection.door.label,
                "address": self.connection.peer_address,
                "connection_id": self.connection.connection_id,
                "duration_ms": round((self._clock.monotonic() - self.connection.opened_monotonic) * 1000),
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


def _refused_user(name: str) -> HubError:
    return unauthorized(
        "auth.plain-user",
        name[:200],
        "use {policy}@sas.root.{hub} with a policy's token; devices connect by MQTT, port 8883",
    )
