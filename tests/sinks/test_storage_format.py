"""Blobs as readers find them: fastavro and json read back what was delivered, whole and in order."""

import base64
import io
import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.resources.routing_endpoint import FILE_NAME_FORMAT, BlobEncoding, StorageSettings
from isthmus.routing.sink import Delivery
from isthmus.sinks.storage_format import AvroFile, BlobFormat, JsonLines, blob_format, blob_name, pieces
from isthmus.telemetry.message import Properties
from sinks.deliveries import AUTH_METHOD, delivery, json_delivery

MARKER = bytes(range(16))
SETTINGS = StorageSettings("telemetry", encoding=BlobEncoding.JSON)
MOMENT_MS = 1_793_538_305_000
"""2026-11-01T13:05:05Z."""

texts = st.text(max_size=40)
values = st.one_of(texts, st.integers(-(2**63), 2**63 - 1), st.booleans(), st.none(), st.binary(max_size=20))
properties_of_senders = st.dictionaries(texts, values, max_size=5)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


def test_a_line_is_the_one_of_the_documentation() -> None:
    [line] = lines([delivery(b"device body", properties={"level": "storage"})])
    assert line == {
        "EnqueuedTimeUtc": "2019-05-10T06:06:32.7220000Z",
        "Properties": {"level": "storage"},
        "SystemProperties": {
            "connectionDeviceId": "device-1",
            "connectionAuthMethod": AUTH_METHOD,
            "connectionDeviceGenerationId": "636930642531278483",
            "enqueuedTime": "2019-05-10T06:06:32.7220000Z",
        },
        "Body": base64.b64encode(b"device body").decode(),
    }
    assert list(line) == ["EnqueuedTimeUtc", "Properties", "SystemProperties", "Body"]


def test_system_properties_have_the_names_of_storage() -> None:
    sent: Properties = {
        "message-id": "m",
        "user-id": "u",
        "content-type": "text/plain",
        "content-encoding": "utf-8",
        "correlation-id": "c",
        "dt-subject": "thermostat",
        "to": "/devices/device-1/messages/events",
    }
    [line] = lines([delivery(system=sent, module_id="module-1", model_id="dtmi:example:Thermostat;1")])
    assert line["SystemProperties"] == {
        "messageId": "m",
        "userId": "u",
        "contentType": "text/plain",
        "contentEncoding": "utf-8",
        "correlationId": "c",
        "dt-subject": "thermostat",
        "dt-dataschema": "dtmi:example:Thermostat;1",
        "connectionDeviceId": "device-1",
        "connectionModuleId": "module-1",
        "connectionAuthMethod": AUTH_METHOD,
        "connectionDeviceGenerationId": "636930642531278483",
        "enqueuedTime": "2019-05-10T06:06:32.7220000Z",
    }


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [
        ("application/json", "utf-8"),
        ("Application/JSON", "UTF-8"),
        ("application/json;charset=utf-8", ""),
    ],
)
def test_a_body_that_says_it_is_json_stands_as_json(content_type: str, encoding: str) -> None:
    [line] = lines([json_delivery(b'{"temperature": 21.50}', encoding, content_type)])
    assert line["Body"] == {"temperature": 21.5}


@pytest.mark.parametrize(
    ("payload", "content_type", "encoding"),
    [
        (b'{"a":1}', "application/json", "utf-16"),
        (b'{"a":1}', "text/plain", "utf-8"),
        (b'{"a":1}', "application/json", ""),
        (b"not json", "application/json", "utf-8"),
        (b'{"a":"\xff"}', "application/json", "utf-8"),
        (b"", "application/json", "utf-8"),
        (b"[" * 100_000 + b"]" * 100_000, "application/json", "utf-8"),
    ],
)
def test_any_other_body_stands_in_base64(payload: bytes, content_type: str, encoding: str) -> None:
    [line] = lines([json_delivery(payload, encoding, content_type)])
    assert base64.b64decode(line["Body"]) == payload


def test_a_body_over_several_lines_stays_on_one() -> None:
    [line] = lines([json_delivery(b'{\r\n  "a": "b\\nc",\n  "d": 12345678901234567890.10\n}')])
    assert line["Body"]["a"] == "b\nc"
    text = JsonLines().encode(json_delivery(b'{\n"d": 12345678901234567890.10}'))
    assert b'"d": 12345678901234567890.10' in text, "numbers stay as they were sent"


@given(st.lists(st.tuples(json_values, properties_of_senders), min_size=1, max_size=5))
def test_json_lines_read_back_as_sent(sent: list[tuple[Any, Properties]]) -> None:
    deliveries = [
        replace(json_delivery(json.dumps(body, indent=2).encode()), envelope=with_properties(properties))
        for body, properties in sent
    ]
    found = lines(deliveries)
    assert [line["Body"] for line in found] == [body for body, _ in sent]
    assert [set(line["Properties"]) for line in found] == [set(properties) for _, properties in sent]


