"""Jobs over the domain, with the official storage client, which is loaded when the first job asks for it."""

import asyncio
from collections.abc import Iterator, Mapping

from isthmus.app.domain import Domain
from isthmus.app.stores import Stores
from isthmus.base.ids import HubId
from isthmus.jobs.bulk import BulkRegistry
from isthmus.jobs.import_export import ImportExportJobs
from isthmus.jobs.ports import Container, ContainerAddress, ContainerFailure, Containers
from isthmus.jobs.scheduled import ScheduledJobs
from isthmus.jobs.scheduled_run import Tools
from isthmus.routing.sink import Egress
from isthmus.servers.gateway.http_bulk import BulkApi
from isthmus.servers.gateway.http_jobs import JobsApi
from isthmus.servers.gateway.http_routes import Action
from isthmus.servers.gateway.http_scheduled_jobs import ScheduledJobsApi
from isthmus.servers.gateway.http_service import Handler, ServiceApi
from isthmus.servers.management.arm import Routes
from isthmus.servers.management.arm_jobs import ArmJobs
from isthmus.servers.management.metrics import Reading


class Jobs:
    """The jobs of a server's hubs, of both kinds; `credentials` as `[egress] credentials`."""

    def __init__(self, stores: Stores, domain: Domain, egress: Egress, credentials: str) -> None:
        state, clock = stores.state, stores.clock
        registry, twins = domain.registry, domain.twins
        self.transfers = ImportExportJobs(
            state,
            clock,
            stores.ids,
            registry,
            twins,
            LateContainers(egress, credentials),
            is_pressed=lambda: stores.log.backlog_bytes > 0,
        )
        self.bulk = BulkRegistry(state, registry, twins, clock, stores.ids)
        self.scheduled = ScheduledJobs(Tools(state, clock, registry, twins, domain.methods, domain.connected))
        self._domain = domain

    async def start(self) -> None:
        """Goes on with what the last process left, and stops the jobs of hubs that are deleted from now on."""
        numbers = tuple(hub.number for hub in self._domain.hubs.all())
        for jobs in (self.transfers, self.scheduled):
            self._domain.hubs.on_change(jobs.hub_changed)
            await jobs.start(numbers)

    async def close(self) -> None:
        """Stops all of them, after the commits under way."""
        await self.transfers.close()
        await self.scheduled.close()
        await self.bulk.settled()

    def service(self, more: Mapping[Action, Handler]) -> ServiceApi:
        """The service API, with the calls about jobs and about many identities, and `more`."""
        scheduled = ScheduledJobsApi(self.scheduled, self.transfers)
        handlers = (JobsApi(self.transfers).handlers, scheduled.handlers, BulkApi(self.bulk).handlers, more)
        return self._domain.service(
            {action: each for some in handlers for action, each in some.items()}, scheduled.rows
        )

    def arm_routes(self) -> Routes:
        """ARM of imports and exports."""
        return ArmJobs(self._domain.hubs, self.transfers, self._domain.journal).routes

    def readings(self) -> Iterator[Reading]:
        """What a scrape reads of them."""
        transfers = self.transfers
        yield Reading("jobs_active", "Imports and exports that are not ended", transfers.active)
        yield Reading("jobs_completed", "Imports and exports completed", transfers.completed, total=True)
        yield Reading("jobs_failed", "Imports and exports failed", transfers.failed, total=True)
        yield Reading("jobs_scheduled", "Scheduled jobs that are not ended", self.scheduled.active)


class LateContainers:
    """Implements `Containers`; the client, which is large, is imported in a thread by the first who needs it."""

    def __init__(self, egress: Egress, credentials: str) -> None:
        self._egress = egress
        self._credentials = credentials
        self._containers: Containers | None = None

    async def open(self, hub: HubId, address: ContainerAddress) -> Container:
        if self._containers is None:
            try:
                self._containers = await asyncio.to_thread(_storage_containers, self._egress, self._credentials)
            except ImportError as error:
                reason = f"the storage client is not installed ({error.name})"
                raise ContainerFailure(
                    "ClientMissing", reason, lasting=True, remedy="pip install 'isthmus[sinks]'"
                ) from error
        return await self._containers.open(hub, address)


def _storage_containers(egress: Egress, credentials: str) -> Containers:
    from isthmus.sinks.azure_credentials import credentials_of
    from isthmus.sinks.job_containers import StorageContainers

    return StorageContainers(egress, credentials_of(credentials))
