"""Hubs and private endpoints in ARM's paths: `/subscriptions/{s}/resourceGroups/{g}/providers/…`.

Long-running operations are short here: every call answers after the last session that it concerns is cut and every
socket that it concerns is bound or released, so there is nothing to poll (Azure Resource Manager REST reference; types
Microsoft.Devices/IotHubs 2023-06-30 and Microsoft.Network/privateEndpoints).
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from isthmus.access.explain import change_texts
from isthmus.access.journal import Decision, Journal, Verdict
from isthmus.access.principal import Right
from isthmus.base.errors import Code, HubError
from isthmus.base.etags import parse_if_match
from isthmus.base.hosts import normal_host
from isthmus.network.private_endpoints import ConnectionStatus
from isthmus.resources.arm import connection_to_arm, hub_to_arm, link_resources_to_arm
from isthmus.resources.arm_patch import apply_body
from isthmus.resources.consumer_groups import add_group, group_to_arm, remove_group
from isthmus.resources.hub import Hub, check_host_name, check_hub_name, host_name_of
from isthmus.resources.hubs import Hubs
from isthmus.resources.private_endpoints import PrivateEndpoints
from isthmus.resources.shared_access_policies import told_difference
from isthmus.servers.gateway.plane import Plane
from isthmus.servers.management.permissions import asked_by, provider_place
from isthmus.servers.management.request import Call, Reply

CREATED = 201
NO_CONTENT = 204
PARTITIONS_DEFAULT = 4

NAMED_OTHERWISE = frozenset({"id", "name", "type", "etag", "location"})
"""Members of a new hub's body that the path says, or that are given when it is made."""

Handler = Callable[[Call, tuple[str, ...]], Awaitable[Reply]]
"""Answers a call, given the names in its path."""

Routes = Mapping[tuple[str, str], Handler]
"""Handlers by method and by the path below the providers, in small letters, with stars for names."""


