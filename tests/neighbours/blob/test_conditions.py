"""Conditional headers: which requests of what is there are carried out, answered 304, 409 or 412."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.neighbours.blob.blob import etag_text, http_date
from isthmus.neighbours.blob.conditions import NotModifiedError, conditions_of
from isthmus.neighbours.blob.errors import StorageCode, StorageError
from neighbours.blob.blobs import refused_as

ETAG = 0x8DC
AT_MS = 1_700_000_000_000
OTHER = '"0x1"'
BEFORE, SINCE = http_date(AT_MS - 1_000), http_date(AT_MS)


@pytest.mark.parametrize(
    ("headers", "read", "write"),
    [
        ({}, "yes", "yes"),
        ({"if-match": etag_text(ETAG)}, "yes", "yes"),
        ({"if-match": "*"}, "yes", "yes"),
        ({"if-match": OTHER}, "412", "412"),
        ({"if-none-match": OTHER}, "yes", "yes"),
        ({"if-none-match": etag_text(ETAG)}, "304", "412"),
        ({"if-none-match": "*"}, "304", "409"),
        ({"if-modified-since": BEFORE}, "yes", "yes"),
        ({"if-modified-since": SINCE}, "304", "412"),
        ({"if-unmodified-since": SINCE}, "yes", "yes"),
        ({"if-unmodified-since": BEFORE}, "412", "412"),
    ],
)
def test_what_is_there_is_compared(headers: dict[str, str], read: str, write: str) -> None:
    conditions = conditions_of(headers)
    assert _outcome(lambda: conditions.check_read(ETAG, AT_MS + 999)) == read
    assert _outcome(lambda: conditions.check_write(ETAG, AT_MS + 999)) == write


def test_nothing_there_satisfies_no_match() -> None:
    assert _outcome(lambda: conditions_of({"if-match": "*"}).check_write(None)) == "412"
    assert _outcome(lambda: conditions_of({"if-none-match": "*"}).check_write(None)) == "yes"
    assert _outcome(lambda: conditions_of({"if-unmodified-since": BEFORE}).check_write(None)) == "yes"


@given(st.text(max_size=60))
def test_a_date_is_read_or_refused(text: str) -> None:
    assert refused_as(lambda: conditions_of({"if-modified-since": text})) in (None, StorageCode.INVALID_HEADER)


def _outcome(check: Callable[[], None]) -> str:
    try:
        check()
    except NotModifiedError:
        return "304"
    except StorageError as error:
        return str(error.storage_code.status)
    return "yes"
