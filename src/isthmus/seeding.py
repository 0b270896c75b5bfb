"""Applies a seed file to a hub; what is already there stays as it is.

Everything but the private endpoints is there before anybody can connect, so that no door is open that the seed closes.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from isthmus.base.errors import ConfigurationError, HubError
from isthmus.base.ids import DeviceRef
from isthmus.devices.registry import Registry
from isthmus.devices.twin import new_twin
from isthmus.devices.twins import Twins
from isthmus.resources.hub import Hub, host_name_of
from isthmus.resources.hubs import Hubs
from isthmus.resources.private_endpoints import PrivateEndpoints
from isthmus.seed import Seed, SeedDevice, SeedHub, SeedPrivateEndpoint

DEVICES_AT_ONCE = 256
"""Devices made side by side, so that they share commits: ten thousand take seconds instead of minutes."""

FRESH = new_twin().version
"""Version of a twin that no service has written."""


@dataclass(frozen=True, slots=True)
class Seeding:
    """The services that a seed is applied to."""

    hubs: Hubs
    endpoints: PrivateEndpoints
    registry: Registry
    twins: Twins

    async def apply(self, seed: Seed) -> None:
        """Applies hubs, rules and devices; raises `ConfigurationError` naming what was refused and why."""
        for further in seed.hubs:
            await self._checked(f"hub {further.name}", self._hub(further))
        if not seed.hub.public_network_access:
            first = self._named("").name
            await self.hubs.update(first, {"properties": {"publicNetworkAccess": "Disabled"}})
        for some in _chunks(seed.devices, DEVICES_AT_ONCE):
            work = (self._checked(f"device {device.id}", self._device(device)) for device in some)
            for outcome in await asyncio.gather(*work, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome

    async def apply_endpoints(self, seed: Seed) -> None:
        """Applies private endpoints, which are listened at on the way; raises as `apply`."""
        for endpoint in seed.private_endpoints:
            await self._checked(f"private endpoint {endpoint.name}", self._endpoint(endpoint))

    async def _checked(self, what: str, work: Awaitable[None]) -> None:
        try:
            await work
        except HubError as error:
            raise ConfigurationError(f"The seed's {what} is refused: {error.message.rstrip('.')}.") from error

    async def _hub(self, seed: SeedHub) -> None:
        if self.hubs.by_name(seed.name) is None:
            first = self._named("")
            host_name = seed.hostname or host_name_of(seed.name, first.host_name)
            await self.hubs.create(seed.name, host_name=host_name, partitions=first.partitions)

    async def _device(self, seed: SeedDevice) -> None:
        ref = DeviceRef(self._named(seed.hub).number, seed.id)
        if await self.registry.get(ref) is None:
            keys = {"primaryKey": seed.primary_key, "secondaryKey": seed.secondary_key or seed.primary_key}
            body = {
                "deviceId": seed.id,
                "status": "enabled" if seed.enabled else "disabled",
                "authentication": {"type": "sas", "symmetricKey": keys},
            }
            await self.registry.put(ref, body, None)
        if seed.tags or seed.desired:
            await self._write_twin(ref, seed)
        for module_id in seed.modules:
            module = ref._replace(module_id=module_id)
            if await self.registry.get(module) is None:
                await self.registry.put(module, {"deviceId": seed.id, "moduleId": module_id}, None)

    async def _write_twin(self, ref: DeviceRef, seed: SeedDevice) -> None:
        """Writes the twin that nobody has written yet: also that of a device whose seeding did not come so far."""
        if (await self.twins.get(ref)).twin.version == FRESH:
            await self.twins.patch(ref, {"tags": seed.tags, "properties": {"desired": seed.desired}}, None)

    async def _endpoint(self, seed: SeedPrivateEndpoint) -> None:
        if any(endpoint.name.lower() == seed.name.lower() for endpoint in self.endpoints.all()):
            return
        hub = self._named(seed.hub)
        connection = {
            "name": seed.name,
            "properties": {"privateLinkServiceId": hub.resource_id, "groupIds": ["iotHub"]},
        }
        address = {"groupId": "iotHub", "memberName": "iotHub", "privateIPAddress": seed.address}
        kind = "privateLinkServiceConnections" if seed.approved else "manualPrivateLinkServiceConnections"
        properties = {kind: [connection], "ipConfigurations": [{"name": seed.name, "properties": address}]}
        await self.endpoints.create(seed.name, {"properties": properties})

    def _named(self, name: str) -> Hub:
        """The hub of that name, the first one for no name."""
        return self.hubs.require(name) if name else self.hubs.all()[0]


def _chunks(devices: Iterable[SeedDevice], size: int) -> Iterator[list[SeedDevice]]:
    rest = iter(devices)
    while some := list(islice(rest, size)):
        yield some
