"""The embedded log: one append-only file of segments, group commit, readers by cursor.

Theory of operation. Two threads, and a baton between them. The event loop owns what readers see: indexes, the tail
cache, the tails of partitions, waiters. The writer thread owns the active segment. `append` only collects. A batch goes
to the writer 1 ms after its first record, or at once when it is large; while the writer is busy the next batch grows.
At most one batch is with the writer. It comes back, durable or failed, by one call on the event loop, which shows it to
readers, hands the next batch over, and then tells the waiters: whoever hears of a commit can read it.

When a batch fails, everything appended since fails with it, before anything else is written. So what is durable is a
prefix of what was appended: no sender sees a later message acknowledged and an earlier one refused, and the outbox
relay may skip whatever is not above the highest outbox id it finds in the log. On disk a batch is whole or not there at
all (`recovery.py`), so the same holds after a crash.

Retention removes whole sealed segments, oldest first, when the owner calls `tick`. An active segment that has become
old is sealed first, so that a quiet log keeps its promise too.
"""

import asyncio
import contextlib
import fcntl
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from isthmus.base.clock import Clock
from isthmus.base.errors import ConfigurationError
from isthmus.telemetry.archive import Archive
from isthmus.telemetry.batch import Item
from isthmus.telemetry.cut import Cut
from isthmus.telemetry.damage import Damages, OnDamage
from isthmus.telemetry.files import Files, FolderFiles
from isthmus.telemetry.head import Head
from isthmus.telemetry.index import SegmentIndex, encode_index
from isthmus.telemetry.ports import CommitWaiter, Partition, PartitionInfo, Record
from isthmus.telemetry.record import HEADER_BYTES, RECORD_BYTES_MAX
from isthmus.telemetry.recovery import Recovered, RecoveryReport, recover
from isthmus.telemetry.segment import Tail, index_name, segment_name
from isthmus.telemetry.tail import TailCache
from isthmus.telemetry.tails import Tails
from isthmus.telemetry.writer import Begun, Commit, Writer

COMMIT_WAIT_SECONDS = 0.001
"""How long a batch waits for company. Measured at 5,000 messages/s: half the CPU and a tenth of the p99 of no wait."""

BATCH_RECORDS_LARGE = 200
BATCH_BYTES_LARGE = 256 * 1024
"""A batch that does not wait: one sync for so many records costs next to nothing each."""

BATCH_RECORDS_MAX = 4096
BATCH_BYTES_MAX = 4 * 1024 * 1024
"""The next batch is begun at this size, so that no commit takes much longer than its sync (some 10 ms)."""

LOCK_NAME = "lock"


