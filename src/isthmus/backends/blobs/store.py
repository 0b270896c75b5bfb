"""The blob store: content files and an index, put together (see `files` and `writer` for how each keeps its promise).

An answer that something was written leaves after three syncs at most: the content, its file's name when it is new, the
index. What is between them and fails, or is cancelled, leaves content that nothing refers to.
"""

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from isthmus.backends.blobs import changes, queries
from isthmus.backends.blobs.drafts import AppendPlaces, FileDraft, StoredContent
from isthmus.backends.blobs.files import ContentFiles
from isthmus.backends.blobs.schema import prepare_index, reader_of
from isthmus.backends.blobs.writer import IndexWriter
from isthmus.backends.condition import Condition
from isthmus.backends.sqlite.schema import unusable
from isthmus.backends.sqlite.snapshot import Snapshot
from isthmus.base.clock import Clock
from isthmus.base.ids import HubId, Ids
from isthmus.base.sas_token import decode_key
from isthmus.base.state import StateClosed
from isthmus.neighbours.blob.blob import Blob, Container
from isthmus.neighbours.blob.listing import BlobPage, ContainerPage, Page
from isthmus.neighbours.blob.ports import BlobRule, Blocks, ContainerRule, Content, Draft, PartRule

INDEX_FILE = "index.db"
CONTENT_FOLDER = "content"

DISK_THREADS = 4
"""Reads and writes of content at once; a sync holds its thread."""

STALE_MS = 7 * 86_400_000
"""Blocks that nobody has listed for so long are removed ("Put Block")."""

APPEND_FILE_BYTES_MAX = 1024 * 1024 * 1024
"""From this size on an append blob goes on in another file, so that one file never becomes all there is."""

PROOF = b"proof of the disk"

T = TypeVar("T")

logger = logging.getLogger(__name__)


