"""Runs an import: lines of a blob are carried out in groups, and what is refused goes to the error log.

Theory of operation. A group, the record and the errors of that group are one commit (`importing`), so that neither an
identity nor an error is made twice or lost, wherever the process dies. Errors wait as documents until they make a
block of the log; the block is staged, and then one commit forgets the documents and counts the block. The log is made
of its blocks in the end, and is empty when nothing failed. The input must stay what it is: its etag is in the record,
and a blob that was written meanwhile ends the job. What is held is a group and a block.
"""

from collections.abc import Sequence

import msgspec

from isthmus.base.ids import HubId
from isthmus.base.state import Change, Delete, Key, Put, State
from isthmus.jobs.importing import GROUP_LINES, Importer, carry_out
from isthmus.jobs.job import Position
from isthmus.jobs.line import Line, LineError, read_line, write_error
from isthmus.jobs.lines import lines_of
from isthmus.jobs.ports import BLOCK_BYTES, Container
from isthmus.jobs.record import Record
from isthmus.jobs.yielding import Yielding

ERRORS_KIND = "job-errors"

GROUP_BYTES = 1_048_576
"""Bytes of one group's lines, where twins are large."""

PAGES_AT_ONCE = 64
"""Documents of errors read, or forgotten, at a time."""


class ImportRun:
    """One run of an import, from where its record stands to its end."""

    def __init__(
        self,
        state: State,
        record: Record,
        importer: Importer,
        yielding: Yielding,
        *,
        source: Container,
        output: Container,
    ) -> None:
        self._yielding = yielding
        self._state = state
        self._record = record
        self._importer = importer
        self._source = source
        self._output = output

    async def run(self) -> None:
        """Returns when the log is there; raises `ContainerFailure`, `HubError` and what the state raises."""
        record = self._record
        if not record.job.position.etag:
            facts = await self._source.facts(record.job.input_blob)
            await record.moved(msgspec.structs.replace(record.job.position, etag=facts.etag, total=facts.size))
        position = record.job.position
        if position.done < position.total:
            await self._carry_out_all(position)
        await self._stage_errors()
        await self._output.commit(record.job.output_blob, record.job.position.blocks)

    async def _carry_out_all(self, position: Position) -> None:
        pieces = self._source.read(self._record.job.input_blob, offset=position.done, etag=position.etag)
        group: list[Line | LineError] = []
        held = end = 0
        self._yielding.begin()
        async for text, end in lines_of(pieces, position.done):
            group.append(read_line(text))
            held += len(text)
            if len(group) == GROUP_LINES or held >= GROUP_BYTES:
                await self._record.completion.run(self._carry_out(group, end))
                await self._yielding.give_way()
                group, held = [], 0
                if self._record.job.position.error_bytes >= BLOCK_BYTES:
                    await self._stage_errors()
        await self._record.completion.run(self._carry_out(group, position.total))

    async def _carry_out(self, group: Sequence[Line | LineError], done: int) -> None:
        """Carries a group out; the record then says that the input is done up to there."""
        record = self._record
        reached = record.job.position

        def also(errors: Sequence[LineError]) -> Sequence[Change]:
            nonlocal reached
            text = b"".join(map(write_error, errors))
            present = record.job.position
            reached = msgspec.structs.replace(
                present,
                done=done,
                errors=present.errors + len(errors),
                error_pages=present.error_pages + bool(errors),
                error_bytes=present.error_bytes + len(text),
            )
            page = Put(_page(record.hub, record.job.job_id, present.error_pages), text)
            return (record.put(reached), page) if errors else (record.put(reached),)

        _, revisions = await carry_out(self._importer, group, also)
        record.committed(reached, revisions[0])

    async def _stage_errors(self) -> None:
        """Makes a block of the errors that wait."""
        record = self._record
        pages = await _pages(self._state, record.hub, record.job.job_id)
        if not pages:
            return
        text = b"".join([stored.body for key in pages if (stored := await self._state.get(key)) is not None])
        position = record.job.position
        await self._output.stage(record.job.output_blob, position.blocks, text)
        position = msgspec.structs.replace(position, blocks=position.blocks + 1, error_bytes=0)
        await record.moved(position, *(Delete(key) for key in pages))


async def forget_errors(state: State, hub: HubId, job_id: str) -> None:
    """Removes the errors of a job that ended before they came into a log."""
    for key in await _pages(state, hub, job_id):
        await state.commit([Delete(key)])


async def _pages(state: State, hub: HubId, job_id: str) -> list[Key]:
    prefix, after, keys = f"{job_id}/", "", list[Key]()
    while found := await state.scan(ERRORS_KIND, hub, prefix=prefix, after=after, limit=PAGES_AT_ONCE):
        keys += [stored.key for stored in found]
        after = found[-1].key.name
    return keys


def _page(hub: HubId, job_id: str, number: int) -> Key:
    return Key(ERRORS_KIND, hub, f"{job_id}/{number:016x}")
