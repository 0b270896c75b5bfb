"""Compare-and-set, the same for every backend: what a commit leaves behind, or why it may not be applied."""

from collections.abc import Callable, Sequence

from isthmus.base.state import Change, Check, Conflict, Delete, Key, Put

DOCUMENT_BYTES_MAX = 16 * 1024 * 1024
"""One document's body; the largest in use is a twin at all its limits with metadata, about 1 MiB."""


def next_revisions(changes: Sequence[Change], revision_of: Callable[[Key], int]) -> list[int]:
    """The revision each put leaves, 0 for other changes; `revision_of` tells the committed one, 0 for none.

    Changes of one commit see those before them. Raises `Conflict` where an expectation does not hold and `ValueError`
    for a body above `DOCUMENT_BYTES_MAX`; nothing may be applied then.
    """
    seen: dict[Key, int] = {}
    revisions = []
    for index, change in enumerate(changes):
        key = change.key
        current = seen[key] if key in seen else revision_of(key)
        if change.expect is not None and change.expect != current:
            raise Conflict(index)
        if not isinstance(change, Check):
            seen[key] = _next_revision(change, current)
        revisions.append(seen[key] if isinstance(change, Put) else 0)
    return revisions


def prefix_end(prefix: str) -> str | None:
    """The first text in binary order behind all that begin with `prefix`; None when there is no such text."""
    kept = prefix.rstrip(chr(0x10FFFF))
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if following == 0xD800 else following)  # surrogates are not text


def _next_revision(change: Put | Delete, current: int) -> int:
    if isinstance(change, Delete):
        return 0
    if len(change.body) > DOCUMENT_BYTES_MAX:
        raise ValueError(f"a document of {len(change.body)} bytes is above {DOCUMENT_BYTES_MAX}")
    return current + 1
