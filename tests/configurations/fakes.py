"""A world for configurations: registry and twins over a state in memory, with the engine running."""

import asyncio
from collections.abc import Callable

from devices import fakes
from devices.fakes import HUB
from isthmus.access.journal import Decision
from isthmus.backends.memory import MemoryState
from isthmus.base.ids import DeviceRef
from isthmus.configurations.configuration import Configuration
from isthmus.configurations.configurations import Configurations
from isthmus.configurations.edge import EdgeContent
from isthmus.configurations.plan import told
from isthmus.configurations.rollout import Rollout
from isthmus.devices.twin import JsonObject, Twin
from isthmus.network.rules import NetworkRules
from isthmus.resources.hub import Hub

SEEN_SECONDS_MAX = 30.0


class World(fakes.World):
    """Configurations of one hub; what is journaled is in `noted`."""

    def __init__(self, state: MemoryState | None = None) -> None:
        super().__init__(state)
        self.hub = Hub(HUB, "hub", "hub.isthmus.test", 1, 0, rules=NetworkRules())
        self.noted: list[Decision] = []
        self.edge = EdgeContent(self.state, self.clock, self.registry, self.twins)
        self.rollout = Rollout(
            self.state, self.clock, self.registry, self.twins, self, give_way=self._give_way, pause=self._pause
        )
        self.configurations = Configurations(self.state, self.clock, self.rollout)

    def write(self, decision: Decision) -> bool:
        """Journals."""
        self.noted.append(decision)
        return True

    async def create(
        self, config_id: str, content: JsonObject, condition: str = "*", *, priority: int = 0, **more: object
    ) -> Configuration:
        body = {"content": content, "targetCondition": condition, "priority": priority, **more}
        return await self.configurations.put(self.hub, config_id, body, None)

    async def twin(self, ref: DeviceRef) -> Twin:
        return (await self.twins.get(ref)).twin

    async def desired(self, ref: DeviceRef) -> JsonObject:
        return (await self.twin(ref)).properties.desired

    async def statuses(self, ref: DeviceRef) -> dict[str, str]:
        return told(await self.twin(ref))

    async def settled(self) -> None:
        """Returns when the engine has nothing to do."""
        await self.seen(lambda: self.rollout.is_settled)

    async def seen(self, condition: Callable[[], bool]) -> None:
        """Returns when it is so."""
        async with asyncio.timeout(SEEN_SECONDS_MAX):
            while not condition():  # noqa: ASYNC110 - many things make it so
                await asyncio.sleep(0.001)

    async def _give_way(self) -> None:
        return

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(0.001)


def device_content(**settings: object) -> JsonObject:
    """Content that writes members of the desired properties."""
    return {"deviceContent": {f"properties.desired.{name}": value for name, value in settings.items()}}
