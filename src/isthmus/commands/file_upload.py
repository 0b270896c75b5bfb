"""One file on its way from a device to storage: names, correlation ids, and the record of what is under way; pure.

A device has one document for all its uploads, so that its limit holds by compare-and-set. An upload that has been
completed stays in it for a while, so that a device that did not hear the answer may ask again.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.limits import FILE_UPLOADS_OPEN_MAX

BLOB_NAME_CHARACTERS_MAX = 1_024
"""Of a blob's name, the device's part included ("Naming and referencing containers, blobs, and metadata")."""

BLOB_SEGMENTS_MAX = 254
"""Path segments of a blob's name, from the same page."""

COMPLETED_KEPT_MAX = 10
"""Completed uploads of a device that are remembered, the latest ones."""

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\\\ud800-\udfff\ufffe\uffff]")
_MOMENT = "%Y%m%d%H%M"
_CORRELATION = re.compile(r"(?P<moment>\d{12})_(?P<id>[0-9a-f-]{36})_(?P<device>.+)_ver2\.0", re.DOTALL)


class Upload(msgspec.Struct, frozen=True, rename="camel"):
    """One upload; times in milliseconds since the epoch. Fields are only ever added, with defaults.

    `secret` signs addresses of the hub's own and is empty where it relays nothing. `key_fingerprint` is that of the key
    by which the device asked, or of that of a `policy`: what was asked by a key ends with it.
    """

    upload_id: str
    blob: str
    opened_ms: int
    expires_ms: int
    secret: str = ""
    completed: bool = False
    key_fingerprint: str = ""
    policy: str = ""

    def __repr__(self) -> str:
        return f"Upload({self.upload_id!r}, {self.blob!r}, completed={self.completed})"


class Uploads(msgspec.Struct, frozen=True):
    """The uploads of one device, in the order in which they were opened."""

    uploads: tuple[Upload, ...] = ()

    def open(self, now_ms: int) -> int:
        """How many are under way."""
        return sum(not each.completed and each.expires_ms > now_ms for each in self.uploads)

    def find(self, upload_id: str) -> Upload | None:
        """The upload of that id."""
        return next((each for each in self.uploads if each.upload_id == upload_id), None)

    def live(self, now_ms: int) -> "Uploads":
        """Without those whose time is over."""
        return Uploads(tuple(each for each in self.uploads if each.expires_ms > now_ms))

    def opened(self, upload: Upload, now_ms: int) -> "Uploads":
        """With one more; raises HubError UPLOADS_EXCEEDED."""
        if self.open(now_ms) >= FILE_UPLOADS_OPEN_MAX:
            raise _too_many()
        return Uploads((*self.live(now_ms).uploads, upload))

    def completed(self, upload_id: str, now_ms: int) -> "Uploads":
        """With one that is completed, and forgetting those completed long ago."""
        live = self.live(now_ms).uploads
        marked = [
            msgspec.structs.replace(each, completed=True) if each.upload_id == upload_id else each for each in live
        ]
        done = [each.upload_id for each in marked if each.completed]
        forgotten = set(done[: max(0, len(done) - COMPLETED_KEPT_MAX)])
        return Uploads(tuple(each for each in marked if each.upload_id not in forgotten))


@dataclass(frozen=True, slots=True)
class CorrelationId:
    """What a correlation id says: when which upload of which device was opened; `opened_ms` is that minute's begin."""

    opened_ms: int
    upload_id: str
    device_id: str

    @property
    def text(self) -> str:
        """As devices hand it back; opaque to them."""
        moment = datetime.fromtimestamp(self.opened_ms / 1000, UTC)
        said = f"{moment.strftime(_MOMENT)}_{self.upload_id}_{self.device_id}_ver2.0"
        return base64.b64encode(said.encode()).decode()


class FileNotification(msgspec.Struct, frozen=True, rename="camel"):
    """What services are told of a file (IoT Hub developer guide, "File upload notifications")."""

    device_id: str
    blob_uri: str
    blob_name: str
    last_updated_time: str
    blob_size_in_bytes: int
    enqueued_time_utc: str


def read_correlation(text: str) -> CorrelationId | None:
    """What a correlation id says; None for what is none."""
    try:
        found = _CORRELATION.fullmatch(base64.b64decode(text, validate=True).decode())
        if found is None:
            return None
        moment = datetime.strptime(found["moment"], _MOMENT).replace(tzinfo=UTC)
    except (binascii.Error, ValueError):
        return None
    return CorrelationId(int(moment.timestamp()) * 1000, found["id"], found["device"])


def blob_of(device_id: str, name: str) -> str:
    """The blob of a file of a device: below the device's id, whatever the device calls it.

    Raises HubError ArgumentInvalid for a name that could lead elsewhere, or that no blob may have.
    """
    blob = f"{device_id}/{name}"
    segments = name.split("/")
    if not name or len(blob) > BLOB_NAME_CHARACTERS_MAX or len(segments) >= BLOB_SEGMENTS_MAX:
        raise _bad_name(name, f"Give it 1 to {BLOB_NAME_CHARACTERS_MAX} characters with the device's id.")
    if any(not segment or segment.endswith(".") for segment in segments):
        raise _bad_name(name, "Leave out empty segments, and those that end in a dot.")
    if _UNPRINTABLE.search(name):
        raise _bad_name(name, "Leave out control characters and backslashes.")
    return blob


def modified_text(utc_ms: int) -> str:
    """When a blob was written, to the second, as notifications say it."""
    return datetime.fromtimestamp(utc_ms // 1000, UTC).isoformat()


def _bad_name(name: str, remedy: str) -> HubError:
    refusal = Refusal(Hop.CONTRACT, "contract.blob-name", ascii(name[:200]), remedy)
    return HubError(Code.ARGUMENT_INVALID, "The name of the blob is not valid", refusal)


def _too_many() -> HubError:
    refusal = Refusal(
        Hop.LIMIT,
        "limit.file-uploads",
        f"{FILE_UPLOADS_OPEN_MAX} uploads are under way",
        "let the device tell the hub of each upload that has ended, also of those that failed",
    )
    message = f"Number of active file upload requests cannot exceed {FILE_UPLOADS_OPEN_MAX}"
    return HubError(Code.UPLOADS_EXCEEDED, message, refusal)
