"""Configurations of all hubs: made, changed, deleted and told.

Theory of operation. Every change is one commit of the record and of the hub's count of changes. The count makes two
changes of a hub conflict, which keeps the limit of configurations exact, numbers each creation, and asks the engine for
a pass that outlives the process (`rollout`).
"""

from collections.abc import Sequence

from isthmus.base.clock import Clock
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.ids import HubId
from isthmus.base.state import MUST_NOT_EXIST, Change, Delete, Put, State, Stored
from isthmus.configurations.configuration import (
    CONFIGURATIONS_MAX,
    KIND,
    Configuration,
    Given,
    changed_configuration,
    configuration_key,
    decode_configuration,
    encode_configuration,
    new_configuration,
    parse_configuration,
)
from isthmus.configurations.rollout import Rollout, wanted_key
from isthmus.devices.commit import Changes
from isthmus.devices.registry import ANY_ETAG
from isthmus.resources.hub import Hub


class Configurations:
    """Makes and changes configurations; the engine hears of it after the commit."""

    def __init__(self, state: State, clock: Clock, rollout: Rollout) -> None:
        self._state = state
        self._clock = clock
        self._rollout = rollout
        self._changes = Changes()

    async def start(self, hubs: Sequence[Hub]) -> None:
        """Has the engine go on with what an earlier process left."""
        for hub in hubs:
            await self._rollout.start(hub, await self.all(hub.number))

    async def close(self) -> None:
        """Returns when no change is under way and the engine has stopped."""
        await self._changes.settled()
        await self._rollout.close()

    async def all(self, hub: HubId) -> list[Configuration]:
        """The configurations of a hub, in the order of their ids."""
        stored = await self._state.scan(KIND, hub, limit=CONFIGURATIONS_MAX)
        return [decode_configuration(each.body) for each in stored]

    async def find(self, hub: HubId, config_id: str) -> Configuration | None:
        """A configuration, or None."""
        stored = await self._state.get(configuration_key(hub, config_id))
        return None if stored is None else decode_configuration(stored.body)

    async def get(self, hub: HubId, config_id: str) -> Configuration:
        """A configuration; raises `CONFIGURATION_NOT_FOUND`."""
        return decode_configuration((await self._require(hub, config_id)).body)

    async def put(self, hub: Hub, config_id: str, body: object, if_match: str | None) -> Configuration:
        """Creates a configuration (no `if_match`) or changes it (an etag, or `*` for any).

        Raises `HubError`: `ARGUMENT_INVALID`, `INVALID_CONFIGURATION_CONTENT`, `INVALID_TARGET_CONDITION`,
        `INVALID_METRICS_QUERY`, `IMMUTABLE_CONTENT`, `CONFIGURATION_NOT_FOUND`, `CONFIGURATION_ALREADY_EXISTS`,
        `PRECONDITION_FAILED`, `TOO_MANY_CONFIGURATIONS`, `SERVER_BUSY`. Once begun it runs to its end: cancelling the
        wait does not undo it.
        """
        given = parse_configuration(config_id, body)
        if if_match is None:
            return await self._changes.make(lambda: self._create(hub, given))
        return await self._changes.make(lambda: self._update(hub, given, if_match))

    async def delete(self, hub: Hub, config_id: str, if_match: str | None) -> None:
        """Deletes a configuration; its settings leave the twins soon after. No `if_match` counts as `*`.

        Raises `HubError`: `CONFIGURATION_NOT_FOUND`, `PRECONDITION_FAILED`, `SERVER_BUSY`.
        """
        await self._changes.make(lambda: self._delete(hub, config_id, if_match))

    async def _create(self, hub: Hub, given: Given) -> Configuration:
        key = configuration_key(hub.number, given.config_id)
        count, revision = await self._count(hub.number)
        if await self._state.get(key) is not None:
            raise HubError(
                Code.CONFIGURATION_ALREADY_EXISTS, f"A configuration with ID '{given.config_id}' exists already"
            )
        if await self._state.count(KIND, hub.number) >= CONFIGURATIONS_MAX:
            refusal = Refusal(
                Hop.LIMIT, "limit.configurations", str(CONFIGURATIONS_MAX), "delete one that is not needed any more"
            )
            raise HubError(
                Code.TOO_MANY_CONFIGURATIONS, f"A hub has at most {CONFIGURATIONS_MAX} configurations", refusal
            )
        made = new_configuration(given, count + 1, self._clock.utc_ms())
        await self._commit(hub, made.id, made, Put(key, encode_configuration(made), MUST_NOT_EXIST), count, revision)
        return made

    async def _update(self, hub: Hub, given: Given, if_match: str) -> Configuration:
        count, revision = await self._count(hub.number)
        stored = await self._require(hub.number, given.config_id)
        current = decode_configuration(stored.body)
        _check_etag(current, if_match)
        changed = changed_configuration(current, given, self._clock.utc_ms())
        put = Put(stored.key, encode_configuration(changed), stored.revision)
        await self._commit(hub, changed.id, changed, put, count, revision)
        return changed

    async def _delete(self, hub: Hub, config_id: str, if_match: str | None) -> None:
        count, revision = await self._count(hub.number)
        stored = await self._require(hub.number, config_id)
        _check_etag(decode_configuration(stored.body), if_match)
        await self._commit(hub, config_id, None, Delete(stored.key, stored.revision), count, revision)

    async def _commit(
        self, hub: Hub, config_id: str, after: Configuration | None, change: Change, count: int, revision: int
    ) -> None:
        await self._state.commit([change, Put(wanted_key(hub.number), str(count + 1).encode(), revision)])
        self._rollout.changed(hub, config_id, after, count + 1)

    async def _count(self, hub: HubId) -> tuple[int, int]:
        """How many changes there were, and the revision of that."""
        stored = await self._state.get(wanted_key(hub))
        return (0, MUST_NOT_EXIST) if stored is None else (int(stored.body), stored.revision)

    async def _require(self, hub: HubId, config_id: str) -> Stored:
        stored = await self._state.get(configuration_key(hub, config_id))
        if stored is None:
            raise HubError(Code.CONFIGURATION_NOT_FOUND, f"Configuration {config_id[:128]} not found")
        return stored


def _check_etag(configuration: Configuration, if_match: str | None) -> None:
    if if_match not in (None, ANY_ETAG, configuration.etag):
        raise HubError(Code.PRECONDITION_FAILED, "The etag in If-Match is not the present one")
