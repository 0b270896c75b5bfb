"""Which statements of MQTT 3.1.1 the engine obeys, and that each one it enforces is broken by a test."""

import re
from pathlib import Path

import pytest

import isthmus.wire.mqtt
from isthmus.wire.mqtt.errors import ConnectCode
from isthmus.wire.mqtt.events import Failed
from isthmus.wire.mqtt.packets import ConnAck, Connect, encode
from isthmus.wire.mqtt.session import ServerSession, SessionState
from wire.cases.mqtt import BAD, connect

ENGINE = Path(isthmus.wire.mqtt.__file__).parent
TESTS = Path(__file__).parent
TAG = re.compile(r"\[(MQTT-\d+\.\d+\.\d+-\d+)\]")
ENFORCED = re.compile(r'ProtocolError\(\s*"(MQTT-[\d.]+-\d+|limit)"')

OBEYED = {
    "MQTT-1.5.3-1",
    "MQTT-2.3.1-4",
    "MQTT-2.3.1-6",
    "MQTT-2.3.1-7",
    "MQTT-3.1.2-24",
    "MQTT-3.1.4-4",
    "MQTT-3.1.4-5",
    "MQTT-3.2.0-1",
    "MQTT-3.2.2-4",
    "MQTT-3.2.2-5",
    "MQTT-3.3.1-9",
    "MQTT-3.8.4-1",
    "MQTT-3.10.4-4",
    "MQTT-3.10.4-5",
    "MQTT-3.12.4-1",
    "MQTT-4.6.0-2",
    "MQTT-4.8.0-1",
}
"""What a server has to do; each is tagged at the line that does it."""


def source() -> str:
    """The engine's text."""
    return "".join(path.read_text() for path in sorted(ENGINE.glob("*.py")))


@pytest.mark.parametrize("rule", sorted(set(ENFORCED.findall(source()))))
def test_each_enforced_rule_is_broken_by_a_test(rule: str) -> None:
    named = "".join(path.read_text() for path in TESTS.glob("test_*.py") if path != Path(__file__))

    assert rule in {case.rule for case in BAD} or f'"{rule}"' in named


def test_each_rule_to_obey_is_tagged() -> None:
    assert set(TAG.findall(source())) >= OBEYED


ID = b"\x00\x02d1"
WILL = b"\x00\x01t\x00\x02hi"
BROKEN = {
    "3.1.2-9, will flag and no will": (connect(0x06, ID), "MQTT-4.8.0-1"),
    "3.1.2-9, will flag and no will message": (connect(0x06, ID + b"\x00\x01t"), "MQTT-4.8.0-1"),
    "3.1.2-11, will and no will flag": (connect(0x02, ID + WILL), "MQTT-4.8.0-1"),
    "3.1.2-13, will QoS and no will flag": (connect(0x12, ID), "MQTT-3.1.2-11"),
    "3.1.2-15, will retain and no will flag": (connect(0x22, ID), "MQTT-3.1.2-11"),
    "3.1.2-18, user name and no flag": (connect(0x02, ID + b"\x00\x01u"), "MQTT-4.8.0-1"),
    "3.1.2-19, flag and no user name": (connect(0x82, ID), "MQTT-4.8.0-1"),
    "3.1.2-20, password and no flag": (connect(0x82, ID + b"\x00\x01u\x00\x01p"), "MQTT-4.8.0-1"),
    "3.1.2-21, flag and no password": (connect(0xC2, ID + b"\x00\x01u"), "MQTT-4.8.0-1"),
    "3.1.3-3, no client id": (connect(0x02, b""), "MQTT-4.8.0-1"),
    "3.1.3-4, client id that is no text": (connect(0x02, b"\x00\x02\xff\xfe"), "MQTT-1.5.3-1"),
    "3.1.3-10, will topic that is no text": (connect(0x06, ID + b"\x00\x01\xff\x00\x00"), "MQTT-1.5.3-1"),
    "3.1.3-11, user name that is no text": (connect(0x82, ID + b"\x00\x01\xff"), "MQTT-1.5.3-1"),
}
"""CONNECT packets by the statement of section 3.1 that they break, and the rule that the engine names."""


@pytest.mark.rule("MQTT-3.1.2-9", "MQTT-3.1.2-11", "MQTT-3.1.2-13", "MQTT-3.1.2-15", "MQTT-3.1.2-18", "MQTT-3.1.2-19")
@pytest.mark.rule("MQTT-3.1.2-20", "MQTT-3.1.2-21", "MQTT-3.1.3-3", "MQTT-3.1.3-4", "MQTT-3.1.3-10", "MQTT-3.1.3-11")
@pytest.mark.rule("MQTT-3.1.4-1")
@pytest.mark.parametrize(("data", "rule"), BROKEN.values(), ids=BROKEN)
def test_a_connect_that_breaks_its_section_is_closed_without_an_answer(data: bytes, rule: str) -> None:
    server = session()
    (failed,) = server.receive(data, 0.0)

    assert isinstance(failed, Failed)
    assert failed.error.rule == rule
    assert server.take_output() == b""
    assert server.state is SessionState.CLOSED


@pytest.mark.rule("MQTT-3.1.3-5")
@pytest.mark.parametrize("client_id", ["0", "0123456789abcdefghijklm", "nopqrstuvwxyzABCDEFGHIJ", "KLMNOPQRSTUVWXYZ"])
def test_every_plain_client_id_is_taken(client_id: str) -> None:
    assert session().receive(encode(Connect(client_id)), 0.0) == [Connect(client_id)]


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        pytest.param(b"\x60\x02\x00\x07", "MQTT-2.2.2-2", marks=pytest.mark.rule("MQTT-3.6.1-1")),
        pytest.param(b"\x80\x06\x00\x01\x00\x01a\x01", "MQTT-2.2.2-2", marks=pytest.mark.rule("MQTT-3.8.1-1")),
        pytest.param(b"\xa0\x05\x00\x01\x00\x01a", "MQTT-2.2.2-2", marks=pytest.mark.rule("MQTT-3.10.1-1")),
        pytest.param(b"\xe1\x00", "MQTT-2.2.2-2", marks=pytest.mark.rule("MQTT-3.14.1-1")),
        pytest.param(b"\x82\x06\x00\x01\x00\x01\xff\x01", "MQTT-1.5.3-1", marks=pytest.mark.rule("MQTT-3.8.3-1")),
        pytest.param(b"\xa2\x05\x00\x01\x00\x01\xff", "MQTT-1.5.3-1", marks=pytest.mark.rule("MQTT-3.10.3-1")),
        pytest.param(b"\x82\x06\x00\x01\x00\x01\x00\x01", "MQTT-1.5.3-2", marks=pytest.mark.rule("MQTT-4.7.3-2")),
        pytest.param(b"\x30\x05\x00\x03a/+", "MQTT-3.3.2-2", marks=pytest.mark.rule("MQTT-4.7.1-1")),
    ],
)
def test_a_packet_that_breaks_its_section_closes_the_connection(data: bytes, rule: str) -> None:
    server = session()
    server.receive(encode(Connect("d")), 0.0)
    connack, _ = server.accept(keep_alive=0, session_present=False, now=0.0)
    (failed,) = server.receive(data, 0.0)

    assert connack == encode(ConnAck(False, ConnectCode.ACCEPTED))
    assert isinstance(failed, Failed)
    assert failed.error.rule == rule
    assert server.state is SessionState.CLOSED


def session() -> ServerSession:
    """A connection on which nothing was said yet."""
    return ServerSession(
        0.0, remaining_length_max=400_000, silence_seconds_max=1767.0, inbound_window_max=4, outbound_window_max=3
    )
