"""Documents and headers: what is written is read back, nonsense is refused, and nothing else ever happens."""

from collections.abc import Callable
from functools import partial
from xml.etree.ElementTree import fromstring

import pytest
from azure.storage.blob._shared.authentication import _storage_header_sort
from hypothesis import given
from hypothesis import strategies as st

from isthmus.neighbours.blob.blob import (
    Blob,
    BlobKind,
    BlockSource,
    Container,
    Extent,
    StoredPolicy,
    etag_text,
    http_date,
)
from isthmus.neighbours.blob.block_list import BLOCKS_MAX, block_list_document, parse_block_id, parse_block_list
from isthmus.neighbours.blob.errors import StorageCode, StorageError
from isthmus.neighbours.blob.forms import error_document, parse_key_info, parse_policies, policies_document
from isthmus.neighbours.blob.headers import metadata_of, number_of, settings_of
from isthmus.neighbours.blob.listing import (
    BlobPage,
    ContainerPage,
    Page,
    Prefix,
    blobs_document,
    containers_document,
    page_of,
)
from isthmus.neighbours.blob.query import parse_query
from isthmus.neighbours.blob.ranges import parse_range
from isthmus.neighbours.blob.shared_key import is_recent, parse_shared_key, signed_texts
from isthmus.neighbours.blob.xml import parse_xml
from neighbours.blob.blobs import refused_as

NOW_MS = 1_700_000_000_000
POLICIES = st.lists(
    st.tuples(st.text("ab", min_size=1, max_size=3), st.sampled_from(["", "2030-01-01"]), st.text("rwdl", max_size=4)),
    max_size=5,
    unique_by=lambda each: each[0],
)


def refuses(read: Callable[[], object]) -> StorageCode:
    with pytest.raises(StorageError) as refused:
        read()
    return refused.value.storage_code


def test_a_block_list_is_read() -> None:
    listed = b"<Latest>YQ==</Latest><Committed>Yg==</Committed><Uncommitted>Yw==</Uncommitted>"
    body = b"<?xml version='1.0'?><BlockList>" + listed + b"</BlockList>"
    found = [(each.block_id, each.source) for each in parse_block_list(body)]
    assert found == [(b"a", BlockSource.LATEST), (b"b", BlockSource.COMMITTED), (b"c", BlockSource.UNCOMMITTED)]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", StorageCode.INVALID_XML),
        (b"<BlockList>", StorageCode.INVALID_XML),
        (b"<Other/>", StorageCode.INVALID_XML),
        (b"<BlockList><Some>YQ==</Some></BlockList>", StorageCode.INVALID_XML),
        (b"<BlockList><Latest>%%</Latest></BlockList>", StorageCode.INVALID_BLOCK_ID),
        (b"<BlockList>" + b"<Latest />" * (BLOCKS_MAX + 1) + b"</BlockList>", StorageCode.BLOCK_LIST_TOO_LONG),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><BlockList/>', StorageCode.INVALID_XML),
        ('<!DOCTYPE a [<!ENTITY b "c">]><BlockList/>'.encode("utf-16"), StorageCode.INVALID_XML),
        (b'<?xml version="1.0" encoding="no-such"?><BlockList/>', StorageCode.INVALID_XML),
    ],
)  # fmt: skip
def test_a_bad_block_list_is_refused(body: bytes, expected: StorageCode) -> None:
    assert refuses(lambda: parse_block_list(body)) is expected


@given(st.binary(max_size=300))
def test_any_bytes_are_xml_or_refused(body: bytes) -> None:
    """Every reader of documents returns a value or raises the service's error; never anything else."""
    for read in (parse_xml, parse_block_list, parse_policies, lambda text: parse_key_info(text, NOW_MS)):
        code = refused_as(partial(read, body))
        assert code is None or code.status == 400


