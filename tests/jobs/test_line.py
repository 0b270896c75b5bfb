"""Lines of `devices.txt` and of the error log, cut, read and written."""

from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.fakes import HUB, KEY, NOW_MS, OTHER_KEY, CountedIds
from isthmus.base.errors import Code
from isthmus.base.ids import DeviceRef
from isthmus.devices.identity import Identity, new_identity, parse_identity
from isthmus.devices.twin import Twin, TwinBody, new_twin, patched
from isthmus.jobs.line import LINE_BYTES_MAX, ImportMode, Line, LineError, read_line, write_error, write_line
from isthmus.jobs.lines import lines_of

AUTHENTICATION = {"type": "sas", "symmetricKey": {"primaryKey": KEY, "secondaryKey": OTHER_KEY}}


def identity(body: object, module_id: str = "") -> Identity:
    ref = DeviceRef(HUB, "d", module_id)
    return new_identity(ref, parse_identity(ref, body), CountedIds(), NOW_MS)


def test_a_line_has_the_documented_members_in_their_order() -> None:
    made = identity({"authentication": AUTHENTICATION, "statusReason": "why"})
    twin = patched(new_twin(), TwinBody({"Location": "LivingRoom"}, {"T": {"Unit": "F"}}), "2026-01-01T00:00:00Z")
    line = write_line(made, twin, exclude_keys=False)
    assert line.endswith(b"\n")
    written = msgspec.json.decode(line)
    assert list(written) == [
        *("id", "eTag", "status", "statusReason", "authentication", "twinETag", "tags", "properties"),
        *("capabilities", "deviceScope", "parentScopes"),
    ]
    assert list(written["authentication"]) == ["symmetricKey", "x509Thumbprint", "type"]
    assert written["properties"]["desired"]["$version"] == 2
    assert written["properties"]["desired"]["$metadata"]["T"]["Unit"]["$lastUpdatedVersion"] == 2
    assert (written["capabilities"], written["deviceScope"]) == ({"iotEdge": False}, None)


def test_a_twin_that_was_never_written_is_left_out() -> None:
    written = msgspec.json.decode(write_line(identity({}), new_twin(), exclude_keys=False))
    assert not {"twinETag", "tags", "properties"} & set(written)


def test_a_module_says_whose_and_by_whom() -> None:
    written = msgspec.json.decode(write_line(identity({"managedBy": "me"}, "m"), new_twin(), exclude_keys=False))
    assert (written["id"], written["moduleId"], written["managedBy"]) == ("d", "m", "me")


@pytest.mark.parametrize("exclude_keys", [False, True])
def test_keys_are_there_or_null(exclude_keys: bool) -> None:
    line = write_line(identity({"authentication": AUTHENTICATION}), new_twin(), exclude_keys=exclude_keys)
    keys = msgspec.json.decode(line)["authentication"]["symmetricKey"]
    assert keys == {"primaryKey": None, "secondaryKey": None} if exclude_keys else keys["primaryKey"] == KEY
    assert (KEY.encode() in line) is not exclude_keys


