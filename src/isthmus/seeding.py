"""Applies a seed file to a hub; what is already there stays as it is."""

from collections.abc import Awaitable
from dataclasses import dataclass

from isthmus.base.errors import ConfigurationError, HubError
from isthmus.base.ids import DeviceRef
from isthmus.devices.registry import Registry
from isthmus.devices.twins import Twins
from isthmus.resources.hub import Hub, host_name_of
from isthmus.resources.hubs import Hubs
from isthmus.resources.private_endpoints import PrivateEndpoints
from isthmus.seed import Seed, SeedDevice, SeedHub, SeedPrivateEndpoint


@dataclass(frozen=True, slots=True)
class Seeding:
    """The services that a seed is applied to."""

    hubs: Hubs
    endpoints: PrivateEndpoints
    registry: Registry
    twins: Twins

    async def apply(self, seed: Seed) -> None:
        """Applies everything of the file; raises `ConfigurationError` naming what was refused and why."""
        for further in seed.hubs:
            await self._checked(f"hub {further.name}", self._hub(further))
        for device in seed.devices:
            await self._checked(f"device {device.id}", self._device(device))
        for endpoint in seed.private_endpoints:
            await self._checked(f"private endpoint {endpoint.name}", self._endpoint(endpoint))
        if not seed.hub.public_network_access:
            await self.hubs.update(self._named("").name, {"properties": {"publicNetworkAccess": "Disabled"}})

    async def _checked(self, what: str, work: Awaitable[None]) -> None:
        try:
            await work
        except HubError as error:
            raise ConfigurationError(f"The seed's {what} is refused: {error.message}.") from error

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
                await self.twins.patch(ref, {"tags": seed.tags, "properties": {"desired": seed.desired}}, None)
        for module_id in seed.modules:
            module = ref._replace(module_id=module_id)
            if await self.registry.get(module) is None:
                await self.registry.put(module, {"deviceId": seed.id, "moduleId": module_id}, None)

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
