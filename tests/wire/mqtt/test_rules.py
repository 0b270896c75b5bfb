"""Which statements of MQTT 3.1.1 the engine obeys, and that each one it enforces is broken by a test."""

import re
from pathlib import Path

import pytest

import isthmus.wire.mqtt
from wire.cases.mqtt import BAD

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
