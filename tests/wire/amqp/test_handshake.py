"""Protocol headers and SASL."""

import pytest

from isthmus.wire.amqp import performatives as p
from isthmus.wire.amqp.connection import Connection
from isthmus.wire.amqp.events import ConnectionClosed, Opened, SaslDone, SaslInit
from isthmus.wire.amqp.handshake import AMQP_HEADER, MECHANISMS, SASL_HEADER
from isthmus.wire.amqp.limits import SASL_PENDING_BYTES_MAX
from isthmus.wire.amqp.outlet import frame
from isthmus.wire.amqp.performatives import SaslCode
from wire.amqp.peers import Peers, feed

PLAIN = p.SaslChoice("PLAIN", b"\0user\0password", "hub.example")
OPEN = frame(0, p.Open("c").encode())
INIT = frame(0, PLAIN.encode(), sasl=True)


@pytest.mark.rule("AMQP-5.3.2", "AMQP-5.3.3.2")
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_each_mechanism_gives_its_credentials_to_the_application(mechanism: str) -> None:
    peers = Peers().open(p.SaslChoice(mechanism, b"secret", "hub.example"))
    assert peers.server_events[0] == SaslInit(mechanism, b"secret", "hub.example")
    assert peers.client_events[0] == SaslDone(SaslCode.OK)
    assert peers.server.opened
    assert peers.client.opened


def test_a_mechanism_may_come_without_a_response() -> None:
    peers = Peers().open(p.SaslChoice("MSSBCBS"))
    assert peers.server_events[0] == SaslInit("MSSBCBS", b"", "")


@pytest.mark.rule("AMQP-5.3.2", "AMQP-5.3.3.5", "AMQP-5.3.3.6")
def test_refused_credentials_finish_the_connection() -> None:
    peers = Peers()
    peers.on_server = lambda event: peers.server.sasl_refuse() if isinstance(event, SaslInit) else None
    peers.open(PLAIN)
    assert peers.client_events == [SaslDone(SaslCode.AUTH), ConnectionClosed(None, by_peer=False)]
    assert peers.server.finished
    assert peers.client.finished


@pytest.mark.rule("AMQP-5.3.3.2")
def test_a_mechanism_not_offered_is_refused() -> None:
    server = Connection("server", 0.0)
    told = feed(server, SASL_HEADER + frame(0, p.SaslChoice("GSSAPI").encode(), sasl=True))
    assert told == [ConnectionClosed(None, by_peer=False)]
    assert server.data_to_send().endswith(p.SaslOutcome(SaslCode.AUTH).encode())
    assert server.finished


@pytest.mark.rule("AMQP-2.4.2")
def test_what_comes_while_credentials_are_judged_waits() -> None:
    server = Connection("server", 0.0)
    assert [type(event) for event in feed(server, SASL_HEADER + INIT + AMQP_HEADER)] == [SaslInit]
    assert server.paused
    assert feed(server, OPEN, 1.0) == []
    server.sasl_accept()
    assert [type(event) for event in server.events()] == [Opened]
    assert not server.paused


def test_what_waits_is_limited() -> None:
    server = Connection("server", 0.0)
    feed(server, SASL_HEADER + INIT)
    feed(server, bytes(SASL_PENDING_BYTES_MAX + 1))
    assert server.finished


@pytest.mark.rule("AMQP-2.2")
@pytest.mark.parametrize(
    "header",
    [b"AMQP\x02\x01\x00\x00", b"AMQP\x00\x00\x09\x01", b"GET / HT", b"\x16\x03\x01\x02\x00\x01\x00\x01"],
    ids=repr,
)
def test_an_unknown_header_is_answered_by_ours_and_finishes(header: bytes) -> None:
    server = Connection("server", 0.0)
    assert [type(event) for event in feed(server, header)] == [ConnectionClosed]
    assert server.data_to_send() == SASL_HEADER
    assert server.finished


def test_sasl_is_not_done_twice() -> None:
    server = Connection("server", 0.0)
    feed(server, SASL_HEADER + INIT)
    server.sasl_accept()
    feed(server, SASL_HEADER)
    assert server.finished
    assert server.data_to_send().endswith(AMQP_HEADER)


@pytest.mark.rule("AMQP-5.3.1", "AMQP-5.3.2")
@pytest.mark.parametrize(
    "data",
    [
        SASL_HEADER + OPEN,
        SASL_HEADER + frame(0, p.SaslOutcome(SaslCode.OK).encode(), sasl=True),
        SASL_HEADER + frame(0, b"\x00\x53\x42\xc0\x03\x01\xa0\x00", sasl=True),
        SASL_HEADER + frame(0, b"nonsense", sasl=True),
        SASL_HEADER + frame(0, b"", sasl=True),
        SASL_HEADER + b"\xff" * 8,
    ],
    ids=["an open", "an outcome", "a challenge", "nonsense", "nothing", "no frame"],
)
def test_what_is_out_of_place_in_sasl_finishes(data: bytes) -> None:
    server = Connection("server", 0.0)
    feed(server, data)
    assert server.finished


def test_a_verdict_nobody_waits_for_does_nothing() -> None:
    peers = Peers().open()
    peers.server.sasl_accept()
    peers.server.sasl_refuse()
    peers.run()
    assert peers.client.opened


@pytest.mark.rule("AMQP-5.3.3.1")
def test_a_client_does_not_take_what_was_not_offered() -> None:
    client = Connection("client", 0.0)
    client.open(p.Open("client"), PLAIN)
    feed(client, SASL_HEADER + frame(0, p.SaslMechanisms(("ANONYMOUS",)).encode(), sasl=True))
    assert client.finished


def test_a_password_stays_out_of_the_event_s_text() -> None:
    assert "password" not in repr(SaslInit("PLAIN", PLAIN.initial_response or b"", "hub.example"))
