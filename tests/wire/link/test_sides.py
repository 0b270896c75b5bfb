"""Hub and connector talk to each other in memory."""

import pytest

from isthmus.wire.link.connector_side import ConnectorEnrolment, LinkDead
from isthmus.wire.link.framing import LinkProtocolError, encode_message
from isthmus.wire.link.hub_side import CHECKS_MAX, HubEnrolment, LinkRefused
from isthmus.wire.link.messages import (
    DEAD_SECONDS,
    HEARTBEAT_SECONDS,
    Certificate,
    Check,
    ConnectorMessage,
    Drain,
    EndpointSetup,
    EndpointStatus,
    Enrol,
    HubMessage,
    Ping,
    Pong,
    RefusalCode,
    Refused,
    Renew,
    Result,
    Setup,
    Status,
)
from wire.link.peers import Peers, greeting


def test_a_connector_greets_and_is_set_up() -> None:
    peers = Peers()
    setup = Setup(generation=1, endpoints=(EndpointSetup(address="10.1.0.4", ports=(8883,), name="pe"),))

    assert peers.to_hub() == [greeting()]
    assert peers.hub.hello == greeting()
    peers.hub.send(setup)
    assert peers.to_connector() == [setup]
    assert peers.connector.setup == setup


def test_a_later_setup_replaces_the_one_before_and_is_reported_on() -> None:
    peers = Peers().live()
    status = Status(generation=2, endpoints=(EndpointStatus(address="10.1.0.4", listening=True, ports=(443,)),))

    peers.hub.send(Setup(generation=2))
    assert peers.to_connector() == [Setup(generation=2)]
    peers.connector.report(status)
    assert peers.to_hub() == [status]


def test_a_ping_is_answered_before_the_middle_boxes_forget() -> None:
    peers = Peers().live()
    peers.now += HEARTBEAT_SECONDS
    assert peers.connector.next_tick == peers.now

    peers.connector.tick(peers.now)
    assert peers.to_hub() == []
    assert peers.hub.deadline == peers.now + DEAD_SECONDS
    assert peers.to_connector() == []
    assert peers.connector.next_tick == peers.now + HEARTBEAT_SECONDS


def test_a_tick_that_comes_early_says_nothing() -> None:
    peers = Peers().live()

    peers.connector.tick(peers.now + HEARTBEAT_SECONDS - 0.1)
    assert peers.connector.data_to_send() == b""


def test_a_silent_hub_is_dead() -> None:
    peers = Peers().live()
    silent = peers.now
    while peers.connector.next_tick < silent + DEAD_SECONDS:
        peers.connector.tick(peers.connector.next_tick)

    with pytest.raises(LinkDead):
        peers.connector.tick(peers.connector.next_tick)


def test_a_connectors_every_word_is_a_sign_of_life() -> None:
    peers = Peers().live()
    peers.now += 50
    peers.connector.report(Status(generation=1))
    peers.to_hub()

    assert peers.hub.deadline == peers.now + DEAD_SECONDS


@pytest.mark.parametrize("answer", [Certificate(pem="P", ca_pem="C"), Refused(code=RefusalCode.REQUEST, message="no")])
def test_a_certificate_is_renewed_or_refused_and_one_request_waits_at_a_time(answer: HubMessage) -> None:
    peers = Peers().live()

    peers.connector.renew("CSR")
    peers.connector.renew("CSR again")
    assert peers.to_hub() == [Renew(csr="CSR")]
    peers.hub.send(answer)
    assert peers.to_connector() == [answer]
    peers.connector.renew("CSR later")
    assert peers.to_hub() == [Renew(csr="CSR later")]


def test_checks_and_their_results_belong_together() -> None:
    peers = Peers().live()
    first, second = peers.hub.check({"plane": "mqtt"}), peers.hub.check({"plane": "amqp"})
    assert first is not None
    assert second is not None
    assert peers.to_connector() == [
        Check(id=first, request={"plane": "mqtt"}),
        Check(id=second, request={"plane": "amqp"}),
    ]

    peers.connector.answer(second, ok=False, body={"why": "closed"})
    peers.connector.answer(first, ok=True, body={})
    peers.connector.answer(first, ok=True, body={"said": "twice"})
    assert peers.to_hub() == [Result(id=second, ok=False, body={"why": "closed"}), Result(id=first, ok=True, body={})]


