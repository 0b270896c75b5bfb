"""What can be asked about hubs besides themselves: counts, sizes, quotas, the built-in endpoint's health, free names.

Shapes: Microsoft.Devices 2023-06-30; Microsoft.Network, `availablePrivateEndpointTypes`. Only what is true here is
told: the number of messages is among the quotas where a day's is limited.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from isthmus.base.errors import Code, HubError
from isthmus.base.ids import HubId
from isthmus.base.limits import DEVICES_PER_HUB_MAX, HUBS_MAX
from isthmus.base.places import SUBSCRIPTION
from isthmus.network.private_endpoints import GROUP_ID
from isthmus.resources.arm import HUB_TYPE, link_resources_to_arm
from isthmus.resources.hub import EVENTS_ENDPOINT, UNITS_MAX, Hub, Sku, SkuName, check_hub_name
from isthmus.resources.hubs import Hubs
from isthmus.resources.members import text
from isthmus.servers.management.arm import Routes
from isthmus.servers.management.request import Call, Reply

Json = dict[str, object]


class Statistics(Protocol):
    """Devices of a hub by their status."""

    @property
    def total(self) -> int: ...
    @property
    def enabled(self) -> int: ...


class ArmHubViews:
    """Answers ARM calls that only look; used on the event loop only."""

    def __init__(
        self,
        hubs: Hubs,
        statistics: Callable[[HubId], Awaitable[Statistics]],
        log_trouble: Callable[[], str],
        endpoints_health: Callable[[Hub], list[Json]] = lambda hub: [],
        messages_today: Callable[[Hub], tuple[int, int]] = lambda hub: (0, 0),
    ) -> None:
        """`log_trouble` tells what is wrong with the log that the built-in endpoint reads; empty for nothing.

        `endpoints_health` tells how other endpoints do; `messages_today` are a hub's messages of the day and their
        limit, 0 for none.
        """
        self._hubs = hubs
        self._statistics = statistics
        self._log_trouble = log_trouble
        self._endpoints_health = endpoints_health
        self._messages_today = messages_today
        hub = "microsoft.devices/iothubs/*"
        self.routes: Routes = {
            ("GET", f"{hub}/iothubstats"): self._show_statistics,
            ("GET", f"{hub}/skus"): self._list_sizes,
            ("GET", f"{hub}/quotametrics"): self._list_quotas,
            ("GET", f"{hub}/routingendpointshealth"): self._list_health,
            ("GET", f"{hub}/privatelinkresources/*"): self._link_resource,
            ("GET", "microsoft.devices/usages"): self._list_usages,
            ("POST", "microsoft.devices/checknameavailability"): self._check_name,
            ("GET", "microsoft.network/locations/*/availableprivateendpointtypes"): self._list_types,
        }
        """Handlers by method and path pattern; see `arm.Routes`."""

    async def _show_statistics(self, call: Call, names: tuple[str, ...]) -> Reply:
        found = await self._statistics(self._hubs.require(names[0]).number)
        counts = {
            "totalDeviceCount": found.total,
            "enabledDeviceCount": found.enabled,
            "disabledDeviceCount": found.total - found.enabled,
        }
        return Reply(value=counts)

    async def _list_sizes(self, call: Call, names: tuple[str, ...]) -> Reply:
        self._hubs.require(names[0])
        return _listed([_size(Sku(name)) for name in SkuName])

    async def _list_quotas(self, call: Call, names: tuple[str, ...]) -> Reply:
        hub = self._hubs.require(names[0])
        found = await self._statistics(hub.number)
        devices: Json = {"name": "TotalDeviceCount", "currentValue": found.total, "maxValue": DEVICES_PER_HUB_MAX}
        used, most = self._messages_today(hub)
        messages: Json = {"name": "TotalMessages", "currentValue": used, "maxValue": most}
        return _listed([messages, devices] if most else [devices])

    async def _list_health(self, call: Call, names: tuple[str, ...]) -> Reply:
        hub = self._hubs.require(names[0])
        trouble = self._log_trouble()
        health: Json = {"endpointId": EVENTS_ENDPOINT, "healthStatus": "unhealthy" if trouble else "healthy"}
        built_in = {**health, "lastKnownError": trouble} if trouble else health
        return _listed([built_in, *self._endpoints_health(hub)])

    async def _link_resource(self, call: Call, names: tuple[str, ...]) -> Reply:
        for resource in link_resources_to_arm(self._hubs.require(names[0])):
            if str(resource["name"]).lower() == names[1].lower():
                return Reply(value=resource)
        raise HubError(Code.NOT_FOUND, f"A hub has the private link resource {GROUP_ID}, and no {names[1]}")

    async def _list_usages(self, call: Call, names: tuple[str, ...]) -> Reply:
        quota = {
            "id": f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Devices/usages/IotHubCount",
            "type": "Microsoft.Devices/usages",
            "unit": "Count",
            "currentValue": len(self._hubs.all()),
            "limit": HUBS_MAX,
            "name": {"value": "IotHubCount", "localizedValue": "IoT hubs"},
        }
        return _listed([quota])

    async def _check_name(self, call: Call, names: tuple[str, ...]) -> Reply:
        name = text(call.json().get("name"), "name")
        try:
            check_hub_name(name)
        except HubError as error:
            return _name_taken("Invalid", error.message)
        if self._hubs.by_name(name) is not None:
            return _name_taken("AlreadyExists", f"There is a hub {name} already")
        return Reply(value={"nameAvailable": True, "message": ""})

    async def _list_types(self, call: Call, names: tuple[str, ...]) -> Reply:
        kind: Json = {
            "id": f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Network/availablePrivateEndpointTypes/{HUB_TYPE}",
            "name": HUB_TYPE.replace("/", "."),
            "type": "Microsoft.Network/availablePrivateEndpointTypes",
            "resourceName": HUB_TYPE,
            "displayName": HUB_TYPE,
        }
        return _listed([kind])


def _listed(items: list[Json]) -> Reply:
    return Reply(value={"value": items})


def _size(size: Sku) -> Json:
    return {
        "resourceType": HUB_TYPE,
        "sku": {"name": size.name.value, "tier": size.tier, "capacity": size.units},
        "capacity": {"minimum": 1, "maximum": UNITS_MAX, "default": 1, "scaleType": "Manual"},
    }


def _name_taken(reason: str, message: str) -> Reply:
    return Reply(value={"nameAvailable": False, "reason": reason, "message": message})