@pytest.mark.parametrize("encoding", [BlobEncoding.AVRO, BlobEncoding.AVRO_DEFLATE])
@given(
    sent=st.lists(st.tuples(st.binary(max_size=300), properties_of_senders), max_size=12),
    cuts=st.lists(st.integers(0, 12), max_size=4),
)
def test_avro_reads_back_as_sent_however_it_was_appended(
    encoding: BlobEncoding, sent: list[tuple[bytes, Properties]], cuts: list[int]
) -> None:
    deliveries = [delivery(body, properties=properties) for body, properties in sent]
    form = blob_format(encoding, MARKER)
    blob = form.header
    bounds = sorted({0, len(sent), *(min(cut, len(sent)) for cut in cuts)})
    for first, end in itertools.pairwise(bounds):
        blob += form.block([form.encode(each) for each in deliveries[first:end]])
    records = read_avro(blob)
    assert [record["Body"] for record in records] == [body for body, _ in sent]
    assert [set(record["Properties"]) for record in records] == [set(properties) for _, properties in sent]
    assert {record["EnqueuedTimeUtc"] for record in records} <= {"2019-05-10T06:06:32.7220000Z"}


def test_an_avro_blob_carries_its_schema_and_codec() -> None:
    for deflated, codec in ((False, "null"), (True, "deflate")):
        form = AvroFile(MARKER, deflated=deflated)
        reader = fastavro.reader(io.BytesIO(form.header + form.block([form.encode(delivery())])))
        assert reader.codec == codec
        schema: Any = reader.writer_schema
        assert schema["name"] == "Microsoft.Azure.Devices.Message"
        assert [field["name"] for field in schema["fields"]] == [
            "EnqueuedTimeUtc",
            "Properties",
            "SystemProperties",
            "Body",
        ]


@given(st.data())
def test_a_blob_that_was_cut_between_appends_has_whole_messages(data: st.DataObject) -> None:
    form = blob_format(data.draw(st.sampled_from(BlobEncoding)), MARKER)
    appended = data.draw(st.lists(st.integers(1, 4), max_size=5))
    blob = form.header
    for count in appended:
        blob += form.block([form.encode(delivery(b"x" * count)) for _ in range(count)])
    records = read_avro(blob) if isinstance(form, AvroFile) else read_lines(blob)
    assert len(records) == sum(appended)


@pytest.mark.parametrize("value", [True, 7, 1.5, None, "text", b"\xff"])
def test_a_property_of_any_type_is_text(value: Any) -> None:
    [line] = lines([delivery(properties={"p": value})])
    assert line["Properties"]["p"] == {True: "true", 7: "7", 1.5: "1.5", None: "", "text": "text", b"\xff": "�"}[value]


def test_a_name_is_the_format_rendered_in_utc() -> None:
    assert blob_name(SETTINGS, "plant", partition=3, utc_ms=MOMENT_MS) == "plant/03/2026/11/01/13/05.json"
    avro = replace(
        SETTINGS, encoding=BlobEncoding.AVRO_DEFLATE, file_name_format="{DD}{MM}{YYYY}-{mm}{HH}_{partition}.{iothub}"
    )
    assert blob_name(avro, "plant", partition=12, utc_ms=MOMENT_MS) == "01112026-0513_12.plant.avro"


def test_names_of_the_same_minute_differ_by_a_counter() -> None:
    names = [blob_name(SETTINGS, "plant", partition=0, utc_ms=MOMENT_MS, clash=clash) for clash in range(3)]
    assert names == [f"plant/00/2026/11/01/13/05{tail}.json" for tail in ("", "_001", "_002")]
    assert names == sorted(names)


def test_what_looks_like_a_part_in_the_hub_s_name_is_no_part() -> None:
    settings = replace(SETTINGS, file_name_format=FILE_NAME_FORMAT)
    assert blob_name(settings, "{mm}", partition=0, utc_ms=MOMENT_MS).startswith("{mm}/00/")


@given(st.lists(st.binary(max_size=30), max_size=30), st.integers(1, 60))
def test_pieces_keep_all_in_order_and_their_bound(messages: list[bytes], size_max: int) -> None:
    cut = list(pieces(messages, size_max))
    assert [message for piece in cut for message in piece.messages] == messages
    assert all(piece.size == sum(map(len, piece.messages)) for piece in cut)
    assert all(piece.size <= size_max or len(piece.messages) == 1 for piece in cut)
    assert all(piece.messages for piece in cut)


def lines(deliveries: Sequence[Delivery]) -> list[Any]:
    form: BlobFormat = JsonLines()
    return read_lines(form.header + form.block([form.encode(each) for each in deliveries]))


def read_lines(blob: bytes) -> list[Any]:
    return [json.loads(line) for line in blob.decode().split("\n") if line]


def read_avro(blob: bytes) -> list[Any]:
    return list(fastavro.reader(io.BytesIO(blob)))


def with_properties(properties: Properties) -> Any:
    return delivery(
        system={"content-type": "application/json", "content-encoding": "utf-8"}, properties=properties
    ).envelope