class Arm:
    """Answers ARM calls; used on the event loop only."""

    def __init__(
        self,
        hubs: Hubs,
        endpoints: PrivateEndpoints,
        journal: Journal,
        prepare: Callable[[str], Awaitable[None]],
        more: Routes,
    ) -> None:
        """`prepare` makes ready for a hub of a host name what it cannot do without; raises HubError to refuse.

        `more` are the routes of other kinds of resources.
        """
        self._hubs = hubs
        self._endpoints = endpoints
        self._journal = journal
        self._prepare = prepare
        hub, connection = "microsoft.devices/iothubs", "privateendpointconnections"
        endpoint, group = "microsoft.network/privateendpoints", "eventhubendpoints/*/consumergroups"
        self._routes: Routes = {
            **more,
            ("GET", hub): self._list_hubs,
            ("GET", f"{hub}/*"): self._show_hub,
            ("PUT", f"{hub}/*"): self._put_hub,
            ("PATCH", f"{hub}/*"): self._patch_hub,
            ("DELETE", f"{hub}/*"): self._delete_hub,
            ("POST", f"{hub}/*/listkeys"): self._list_keys,
            ("POST", f"{hub}/*/iothubkeys/*/listkeys"): self._show_keys,
            ("GET", f"{hub}/*/privatelinkresources"): self._link_resources,
            ("GET", f"{hub}/*/{connection}"): self._list_connections,
            ("GET", f"{hub}/*/{connection}/*"): self._show_connection,
            ("PUT", f"{hub}/*/{connection}/*"): self._decide,
            ("DELETE", f"{hub}/*/{connection}/*"): self._delete_connection,
            ("GET", f"{hub}/*/{group}"): self._list_groups,
            ("GET", f"{hub}/*/{group}/*"): self._show_group,
            ("PUT", f"{hub}/*/{group}/*"): self._put_group,
            ("DELETE", f"{hub}/*/{group}/*"): self._delete_group,
            ("GET", endpoint): self._list_endpoints,
            ("GET", f"{endpoint}/*"): self._show_endpoint,
            ("PUT", f"{endpoint}/*"): self._put_endpoint,
            ("DELETE", f"{endpoint}/*"): self._delete_endpoint,
            ("GET", "microsoft.devices/operations"): self._list_operations,
        }

    @property
    def actions(self) -> frozenset[str]:
        """The actions of all calls that are answered here, in small letters."""
        return frozenset(
            asked_by(method, ("providers", *pattern.split("/"))).action for method, pattern in self._routes
        )

    async def answer(self, call: Call) -> Reply:
        """Answers a call below `/subscriptions` or `/providers`; raises HubError."""
        lowered = [segment.lower() for segment in call.path]
        if "providers" not in lowered:
            raise HubError(Code.NOT_FOUND, "The path names no provider")
        start = provider_place(lowered) + 1
        rest, below = call.path[start:], lowered[start:]
        handler = self._routes.get((call.method, _pattern(below)))
        if handler is None:
            kind = "/".join((*below[:1], *below[1::2]))
            raise HubError(Code.NOT_IMPLEMENTED, f"{call.method} of {kind} is not offered here yet")
        return await handler(call, rest[2::2])

    async def _list_operations(self, call: Call, names: tuple[str, ...]) -> Reply:
        named = [_operation(action) for action in sorted(self.actions) if action.startswith("microsoft.devices/")]
        return Reply(value={"value": named})

    async def _list_hubs(self, call: Call, names: tuple[str, ...]) -> Reply:
        return Reply(value={"value": [hub_to_arm(hub) for hub in self._hubs.all()]})

    async def _show_hub(self, call: Call, names: tuple[str, ...]) -> Reply:
        return Reply(value=hub_to_arm(self._hubs.require(names[0])))

    async def _put_hub(self, call: Call, names: tuple[str, ...]) -> Reply:
        body = call.json()
        present = self._hubs.by_name(names[0])
        if present is None and parse_if_match(call.if_match) is not None:
            raise HubError(Code.PRECONDITION_FAILED, f"There is no hub {names[0]} any more, so it has no such etag")
        if present is None:
            hub = await self._create(names[0], body)
            self._changed(call, hub.name, "hub created", None, hub)
            return Reply(CREATED, hub_to_arm(hub))
        hub = await self._hubs.replace(present.name, body, call.if_match)
        self._changed(call, hub.name, "hub updated", present, hub)
        return Reply(value=hub_to_arm(hub))

    async def _create(self, name: str, body: dict[str, object]) -> Hub:
        """Makes a hub of a whole body; what of it cannot be refuses the hub as a whole."""
        properties = _mapping(body.get("properties"))
        given = properties.pop("hostName", None)
        host_name = normal_host(str(given)) if given else host_name_of(name, self._hubs.all()[0].host_name)
        check_hub_name(name)
        check_host_name(host_name)
        wanted = {member: value for member, value in body.items() if member not in NAMED_OTHERWISE}
        await self._prepare(host_name)
        return await self._hubs.create(
            name,
            host_name=host_name,
            partitions=_partitions(properties),
            location=str(body.get("location") or ""),
            rule=lambda draft: apply_body(draft, {**wanted, "properties": properties}),
        )

    async def _patch_hub(self, call: Call, names: tuple[str, ...]) -> Reply:
        present = self._hubs.require(names[0])
        hub = await self._hubs.update(present.name, call.json(), call.if_match)
        self._changed(call, hub.name, "hub updated", present, hub)
        return Reply(value=hub_to_arm(hub))

    async def _delete_hub(self, call: Call, names: tuple[str, ...]) -> Reply:
        hub = self._hubs.require(names[0])
        if len(self._hubs.all()) == 1:
            raise HubError(Code.INVALID_OPERATION, "The last hub stays; stop the server and remove its folder instead")
        await self._hubs.delete(hub.name, call.if_match)
        self._changed(call, hub.name, "hub deleted", hub, None)
        return Reply(NO_CONTENT)

    async def _list_keys(self, call: Call, names: tuple[str, ...]) -> Reply:
        hub = self._hubs.require(names[0])
        self._read(call, hub.name, "keys of all policies read")
        return Reply(value={"value": [_policy_to_arm(hub, policy.name) for policy in hub.policies]})

    async def _show_keys(self, call: Call, names: tuple[str, ...]) -> Reply:
        hub = self._hubs.require(names[0])
        shown = _policy_to_arm(hub, names[1])
        self._read(call, hub.name, f"keys of policy {names[1]} read")
        return Reply(value=shown)

    async def _link_resources(self, call: Call, names: tuple[str, ...]) -> Reply:
        return Reply(value={"value": link_resources_to_arm(self._hubs.require(names[0]))})

    async def _list_connections(self, call: Call, names: tuple[str, ...]) -> Reply:
        hub = self._hubs.require(names[0])
        return Reply(value=[connection_to_arm(hub, each) for each in hub.connections])

    async def _show_connection(self, call: Call, names: tuple[str, ...]) -> Reply:
        hub = self._hubs.require(names[0])
        return Reply(value=connection_to_arm(hub, self._endpoints.connection(hub.resource_id, names[1])))

    async def _decide(self, call: Call, names: tuple[str, ...]) -> Reply:
        wanted = _mapping(_mapping(call.json().get("properties")).get("privateLinkServiceConnectionState"))
        status = _status(wanted.get("status"))
        description = str(wanted.get("description") or "")
        hub = self._hubs.require(names[0])
        before = connection_to_arm(hub, self._endpoints.connection(hub.resource_id, names[1]))
        decided = await self._endpoints.decide(hub.resource_id, names[1], status, description)
        hub = self._hubs.require(names[0])
        after = connection_to_arm(hub, decided)
        self._note(call, hub.name, f"private endpoint connection {decided.name}: {status.value}", before, after)
        return Reply(value=after)

    async def _delete_connection(self, call: Call, names: tuple[str, ...]) -> Reply:
        hub = self._hubs.require(names[0])
        before = connection_to_arm(hub, self._endpoints.connection(hub.resource_id, names[1]))
        await self._endpoints.delete_connection(hub.resource_id, names[1])
        self._note(call, hub.name, f"private endpoint connection {names[1]} deleted", before, None)
        return Reply(NO_CONTENT)

    async def _list_groups(self, call: Call, names: tuple[str, ...]) -> Reply:
        hub = self._hubs.require(names[0])
        return Reply(value={"value": [group_to_arm(hub, group) for group in hub.consumer_groups]})

    async def _show_group(self, call: Call, names: tuple[str, ...]) -> Reply:
        return Reply(value=group_to_arm(self._hubs.require(names[0]), names[2]))

    async def _put_group(self, call: Call, names: tuple[str, ...]) -> Reply:
        hub = await self._hubs.change(names[0], lambda present: add_group(present, names[2]))
        made = group_to_arm(hub, names[2])
        self._note(call, hub.name, f"consumer group {names[2]} created", None, made)
        return Reply(value=made)

    async def _delete_group(self, call: Call, names: tuple[str, ...]) -> Reply:
        before = group_to_arm(self._hubs.require(names[0]), names[2])
        hub = await self._hubs.change(names[0], lambda present: remove_group(present, names[2]))
        self._note(call, hub.name, f"consumer group {names[2]} deleted", before, None)
        # The stock client takes no other status here.
        return Reply()

    async def _list_endpoints(self, call: Call, names: tuple[str, ...]) -> Reply:
        return Reply(value={"value": [self._endpoints.to_arm(each) for each in self._endpoints.all()]})

    async def _show_endpoint(self, call: Call, names: tuple[str, ...]) -> Reply:
        return Reply(value=self._endpoints.to_arm(self._endpoints.require(names[0])))

    async def _put_endpoint(self, call: Call, names: tuple[str, ...]) -> Reply:
        known = [each for each in self._endpoints.all() if each.name.lower() == names[0].lower()]
        before = self._endpoints.to_arm(known[0]) if known else None
        endpoint = await self._endpoints.create(names[0], call.json())
        made = self._endpoints.to_arm(endpoint)
        if made != before:
            done = "updated" if known else "created"
            hub = endpoint.target_id.rpartition("/")[2]
            self._note(call, hub, f"private endpoint {endpoint.name} {done}", before, made)
        return Reply(200 if known else CREATED, made)

    async def _delete_endpoint(self, call: Call, names: tuple[str, ...]) -> Reply:
        endpoint = self._endpoints.require(names[0])
        before = self._endpoints.to_arm(endpoint)
        await self._endpoints.delete(endpoint.name)
        hub = endpoint.target_id.rpartition("/")[2]
        self._note(call, hub, f"private endpoint {endpoint.name} deleted", before, None)
        return Reply(NO_CONTENT)

    def _changed(self, call: Call, hub: str, detail: str, before: Hub | None, after: Hub | None) -> None:
        if before is not None and after is not None:
            # Bodies show no keys: what a roll did would not be seen in them.
            keys = told_difference(before.policies, after.policies)
            detail = f"{detail}: {keys}" if keys else detail
        self._note(call, hub, detail, before and hub_to_arm(before), after and hub_to_arm(after))

    def _note(self, call: Call, hub: str, detail: str, before: object, after: object) -> None:
        """Journals a change; None stands for what was not or is not there."""
        was, now = change_texts(before, after)
        self._journal.write(replace(change_of(call, hub, detail), before=was, after=now))

    def _read(self, call: Call, hub: str, detail: str) -> None:
        """Journals a look at keys."""
        self._journal.write(replace(change_of(call, hub, detail), verdict=Verdict.READ))


