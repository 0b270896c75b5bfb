"""Finding records in the log of a data folder, in the process of whoever looks for them."""

import base64
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec

from isthmus.app.stores import LOG_FOLDER
from isthmus.base.errors import ConfigurationError
from isthmus.telemetry.message import decode_envelope
from isthmus.telemetry.ports import Record
from isthmus.telemetry.reader import LogReader

FOUND_MAX = 20
"""Records that are told of one search, the first ones: a message id is its sender's, and may be used again."""

PAYLOAD_BYTES_MAX = 512 * 1024
"""Of a payload that is told along, so that routes can be judged: twice what a device may send."""

READ_RECORDS = 1_000
IDS = ("message-id", "correlation-id")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for: records with an id, of a device if it is named, that are not older than `since_ms`.

    An `offset` names one record instead; negative for none.
    """

    message_id: str = ""
    device_id: str = ""
    since_ms: int = 0
    offset: int = -1


def find_records(data: Path, wanted: Wanted) -> list[dict[str, object]]:
    """The records, in the order of the log, as the server is told of them; raises `ConfigurationError` without a log.

    Reads beside a server that runs, and changes nothing.
    """
    try:
        with closing(LogReader(data / LOG_FOLDER)) as reader:
            found: list[dict[str, object]] = []
            for record in _records(reader, wanted):
                found.append(_told(record))
                if len(found) == FOUND_MAX:
                    break
            return found
    except FileNotFoundError as error:
        message = f"There is no log in {data}: a server that is ephemeral keeps it elsewhere."
        raise ConfigurationError(message) from error


def _records(reader: LogReader, wanted: Wanted) -> Iterator[Record]:
    if wanted.offset >= 0:
        records, _ = reader.read_all(wanted.offset, 1)
        yield from (record for record in records if record.offset == wanted.offset)
        return
    needle, cursor, end = wanted.message_id.encode(), reader.since(wanted.since_ms), reader.committed
    while cursor < end:
        records, following = reader.read_all(cursor, READ_RECORDS)
        yield from (record for record in records if needle in record.envelope and _is_wanted(record, wanted))
        if following == cursor:
            return
        cursor = following


def _is_wanted(record: Record, wanted: Wanted) -> bool:
    """Judged after the bytes of the id were found somewhere in the envelope, which few records pass."""
    try:
        envelope = decode_envelope(record.envelope)
    except msgspec.DecodeError:
        return False
    named = wanted.message_id in (envelope.system.get(name) for name in IDS)
    return named and wanted.device_id in ("", envelope.device_id) and record.ingress_ms >= wanted.since_ms


def _told(record: Record) -> dict[str, object]:
    return {
        "stream": record.partition.stream,
        "partition": record.partition.number,
        "offset": record.offset,
        "sequence": record.sequence,
        "enqueuedMs": record.enqueued_ms,
        "ingressMs": record.ingress_ms,
        "endpoints": list(record.endpoints),
        "envelope": base64.b64encode(record.envelope).decode(),
        "payload": base64.b64encode(record.payload if len(record.payload) <= PAYLOAD_BYTES_MAX else b"").decode(),
        "bytes": len(record.payload),
    }
