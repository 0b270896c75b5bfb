"""Signatures for uploads through the hub's own address: made and judged with the secret of one upload; pure.

A signature opens one blob of one upload until it is over. Its secret is made with the upload and goes with it, so that
nothing opens what was completed, has run out, or belongs to a device that is gone.
"""

import base64
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlencode

from isthmus.base.sas_token import decode_key, hmac_sha256
from isthmus.commands.file_upload import Upload
from isthmus.resources.file_upload import RELAY_CONTAINER

VERSION = "2021-12-02"
"""What clients of storage read at the beginning of a signature's query; nothing here depends on it."""

PERMISSIONS = "rw"
RESOURCE = "b"


def signed_query(upload: Upload) -> str:
    """The query that opens the upload's blob, without a question mark."""
    return urlencode({**_fields(upload), "sig": _signature(upload)})


def opens(query: Mapping[str, str], upload: Upload, blob: str) -> bool:
    """True when the query is what was signed for the upload, and the blob is the upload's; takes the same time always.

    Whether the upload is over is not asked here.
    """
    expected = {**_fields(upload), "sig": _signature(upload)}
    same = [hmac.compare_digest(query.get(name, "").encode(), value.encode()) for name, value in expected.items()]
    return all(same) and bool(upload.secret) and hmac.compare_digest(blob.encode(), upload.blob.encode())


def _fields(upload: Upload) -> dict[str, str]:
    expires = datetime.fromtimestamp(upload.expires_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"sv": VERSION, "sr": RESOURCE, "si": upload.upload_id, "sp": PERMISSIONS, "se": expires}


def _signature(upload: Upload) -> str:
    signed = "\n".join((*_fields(upload).values(), f"/{RELAY_CONTAINER}/{upload.blob}"))
    return base64.b64encode(hmac_sha256(decode_key(upload.secret) or b"", signed.encode())).decode()