def test_an_entity_does_not_grow() -> None:
    bomb = b'<!DOCTYPE a [<!ENTITY a "xxxxxxxx"><!ENTITY b "&a;&a;&a;&a;">]><BlockList>&b;</BlockList>'
    assert refuses(lambda: parse_xml(bomb)) is StorageCode.INVALID_XML


def test_a_block_list_is_shown() -> None:
    body = block_list_document([Extent(1, 0, 5, b"", block_id=b"a")], [])
    root = fromstring(body.decode("utf-8-sig"))
    assert [(each.findtext("Name"), each.findtext("Size")) for each in root.iter("Block")] == [("YQ==", "5")]
    assert parse_block_id("YQ==") == b"a"
    assert refuses(lambda: parse_block_id("")) is StorageCode.INVALID_QUERY


@given(st.text(min_size=1, max_size=30).filter(lambda name: not any("\ud800" <= each <= "\udfff" for each in name)))
def test_lists_are_xml_whatever_blobs_are_called(name: str) -> None:
    blob = Blob(1, name, BlobKind.BLOCK, 5, 16, NOW_MS, NOW_MS, metadata=(("a", name),))
    page = Page(prefix=name, marker=name, delimiter=name, include=frozenset({"metadata"}))
    body = blobs_document("https://a/", "box", page, BlobPage((blob, Prefix(name)), name))
    root = fromstring(body.decode("utf-8-sig"))
    marker = root.findtext("NextMarker") or ""
    assert page_of({"marker": marker}).marker == name
    assert root.find("Blobs/Blob/Name") is not None
    box = Container(1, 1, "box", 16, NOW_MS)  # type: ignore[arg-type]
    assert fromstring(containers_document("https://a/", page, ContainerPage((box,))).decode("utf-8-sig")) is not None


@pytest.mark.parametrize(
    "query", [{"maxresults": "0"}, {"maxresults": "x"}, {"marker": "%"}, {"marker": "/w=="}, {"include": "everything"}]
)
def test_a_bad_page_is_refused(query: dict[str, str]) -> None:
    assert refuses(lambda: page_of(query)).status == 400


def test_a_page_has_a_bound() -> None:
    assert page_of({"maxresults": "99999"}).limit == page_of({}).limit == 5_000


@given(POLICIES)  # fmt: skip
def test_stored_policies_are_read_back(said: list[tuple[str, str, str]]) -> None:
    policies = tuple(StoredPolicy(name, "", expiry, permission) for name, expiry, permission in said)
    assert parse_policies(policies_document(policies)) == policies


def test_too_many_or_bad_policies_are_refused() -> None:
    many = policies_document([StoredPolicy(str(number)) for number in range(6)])
    assert refuses(lambda: parse_policies(many)) is StorageCode.INVALID_INPUT
    assert refuses(lambda: parse_policies(policies_document([StoredPolicy("a", "soon")]))) is StorageCode.INVALID_XML
    assert parse_policies(b"") == ()


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        ("bytes=0-0", 10, (0, 1)), ("bytes=3-", 10, (3, 10)), ("bytes=3-99", 10, (3, 10)), ("", 10, None),
        ("bytes=-5", 10, None), ("chunks=0-1", 10, None), ("bytes=0-1,3-4", 10, None),
    ],
)  # fmt: skip
def test_a_range_is_read_or_ignored(text: str, size: int, expected: tuple[int, int] | None) -> None:
    found = parse_range(text, size)
    assert (found and (found.start, found.end)) == expected


@pytest.mark.parametrize(("text", "size"), [("bytes=10-", 10), ("bytes=0-", 0), ("bytes=5-4", 10)])
def test_a_range_beyond_the_end_is_refused(text: str, size: int) -> None:
    assert refuses(lambda: parse_range(text, size)) is StorageCode.INVALID_RANGE


