"""The property bag: what SDKs write, what a hub refuses, and encode and decode as inverses."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.base.errors import HubError
from isthmus.servers.gateway.property_bag import PropertyBag, decode_bag, encode_bag, encode_value
from isthmus.telemetry.message import PropertyValue


@pytest.mark.parametrize(
    ("text", "system", "properties"),
    [
        ("", {}, {}),
        (
            "%24.mid=m%201&%24.cid=c%2F1&%24.uid=u&%24.ct=application%2Fjson&%24.ce=utf-8&a=&b%20b=x%3D1%26y",
            {
                "message-id": "m 1",
                "correlation-id": "c/1",
                "user-id": "u",
                "content-type": "application/json",
                "content-encoding": "utf-8",
            },
            {"a": "", "b b": "x=1&y"},
        ),
        ("$.mid=1&$.to=%2Fx", {"message-id": "1", "to": "/x"}, {}),
        ("a", {}, {"a": None}),
        ("&a=1&&b=2&", {}, {"a": "1", "b": "2"}),
        ("$.mid", {}, {}),
        ("a=1&a=2", {}, {"a": "2"}),
        ("a=x+y", {}, {"a": "x+y"}),
        ("a=!'()*,;~", {}, {"a": "!'()*,;~"}),
        ("a=%C3%BC", {}, {"a": "ü"}),
        ("$.cdid=other&$.cmid=m", {}, {}),
        ("$.on=out&$.new=1", {}, {"$.on": "out", "$.new": "1"}),
        ("$.exp=2026-01-01T00%3A00%3A00Z", {"absolute-expiry-time": 1_767_225_600_000}, {}),
        ("%24.ctime=2026-01-01T00%3A00%3A00.0000000Z", {"creation-time": 1_767_225_600_000}, {}),
        (
            "$.sub=thermostat1&$.ifid=urn%3Ax&$.schema=s&$.diagid=d&$.diagctx=creationtimeutc%3D1",
            {
                "dt-subject": "thermostat1",
                "iothub-interface-id": "urn:x",
                "iothub-message-schema": "s",
                "Diagnostic-Id": "d",
                "Correlation-Context": "creationtimeutc=1",
            },
            {},
        ),
        (
            "iothub-creation-time-utc=2021-04-21T11%3A30%3A16Z",
            {},
            {"iothub-creation-time-utc": "2021-04-21T11:30:16Z"},
        ),
    ],
)
def test_bag_is_read_as_devices_write_it(text: str, system: dict[str, object], properties: dict[str, object]) -> None:
    assert decode_bag(text) == PropertyBag(system, properties)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "a=10:30",
        "a=b/c",
        "a/b=c",
        "a=b=c",
        "?a=b",
        "a=%",
        "a=%4",
        "a=%zz",
        "a=%FF",
        "=x",
        "$.exp=tomorrow",
        "a=[1]",
        "a=me@home",
    ],
)
def test_bag_that_is_not_well_formed_is_refused_whole(text: str) -> None:
    with pytest.raises(HubError) as caught:
        decode_bag(text)

    assert caught.value.refusal is not None
    assert caught.value.refusal.rule == "contract.property-bag"


def test_size_counts_values_and_application_names() -> None:
    assert decode_bag("$.mid=12345&$.exp=2026-01-01&ab=%C3%BC&c").size == 5 + 8 + 2 + 2 + 1


@pytest.mark.parametrize(
    ("value", "text"),
    [("a b/ü", "a%20b%2F%C3%BC"), (True, "true"), (7, "7"), (1.5, "1.5"), (b"\x01", "AQ%3D%3D"), ("", "")],
)
def test_values_of_any_type_are_written_as_text(value: PropertyValue, text: str) -> None:
    assert encode_value(value) == text


KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(lambda key: key[:2] != "$.")
VALUES = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_decode_is_the_inverse_of_encode(properties: dict[str, PropertyValue]) -> None:
    encoded = encode_bag(properties.items())

    assert decode_bag(encoded) == PropertyBag({}, properties)
    assert not set("/+# ") & set(encoded)


@given(st.text(max_size=60))
def test_any_text_is_a_bag_or_a_refusal(text: str) -> None:
    with suppress(HubError):
        assert isinstance(decode_bag(text), PropertyBag)
