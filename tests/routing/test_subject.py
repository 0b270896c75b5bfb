"""What conditions see of a message."""

import pytest

from isthmus.routing.subject import RoutedMessage, body_encoding
from isthmus.telemetry.message import Envelope, PropertyValue
from telemetry.fakes import START_MS


@pytest.mark.parametrize(
    ("content_type", "content_encoding", "expected"),
    [
        ("application/json", "utf-8", "utf-8"),
        ("Application/JSON", "UTF-8", "utf-8"),
        ("application/json", "UTF-16", "utf-16-le"),
        ("application/json", "utf-32", "utf-32-le"),
        ("application/json;charset=utf-8", None, "utf-8"),
        ('application/json; charset="UTF-16"', "utf-8", "utf-16-le"),
        ("application/json", None, None),
        ("application/json", "latin-1", None),
        ("application/json;version=1", "utf-8", None),
        ("text/plain", "utf-8", None),
        (None, "utf-8", None),
    ],
)
def test_which_bodies_may_be_asked(
    content_type: str | None, content_encoding: str | None, expected: str | None
) -> None:
    assert body_encoding(content_type, content_encoding) == expected


@pytest.mark.parametrize(
    ("payload", "encoding", "expected"),
    [
        (b'{"a":1}', "utf-8", {"a": 1}),
        ('{"a":"ä"}'.encode("utf-16-le"), "utf-16", {"a": "ä"}),
        (b"[1]", "utf-8", None),
        (b"{", "utf-8", None),
        (b'{"a":"\xff"}', "utf-8", None),
        (b"\x00", "utf-16", None),
        (b"[" * 100_000, "utf-8", None),
    ],
)
def test_a_body_is_a_json_object_or_nothing(payload: bytes, encoding: str, expected: object) -> None:
    system: dict[str, PropertyValue] = {"content-type": "application/json", "content-encoding": encoding}
    message = RoutedMessage(Envelope("pump", system=system), payload, START_MS)
    assert message.body() == expected
    assert message.body() is message.body()


def test_system_properties_have_the_names_of_conditions() -> None:
    envelope = Envelope(
        "pump",
        module_id="camera",
        auth_method='{"type":"sas"}',
        generation_id="g",
        model_id="dtmi:a;1",
        system={"message-id": "m", "creation-time": 0, "dt-subject": "c", "to": "/x", "user-id": 7},
    )
    message = RoutedMessage(envelope, b"", START_MS)
    assert {name: message.system_property(name) for name in SYSTEM} == SYSTEM
    assert message.system_property("iothub-message-source") is None
    assert message.system_property("contenttype") is None


SYSTEM = {
    "messageid": "m",
    "to": "/x",
    "userid": "7",
    "connectiondeviceid": "pump",
    "connectionmoduleid": "camera",
    "connectiondevicegenerationid": "g",
    "connectionauthmethod": '{"type":"sas"}',
    "dt-dataschema": "dtmi:a;1",
    "dt-subject": "c",
    "creation-time-utc": "1970-01-01T00:00:00.0000000Z",
    "enqueuedtime": "2025-06-15T15:06:40.0000000Z",
}


def test_application_properties_are_text() -> None:
    values: dict[str, PropertyValue] = {"A": 1, "b": True, "c": b"x", "d": None, "e": 1.5}
    message = RoutedMessage(Envelope("pump", properties=values), b"", START_MS)
    assert [message.application_property(name) for name in "abcde"] == ["1", "true", "x", None, "1.5"]
