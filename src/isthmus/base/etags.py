"""ETags in the shapes Azure gives them, and the If-Match header's rules (IoT Hub REST reference)."""

import base64


def identity_etag(counter: int) -> str:
    """Base64 of the decimal counter, as identities carry it: 0 gives `MA==`."""
    return base64.b64encode(str(counter).encode()).decode()


def twin_etag(counter: int) -> str:
    """Base64 of the counter as 8 bytes big-endian, as twins carry it: 7 gives `AAAAAAAAAAc=`."""
    return base64.b64encode(counter.to_bytes(8, "big")).decode()


def parse_if_match(header: str | None) -> str | None:
    """The etag of an If-Match header without `W/` and quotes; `*` for any; None when there is no header."""
    if header is None or not header.strip():
        return None
    text = header.strip().removeprefix("W/")
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1]
    return text
