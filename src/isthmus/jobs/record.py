"""The record of a job while somebody works on it: what was committed last, and the one way to write it."""

import msgspec

from isthmus.base.ids import HubId
from isthmus.base.state import Change, Put, State
from isthmus.completion import Completion
from isthmus.jobs.job import ImportExportJob, Position, encode_job, job_key


class Record:
    """A job's record; one task works on it. `completion` has what must not be left half done."""

    def __init__(self, state: State, hub: HubId, job: ImportExportJob, revision: int) -> None:
        self._state = state
        self.hub = hub
        self.job = job
        self._revision = revision
        self.completion = Completion()

    async def save(self, job: ImportExportJob, *others: Change) -> None:
        """Commits the record with other changes; cancelling the wait does not undo it.

        Raises `Conflict`, which only somebody who deletes the hub makes, and what the state raises.
        """
        await self.completion.run(self._save(job, others))

    async def moved(self, position: Position, *others: Change) -> None:
        """As `save`: the same job, further on."""
        await self.save(msgspec.structs.replace(self.job, position=position), *others)

    def put(self, position: Position) -> Put:
        """The change that moves the job, for a commit of others, after which it is `committed`."""
        job = msgspec.structs.replace(self.job, position=position)
        return Put(job_key(self.hub, job.job_id), encode_job(job), self._revision)

    def committed(self, position: Position, revision: int) -> None:
        """Notes that what `put` gave was committed."""
        self.job = msgspec.structs.replace(self.job, position=position)
        self._revision = revision

    async def _save(self, job: ImportExportJob, others: tuple[Change, ...]) -> None:
        put = Put(job_key(self.hub, job.job_id), encode_job(job), self._revision)
        revisions = await self._state.commit([put, *others])
        self.job, self._revision = job, revisions[0]
