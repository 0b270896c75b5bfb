"""Runs an export: identities become lines, lines become blocks, and all blocks become the blob at once.

Theory of operation. Devices are read in the order of their names, then modules. A block is staged, and then the record
says which identity was the last in it; a process that dies in between stages the same block again, under the same
number. Nobody sees the blob before the last step, which makes it of all its blocks, so that no reader meets half an
export. Identities that come or go meanwhile may be in it or not. One block is all that is held.
"""

import msgspec

from isthmus.base.filters import EVERYTHING
from isthmus.base.state import State
from isthmus.devices.identity import decode_identity
from isthmus.devices.twin import decode_twin
from isthmus.jobs.job import Position
from isthmus.jobs.line import write_line
from isthmus.jobs.ports import BLOCK_BYTES, Container
from isthmus.jobs.record import Record
from isthmus.jobs.yielding import Yielding

PAGE = 100
"""Identities read, and written as lines, in one turn of the event loop: some milliseconds."""


class ExportRun:
    """One run of an export, from where its record stands to its end."""

    def __init__(self, state: State, record: Record, yielding: Yielding, output: Container) -> None:
        self._state = state
        self._yielding = yielding
        self._record = record
        self._output = output
        self._block = bytearray()

    async def run(self) -> None:
        """Returns when the blob is there; raises `ContainerFailure` and what the state raises."""
        record = self._record
        if not record.job.position.total:
            total = await self._state.count("identity", record.hub)
            await record.moved(msgspec.structs.replace(record.job.position, total=total))
        position = record.job.position
        for modules in (False, True):
            if position.modules and not modules:
                continue
            if modules and not position.modules:
                position = msgspec.structs.replace(position, modules=True, after="")
            position = await self._collection(position)
        await self._stage(position)
        await self._output.commit(record.job.output_blob, record.job.position.blocks)

    async def _collection(self, position: Position) -> Position:
        hub, exclude_keys = self._record.hub, self._record.job.exclude_keys
        self._yielding.begin()
        while page := await self._state.query_devices(
            hub, EVERYTHING, modules=position.modules, after=position.after, limit=PAGE
        ):
            for identity, twin, _ in page:
                line = write_line(decode_identity(identity.body), decode_twin(twin.body), exclude_keys=exclude_keys)
                self._block += line
            position = msgspec.structs.replace(position, after=page[-1][0].key.name, done=position.done + len(page))
            if len(self._block) >= BLOCK_BYTES:
                position = await self._stage(position)
            await self._yielding.give_way()
        return position

    async def _stage(self, position: Position) -> Position:
        if not self._block:
            return position
        await self._output.stage(self._record.job.output_blob, position.blocks, bytes(self._block))
        self._block.clear()
        position = msgspec.structs.replace(position, blocks=position.blocks + 1)
        await self._record.moved(position)
        return position
