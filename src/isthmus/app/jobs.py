"""Jobs over the domain, with the official storage client, which is loaded when the first job asks for it."""

import asyncio

from isthmus.app.domain import Domain
from isthmus.app.stores import Stores
from isthmus.base.ids import HubId
from isthmus.jobs.import_export import ImportExportJobs
from isthmus.jobs.ports import Container, ContainerAddress, ContainerFailure, Containers
from isthmus.routing.sink import Egress


def import_export_jobs(stores: Stores, domain: Domain, egress: Egress, credentials: str) -> ImportExportJobs:
    """The jobs of a server's hubs; `credentials` as `[egress] credentials`."""
    return ImportExportJobs(
        stores.state, stores.clock, stores.ids, domain.registry, domain.twins, LateContainers(egress, credentials)
    )


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