def _pattern(below: Sequence[str]) -> str:
    """A path below the providers with stars for the names: `{provider}/{type}/*/{child type}/*`."""
    return "/".join(["/".join(below[:2]), *("*" if index % 2 == 0 else kind for index, kind in enumerate(below[2:]))])


def _operation(action: str) -> dict[str, object]:
    provider, resource, operation = action.split("/", 1)[0], action.split("/", 1)[1].rpartition("/")[0], action
    shown = {"provider": "Microsoft.Devices", "resource": resource, "operation": operation.rpartition("/")[2]}
    return {"name": action.replace(provider, "Microsoft.Devices", 1), "display": shown}


def _policy_to_arm(hub: Hub, name: str) -> dict[str, object]:
    policy = hub.policy(name)
    if policy is None:
        known = ", ".join(each.name for each in hub.policies)
        raise HubError(Code.NOT_FOUND, f"There is no policy {name}; policies of {hub.name}: {known}")
    rights = [right.value for right in Right if right in policy.rights]
    return {
        "keyName": policy.name,
        "primaryKey": policy.primary_key,
        "secondaryKey": policy.secondary_key,
        "rights": ", ".join(rights),
    }


def _partitions(properties: Mapping[str, object]) -> int:
    endpoints = _mapping(properties.get("eventHubEndpoints"))
    count = _mapping(endpoints.get("events")).get("partitionCount", PARTITIONS_DEFAULT)
    if not isinstance(count, int):
        raise HubError(Code.ARGUMENT_INVALID, "partitionCount is a whole number")
    return count


def _status(value: object) -> ConnectionStatus:
    try:
        return ConnectionStatus(str(value).capitalize())
    except ValueError as error:
        raise HubError(Code.ARGUMENT_INVALID, f"status is Approved or Rejected, not {value!r}") from error


def _mapping(value: object) -> dict[str, object]:
    return dict(value) if isinstance(value, dict) else {}


def change_of(call: Call, hub: str, detail: str) -> Decision:
    """The journal's record of a change; `hub` is empty when it concerns none."""
    return Decision(
        Verdict.CHANGED,
        hub=hub,
        plane=Plane.MANAGEMENT.value,
        door=call.door,
        address=call.address,
        principal=call.who,
        detail=detail,
    )
