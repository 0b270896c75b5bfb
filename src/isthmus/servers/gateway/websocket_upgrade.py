"""From a request to a WebSocket: which paths and sub-protocols there are, and how the socket changes hands.

The upgrade asks nobody who he is and which hub exists: whatever the Host header says, the answer is the same, and the
names are judged together with those inside the WebSocket, by the pump. Only what cannot become a WebSocket of a known
sub-protocol is refused here. The plane of everything inside is the protocol's, MQTT or AMQP; the journal says
`websocket` beside it.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, cast

from aiohttp import web

from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.ids import TrackingId
from isthmus.resources.guarded import Guarded
from isthmus.servers.gateway.gate import Peer
from isthmus.servers.gateway.http_transport import ConnectionTransport
from isthmus.servers.gateway.plane import Plane
from isthmus.servers.gateway.ports import Timers
from isthmus.servers.gateway.websocket import Pump, WebSocketConnection
from isthmus.wire.websocket.handshake import HandshakeError, NoProtocolError, Opening, open_server
from isthmus.wire.websocket.stream import CloseCode, FrameError

MQTT = "mqtt"
"""The sub-protocol of MQTT [MQTT-6.0.0-3]."""

AMQP = "AMQPWSB10"
"""The sub-protocol of AMQP 1.0 (AMQP 1.0 WebSocket Binding §2.1, in the name that Azure's SDKs offer)."""

PATHS: Mapping[str, frozenset[str]] = {
    "$iothub": frozenset((MQTT, AMQP)),
    "$servicebus": frozenset((AMQP,)),
}
"""First segment of the path, and what is spoken there; the second segment is `websocket`."""

OFFER_CHARACTERS_MAX = 200
"""Of the sub-protocols a client offered, in the journal."""


class NamingGate(Protocol):
    """The judgement at the door; `gate.Gate` is it."""

    def find(self, connection: Peer, plane: Plane, *names: str) -> Guarded:
        """The resource that all names mean."""

    def refused(self, connection: Peer, plane: Plane, hub_name: str, device: str, error: HubError) -> TrackingId:
        """Journals a refusal."""


@dataclass(frozen=True, slots=True)
class SubProtocol:
    """What is spoken inside a WebSocket."""

    plane: Plane
    make_pump: Callable[[], Pump]


class WebSockets:
    """Turns requests into WebSockets."""

    def __init__(
        self,
        gate: NamingGate,
        spoken: Mapping[str, SubProtocol],
        timers: Callable[[], Timers] = asyncio.get_running_loop,
    ) -> None:
        self._gate = gate
        self._spoken = spoken
        self._timers = timers

    def resource_name(self, connection: Peer, names: tuple[str, ...]) -> str:
        """The resource that a request means, for the journal; empty when that is unclear."""
        with suppress(HubError):
            return self._gate.find(connection, Plane.HTTPS, *names).name
        return ""

    def upgrade(self, request: web.BaseRequest, path: str, names: tuple[str, ...]) -> None:
        """Answers, and hands the connection over: the request must not be answered again.

        `path` is a key of `PATHS`, `names` are the host names in the request. Raises HubError with rule
        `contract.websocket` or `contract.websocket-protocol`; the connection is still HTTP's then.
        """
        opening = _opening(request, PATHS[path])
        transport = request.transport
        if not isinstance(transport, ConnectionTransport) or transport.is_closing():
            raise HubError(Code.SERVICE_UNAVAILABLE, "The connection is gone")
        spoken = self._spoken[opening.protocol]
        connection = transport.connection
        websocket = WebSocketConnection(spoken.make_pump(), connection, names, self._timers(), self._fault_of(spoken))
        early = _early_bytes(request)
        connection.write(opening.answer)
        transport.hand_over(websocket, early)

    def _fault_of(self, spoken: SubProtocol) -> Callable[[WebSocketConnection, FrameError], None]:
        def journal(websocket: WebSocketConnection, fault: FrameError) -> None:
            resource_name = self.resource_name(websocket, ())
            self._gate.refused(websocket, spoken.plane, resource_name, "", _fault(fault))

        return journal


class _EarlyBytes:
    """Takes what the client sent behind its request, before it had the answer."""

    def __init__(self) -> None:
        self.data = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.data += data
        return False, b""

    def feed_eof(self) -> None:
        """Nothing is kept back."""


def _early_bytes(request: web.BaseRequest) -> bytes:
    """What aiohttp keeps for whoever reads the upgraded connection, which it gives to a parser only."""
    taking = _EarlyBytes()
    request.protocol.set_parser(cast(Any, taking))
    return taking.data


def _opening(request: web.BaseRequest, spoken: frozenset[str]) -> Opening:
    if request.body_exists:
        raise _no_websocket("the request has a body")
    try:
        return open_server(lambda name: ",".join(request.headers.getall(name, ())), spoken)
    except NoProtocolError as error:
        offered = str(error)[:OFFER_CHARACTERS_MAX] or "none"
        remedy = f"Offer the sub-protocol {' or '.join(sorted(spoken, reverse=True))} at this path."
        refusal = Refusal(Hop.CONTRACT, "contract.websocket-protocol", offered, remedy)
        raise HubError(Code.GENERIC_BAD_REQUEST, "No sub-protocol in common", refusal) from error
    except HandshakeError as error:
        raise _no_websocket(str(error)) from error


def _no_websocket(value: str) -> HubError:
    remedy = "Open a WebSocket of version 13 (RFC 6455); what is between must pass Connection and Upgrade on."
    return HubError(
        Code.GENERIC_BAD_REQUEST, "Not a WebSocket", Refusal(Hop.CONTRACT, "contract.websocket", value, remedy)
    )


def _fault(fault: FrameError) -> HubError:
    if fault.code is CloseCode.TOO_LARGE:
        refusal = Refusal(Hop.LIMIT, "limit.websocket-frame", str(fault), "Send smaller frames.")
        return HubError(Code.ENTITY_TOO_LARGE, "The frame is too large", refusal)
    refusal = Refusal(Hop.CONTRACT, "contract.websocket", str(fault), "Send what RFC 6455 allows.")
    return HubError(Code.GENERIC_BAD_REQUEST, "Protocol error", refusal)
