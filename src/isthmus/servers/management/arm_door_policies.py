"""Door policies of hubs, below the hub in ARM's paths: `…/IotHubs/{hub}/doorPolicies/{policy}`."""

from dataclasses import replace

from isthmus.access.explain import change_texts
from isthmus.access.journal import Journal
from isthmus.resources.door_policies import (
    door_policy_to_arm,
    find_door_policy,
    parse_door_policy,
    put_door_policy,
    remove_door_policy,
    require_door_policy,
)
from isthmus.resources.hub import Hub
from isthmus.resources.hubs import Hubs
from isthmus.resources.virtual_networks import VirtualNetworks
from isthmus.servers.management.arm import CREATED, NO_CONTENT, Routes, change_of
from isthmus.servers.management.request import Call, Reply

Json = dict[str, object]


class ArmDoorPolicies:
    """Answers ARM calls about door policies; used on the event loop only."""

    def __init__(self, hubs: Hubs, networks: VirtualNetworks, journal: Journal) -> None:
        self._hubs = hubs
        self._networks = networks
        self._journal = journal
        policy = "microsoft.devices/iothubs/*/doorpolicies"
        self.routes: Routes = {
            ("GET", policy): self._list,
            ("GET", f"{policy}/*"): self._show,
            ("PUT", f"{policy}/*"): self._put,
            ("DELETE", f"{policy}/*"): self._delete,
        }
        """Handlers by method and path pattern; see `arm.Routes`."""

    async def _list(self, call: Call, names: tuple[str, ...]) -> Reply:
        hub = self._hubs.require(names[0])
        return Reply(value={"value": [door_policy_to_arm(hub, policy) for policy in hub.door_policies]})

    async def _show(self, call: Call, names: tuple[str, ...]) -> Reply:
        hub = self._hubs.require(names[0])
        return Reply(value=door_policy_to_arm(hub, require_door_policy(hub, names[1])))

    async def _put(self, call: Call, names: tuple[str, ...]) -> Reply:
        wanted = parse_door_policy(names[1], call.json())
        before = self._shown(self._hubs.require(names[0]), wanted.name)
        hub = await self._hubs.change(
            names[0], lambda now: put_door_policy(now, wanted, self._networks.facts()), call.if_match
        )
        after = door_policy_to_arm(hub, require_door_policy(hub, wanted.name))
        self._changed(call, hub, f"door policy {wanted.name}", before, after)
        return Reply(CREATED if before is None else 200, after)

    async def _delete(self, call: Call, names: tuple[str, ...]) -> Reply:
        before = self._shown(self._hubs.require(names[0]), names[1])
        hub = await self._hubs.change(names[0], lambda now: remove_door_policy(now, names[1]), call.if_match)
        self._changed(call, hub, f"door policy {names[1]}", before, None)
        return Reply(NO_CONTENT)

    def _shown(self, hub: Hub, name: str) -> Json | None:
        policy = find_door_policy(hub, name)
        return None if policy is None else door_policy_to_arm(hub, policy)

    def _changed(self, call: Call, hub: Hub, what: str, before: Json | None, after: Json | None) -> None:
        done = "deleted" if after is None else "created" if before is None else "updated"
        was, now = change_texts(before, after)
        self._journal.write(replace(change_of(call, hub.name, f"{what} {done}"), before=was, after=now))
