"""The stack of a carried connection in memory: whatever the cuts, the same bytes, guard calls and end."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isthmus.servers.gateway.link_layer import HELLO_BYTES_MAX, LinkEnded, LinkLayer, Role
from isthmus.wire.proxy_protocol import ProxyHeader, ProxyHeaderError, encode_header
from isthmus.wire.tls import Layer, LinkContexts, ServerContexts, TlsLayer, link_context, server_context
from isthmus.wire.tls_error import TlsError
from servers.front_door import client_context
from support.certificates import Issued, issue, write_pem

HEADER = ProxyHeader("10.1.0.77", 50_000, "10.1.0.4", 8_883)
OPEN_NAME = "enrol.test"
FLIGHTS_MAX = 12


@dataclass
class Guard:
    """Lets everybody in as what he says, and remembers what it was asked; `refuses` names a call that ends."""

    inner: ServerContexts
    refuses: str = ""
    calls: list[object] = field(default_factory=list)

    def presented(self, chain: tuple[bytes, ...], protocol: str, *, enrolling: bool) -> Role:
        self._note("presented", len(chain), protocol, enrolling)
        return Role.ENROLLING if enrolling else Role.CONTROL if protocol else Role.CARRYING

    def begun(self) -> None:
        self._note("begun")

    def malformed(self, error: ProxyHeaderError) -> NoReturn:
        self.calls.append(str(error))
        raise LinkEnded("malformed")

    def carries(self, header: ProxyHeader) -> Layer:
        self._note("carries", header)
        return self.inner.layer()

    def _note(self, name: str, *what: object) -> None:
        self.calls.append((name, *what))
        if name == self.refuses:
            raise LinkEnded(name)


@dataclass(frozen=True, slots=True)
class Link:
    """A link door's contexts, and a connector's certificate."""

    outer: LinkContexts
    inner: ServerContexts
    certificate: Path
    issued: Issued

    def layer(self, refuses: str = "") -> tuple[LinkLayer, Guard]:
        guard = Guard(self.inner, refuses)
        return LinkLayer(self.outer, guard), guard

    def dial(self, name: str = "hub.test", protocol: str = "", *, certificate: bool = True) -> TlsLayer:
        context = client_context(None, self.certificate if certificate else None)
        if protocol:
            context.set_alpn_protocols([protocol])
        return TlsLayer(context, server_side=False, server_name=name)


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory) -> Link:
    folder = tmp_path_factory.mktemp("link")
    authority = issue("connectors", authority=True)
    trusted = folder / "trusted.pem"
    trusted.write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    server = str(write_pem(folder / "server.pem", issue("hub")))
    strict = link_context(server, trusted=str(trusted), protocols=["control"])
    connector = issue("plant-a", authority)
    return Link(
        LinkContexts(strict, OPEN_NAME, link_context(server, trusted=None, protocols=[])),
        ServerContexts(server_context(server, request_client_certificate=True)),
        write_pem(folder / "connector.pem", connector),
        connector,
    )


def feed(layer: LinkLayer, data: bytes, cuts: list[int]) -> bytes:
    """What the layer makes of the bytes, cut at some of the places."""
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return b"".join(
        layer.receive(data[start:end]) for start, end in zip([0, *places], [*places, len(data)], strict=True)
    )


def meet(layer: LinkLayer, outer: TlsLayer, cuts: list[int]) -> None:
    """The outer handshake."""
    for _ in range(FLIGHTS_MAX):
        flight = outer.outgoing()
        if flight:
            feed(layer, flight, cuts)
        outer.receive(layer.outgoing())


def send_header(layer: LinkLayer, outer: TlsLayer) -> None:
    """A header behind the outer handshake."""
    meet(layer, outer, [])
    outer.send(encode_header(HEADER))
    layer.receive(outer.outgoing())


def is_established(layer: LinkLayer) -> bool:
    """What the layer says now."""
    return layer.established


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 5_000), max_size=6), st.binary(max_size=40_000), st.binary(max_size=40_000))
def test_however_the_bytes_are_cut_the_same_is_carried(link: Link, cuts: list[int], up: bytes, down: bytes) -> None:
    layer, guard = link.layer()
    outer, inner = link.dial(), TlsLayer(client_context(), server_side=False, server_name="hub.test")
    meet(layer, outer, cuts)
    assert not is_established(layer)
    outer.send(encode_header(HEADER))
    for _ in range(FLIGHTS_MAX):
        flight = inner.outgoing()
        if flight:
            outer.send(flight)
        assert feed(layer, outer.outgoing(), cuts) == b""
        inner.receive(outer.receive(layer.outgoing()))
    assert layer.established
    assert guard.calls == [("presented", 1, "", False), ("begun",), ("carries", HEADER)]
    assert (layer.server_name, layer.version, layer.peer_chain) == ("hub.test", "TLSv1.3", ())

    inner.send(up)
    outer.send(inner.outgoing())
    assert feed(layer, outer.outgoing(), cuts) == up
    layer.send(down)
    assert inner.receive(outer.receive(layer.outgoing())) == down
    inner.finish()
    outer.send(inner.outgoing())
    feed(layer, outer.outgoing(), cuts)
    assert layer.ended
    layer.finish()
    inner.receive(outer.receive(layer.outgoing()))
    assert inner.ended
    assert outer.ended


@pytest.mark.parametrize(
    ("name", "protocol", "certificate", "call"),
    [
        ("hub.test", "control", True, ("presented", 1, "control", False)),
        (OPEN_NAME, "", False, ("presented", 0, "", True)),
        (OPEN_NAME.upper(), "control", True, ("presented", 0, "", True)),
    ],
)
def test_a_connection_that_carries_nobody_is_its_own_stream(
    link: Link, name: str, protocol: str, certificate: bool, call: object
) -> None:
    layer, guard = link.layer()
    outer = link.dial(name, protocol, certificate=certificate)
    meet(layer, outer, [7, 300])
    outer.send(b"hello")

    assert layer.receive(outer.outgoing()) == b"hello"
    assert layer.established
    assert guard.calls == [call]
    layer.send(b"answer")
    assert outer.receive(layer.outgoing()) == b"answer"


def test_without_a_name_a_certificate_is_asked_for(link: Link) -> None:
    layer, _ = link.layer()
    context = client_context()
    outer = TlsLayer(context, server_side=False)
    with pytest.raises(TlsError, match="peer did not return a certificate"):
        meet(layer, outer, [])


@pytest.mark.parametrize("station", ["presented", "begun", "carries"])
def test_where_the_guard_ends_it_the_peer_hears_a_goodbye_and_nothing_else(link: Link, station: str) -> None:
    layer, guard = link.layer(station)
    outer = link.dial()
    with pytest.raises(LinkEnded, match=station):
        send_header(layer, outer)

    assert outer.receive(layer.outgoing()) == b""
    assert outer.ended
    assert isinstance(guard.calls[-1], tuple)
    assert guard.calls[-1][0] == station


def test_what_is_no_header_ends_it(link: Link) -> None:
    layer, guard = link.layer()
    outer = link.dial()
    meet(layer, outer, [])
    outer.send(b"\x16\x03\x01")
    with pytest.raises(LinkEnded, match="malformed"):
        layer.receive(outer.outgoing())

    assert "signature" in str(guard.calls[-1])


def test_a_device_that_speaks_no_tls_ends_it_and_is_told(link: Link) -> None:
    layer, _ = link.layer()
    outer = link.dial()
    meet(layer, outer, [])
    outer.send(encode_header(HEADER) + b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(TlsError, match="http request"):
        layer.receive(outer.outgoing())


def test_a_handshake_that_never_says_for_whom_is_given_up(link: Link) -> None:
    layer, _ = link.layer()
    record = b"\x16\x03\x01\x40\x00\x01\x01\x00\x00" + bytes(16_380)
    with pytest.raises(TlsError):
        feed(layer, record * (HELLO_BYTES_MAX // len(record) + 2), list(range(0, 100_000, len(record))))
