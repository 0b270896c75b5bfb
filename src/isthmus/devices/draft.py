"""Changes of many documents in the making: read as if they were made already, and committed all at once.

Use cases run over a draft as over the state itself, one after the other, and each sees what those before it did. What
they wrote is folded into one change for each document, expected at the revision that it had when it was first touched;
so the one commit in the end passes only where every rule was judged by what is still so. A `Conflict` there means to
clear the draft and to do it again. What was read is not read again, and what was only read is not expected to stay.
A draft that `trusts` does not even look whether an expectation holds of a document that nobody has read: the commit
will. Used by one task at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from isthmus.base.filters import Filter
from isthmus.base.ids import HubId
from isthmus.base.state import (
    Change,
    Check,
    Conflict,
    Delete,
    Documents,
    Key,
    OutboxEvent,
    Put,
    Stored,
    overlaid,
)


@dataclass(slots=True)
class _Touched:
    """A document as the draft has it; `base` is the revision committed below, and `guarded` whether that matters."""

    base: int
    revision: int
    body: bytes | None
    guarded: bool = False
    written: bool = False


class Draft:
    """Implements `Documents` over committed ones; queries over devices tell what is committed."""

    def __init__(self, committed: Documents) -> None:
        self._committed = committed
        self._touched: dict[Key, _Touched] = {}
        self._trusts = False
        self.events: list[OutboxEvent] = []

    def clear(self, *, trusts: bool = False) -> None:
        """Forgets everything that was written."""
        self._touched.clear()
        self._trusts = trusts
        self.events = []

    @property
    def changes(self) -> list[Change]:
        """What is to be committed, one change a document."""
        changes: list[Change] = []
        for key, touched in self._touched.items():
            expect = touched.base if touched.guarded else None
            if touched.written and touched.body is not None:
                changes.append(Put(key, touched.body, expect))
            elif touched.written and touched.base:
                changes.append(Delete(key, expect))
            elif touched.guarded:
                changes.append(Check(key, touched.base))
        return changes

    async def get(self, key: Key) -> Stored | None:
        return _stored(key, await self._touch(key))

    async def scan(
        self, kind: str, hub: HubId, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> list[Stored]:
        drafted = {
            key.name: _stored(key, touched)
            for key, touched in self._touched.items()
            if (key.kind, key.hub) == (kind, hub) and key.name.startswith(prefix) and key.name > after
        }
        found = await self._committed.scan(kind, hub, prefix=prefix, after=after, limit=limit + len(drafted))
        return overlaid(found, drafted, limit)

    async def count(self, kind: str, hub: HubId, *, prefix: str = "") -> int:
        committed = await self._committed.count(kind, hub, prefix=prefix)
        return committed + sum(
            (touched.body is not None) - (touched.base != 0)
            for key, touched in self._touched.items()
            if (key.kind, key.hub) == (kind, hub) and key.name.startswith(prefix)
        )

    async def query_devices(
        self, hub: HubId, where: Filter, *, modules: bool, after: str, limit: int
    ) -> list[tuple[Stored, Stored, Stored | None]]:
        return await self._committed.query_devices(hub, where, modules=modules, after=after, limit=limit)

    async def count_devices(self, hub: HubId, where: Filter, *, modules: bool) -> int:
        return await self._committed.count_devices(hub, where, modules=modules)

    async def commit(self, changes: Sequence[Change], outbox: Sequence[OutboxEvent] = ()) -> list[int]:
        """Takes changes into the draft, all or nothing; raises `Conflict`."""
        touched = [await self._found(change) for change in changes]
        for index, (change, document) in enumerate(zip(changes, touched, strict=True)):
            if change.expect is not None and change.expect != document.revision:
                raise Conflict(index)
        revisions = [_written(change, document) for change, document in zip(changes, touched, strict=True)]
        self.events += outbox
        return revisions

    async def _found(self, change: Change) -> _Touched:
        if self._trusts and change.expect is not None and change.key not in self._touched:
            found = self._touched[change.key] = _Touched(change.expect, change.expect, None)
            return found
        return await self._touch(change.key)

    async def _touch(self, key: Key) -> _Touched:
        touched = self._touched.get(key)
        if touched is None:
            stored = await self._committed.get(key)
            revision, body = (stored.revision, stored.body) if stored else (0, None)
            touched = self._touched[key] = _Touched(revision, revision, body)
        return touched


def _stored(key: Key, touched: _Touched) -> Stored | None:
    return None if touched.body is None else Stored(key, touched.revision, touched.body)


def _written(change: Change, document: _Touched) -> int:
    document.guarded |= change.expect is not None
    match change:
        case Put(_, body):
            document.revision += 1
            document.body, document.written = bytes(body), True
            return document.revision
        case Delete():
            document.revision, document.body, document.written = 0, None, True
        case Check():
            pass
    return 0
