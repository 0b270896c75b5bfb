"""The engine: brings the twins of a hub to its configurations, and keeps them there.

Theory of operation. A hub that has configurations has one task. It works in steps, each of them one page of devices or
one group of twins that have changed, and one commit; between steps it gives way to devices that wait for the disk.

A *pass* looks at every device and then at every module, in the order of names, and settles those that are not as they
have to be. Each change of a configuration asks for one, in the commit that changes it (`Progress.wanted`); where the
pass is, is committed with what it writes (`Progress.reached`), so that a process that dies goes on there. A change in
the middle of a pass asks for another behind it. Without any change there is a pass every `EVALUATION_SECONDS`, and one
after each start, for what no news tells: connection states, and what was not heard of before the process died.

Between passes, twins and identities that change are settled at once: listeners only note their names, and those of
devices that only report something only where a condition looks at what is reported. When there are more than
`CHANGED_MAX`, they are forgotten, and a pass finds them. What the engine itself writes is not noted, so that two
configurations whose conditions look at each other's settings take turns once in a pass and no faster.

A hub without configurations, whose last pass has cleaned up behind them, has no task, and nobody listens for it.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

import msgspec

from isthmus.access.journal import Decision, Verdict
from isthmus.base.clock import Clock
from isthmus.base.errors import Code, Hop, HubError
from isthmus.base.filters import EVERYTHING
from isthmus.base.ids import DeviceRef, HubId
from isthmus.base.state import COMMIT_TRIES_MAX, Conflict, Damaged, Key, Put, State, StateClosed
from isthmus.completion import Completion
from isthmus.configurations.configuration import Configuration, Rule
from isthmus.configurations.ports import Notes
from isthmus.configurations.settling import Refused, Row, Rules, Settled, Settling
from isthmus.devices.documents import ref_of
from isthmus.devices.draft import Draft
from isthmus.devices.identity import Identity
from isthmus.devices.registry import Registry
from isthmus.devices.twins import Twins
from isthmus.resources.hub import Hub

EVALUATION_SECONDS = 300.0
"""Between two passes over a hub whose configurations do not change ("Automatic device management": every 5 minutes)."""

PAGE = 100
"""Devices read, and twins written, in one step: some milliseconds, and a commit as large as a job's."""

JUDGED_AT_ONCE = 200
"""Conditions judged before others get their turn, about a millisecond."""

CHANGED_MAX = 10_000
"""Names of changed twins that wait, about a megabyte; more, and a pass looks at everybody instead."""

PAGES_UNSAVED_MAX = 50
"""Pages with nothing to write after which a pass says all the same how far it is."""

WATCH_SECONDS = 1.0
"""An idle engine looks at the clock so often."""

RETRY_SECONDS = 10.0
"""After a step that failed, for whatever made it fail."""

REFUSED_MAX = 10_000
"""Refusals remembered as told; the longest untold is forgotten first, and told again."""

PASS_KIND = "configuration-pass"

logger = logging.getLogger(__name__)


class Progress(msgspec.Struct, frozen=True):
    """How far a pass is: the change it serves, whether it is at the modules, and the last name; `done` is behind."""

    serves: int = 0
    modules: bool = False
    after: str = ""
    done: int = 0


_decode_progress = msgspec.json.Decoder(Progress).decode
_encode = msgspec.json.Encoder().encode


def wanted_key(hub: HubId) -> Key:
    """Where it stands how many changes of configurations a hub has had."""
    return Key(PASS_KIND, hub, "wanted")


def _reached_key(hub: HubId) -> Key:
    return Key(PASS_KIND, hub, "reached")


@dataclass(eq=False, slots=True)
class _Hub:
    """What the engine knows of one hub."""

    number: HubId
    name: str
    rules: dict[str, Rule] = field(default_factory=dict)
    ranked: Rules = field(default_factory=lambda: Rules(()))
    wanted: int = 0
    progress: Progress = field(default_factory=Progress)
    running: bool = False
    """Whether a pass is under way."""
    settling: bool = False
    """Whether changed twins are being looked at."""
    due: float = 0.0
    limit: int = PAGE
    """Rows of the next page; fewer while something is wrong with one of them."""
    unsaved: int = 0
    changed: dict[DeviceRef, None] = field(default_factory=dict)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    @property
    def is_busy(self) -> bool:
        return self.running or self.settling or bool(self.changed) or self.progress.done < self.wanted

    @property
    def is_needed(self) -> bool:
        return bool(self.rules) or self.progress.done < self.wanted