@given(st.text(max_size=40), st.integers(0, 2**40))
def test_a_range_lies_within_the_blob(text: str, size: int) -> None:
    for header in (text, f"bytes={text}"):
        if refused_as(partial(parse_range, header, size)) is None:
            found = parse_range(header, size)
            assert found is None or 0 <= found.start < found.end <= size


def test_headers_are_judged() -> None:
    assert metadata_of({"X-Ms-Meta-Plant": " north ", "Other": "x"}) == (("Plant", "north"),)
    assert refuses(lambda: metadata_of({"x-ms-meta-a-b": "1"})) is StorageCode.INVALID_METADATA
    assert refuses(lambda: metadata_of({"x-ms-meta-a": "x" * 9000})) is StorageCode.METADATA_TOO_LARGE
    assert refuses(lambda: settings_of({"x-ms-blob-content-md5": "YQ=="})) is StorageCode.INVALID_MD5
    assert number_of({"n": "12"}, "n") == 12
    assert number_of({}, "n") is None
    assert refuses(lambda: number_of({"n": "-1"}, "n")) is StorageCode.INVALID_HEADER
    said = {"content-type": "text/plain", "x-ms-blob-content-type": "text/html"}
    assert settings_of(said, with_content_headers=True).content_type == "text/html"
    assert settings_of({"content-type": "text/plain"}).content_type == "application/octet-stream"


def test_a_query_is_decoded_once() -> None:
    assert parse_query("Prefix=a%2520%2Bb+c&comp=list&&x") == {"prefix": "a%20+b+c", "comp": "list", "x": ""}
    assert parse_query("a=2&A=1") == {"a": "1,2"}
    assert refuses(lambda: parse_query("a=%ff")) is StorageCode.INVALID_URI
    assert refuses(lambda: parse_query("&".join(f"a{number}=1" for number in range(65)))) is StorageCode.INVALID_URI


@given(st.lists(st.from_regex(r"x-ms-[a-z0-9_-]{1,12}", fullmatch=True), unique=True, max_size=8))
def test_headers_are_signed_in_the_order_of_the_service(names: list[str]) -> None:
    headers = dict.fromkeys(names, "v")
    wanted = [name for name, _ in _storage_header_sort(list(headers.items()))]
    text = signed_texts("GET", headers, "acct", "/", {})[0]
    assert [line.partition(":")[0] for line in text.splitlines() if line.startswith("x-ms-")] == wanted


def test_an_authorization_header_is_read() -> None:
    found = parse_shared_key("SharedKey acct:YQ==")
    assert found is not None
    assert (found.account, found.signature) == ("acct", b"a")
    assert parse_shared_key("SharedKey acct") is None
    assert parse_shared_key("Bearer x") is None


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x-ms-date": http_date(NOW_MS)}, True),
        ({"date": http_date(NOW_MS - 600_000)}, True),
        ({"x-ms-date": http_date(NOW_MS + 600_000)}, True),
        ({"x-ms-date": http_date(NOW_MS - 901_000)}, False),
        ({"x-ms-date": http_date(NOW_MS - 901_000), "date": http_date(NOW_MS)}, False),
        ({"x-ms-date": "now"}, False),
        ({}, False),
    ],
)
def test_a_signed_request_cannot_be_repeated_for_long(headers: dict[str, str], expected: bool) -> None:
    assert is_recent(headers, NOW_MS) is expected


def test_an_error_says_what_the_service_says() -> None:
    error = StorageError(StorageCode.BLOB_NOT_FOUND, details={"Detail": "<&>"})
    root = fromstring(error_document(error, "id-1", NOW_MS).decode("utf-8-sig"))
    assert (root.findtext("Code"), root.findtext("Detail")) == ("BlobNotFound", "<&>")
    assert (root.findtext("Message") or "").splitlines()[1] == "RequestId:id-1"


def test_dates_and_etags_have_the_services_shape() -> None:
    assert http_date(NOW_MS) == "Tue, 14 Nov 2023 22:13:20 GMT"
    assert etag_text(255) == '"0xFF"'