def test_too_many_checks_are_not_asked() -> None:
    peers = Peers().live()
    asked = [peers.hub.check({}) for _ in range(CHECKS_MAX + 1)]

    assert asked[-1] is None
    assert None not in asked[:-1]
    peers.to_connector()
    peers.connector.answer(1, ok=True, body={})
    peers.to_hub()
    assert peers.hub.check({}) is not None


def test_a_hub_that_stops_says_so() -> None:
    peers = Peers().live()
    peers.hub.drain()

    assert peers.to_connector() == [Drain()]


@pytest.mark.parametrize(
    ("hello", "code"),
    [(greeting(name="plant-b"), RefusalCode.NAME), (greeting(version=2), RefusalCode.VERSION)],
)
def test_a_hello_that_cannot_be_accepted_is_refused(hello: ConnectorMessage, code: str) -> None:
    peers = Peers()

    with pytest.raises(LinkRefused) as refused:
        peers.hub.receive(encode_message(hello), peers.now)
    assert refused.value.refused.code == code
    assert peers.to_connector() == [refused.value.refused]


@pytest.mark.parametrize(
    "said",
    [
        pytest.param([Ping(n=1)], id="no hello"),
        pytest.param([greeting(), greeting()], id="two hellos"),
        pytest.param([greeting(), Enrol(token_secret="s", csr="c")], id="an enrolment"),
        pytest.param([greeting(), Result(id=1, ok=True, body={})], id="a result of nothing"),
    ],
)
def test_a_connector_that_breaks_a_rule_hears_of_it(said: list[ConnectorMessage]) -> None:
    peers = Peers()

    with pytest.raises(LinkProtocolError):
        peers.hub.receive(b"".join(encode_message(message) for message in said), peers.now)
    refused = peers.to_connector()[-1]
    assert isinstance(refused, Refused)
    assert refused.code == RefusalCode.PROTOCOL


@pytest.mark.parametrize(
    "said",
    [
        pytest.param([Pong(n=1)], id="a pong first"),
        pytest.param([Setup(generation=1), Pong(n=1)], id="a pong of nothing"),
        pytest.param([Setup(generation=2), Setup(generation=2)], id="a setup twice"),
        pytest.param([Setup(generation=2), Setup(generation=1)], id="a setup of yesterday"),
    ],
)
def test_a_hub_that_breaks_a_rule_is_left(said: list[HubMessage]) -> None:
    peers = Peers()

    with pytest.raises(LinkProtocolError):
        peers.connector.receive(b"".join(encode_message(message) for message in said), peers.now)


@pytest.mark.parametrize("answer", [Certificate(pem="P", ca_pem="C"), Refused(code=RefusalCode.TOKEN, message="used")])
def test_an_enrolment_is_a_question_and_an_answer(answer: HubMessage) -> None:
    hub, connector = HubEnrolment(), ConnectorEnrolment("secret", "CSR")

    heard = [hub.receive(bytes((byte,))) for byte in connector.request]
    assert [message for message in heard if message is not None] == [Enrol(token_secret="secret", csr="CSR")]
    told = [connector.receive(bytes((byte,))) for byte in encode_message(answer)]
    assert [message for message in told if message is not None] == [answer]


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(encode_message(greeting()), id="a hello"),
        pytest.param(encode_message(Enrol(token_secret="s", csr="c")) + b"\x00", id="something behind it"),
        pytest.param(b"GET / HTTP/1.1\r\n", id="HTTP"),
    ],
)
def test_an_enrolment_takes_nothing_else(sent: bytes) -> None:
    with pytest.raises(LinkProtocolError):
        HubEnrolment().receive(sent)


def test_nothing_comes_behind_an_enrolment() -> None:
    hub = HubEnrolment()
    hub.receive(encode_message(Enrol(token_secret="s", csr="c")))

    with pytest.raises(LinkProtocolError):
        hub.receive(b"\x00")


def test_the_answer_to_an_enrolment_is_nothing_else() -> None:
    with pytest.raises(LinkProtocolError):
        ConnectorEnrolment("secret", "CSR").receive(encode_message(Drain()))
