"""The hubs of an installation (see `stored_resources` for how they are kept)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from isthmus.base.clock import Clock
from isthmus.base.errors import Code, HubError
from isthmus.base.hosts import normal_host
from isthmus.base.ids import HubId, Ids
from isthmus.base.limits import HUBS_MAX
from isthmus.base.state import Change, State
from isthmus.network.private_endpoints import PrivateEndpointConnection
from isthmus.resources.arm_patch import apply_body, apply_patch
from isthmus.resources.hub import (
    LOCATION,
    PARTITIONS_MAX,
    Hub,
    check_host_name,
    check_hub_name,
    decode_hub,
    default_policies,
    encode_hub,
)
from isthmus.resources.hub_identity import FindIdentity, completed, no_such_identity
from isthmus.resources.shared_access_policies import completed_policies
from isthmus.resources.stored_resources import Form, StoredResources

HubRule = Callable[[Hub], Hub]
"""A pure change of a hub; raises HubError to refuse."""

FORM: Form[Hub] = Form(
    word="hub",
    document="hub",
    most=HUBS_MAX,
    encode=encode_hub,
    decode=decode_hub,
    numbered=lambda hub, number: replace(hub, number=number),
    at=lambda hub, revision: replace(hub, revision=revision),
)


class Hubs(StoredResources[Hub]):
    """All hubs; `load` first. Reading is synchronous; on the event loop only."""

    def __init__(self, state: State, clock: Clock, ids: Ids, find_identity: FindIdentity = no_such_identity) -> None:
        super().__init__(state, FORM)
        self._find_identity = find_identity
        self._clock = clock
        self._ids = ids

    async def create(
        self,
        name: str,
        *,
        host_name: str,
        partitions: int,
        aliases: Sequence[str] = (),
        location: str = "",
        rule: HubRule = lambda draft: draft,
    ) -> Hub:
        """Makes a hub with the default policies and random keys, as `rule` completes it.

        Raises HubError ArgumentInvalid for a bad name, host name or partition count, GenericConflict when the name or a
        host name is taken, QuotaExceeded above the limit of hubs, and whatever `rule` raises; then there is no hub.
        """
        check_hub_name(name)
        if not 1 <= partitions <= PARTITIONS_MAX:
            raise HubError(Code.ARGUMENT_INVALID, f"partitions is 1 to {PARTITIONS_MAX}, not {partitions}")
        draft = Hub(
            number=HubId(0),
            name=name,
            host_name=normal_host(host_name),
            partitions=partitions,
            created_ms=self._clock.utc_ms(),
            aliases=tuple(normal_host(alias) for alias in aliases),
            policies=default_policies(self._ids),
            location=location or LOCATION,
        )
        return await self._completion.run(self._create(self._finished(rule(draft))))

    async def update(self, name: str, patch: Mapping[str, object], if_match: str | None = None) -> Hub:
        """Merges a fragment of an ARM body into the hub and returns the new snapshot, in force.

        `if_match` is an If-Match header's text. Raises HubError GenericNotFound, PreconditionFailed, and those of
        `apply_patch`. A patch that changes nothing changes nothing, not even the etag.
        """
        return await self.change(name, lambda hub: apply_patch(hub, patch), if_match)

    async def replace(self, name: str, body: Mapping[str, object], if_match: str | None = None) -> Hub:
        """As `update`, with a whole ARM body: what it leaves out goes back to its default (`apply_body`)."""
        return await self.change(name, lambda hub: apply_body(hub, body), if_match)

    async def change_connections(
        self,
        resource_id: str,
        rule: Callable[[tuple[PrivateEndpointConnection, ...]], tuple[PrivateEndpointConnection, ...]],
        also: Sequence[Change] = (),
    ) -> Hub:
        """As `change`, of the connections of the hub of that ARM id."""
        name = resource_id.rpartition("/")[2]
        return await self.change(name, lambda hub: replace(hub, connections=rule(hub.connections)), also=also)

    def _finished(self, changed: Hub) -> Hub:
        endpoints = tuple(each if each.guid else replace(each, guid=self._ids.uuid()) for each in changed.endpoints)
        identity = completed(changed.identity, self._ids.uuid, self._find_identity)
        policies = completed_policies(changed.policies, self._ids.key)
        return replace(changed, identity=identity, endpoints=endpoints, policies=policies)

    def _check_host(self, host: str) -> None:
        check_host_name(host)