class Rollout:
    """The engines of all hubs; used on one event loop."""

    def __init__(
        self,
        state: State,
        clock: Clock,
        registry: Registry,
        twins: Twins,
        notes: Notes,
        *,
        give_way: Callable[[], Awaitable[None]],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._state = state
        self._clock = clock
        self._registry = registry
        self._twins = twins
        self._notes = notes
        self._give_way = give_way
        self._pause = pause
        self._hubs: dict[HubId, _Hub] = {}
        self._announcing = False
        self._completion = Completion()
        self._told: OrderedDict[tuple[DeviceRef, tuple[str, ...], str], None] = OrderedDict()
        self.passes = 0
        """Passes that came to their end."""
        self.written = 0
        """Twins written."""
        self.refused = 0
        """Twins that did not take what was wanted of them, each told once."""
        registry.on_change(self._identity_changed)

    @property
    def active(self) -> int:
        """Hubs that have an engine."""
        return len(self._hubs)

    @property
    def is_settled(self) -> bool:
        """True while no pass is under way or wanted, and nothing that changed waits."""
        return not any(hub.is_busy for hub in self._hubs.values())

    @property
    def waiting(self) -> int:
        """Changed twins that have not been looked at."""
        return sum(len(hub.changed) for hub in self._hubs.values())

    async def start(self, hub: Hub, configurations: Sequence[Configuration]) -> None:
        """Goes on where an earlier process ended; nothing happens for a hub that never had configurations."""
        wanted = await self._state.get(wanted_key(hub.number))
        if wanted is None:
            return
        reached = await self._state.get(_reached_key(hub.number))
        known = self._known(hub)
        known.wanted = int(wanted.body)
        known.progress = Progress() if reached is None else _decode_progress(reached.body)
        for configuration in configurations:
            self._take(known, configuration)
        self._ensure(known)

    def changed(self, hub: Hub, config_id: str, configuration: Configuration | None, wanted: int) -> None:
        """Hears of a committed change, the number of which is `wanted`; None for a configuration that is gone."""
        known = self._known(hub)
        known.wanted = max(known.wanted, wanted)
        known.rules.pop(config_id, None)
        if configuration is not None:
            self._take(known, configuration)
        known.ranked = Rules(known.rules.values())
        self._ensure(known)

    async def hub_changed(self, old: Hub | None, new: Hub | None) -> None:
        """Listens to the hubs: the engine of one that is deleted stops; its documents go with it."""
        if old is not None and new is None and (known := self._hubs.pop(old.number, None)) is not None:
            await self._stop(known)

    async def close(self) -> None:
        """Stops, after the commits under way; the next start goes on."""
        for known in tuple(self._hubs.values()):
            await self._stop(known)
        await self._completion.settled()

    def _known(self, hub: Hub) -> _Hub:
        known = self._hubs.get(hub.number)
        if known is None:
            known = self._hubs[hub.number] = _Hub(hub.number, hub.name)
            if len(self._hubs) == 1:
                self._twins.watch(self._twin_changed)
        return known

    def _take(self, known: _Hub, configuration: Configuration) -> None:
        try:
            known.rules[configuration.id] = Rule(configuration)
        except HubError as error:
            logger.warning(
                "configuration is not applied",
                extra={"hub": known.name, "configuration": configuration.id, "reason": error.message},
            )
        known.ranked = Rules(known.rules.values())

    def _ensure(self, known: _Hub) -> None:
        known.wake.set()
        if known.task is None and known.is_needed:
            known.task = asyncio.create_task(self._run(known))
        elif known.task is None:
            self._forget(known)

    def _forget(self, known: _Hub) -> None:
        self._hubs.pop(known.number, None)
        if not self._hubs:
            self._twins.watch(None)

    async def _stop(self, known: _Hub) -> None:
        if known.task is not None:
            known.task.cancel()
            await asyncio.wait((known.task,))
        self._forget(known)

    def _identity_changed(self, ref: DeviceRef, old: Identity | None, new: Identity | None) -> None:
        if new is not None:
            self._twin_changed(ref, is_reported=False)

    def _twin_changed(self, ref: DeviceRef, *, is_reported: bool) -> None:
        known = self._hubs.get(ref.hub)
        if known is None or self._announcing or (is_reported and not known.ranked.look_at_reported):
            return
        known.changed[ref] = None
        if len(known.changed) > CHANGED_MAX:
            known.changed.clear()
            known.due = self._clock.monotonic()
        known.wake.set()

    async def _run(self, known: _Hub) -> None:
        known.due = self._clock.monotonic()
        try:
            while known.is_needed:
                try:
                    await self._next_step(known)
                except (StateClosed, Conflict):
                    raise
                except Exception:
                    logger.exception("configurations not applied", extra={"hub": known.name})
                    await self._pause(RETRY_SECONDS)
        except StateClosed:
            logger.warning("configurations stopped: the state is closed", extra={"hub": known.name})
        except Conflict:
            logger.warning("configurations stopped: their hub is gone", extra={"hub": known.name})
        finally:
            known.task = None
        self._forget(known)

    async def _next_step(self, known: _Hub) -> None:
        """A group of changed twins, and a page of the pass, so that neither waits for the other to end."""
        known.wake.clear()
        is_due = known.progress.done < known.wanted or self._clock.monotonic() >= known.due
        if known.changed:
            await self._settle_changed(known)
        if known.running:
            await self._page(known)
        elif is_due:
            self._begin(known)
        elif not known.changed:
            with suppress(TimeoutError):
                async with asyncio.timeout(WATCH_SECONDS):
                    await known.wake.wait()
        await self._give_way()
        await asyncio.sleep(0)

    async def _settle_changed(self, known: _Hub) -> None:
        refs = tuple(islice(known.changed, PAGE))
        for ref in refs:
            del known.changed[ref]
        known.settling = True
        try:
            await self._settle(known, refs, None)
        except Damaged:
            for ref in refs:
                try:
                    await self._settle(known, (ref,), None)
                except Damaged as damaged:
                    _log_passed_by(known, damaged)
        finally:
            known.settling = False

    def _begin(self, known: _Hub) -> None:
        """Begins a pass, or goes on with the one that an earlier process has left, which another follows at once."""
        progress = known.progress
        known.running, known.unsaved = True, 0
        if not progress.done < progress.serves == known.wanted:
            known.progress = Progress(serves=known.wanted, done=progress.done)
            known.due = self._clock.monotonic() + EVALUATION_SECONDS

    async def _page(self, known: _Hub) -> None:
        """One page. Where a row cannot be dealt with, it is found by smaller pages, and passed by."""
        progress, last = known.progress, ""
        try:
            rows = await self._state.query_devices(
                known.number, EVERYTHING, modules=progress.modules, after=progress.after, limit=known.limit
            )
            if not rows:
                await self._turn(known)
                return
            last = rows[-1][0].key.name
            refs = await self._with_work(known, rows)
            await self._settle(known, refs, msgspec.structs.replace(progress, after=last))
            known.limit = PAGE
        except (Damaged, HubError) as error:
            if known.limit == 1:
                behind = error.key.name if isinstance(error, Damaged) and error.key is not None and not last else last
                if not behind:
                    raise HubError(Code.SERVER_ERROR, str(error)) from error
                _log_passed_by(known, error)
                known.progress = msgspec.structs.replace(progress, after=behind)
            known.limit = max(1, known.limit // 2)

    async def _with_work(self, known: _Hub, rows: Sequence[Row]) -> list[DeviceRef]:
        """Those of a page that are not as they have to be."""
        settling = self._settling(known)
        at_once = max(1, JUDGED_AT_ONCE // (1 + len(known.rules)))
        found: list[DeviceRef] = []
        for place, row in enumerate(rows, 1):
            if settling.has_work(row):
                found.append(ref_of(row[0].key))
            if place % at_once == 0:
                await asyncio.sleep(0)
        return found

    async def _turn(self, known: _Hub) -> None:
        """Behind the last device come the modules; behind the last module is the end."""
        if known.progress.modules:
            await self._end(known)
        else:
            await self._settle(known, (), msgspec.structs.replace(known.progress, modules=True, after=""))

    async def _end(self, known: _Hub) -> None:
        """The pass is over; what it served is done."""
        ended = Progress(done=known.progress.serves)
        if known.progress.done < ended.done:
            await self._state.commit([self._put(known, ended)])
        known.progress, known.running = ended, False
        self.passes += 1

    async def _settle(self, known: _Hub, refs: Sequence[DeviceRef], moved: Progress | None) -> None:
        """Settles a group, and says how far the pass is; once begun it runs to its end."""
        await self._completion.run(self._commit(known, refs, moved))

    async def _commit(self, known: _Hub, refs: Sequence[DeviceRef], moved: Progress | None) -> None:
        """All in one commit; one by one when others write the same twins, so that those delay only themselves."""
        if not await self._try(known, refs, moved, tries=2):
            for ref in refs:
                if not await self._try(known, (ref,), None, tries=COMMIT_TRIES_MAX):
                    logger.warning("twin is changed too often", extra={"hub": known.name, "device_id": ref.name})
        if moved is not None:
            known.progress = moved

    async def _try(self, known: _Hub, refs: Sequence[DeviceRef], moved: Progress | None, *, tries: int) -> bool:
        for _ in range(tries):
            draft, settled, settling = Draft(self._state), Settled(), self._settling(known)
            for ref in refs:
                await settling.settle(ref, draft, settled)
            changes = draft.changes
            saves = moved is not None and self._is_to_be_saved(known, moved, writes=bool(changes))
            if moved is not None and saves:
                changes.append(self._put(known, moved))
            try:
                if changes:
                    await self._state.commit(changes, draft.events)
            except Conflict:
                continue
            known.unsaved = 0 if saves else known.unsaved + (moved is not None)
            self._announce(known, settled)
            return True
        return False

    def _is_to_be_saved(self, known: _Hub, moved: Progress, *, writes: bool) -> bool:
        """A pass that serves no change need not be gone on with: the next start makes one anyway."""
        return moved.serves > moved.done and (writes or known.unsaved >= PAGES_UNSAVED_MAX)

    def _announce(self, known: _Hub, settled: Settled) -> None:
        self._announcing = True
        try:
            for ref, identity in settled.made:
                self._registry.announce(ref, None, identity)
            for each in settled.written:
                self._twins.announce(each.ref, each.before, each.after, each.revision, patch=each.patch)
        finally:
            self._announcing = False
        self.written += len(settled.written)
        for refused in settled.refused:
            self._tell(known, refused)

    def _tell(self, known: _Hub, refused: Refused) -> None:
        """Journals a refusal, once for what was wanted."""
        key = (refused.ref, refused.owners, refused.error.message)
        if key in self._told:
            return
        self._told[key] = None
        if len(self._told) > REFUSED_MAX:
            self._told.popitem(last=False)
        self.refused += 1
        self._notes.write(
            Decision(
                Verdict.REFUSED,
                hub=known.name,
                device=refused.ref.name,
                principal="configurations",
                code=refused.error.code.wire_name,
                hop=Hop.CONTRACT.value,
                rule="contract.configuration",
                value=refused.error.message,
                remedy="make what the configurations write, or what else is in the twin, smaller",
                detail=", ".join(owner.rpartition("@")[0] for owner in refused.owners),
            )
        )

    def _settling(self, known: _Hub) -> Settling:
        return Settling(known.ranked, self._registry, self._clock)

    def _put(self, known: _Hub, progress: Progress) -> Put:
        return Put(_reached_key(known.number), _encode(progress))


def _log_passed_by(known: _Hub, error: Exception) -> None:
    logger.warning("device passed by", extra={"hub": known.name, "reason": str(error)})
