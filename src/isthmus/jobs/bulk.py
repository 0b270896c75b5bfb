"""Many identities in one request: written as an import writes them, or given new keys (IoT Hub REST reference).

Theory of operation. The items of a request are the lines of an import's group: judged one after the other over a draft
and committed together, so that the answer waits for one sync. An item that is refused changes nothing and is told of in
the answer; the others are carried out. What has begun runs to its end, also when the client has gone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from isthmus.base.clock import Clock
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.ids import DeviceRef, HubId, Ids
from isthmus.base.state import State
from isthmus.completion import Completion
from isthmus.devices.identity import AuthenticationType, Identity
from isthmus.devices.registry import Registry
from isthmus.devices.twins import Twins
from isthmus.jobs.importing import Importer, carry_out
from isthmus.jobs.line import Line, LineError, read_item

ITEMS_MAX = 100
"""Identities of one request ("IoT Hub quotas and throttling", bulk operations); more are refused as a whole."""

_encode = msgspec.json.Encoder().encode


class PolicyKey(StrEnum):
    """Which keys are made anew."""

    PRIMARY = "primaryKey"
    SECONDARY = "secondaryKey"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a bulk request: the items that were understood, and the errors of those that failed."""

    lines: tuple[Line, ...]
    errors: tuple[LineError, ...]


@dataclass(frozen=True, slots=True)
class Renewed:
    """The identities that have new keys, and the errors of the others."""

    policy_key: PolicyKey
    identities: tuple[Identity, ...]
    errors: tuple[LineError, ...]


class BulkRegistry:
    """Writes many identities of a hub at once; belongs to one event loop."""

    def __init__(self, state: State, registry: Registry, twins: Twins, clock: Clock, ids: Ids) -> None:
        self._state = state
        self._registry = registry
        self._twins = twins
        self._clock = clock
        self._ids = ids
        self._completion = Completion()

    async def settled(self) -> None:
        """Returns when no request is under way; for the time before the store is closed."""
        await self._completion.settled()

    async def write(self, hub: HubId, body: object) -> Written:
        """Carries the items of a body out; all that succeeded is durable when it returns.

        Raises `HubError` for the request as a whole: `ARGUMENT_NULL`, `ARGUMENT_INVALID`, `TOO_MANY_DEVICES` above
        `ITEMS_MAX`, `DEFINED_MULTIPLE_TIMES`, `SERVER_BUSY`.
        """
        items = [read_item(item, _encode(item)) for item in _items(body)]
        _check_single([(item.device_id, item.module_id) for item in items if item.device_id])
        importer = Importer(hub, self._state, self._registry, self._twins, self._clock)
        errors, _ = await self._completion.run(carry_out(importer, items, lambda _: ()))
        return Written(tuple(item for item in items if isinstance(item, Line)), tuple(errors))

    async def renew_keys(self, hub: HubId, body: object) -> Renewed:
        """Makes keys of identities anew; all that succeeded is durable when it returns.

        Raises `HubError` for the request as a whole: as `write`, and `INVALID_POLICY_KEY`.
        """
        members = body if isinstance(body, dict) else {}
        policy_key = next((each for each in PolicyKey if each == members.get("policyKey")), None)
        if policy_key is None:
            raise HubError(Code.INVALID_POLICY_KEY, f"policyKey must be one of {', '.join(PolicyKey)}")
        refs = [_ref(hub, item) for item in _items(members.get("devices"))]
        _check_single([(ref.device_id, ref.module_id) for ref in refs])
        return await self._completion.run(self._renew_all(policy_key, refs))

    async def _renew_all(self, policy_key: PolicyKey, refs: Sequence[DeviceRef]) -> Renewed:
        renewed: list[Identity] = []
        errors: list[LineError] = []
        for ref in refs:
            try:
                renewed.append(await self._renew(policy_key, ref))
            except HubError as error:
                errors.append(LineError(error.code, error.message, ref.device_id, ref.module_id))
        return Renewed(policy_key, tuple(renewed), tuple(errors))

    async def _renew(self, policy_key: PolicyKey, ref: DeviceRef) -> Identity:
        identity = await self._registry.require(ref)
        kept = identity.authentication
        if kept.type is not AuthenticationType.SAS:
            raise HubError(Code.ARGUMENT_INVALID, "The identity does not use keys")
        made = {
            "primary_key": self._ids.key() if policy_key is not PolicyKey.SECONDARY else identity.primary_key,
            "secondary_key": self._ids.key() if policy_key is not PolicyKey.PRIMARY else identity.secondary_key,
        }
        keys = msgspec.structs.replace(kept.symmetric_key, **made)
        authentication = msgspec.structs.replace(kept, symmetric_key=keys)
        changed = msgspec.structs.replace(identity, authentication=authentication)
        return await self._registry.put(ref, msgspec.to_builtins(changed), identity.etag)


def _items(body: object) -> Sequence[object]:
    if body is None:
        raise HubError(Code.ARGUMENT_NULL, "The list of identities is missing")
    if not isinstance(body, list):
        raise HubError(Code.ARGUMENT_INVALID, "The identities must be a JSON array")
    if len(body) > ITEMS_MAX:
        remedy = f"Send at most {ITEMS_MAX} identities in one request, or use an import job."
        refusal = Refusal(Hop.LIMIT, "limit.bulk", f"{len(body)} identities", remedy)
        raise HubError(Code.TOO_MANY_DEVICES, f"A request has at most {ITEMS_MAX} identities", refusal)
    return body


def _check_single(names: Sequence[tuple[str, str]]) -> None:
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        named = "/".join(filter(None, double))
        raise HubError(Code.DEFINED_MULTIPLE_TIMES, f"The identity {named} stands more than once in the request")


def _ref(hub: HubId, item: object) -> DeviceRef:
    members = item if isinstance(item, dict) else {}
    device_id, module_id = members.get("id"), members.get("moduleId") or ""
    if not isinstance(device_id, str) or not device_id or not isinstance(module_id, str):
        raise HubError(Code.ARGUMENT_INVALID, "Each of devices has an id, and moduleId where it means a module")
    return DeviceRef(hub, device_id, module_id)
