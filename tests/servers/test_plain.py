"""User names of SASL PLAIN."""

import pytest

from isthmus.servers.gateway.plain import PlainUser, parse_plain_user


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("service@sas.root.hub", PlainUser("hub", policy="service")),
        ("dev1@sas.hub", PlainUser("hub", device_id="dev1")),
        ("dev1/mod1@sas.hub", PlainUser("hub", device_id="dev1", module_id="mod1")),
        ("a@b@sas.hub.example.test", PlainUser("hub.example.test", device_id="a@b")),
        ("x@sas.root.y@sas.hub", PlainUser("hub", device_id="x@sas.root.y")),
    ],
)
def test_both_forms(text: str, user: PlainUser) -> None:
    assert parse_plain_user(text) == user


@pytest.mark.parametrize("text", ["", "service", "service@hub", "@sas.root.hub", "service@sas.root.", "dev1@sas."])
def test_everything_else_is_nobody(text: str) -> None:
    assert parse_plain_user(text) is None