@dataclass(frozen=True, slots=True)
class LogConfig:
    """How the log uses its disk and memory.

    `retention_ms`: records are kept at least so long (7 days, the most the built-in endpoint offers in Azure), unless
    `retention_bytes` (10 GiB) is reached first; whole segments go. `segment_bytes` (64 MiB) is 1/160 of that; a segment
    passes it by one batch at most. `segment_age_ms` (1 day): an active segment is sealed at this age, so records are
    gone after `retention_ms` + `segment_age_ms` at the latest. `tail_cache_bytes` (32 MiB): newest events kept in
    memory for readers.
    """

    retention_ms: int = 7 * 24 * 3_600_000
    retention_bytes: int = 10 * 1024**3
    segment_bytes: int = 64 * 1024**2
    segment_age_ms: int = 24 * 3_600_000
    tail_cache_bytes: int = 32 * 1024**2


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the last commit succeeded; `reason` tells why not."""

    ok: bool
    reason: str = ""


@dataclass(slots=True)
class LogCounters:
    """Totals since the log was opened; `commit_seconds` is time in the writer, `retried` counts rewritten batches."""

    records: int = 0
    bytes: int = 0
    commits: int = 0
    commit_seconds: float = 0.0
    failed_records: int = 0
    retried: int = 0
    retired_segments: int = 0


@dataclass(frozen=True, slots=True)
class ToCheck:
    """A segment from `base` to `end`.

    `reached` is how far partitions have got there, where no segment follows; else that stands in the header of the one
    that begins at `following`.
    """

    base: int
    end: int
    following: int
    reached: Mapping[Partition, Tail] | None


DEFAULT_CONFIG = LogConfig()


class SegmentLog:
    """The embedded `Log`: see the theory of operation above. Not thread-safe: all calls on its event loop."""

    def __init__(
        self,
        files: Files,
        clock: Clock,
        head: Head,
        tails: Tails,
        recovered: Recovered,
        config: LogConfig,
        on_damage: OnDamage,
    ) -> None:
        """Starts the writer thread; must be called on the event loop. Use `open`."""
        self.recovery: RecoveryReport = recovered.report
        self.counters = LogCounters()
        self._files = files
        self._head = head
        self._tails = tails
        self._config = config
        self._loop = asyncio.get_running_loop()
        self.damages = Damages(on_damage)
        for damage in recovered.report.damages:
            self.damages.add(damage)
        self._archive = Archive(files, self.damages)
        self._archive.segments = recovered.segments
        for sealed in recovered.segments[:-1]:
            sealed.blocks = None
        self._cache = TailCache(recovered.end, config.tail_cache_bytes)
        self._known = recovered.carry.copy()
        self._used = dict(recovered.used)
        self._end = self._recovered_end = recovered.end
        self._recovered_tails = recovered.known.tails
        self._expired = 0
        self._health = Health(ok=True)
        self._growth: dict[Partition, list[Callable[[], None]]] = {}
        self._commit_listeners: list[Callable[[], None]] = []
        self._health_listeners: list[Callable[[Health], None]] = []
        self._pending: list[Item] = []
        self._pending_bytes = 0
        self._ready: deque[list[Item]] = deque()
        self._in_flight: list[Item] | None = None
        self._backlog = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_due = False
        self._roll = False
        self._keepers = 0
        self._closed: asyncio.Future[None] | None = None
        self._lock: int | None = None
        tails.start(recovered.known)
        self._writer = Writer(files, clock, head, tails, recovered, config.segment_bytes)
        if recovered.appendable:
            self._writer.resume(recovered.segments[-1])
        self._writer.tell()
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # A daemon: a process that ends without `close` is no worse off than one that was killed.
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    @classmethod
    def open(
        cls,
        folder: Path,
        clock: Clock,
        *,
        config: LogConfig = DEFAULT_CONFIG,
        files: Files | None = None,
        on_damage: OnDamage = lambda damage: None,
    ) -> "SegmentLog":
        """Opens the log of a folder, made when it is not there, and repairs what a crash left (`recovery`).

        Blocks for as long as it takes to read the last segment. `on_damage` hears of damage that readers meet later, on
        the event loop. Raises `ConfigurationError` when another process has the log open or a later release wrote it.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _lock(folder)
        try:
            files = files or FolderFiles(folder)
            head, tails = Head.open(files, writable=True), Tails.open(files, writable=True)
            recovered = recover(files, head.read(), tails.read())
            log = cls(files, clock, head, tails, recovered, config, on_damage)
        except BaseException:
            os.close(lock)
            raise
        log._lock = lock
        return log

    @property
    def files(self) -> Files:
        """Where it lies."""
        return self._files

    @property
    def health(self) -> Health:
        """Whether the last commit succeeded."""
        return self._health

    def on_health(self, listener: Callable[[Health], None]) -> None:
        """Calls `listener` on the event loop whenever commits begin to fail, or to succeed again."""
        self._health_listeners.append(listener)

    @property
    def backlog_bytes(self) -> int:
        return self._backlog

    @property
    def end(self) -> int:
        """The position behind the last durable record."""
        return self._end

    @property
    def pinned_bytes(self) -> int:
        """Bytes of segments that retention has let go and that are kept for whoever has yet to deliver them."""
        return sum(_size(segment) for segment in self._archive.segments if segment.end <= self._expired)

    @property
    def stored_bytes(self) -> int:
        """Bytes of all segments."""
        return sum(map(_size, self._archive.segments))

    def bytes_behind(self, position: int) -> int:
        """Bytes of what is stored at or behind a position: positions that were skipped have none."""
        return sum(max(0, segment.end - max(segment.base, position)) for segment in self._archive.segments)

    def append(
        self,
        partition: Partition,
        endpoints: tuple[int, ...],
        envelope: bytes,
        payload: bytes,
        ingress_ms: int,
        waiter: CommitWaiter,
        cookie: int,
        outbox_id: int = 0,
    ) -> None:
        size = HEADER_BYTES + 4 * len(endpoints) + len(envelope) + len(payload)
        if size > RECORD_BYTES_MAX:
            raise ValueError(f"a record of {size} bytes; {RECORD_BYTES_MAX} is the most")
        pending = self._pending
        pending.append((partition, endpoints, envelope, payload, ingress_ms, waiter, cookie, outbox_id))
        self._backlog += size
        self._pending_bytes += size
        if len(pending) == 1:
            self._begin_batch()
        if len(pending) >= BATCH_RECORDS_LARGE or self._pending_bytes >= BATCH_BYTES_LARGE:
            self._grow_batch()

    def append_all(
        self,
        partition: Partition,
        endpoints: tuple[int, ...],
        events: Sequence[tuple[bytes, bytes]],
        ingress_ms: int,
        waiter: CommitWaiter,
        cookie: int,
    ) -> None:
        head = HEADER_BYTES + 4 * len(endpoints)
        sizes = [head + len(envelope) + len(payload) for envelope, payload in events]
        if not sizes:
            return
        if max(sizes) > RECORD_BYTES_MAX:
            raise ValueError(f"a record of {max(sizes)} bytes; {RECORD_BYTES_MAX} is the most")
        is_first = not self._pending
        self._pending += [(partition, endpoints, *event, ingress_ms, waiter, cookie, 0) for event in events]
        self._backlog += sum(sizes)
        self._pending_bytes += sum(sizes)
        if is_first:
            self._begin_batch()
        if self._is_large():
            self._grow_batch()

    def info(self, partition: Partition) -> PartitionInfo:
        tail = self._known.tail(partition)
        first = self._archive.first_sequence(partition, self._expired)
        begin = tail.next_sequence if first is None else first
        last = self._used.get(partition, tail.next_sequence) - 1 if tail.last_offset >= 0 else -1
        return PartitionInfo(begin, last, tail.last_offset, tail.last_ms, tail.next_sequence)

    def last_outbox_id(self, stream: int) -> int:
        return self._known.outbox.get(stream, 0)

    def seek_sequence(self, partition: Partition, sequence: int) -> int:
        return self._or_end(self._archive.seek_sequence(partition, sequence))

    def seek_offset(self, partition: Partition, offset: int) -> int:
        return min(max(offset, self._expired), self._end)

    def seek_time(self, partition: Partition, utc_ms: int) -> int:
        return self._or_end(self._archive.seek_time(partition, utc_ms))

    def seek_end(self, partition: Partition) -> int:
        return self._end

    def read(self, partition: Partition, cursor: int, max_records: int, max_bytes: int) -> tuple[list[Record], int]:
        cursor = max(cursor, self._expired)
        source = self._cache if self._cache.covers(partition, cursor) else self._archive
        records, following = source.read(partition, cursor, max_records, max_bytes)
        return records, max(cursor, self._end) if following is None else following

    def on_growth(self, partition: Partition, wake: Callable[[], None]) -> Callable[[], None]:
        wakes = self._growth.setdefault(partition, [])
        wakes.append(wake)

        def undo() -> None:
            with contextlib.suppress(ValueError):
                wakes.remove(wake)

        return undo

    def on_commit(self, wake: Callable[[], None]) -> None:
        """Calls `wake` on the event loop after each commit, whatever it holds, for as long as the log is open."""
        self._commit_listeners.append(wake)

    def cut(self) -> "Future[Cut]":
        """What is durable between two commits. May be called from any thread; a log that closes never answers."""
        answer: Future[Cut] = Future()
        self._jobs.put(lambda: answer.set_result(self._writer.cut()))
        return answer

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """While it lasts no segment is removed, however much disk that takes; retention makes up for it afterwards."""
        self._keepers += 1
        try:
            yield
        finally:
            self._keepers -= 1

    def tick(self, now_ms: int, keep_from: int | None = None) -> int:
        """Seals an old active segment, and removes segments that retention lets go. Call it about once a minute.

        A log whose last commit failed is tried with a new segment, so that it is well again though nobody writes.
        Answers up to where retention lets go, before which readers of events see nothing any more. What of it ends
        behind `keep_from` stays on disk for whoever has yet to deliver it. Ages are by the wall clock, whatever it
        does: one that is set forward makes records old, one that is set back keeps them longer.
        """
        segments = self._archive.segments
        is_old = segments and 0 < segments[-1].oldest_ms <= now_ms - self._config.segment_age_ms
        if is_old or not self._health.ok:
            self._roll = True
            self._next()
        stored = self.stored_bytes
        let_go = segments[0].base if segments else 0
        retired: list[SegmentIndex] = []
        for segment in segments[:-1]:
            if stored <= self._config.retention_bytes and segment.newest_ms >= now_ms - self._config.retention_ms:
                break
            stored -= _size(segment)
            let_go = segment.end
            if not self._keepers and (keep_from is None or segment.end <= keep_from):
                retired.append(segments.pop(0))
        self._expired = max(self._expired, let_go)
        self._retire(retired)
        return let_go

    def next_to_check(self, behind: int) -> ToCheck | None:
        """The first segment that begins behind a position, as far as it is durable now; None when there is none."""
        segments = self._archive.segments
        for number, segment in enumerate(segments):
            if segment.base > behind:
                if number + 1 < len(segments):
                    return ToCheck(segment.base, segment.end, segments[number + 1].base, None)
                tails = self._recovered_tails if self._end == self._recovered_end else self._known.tails
                return ToCheck(segment.base, segment.end, segment.end, dict(tails))
        return None

    async def close(self) -> None:
        if self._closed is None:
            self._closed = self._loop.create_future()
            self._next()
        await asyncio.shield(self._closed)

    def _or_end(self, position: int | None) -> int:
        return self._end if position is None else max(position, self._expired)

    def _begin_batch(self) -> None:
        """The first record of a batch: it waits for company, but not for long."""
        if self._closed is not None:
            self._loop.call_soon(self._fail_taken, "the log is closed")
        elif self._timer is None:
            self._timer = self._loop.call_later(COMMIT_WAIT_SECONDS, self._wait_over)

    def _wait_over(self) -> None:
        self._timer = None
        self._is_due = True
        self._next()

    def _grow_batch(self) -> None:
        """A large batch: it goes at once, or makes room for the next one while the writer is busy."""
        if self._closed is not None:
            return
        if self._in_flight is None:
            self._next()
        elif len(self._pending) >= BATCH_RECORDS_MAX or self._pending_bytes >= BATCH_BYTES_MAX:
            self._ready.append(self._take_pending())

    def _next(self) -> None:
        """Hands the next batch to the writer, when there is one and the writer is free."""
        if self._in_flight is not None:
            return
        if self._ready:
            self._hand_over(self._ready.popleft())
        elif self._pending and (self._is_due or self._closed is not None or self._is_large()):
            self._hand_over(self._take_pending())
        elif self._roll:
            self._hand_over([])
        elif self._closed is not None:
            self._jobs.put(None)

    def _is_large(self) -> bool:
        return len(self._pending) >= BATCH_RECORDS_LARGE or self._pending_bytes >= BATCH_BYTES_LARGE

    def _take_pending(self) -> list[Item]:
        items, self._pending, self._pending_bytes = self._pending, [], 0
        self._is_due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return items

    def _hand_over(self, items: list[Item]) -> None:
        self._in_flight = items
        roll, self._roll = self._roll, False
        self._jobs.put(lambda: self._post(self._finished, self._writer.commit(items, roll=roll)))

    def _run(self) -> None:
        """The writer thread."""
        for job in iter(self._jobs.get, None):
            job()
        self._writer.close()
        self._post(self._finish_close)

    def _post(self, call: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is gone, and with it everybody who waits
            self._loop.call_soon_threadsafe(call, *arguments)

    def _finished(self, commit: Commit) -> None:
        """A batch came back."""
        items, self._in_flight = self._in_flight or [], None
        self.counters.retried += bool(commit.trouble and not commit.error)
        if commit.error:
            self._be(Health(ok=False, reason=commit.error))
            self._fail(items, commit.error)
            return
        self._be(Health(ok=True))
        self._show(commit, len(items))
        self._next()
        for waiter, cookies in _by_waiter(items):
            self._guard(waiter.committed, cookies)
        for run in commit.runs:
            for wake in tuple(self._growth.get(run.partition, ())):
                self._guard(wake)
        for wake in self._commit_listeners:
            self._guard(wake)

    def _be(self, health: Health) -> None:
        before, self._health = self._health, health
        if before.ok != health.ok:
            for listener in self._health_listeners:
                self._guard(listener, health)

    def _show(self, commit: Commit, records: int) -> None:
        """Makes a commit visible to readers."""
        if commit.begun is not None:
            self._begin_segment(commit.begun)
        counters = self.counters
        counters.records += records
        counters.bytes += commit.end - self._end
        counters.commits += records > 0
        counters.commit_seconds += commit.seconds
        self._backlog -= commit.end - self._end
        self._end = commit.end
        active = self._archive.segments[-1]
        for run in commit.runs:
            active.extend(run.partition, run.sequence, run.enqueued_ms, run.positions, run.end)
            self._cache.add(run)
            tail = Tail(run.sequence + len(run.events), run.enqueued_ms, run.positions[-1])
            self._known.tails[run.partition] = tail
            self._used.pop(run.partition, None)
        self._known.outbox.update(commit.outbox)
        if records:
            active.reach(commit.end, commit.newest_ms)

    def _begin_segment(self, begun: Begun) -> None:
        segments = self._archive.segments
        if segments and segments[-1].base == begun.base:  # it held nothing, and its file has been replaced
            self._archive.drop(segments.pop().base)
        elif segments:
            sealed = segments[-1]
            self._jobs.put(lambda: self._write_index(sealed))
        segments.append(SegmentIndex(begun.base, begun.data_start))

    def _write_index(self, sealed: SegmentIndex) -> None:
        """On the writer thread: nobody changes a sealed segment's index any more."""
        try:
            self._files.write_whole(index_name(sealed.base), encode_index(sealed))
        except OSError:  # it stays in memory, and the next start makes the file
            return
        self._post(_unload, sealed)

    def _retire(self, retired: list[SegmentIndex]) -> None:
        if not retired:
            return
        for segment in retired:
            self._archive.drop(segment.base)
            self._cache.forget_before(segment.end)
            self.counters.retired_segments += 1
        begin = self._archive.segments[0].base
        self.damages.forget_before(begin)
        self._jobs.put(lambda: self._remove([segment.base for segment in retired], begin))

    def _remove(self, bases: list[int], begin: int) -> None:
        """On the writer thread. What cannot be removed now is found and removed again after the next start."""
        self._writer.begin_at(begin)
        for base in bases:
            with contextlib.suppress(OSError):
                self._files.remove(segment_name(base))
                self._files.remove(index_name(base))

    def _fail_taken(self, reason: str) -> None:
        if self._in_flight is None:
            self._fail([], reason)

    def _fail(self, items: list[Item], reason: str) -> None:
        """Fails a batch and everything appended since."""
        failed = [*items, *(item for batch in self._ready for item in batch), *self._take_pending()]
        self._ready.clear()
        self._backlog = 0
        self.counters.failed_records += len(failed)
        self._next()
        for waiter, cookies in _by_waiter(failed):
            self._guard(waiter.failed, cookies, reason)

    def _guard(self, call: Callable[..., None], *arguments: object) -> None:
        """One listener's fault is not another's."""
        try:
            call(*arguments)
        except Exception as error:
            self._loop.call_exception_handler({"message": "a listener of the log failed", "exception": error})

    def _finish_close(self) -> None:
        self._thread.join()
        self._archive.close()
        self._head.close()
        self._tails.close()
        if self._lock is not None:
            os.close(self._lock)
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)


def _by_waiter(items: list[Item]) -> list[tuple[CommitWaiter, list[int]]]:
    """Cookies of each waiter, in the order of appends."""
    told: dict[int, tuple[CommitWaiter, list[int]]] = {}
    for item in items:
        waiter = item[5]
        entry = told.get(id(waiter))
        if entry is None:
            entry = told[id(waiter)] = (waiter, [])
        entry[1].append(item[6])
    return list(told.values())


def _unload(sealed: SegmentIndex) -> None:
    sealed.blocks = None


def _size(segment: SegmentIndex) -> int:
    return segment.data_start + segment.end - segment.base


def _lock(folder: Path) -> int:
    handle = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise ConfigurationError(f"Another process uses {folder}: stop it first, or give another folder.") from error
    return handle