class FileBlobStore:
    """Implements `BlobStore` on a folder; belongs to the event loop that opened it."""

    def __init__(self, folder: Path, start: int, clock: Clock, ids: Ids) -> None:
        index = self._index = folder / INDEX_FILE
        self._clock = clock
        self._ids = ids
        self.condition = Condition()
        """Tells who listens when a change or its content cannot be written, and when both can again."""
        self._content_failure = ""
        self._files = ContentFiles(folder / CONTENT_FOLDER, start)
        self._writer = IndexWriter(index, self._judge)
        self._point = reader_of(index)
        self._scanner = reader_of(index)
        self._scans = ThreadPoolExecutor(1, thread_name_prefix="blob index reader")
        self._disk = ThreadPoolExecutor(DISK_THREADS, thread_name_prefix="blob content")
        self._places = AppendPlaces()
        self._spoiled: set[int] = set()
        self._secrets: dict[HubId, bytes] = {}
        self._sweeping: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, folder: Path, clock: Clock, ids: Ids) -> "FileBlobStore":
        """Makes or opens a store, and begins to remove what the last one left; raises ConfigurationError, OSError."""

        def prepare() -> int:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return prepare_index(folder / INDEX_FILE)

        store = cls(folder, await asyncio.to_thread(prepare), clock, ids)
        try:
            await store.on_disk(store._files.prepare)
            store._read_once()
        except BaseException:
            await store.close()
            raise
        store._sweeping = asyncio.create_task(store._sweep())
        return store

    def _read_once(self) -> None:
        """Lets readers join before the first change: then they read on while the disk fails.

        And the writer, who begins anew after a failure, is never alone: whoever is takes the log for what a crash has
        left, and commits that failed for whole.
        """
        try:
            for reader in (self._point, self._scanner):
                reader.execute("SELECT starts FROM counter").fetchone()
        except sqlite3.Error as error:
            raise unusable(self._index, error) from error

    def snapshot(self) -> Snapshot:
        """Of the index, to be pinned while the store is `kept`."""
        return Snapshot(self._index)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """While it lasts no content is removed that the index refers to at its beginning or later."""
        try:
            with self._files.reading():
                yield
        finally:
            await self._remove_free()

    @property
    def failure(self) -> str:
        """Why the last change, or the last content, could not be written; empty when both could."""
        return self.condition.failure

    async def prove(self) -> None:
        """Tries a disk that has failed again, with content and a change that are nobody's; else does nothing.

        Raises nothing that the disk does: `condition` knows.
        """
        if not self.failure:
            return
        with contextlib.suppress(OSError, StateClosed, sqlite3.Error):
            async with self.draft(md5=False) as draft:
                await draft.write(PROOF)
                await draft.finish()
            await self._writer.submit(changes.prove)

    async def close(self) -> None:
        """Ends what was given, then closes."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
        await self._writer.close()
        await asyncio.to_thread(self._scans.shutdown)
        await asyncio.to_thread(self._disk.shutdown)
        self._point.close()
        self._scanner.close()

    async def secret(self, account: HubId) -> bytes:
        if account not in self._secrets:
            fresh = decode_key(self._ids.key())

            def job(connection: sqlite3.Connection) -> bytes:
                connection.execute("INSERT OR IGNORE INTO account VALUES (?, ?)", (account, fresh))
                found = connection.execute("SELECT secret FROM account WHERE number = ?", (account,)).fetchone()
                return bytes(found[0])

            self._secrets[account] = await self._writer.submit(job)
        return self._secrets[account]

    async def container(self, account: HubId, name: str) -> Container | None:
        return changes.find_container(self._point, account, name)

    async def containers(self, account: HubId, page: Page) -> ContainerPage:
        return await self._scan(lambda connection: queries.container_page(connection, account, page))

    async def change_container(self, account: HubId, name: str, rule: ContainerRule) -> Container | None:
        now_ms = self._clock.utc_ms()
        after, released = await self._writer.submit(
            lambda connection: changes.change_container(connection, account, name, rule, now_ms)
        )
        await self._let_go(released)
        return after

    async def blob(self, account: HubId, container: str, name: str) -> Blob | None:
        number = changes.require_container(self._point, account, container).number
        return changes.find_blob(self._point, number, name)

    async def blobs(self, account: HubId, container: str, page: Page) -> BlobPage:
        return await self._scan(lambda connection: queries.blob_page(connection, account, container, page))

    async def blocks(self, account: HubId, container: str, name: str) -> Blocks:
        return await self._scan(lambda connection: queries.blocks_of(connection, account, container, name))

    async def change_blob(self, account: HubId, container: str, name: str, rule: BlobRule) -> Blob | None:
        now_ms = self._clock.utc_ms()
        changed = await self._writer.submit(
            lambda connection: changes.change_blob(connection, account, container, name, rule, now_ms)
        )
        await self._let_go(changed.released)
        return changed.blob

    @asynccontextmanager
    async def content(self, account: HubId, container: str, name: str, part: PartRule) -> AsyncIterator[Content | None]:
        try:
            with self._files.reading():
                found = await self._scan(lambda connection: queries.made_of(connection, account, container, name, part))
                yield StoredContent(*found, self._files, self.on_disk) if found is not None else None
        finally:
            await self._remove_free()

    @asynccontextmanager
    async def draft(self, *, md5: bool) -> AsyncIterator[Draft]:
        draft = FileDraft(self._files, self._files.next_number(), self.on_disk, self._content_judged, new=True, md5=md5)
        try:
            yield draft
        finally:
            await self._end(draft)

    @asynccontextmanager
    async def append_draft(self, blob: Blob, length: int, *, md5: bool) -> AsyncIterator[Draft]:
        with self._files.reading():
            file = await self._scan(lambda connection: queries.last_file(connection, blob.number))
            # Asked for on the event loop: between the answer and the reservation nobody else may have one.
            size = self._files.size(file) if file is not None else APPEND_FILE_BYTES_MAX
            if file is None or size >= APPEND_FILE_BYTES_MAX or file in self._spoiled:
                async with self.draft(md5=md5) as fresh:
                    yield fresh
                return
            with self._places.reserved(file, size, length) as offset:
                draft = FileDraft(
                    self._files, file, self.on_disk, self._content_judged, new=False, md5=md5, offset=offset
                )
                try:
                    yield draft
                except OSError:
                    # A sync that is tried again after an error may lie about what it failed to write before.
                    self._spoiled.add(file)
                    raise
                finally:
                    await asyncio.shield(draft.close())

    async def drop_account(self, account: HubId) -> None:
        def job(connection: sqlite3.Connection) -> set[int]:
            numbers = connection.execute("SELECT number FROM container WHERE account = ?", (account,)).fetchall()
            released = [changes.drop_container(connection, number) for (number,) in numbers]
            connection.execute("DELETE FROM account WHERE number = ?", (account,))
            return set().union(*released)

        self._secrets.pop(account, None)
        await self._let_go(await self._writer.submit(job))

    async def retain(self, accounts: Collection[HubId]) -> None:
        for number in await self._scan(queries.accounts) - set(accounts):
            await self.drop_account(HubId(number))

    async def on_disk(self, work: Callable[[], T]) -> T:
        """Runs on a thread of the disk's; what was begun there is waited for though the caller is cancelled."""
        running = asyncio.get_running_loop().run_in_executor(self._disk, work)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            raise

    async def _scan(self, read: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._scans, _in_one_view, self._scanner, read)

    async def _end(self, draft: FileDraft) -> None:
        """Closes a draft; a file that the index does not have goes."""

        async def end() -> None:
            await draft.close()
            if draft.created and not await self._scan(lambda connection: _is_known(connection, draft.number)):
                await self._let_go({draft.number})

        await asyncio.shield(end())

    async def _let_go(self, released: set[int]) -> None:
        self._files.release(released)
        await self._remove_free()

    async def _remove_free(self) -> None:
        """Removes what nobody needs; what cannot be removed is a leftover for the next start."""
        free = self._files.removable()
        if free:
            try:
                await self.on_disk(lambda: self._files.remove(free))
            except OSError as error:
                logger.warning("content of blobs could not be removed", extra={"reason": str(error)})

    def _content_judged(self, error: OSError | None) -> None:
        self._content_failure = f"content cannot be written: {error.strerror or error}" if error is not None else ""
        self._judge()

    def _judge(self) -> None:
        self.condition.be(self._writer.failure or self._content_failure)

    async def _sweep(self) -> None:
        """Removes blocks that nobody lists and files that nothing refers to; at each start."""
        stale_ms = self._clock.utc_ms() - STALE_MS
        try:
            await self._let_go(await self._writer.submit(lambda connection: changes.drop_stale(connection, stale_ms)))
            known = await self._scan(queries.known_files)
            orphans = await self.on_disk(lambda: self._files.orphans(known))
            await self.on_disk(lambda: self._files.remove(orphans))
        except Exception:
            logger.exception("leftovers of blobs could not be removed")


def _in_one_view(connection: sqlite3.Connection, read: Callable[[sqlite3.Connection], T]) -> T:
    """All statements of a read see the index as it is at the first."""
    connection.execute("BEGIN")
    try:
        return read(connection)
    finally:
        connection.execute("COMMIT")


def _is_known(connection: sqlite3.Connection, file: int) -> bool:
    statement = "SELECT 1 FROM extent WHERE file = ? UNION ALL SELECT 1 FROM staged WHERE file = ? LIMIT 1"
    return connection.execute(statement, (file, file)).fetchone() is not None
