"""Fuzz targets of the Blob service's decoders: documents, names, queries, headers.

Invariant: a value of the rules comes out, or a `StorageError`; what was read is told again in documents and headers
that can be sent.
"""

from contextlib import suppress

from fuzz.credentials_target import NOW_MS, header_text
from fuzz.target import pure
from isthmus.neighbours.blob.block_list import BLOCKS_MAX, parse_block_id, parse_block_list
from isthmus.neighbours.blob.conditions import NotModifiedError, conditions_of
from isthmus.neighbours.blob.errors import StorageError
from isthmus.neighbours.blob.forms import (
    POLICIES_MAX,
    error_document,
    parse_key_info,
    parse_policies,
    policies_document,
)
from isthmus.neighbours.blob.headers import (
    checked_version,
    md5_of,
    metadata_headers,
    metadata_of,
    number_of,
    setting_headers,
    settings_of,
)
from isthmus.neighbours.blob.listing import BlobPage, blobs_document, page_of
from isthmus.neighbours.blob.names import container_of, target_of
from isthmus.neighbours.blob.query import parse_query
from isthmus.neighbours.blob.ranges import parse_range
from isthmus.neighbours.blob.routes import find_operation
from isthmus.neighbours.blob.sas import parse_sas
from isthmus.neighbours.blob.xml import parse_xml
from isthmus.servers.gateway import relay_contract

VERBS = ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH")


def check_document(data: bytes) -> None:
    """A block list, a set of stored policies, or what a delegation key is asked for with."""
    with suppress(StorageError):
        assert len(parse_block_list(data)) <= BLOCKS_MAX
    with suppress(StorageError):
        policies = parse_policies(data)
        assert len(policies) <= POLICIES_MAX
        assert parse_policies(policies_document(policies)) == policies
    with suppress(StorageError):
        assert all(isinstance(text, str) for text in parse_key_info(data, NOW_MS))
    with suppress(relay_contract.RelayError):
        relay_contract.block_list(data)


def check_target(data: bytes) -> None:
    """A path and a query, as they stand in a request line."""
    raw, _, query = header_text(data).partition("?")
    with suppress(StorageError):
        container_of(raw)
    with suppress(StorageError):
        named = parse_query(query)
        parse_sas(named)
        page = page_of(named)
        parse_xml(
            blobs_document("https://account.test/", "container", page, BlobPage((), "")).removeprefix(b"\xef\xbb\xbf")
        )
    for of_container in (False, True):
        with suppress(StorageError):
            target = target_of(raw, of_container=of_container)
            target.blob.encode()
            for verb in VERBS:
                with suppress(StorageError):
                    find_operation(verb, target, parse_query(query), {"x-ms-blob-type": "BlockBlob"})
    relay_contract.blob_in(raw)


def check_headers(data: bytes) -> None:
    """A request's headers, one a line."""
    pairs = [line.partition(":") for line in header_text(data).split("\n")]
    said = {name: value.strip() for name, _, value in pairs}
    lowered = {name.lower(): value for name, value in said.items()}
    with suppress(StorageError):
        list(metadata_headers(metadata_of(said)))
    with suppress(StorageError):
        for _, value in setting_headers(settings_of(lowered, with_content_headers=True)):
            value.encode()
    for prefix in ("", "x-ms-source-"):
        with suppress(StorageError, NotModifiedError):
            conditions = conditions_of(lowered, prefix)
            with suppress(StorageError):
                conditions.check_write(None)
            with suppress(StorageError):
                conditions.check_write(7, NOW_MS)
            conditions.check_read(7, NOW_MS)
    for name, value in lowered.items():
        with suppress(StorageError):
            found = parse_range(value, 100)
            assert found is None or 0 <= found.start < found.end <= 100
        with suppress(StorageError):
            assert (number_of(lowered, name) or 0) >= 0
        for read in (checked_version, md5_of, parse_block_id):
            try:
                read(value)
            except StorageError as error:
                error_document(error, "1", NOW_MS)
    for verb in VERBS:
        with suppress(relay_contract.RelayError):
            relay_contract.read_request(verb, {"comp": "block", "blockid": lowered.get("blockid", "")}, lowered)


TARGETS = (
    pure("blob-document", check_document),
    pure("blob-target", check_target),
    pure("blob-headers", check_headers),
)
