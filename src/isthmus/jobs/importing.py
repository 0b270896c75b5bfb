"""Carries lines of an import out: each by the rules of the registry and of twins, many in one commit.

Theory of operation. A group of lines is applied to a draft, one after the other, and committed together with the job's
record, which then says that they are done. So a line is carried out once: a process that dies has committed the group
or has not, and whoever goes on begins with the first line that is not. When somebody else changed one of the documents
meanwhile, the whole group is judged again. A line that is refused changes nothing and leaves an error; the others of
its group are carried out all the same.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from isthmus.base.clock import Clock, iso_utc
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import DeviceRef, HubId
from isthmus.base.state import COMMIT_TRIES_MAX, Change, Conflict, Put, State
from isthmus.devices.documents import twin_key
from isthmus.devices.draft import Draft
from isthmus.devices.events import twin_replaced
from isthmus.devices.given_twin import given_applied
from isthmus.devices.identity import SYSTEM_MODULES, Identity
from isthmus.devices.registry import ANY_ETAG, Registry
from isthmus.devices.twin import Twin, decode_twin, encode_twin
from isthmus.devices.twins import Twins
from isthmus.jobs.line import ImportMode, Line, LineError

MakeChanges = Callable[[Sequence[LineError]], Sequence[Change]]
"""What else is committed with a group, given its errors."""

GROUP_LINES = 200
"""Lines of one commit: enough to share its sync, few enough that other commits do not wait for it (some 10 ms)."""

TURN_LINES = 10
"""Lines judged in one turn of the event loop: about a millisecond, so that devices are not kept waiting."""

CREATES = frozenset((ImportMode.CREATE, ImportMode.CREATE_OR_UPDATE, ImportMode.CREATE_OR_UPDATE_IF_MATCH))
TWIN_ONLY = frozenset((ImportMode.UPDATE_TWIN, ImportMode.UPDATE_TWIN_IF_MATCH))
DELETES = frozenset((ImportMode.DELETE, ImportMode.DELETE_IF_MATCH))
MATCHES = frozenset((ImportMode.UPDATE_IF_MATCH, ImportMode.CREATE_OR_UPDATE_IF_MATCH, ImportMode.DELETE_IF_MATCH))
"""Modes that look at the identity's etag."""


@dataclass(slots=True)
class _News:
    """What listeners are told after the commit: identities in order, and the first and last twin of each."""

    identities: list[tuple[DeviceRef, Identity | None, Identity | None]] = field(default_factory=list)
    twins: dict[DeviceRef, tuple[Twin, Twin]] = field(default_factory=dict)


class Importer:
    """Carries groups of lines out for one hub; used by one job at a time."""

    def __init__(self, hub: HubId, state: State, registry: Registry, twins: Twins, clock: Clock) -> None:
        self._hub = hub
        self._state = state
        self._registry = registry
        self._twins = twins
        self._clock = clock
        self._draft = Draft(state)
        self._drafted = registry.over(self._draft)
        self._news = _News()
        self._drafted.on_change(lambda ref, old, new: self._news.identities.append((ref, old, new)))

    async def judge(self, lines: Sequence[Line | LineError], *, again: bool = False) -> list[LineError]:
        """Drafts the lines anew and returns the errors of those that were refused, in their order.

        `again` after a `Conflict`: then nothing is taken for granted that can be read.
        """
        self._draft.clear(trusts=not again)
        self._news.identities.clear()
        self._news.twins.clear()
        errors: list[LineError] = []
        for place, line in enumerate(lines, 1):
            if place % TURN_LINES == 0:
                await asyncio.sleep(0)
            if isinstance(line, LineError):
                errors.append(line)
                continue
            try:
                await self._apply(line)
            except HubError as error:
                errors.append(LineError(error.code, error.message, line.device_id, line.module_id))
        return errors

    async def commit(self, also: Sequence[Change]) -> list[int]:
        """Commits what was drafted with further changes, whose revisions it returns; then everybody concerned is told.

        Raises `Conflict`, after which the lines are to be judged again, and what the state raises.
        """
        changes = self._draft.changes
        revisions = await self._state.commit([*also, *changes], self._draft.events)
        written = {
            change.key: revision
            for change, revision in zip(changes, revisions[len(also) :], strict=True)
            if isinstance(change, Put)
        }
        for ref, old, new in self._news.identities:
            self._registry.announce(ref, old, new)
        for ref, (before, after) in self._news.twins.items():
            if twin_key(ref) in written:
                self._twins.announce(ref, before, after, written[twin_key(ref)])
        return revisions[: len(also)]

    async def _apply(self, line: Line) -> None:
        ref = DeviceRef(self._hub, line.device_id, line.module_id)
        if line.mode in DELETES:
            await self._drafted.delete(ref, _expected(line))
            return
        current = await self._drafted.get(ref)
        if line.mode not in TWIN_ONLY and not (ref.module_id in SYSTEM_MODULES and current is not None):
            await self._write_identity(ref, line, current)
        if not line.twin.is_empty:
            await self._write_twin(ref, line, is_new=current is None)

    async def _write_identity(self, ref: DeviceRef, line: Line, current: Identity | None) -> None:
        """What an edge device's runtime is made of comes with the device, and a line of it is about its twin only."""
        creates = line.mode is ImportMode.CREATE or (line.mode in CREATES and current is None)
        await self._drafted.put(ref, line.body, None if creates else _expected(line))

    async def _write_twin(self, ref: DeviceRef, line: Line, *, is_new: bool) -> None:
        stored = await self._draft.get(twin_key(ref))
        if stored is None:
            raise await self._drafted.absence(ref)
        current = decode_twin(stored.body)
        looks = line.mode is not ImportMode.UPDATE_TWIN and not is_new
        if looks and line.twin_etag not in (None, ANY_ETAG, current.etag):
            raise HubError(Code.PRECONDITION_FAILED, "The twinETag is not that of the present twin")
        if line.mode is ImportMode.UPDATE_TWIN_IF_MATCH and line.twin_etag is None:
            raise HubError(Code.ARGUMENT_NULL, "updateTwinIfMatchETag needs a twinETag")
        now_ms = self._clock.utc_ms()
        twin = given_applied(current, line.twin, iso_utc(now_ms), is_new=is_new)
        put = Put(stored.key, encode_twin(twin), stored.revision)
        await self._draft.commit([put], [twin_replaced(ref, twin, now_ms)])
        first, _ = self._news.twins.get(ref, (current, current))
        self._news.twins[ref] = (first, twin)


def _expected(line: Line) -> str:
    """The etag that an identity must have; any where the mode does not look at it."""
    if line.mode not in MATCHES:
        return ANY_ETAG
    if line.etag is None:
        raise HubError(Code.ARGUMENT_NULL, f"{line.mode} needs an eTag")
    return line.etag


async def carry_out(
    importer: Importer, lines: Sequence[Line | LineError], also: MakeChanges
) -> tuple[list[LineError], list[int]]:
    """Judges and commits a group until nobody was faster, a bounded number of times; raises `SERVER_BUSY`."""
    for tried in range(COMMIT_TRIES_MAX):
        errors = await importer.judge(lines, again=tried > 0)
        try:
            return errors, await importer.commit(also(errors))
        except Conflict:
            continue
    raise HubError(Code.SERVER_BUSY, "Too many changes of the same identities at once, try again")
