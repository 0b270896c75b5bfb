"""The query of a request, percent-decoded; a plus is a plus, as clients of storage write a space `%20`."""

from collections.abc import Iterator
from urllib.parse import unquote

from isthmus.neighbours.blob.errors import StorageCode, StorageError

PARAMETERS_MAX = 64
"""Of one request; no operation has half of them."""


def parse_query(raw: str) -> dict[str, str]:
    """Parameters by their names in small letters; values of a name that stands twice are joined by commas.

    Raises StorageError InvalidUri.
    """
    found: dict[str, list[str]] = {}
    for name, value in _pairs(raw):
        found.setdefault(name.lower(), []).append(value)
    if len(found) > PARAMETERS_MAX:
        raise StorageError(StorageCode.INVALID_URI)
    return {name: ",".join(sorted(values)) for name, values in found.items()}


def _pairs(raw: str) -> Iterator[tuple[str, str]]:
    for pair in raw.split("&"):
        name, _, value = pair.partition("=")
        if not name:
            continue
        try:
            yield unquote(name, errors="strict"), unquote(value, errors="strict")
        except UnicodeDecodeError:
            raise StorageError(StorageCode.INVALID_URI) from None
