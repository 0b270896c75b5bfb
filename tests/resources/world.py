"""Hubs and private endpoints over a state in memory, and listeners that remember."""

from dataclasses import dataclass, field

from devices.fakes import CountedIds, StandingClock
from isthmus.backends.memory import MemoryState
from isthmus.base.state import State
from isthmus.resources.hub import Hub
from isthmus.resources.hubs import Hubs
from isthmus.resources.private_endpoint import PrivateEndpoint
from isthmus.resources.private_endpoints import PrivateEndpoints

HOST = "hub.example.test"


@dataclass
class World:
    """One process's resources; a second one over the same `state` is a restart, or a rival."""

    state: State = field(default_factory=MemoryState)
    objection: str = ""
    clock: StandingClock = field(default_factory=StandingClock)
    ids: CountedIds = field(default_factory=CountedIds)
    told: list[tuple[Hub | None, Hub | None]] = field(default_factory=list)
    bound: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hubs = Hubs(self.state, self.clock, self.ids)
        self.endpoints = PrivateEndpoints(self.state, self.hubs, self.ids, lambda _: self.objection)
        self.hubs.on_change(self._hub_changed)
        self.endpoints.on_change(self._endpoint_changed)

    async def loaded(self) -> "World":
        await self.hubs.load()
        await self.endpoints.load()
        self.bound = [endpoint.address for endpoint in self.endpoints.all()]
        return self

    async def with_hub(self, name: str = "hub") -> "World":
        await self.hubs.create(name, host_name=f"{name}.example.test", partitions=4)
        return self

    async def _hub_changed(self, old: Hub | None, new: Hub | None) -> None:
        self.told.append((old, new))

    async def _endpoint_changed(self, old: PrivateEndpoint | None, new: PrivateEndpoint | None) -> None:
        if old is not None:
            self.bound.remove(old.address)
        if new is not None:
            self.bound.append(new.address)