def test_a_thumbprint_is_no_key() -> None:
    made = identity({"authentication": {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": "A" * 40}}})
    assert b"A" * 40 in write_line(made, new_twin(), exclude_keys=True)


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        (b'{"id":"d"}', ImportMode.CREATE_OR_UPDATE),
        (b'{"Id":"d","ImportMode":"UpdateTwinIfMatchETag"}', ImportMode.UPDATE_TWIN_IF_MATCH),
        (b'{"id":"d","importMode":null}', ImportMode.CREATE_OR_UPDATE),
        *((b'{"id":"d","importMode":"%s"}' % mode.value.encode(), mode) for mode in ImportMode),
    ],
)
def test_names_and_modes_are_read_in_any_case(text: bytes, mode: ImportMode) -> None:
    line = read_line(text)
    assert isinstance(line, Line)
    assert (line.device_id, line.module_id, line.mode) == ("d", "", mode)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"{", Code.DESERIALIZATION_ERROR),
        (b"[]", Code.DESERIALIZATION_ERROR),
        (b'"d"', Code.DESERIALIZATION_ERROR),
        (b"\xff", Code.DESERIALIZATION_ERROR),
        (b"[" * 100_000, Code.DESERIALIZATION_ERROR),
        (b"{}", Code.DESERIALIZATION_ERROR),
        (b'{"id":7}', Code.DESERIALIZATION_ERROR),
        (b'{"id":"d","moduleId":7}', Code.DESERIALIZATION_ERROR),
        (b" " * (LINE_BYTES_MAX + 1), Code.DESERIALIZATION_ERROR),
        (b'{"id":"d","importMode":"never"}', Code.ARGUMENT_INVALID),
        (b'{"id":"d","eTag":1}', Code.ARGUMENT_INVALID),
        (b'{"id":"d","tags":{"a.b":1}}', Code.ARGUMENT_INVALID),
        (b'{"id":"d","tags":[]}', Code.ARGUMENT_INVALID),
        (b'{"id":"d","properties":7}', Code.ARGUMENT_INVALID),
        (b'{"id":"d","properties":{"reported":7}}', Code.ARGUMENT_INVALID),
        (b'{"id":"d","tags":{"a":"%s"}}' % (b"x" * 9_000), Code.ARGUMENT_INVALID),
    ],
)
def test_what_is_no_identity_is_an_error_of_that_line(text: bytes, code: Code) -> None:
    error = read_line(text)
    assert isinstance(error, LineError)
    assert error.code is code
    assert msgspec.json.decode(write_error(error))["errorCode"] == code.number
    assert len(write_error(error)) < 8_192


@given(st.binary(max_size=200))
def test_no_bytes_raise(text: bytes) -> None:
    assert isinstance(read_line(text), Line | LineError)


def test_what_was_written_is_read_again() -> None:
    twin: Twin = patched(new_twin(), TwinBody({"a": 1}, {"b": [1, {"c": None}]}), "2026-01-01T00:00:00Z")
    line = read_line(write_line(identity({"status": "disabled"}), twin, exclude_keys=False))
    assert isinstance(line, Line)
    assert (line.twin.tags, line.twin_etag, line.body["status"]) == ({"a": 1}, twin.etag, "disabled")
    assert line.twin.desired is not None
    assert (line.twin.desired.values, line.twin.desired.version) == (twin.properties.desired, 2)


async def cut(blob: bytes, piece: int, offset: int = 0) -> Sequence[tuple[bytes, int]]:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(offset, len(blob), piece):
            yield blob[start : start + piece]

    return [line async for line in lines_of(pieces(), offset)]


@pytest.mark.parametrize("piece", [1, 2, 3, 100])
async def test_lines_end_with_one_or_two_characters_and_the_last_with_none(piece: int) -> None:
    blob = b"\xef\xbb\xbfa\r\n\nbb\n  \nccc"
    assert await cut(blob, piece) == [(b"a", 6), (b"bb", 10), (b"ccc", 16)]


@given(st.lists(st.binary(max_size=9).filter(lambda line: b"\n" not in line), max_size=9), st.integers(1, 20))
async def test_wherever_one_goes_on_the_rest_is_the_same(lines: list[bytes], piece: int) -> None:
    blob = b"".join(line + b"\n" for line in lines)
    whole = await cut(blob, piece)
    for place, (_, end) in enumerate(whole):
        assert await cut(blob, piece, end) == whole[place + 1 :]


async def test_of_a_line_that_is_too_long_only_so_much_is_kept() -> None:
    blob = b"x" * (3 * LINE_BYTES_MAX) + b"\n" + b'{"id":"d"}\n'
    (long, _), (good, end) = await cut(blob, 65_536)
    assert (len(long), good, end) == (LINE_BYTES_MAX + 1, b'{"id":"d"}', len(blob))
