"""ETags in the shapes Azure gives them, and the If-Match header's rules (IoT Hub REST reference)."""

import base64
from dataclasses import dataclass


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


@dataclass(frozen=True, slots=True)
class Condition:
    """What a change asks of what is there: the headers If-Match and If-None-Match, None for each that is not sent."""

    if_match: str | None = None
    if_none_match: str | None = None

    def holds(self, etag: str | None) -> bool:
        """True when the change may be made; `etag` is of what is there, None for nothing (RFC 9110 §13.1)."""
        wanted, unwanted = parse_if_match(self.if_match), parse_if_match(self.if_none_match)
        if wanted is not None and (etag is None or wanted not in ("*", etag)):
            return False
        return unwanted is None or etag is None or unwanted not in ("*", etag)


ALWAYS = Condition()
