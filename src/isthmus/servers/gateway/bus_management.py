"""The management node of an entity: peeking, scheduling, deferred messages, locks and rules, by request and response.

Operations, maps and conditions are those of the Service Bus request-response guide. Answers carry the words of both
generations of clients.
"""

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from isthmus.access.principal import Right
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.neighbours.bus import Bus
from isthmus.neighbours.bus_entities import BusEntities
from isthmus.neighbours.bus_entity import Entity, EntityKind, put_rule, remove_rule
from isthmus.neighbours.bus_message import Incoming, edited, refused
from isthmus.queues import LockedMessage, QueueAddress
from isthmus.servers.gateway.amqp_links import Pump
from isthmus.servers.gateway.amqp_replies import Answer, Request
from isthmus.servers.gateway.bus_codec import NewId, edits_of, give, take_one
from isthmus.servers.gateway.bus_rule_codec import rule_description, rule_of
from isthmus.wire.amqp.values import AmqpValue, Array, Int, Long, Symbol, Timestamp

OPERATION: Final = "com.microsoft:"
AT_ONCE_MAX: Final = 1_000
"""Tokens, numbers or messages of one request; those beyond are not looked at when peeking, and refuse another one."""

LOOKED_AT_ONCE: Final = 16
"""Messages read in one piece for an answer, so that large ones do not take the memory of all that were asked for."""

ANSWER_BYTES_MAX: Final = 1_048_576
"""Bytes of messages in one answer; peeking stops once it is as many, and the client asks for the rest."""

DEFERRED_AT_ONCE_MAX: Final = 256
"""Deferred messages of one request; all of them are in the answer, so more refuse it."""

TAKES: Final = 0
"""The receiver-settle-mode of a receiver that has messages at once."""

Operation = Callable[[Mapping[str, AmqpValue]], Awaitable[Answer]]
Require = Callable[[Right], None]
"""Raises HubError unless the peer has a right at the entity."""


class BusManagement:
    """Answers the requests at one entity, or at its dead-letter queue."""

    def __init__(
        self, pump: Pump, bus: Bus, entities: BusEntities, entity: Entity, address: QueueAddress, require: Require
    ) -> None:
        self._pump = pump
        self._bus = bus
        self._entities = entities
        self._number = entity.number
        self._address = address
        self._require = require
        self._operations: Mapping[str, tuple[Right, Operation]] = {
            "peek-message": (Right.LISTEN, self._peek),
            "renew-lock": (Right.LISTEN, self._renew),
            "receive-by-sequence-number": (Right.LISTEN, self._receive),
            "update-disposition": (Right.LISTEN, self._settle),
            "schedule-message": (Right.SEND, self._schedule),
            "cancel-scheduled-message": (Right.SEND, self._cancel),
            "add-rule": (Right.MANAGE, self._add_rule),
            "remove-rule": (Right.MANAGE, self._remove_rule),
            "enumerate-rules": (Right.MANAGE, self._enumerate_rules),
        }

    async def answer(self, request: Request) -> Answer:
        """Answers a request; refusals are answers too."""
        name = str(request.properties.get("operation") or "").removeprefix(OPERATION)
        try:
            right, operation = self._operation(name)
            self._require(right)
            value = request.value
            return await operation({str(key): each for key, each in value.items()} if isinstance(value, dict) else {})
        except HubError as error:
            told = self._pump.refused(error)
            return _answer(error.code.http_status, told.description or "", condition=told.condition)

    def _operation(self, name: str) -> tuple[Right, Operation]:
        found = self._operations.get(name)
        if found is None:
            raise _not_offered(name)
        return found

    def _entity(self) -> Entity:
        """The entity as it is now."""
        found = self._entities.by_number(self._number)
        if found is None:
            raise HubError(Code.NOT_FOUND, "The messaging entity could not be found.")
        return found

    async def _peek(self, asked: Mapping[str, AmqpValue]) -> Answer:
        first, count = _whole(asked, "from-sequence-number"), _whole(asked, "message-count")
        messages: list[AmqpValue] = []
        size, wanted = 0, max(1, min(count, AT_ONCE_MAX))
        while len(messages) < wanted and size < ANSWER_BYTES_MAX:
            page = await self._bus.peek(self._address, first, min(wanted - len(messages), LOOKED_AT_ONCE))
            if not page:
                break
            first = page[-1].sequence + 1
            for encoded in map(give, page):
                size += len(encoded)
                messages.append({"message": encoded})
        return _answer(200, "OK", {"messages": messages}) if messages else _answer(204, "No Content", {})

    async def _renew(self, asked: Mapping[str, AmqpValue]) -> Answer:
        ends = [Timestamp(await self._bus.renew(self._address, token)) for token in _tokens(asked)]
        return _answer(200, "OK", {"expirations": Array(Timestamp, tuple(ends))})

    async def _receive(self, asked: Mapping[str, AmqpValue]) -> Answer:
        sequences = _sequences(asked)
        if len(sequences) > DEFERRED_AT_ONCE_MAX:
            raise _malformed(f"{len(sequences)} sequence-numbers, where {DEFERRED_AT_ONCE_MAX} are the most")
        takes = asked.get("receiver-settle-mode") == TAKES
        found = await (self._bus.take_deferred if takes else self._bus.lock_deferred)(self._address, sequences)
        return _answer(200, "OK", {"messages": [_locked(message) for message in found]})

    async def _settle(self, asked: Mapping[str, AmqpValue]) -> Answer:
        status = str(asked.get("disposition-status") or "")
        given = asked.get("properties-to-modify")
        edits = edits_of({str(key): value for key, value in given.items()} if isinstance(given, dict) else None)
        for token in _tokens(asked):
            match status:
                case "completed":
                    await self._bus.complete(self._address, token)
                case "abandoned":
                    await self._bus.abandon(self._address, token, edited(edits))
                case "defered":
                    await self._bus.defer(self._address, token, edited(edits))
                case "suspended":
                    reason, description = asked.get("deadletter-reason"), asked.get("deadletter-description")
                    await self._bus.reject(self._address, token, refused(_text(reason), _text(description), edits))
                case _:
                    raise _malformed(f"disposition-status {status}")
        return _answer(200, "OK", {})

    async def _schedule(self, asked: Mapping[str, AmqpValue]) -> Answer:
        given = asked.get("messages")
        if not isinstance(given, list) or not 0 < len(given) <= AT_ONCE_MAX:
            raise _malformed("messages")
        sequences = await self._bus.send(self._entity(), [_scheduled(each, self._bus.message_id) for each in given])
        numbers = Array(Long, tuple(Long(sequence) for sequence in sequences))
        return _answer(200, "OK", {"sequence-numbers": numbers})

    async def _cancel(self, asked: Mapping[str, AmqpValue]) -> Answer:
        await self._bus.cancel(self._entity(), _sequences(asked))
        return _answer(200, "OK", {})

    async def _add_rule(self, asked: Mapping[str, AmqpValue]) -> Answer:
        rule = rule_of(str(asked.get("rule-name") or ""), asked.get("rule-description"))
        subscription = self._subscription()
        if subscription.rule(rule.name) is not None:
            raise _rule_exists(rule.name)
        await self._entities.change(subscription, lambda found: put_rule(found, rule))
        return _answer(200, "OK", {})

    async def _remove_rule(self, asked: Mapping[str, AmqpValue]) -> Answer:
        name = str(asked.get("rule-name") or "")
        await self._entities.change(self._subscription(), lambda found: remove_rule(found, name))
        return _answer(200, "OK", {})

    async def _enumerate_rules(self, asked: Mapping[str, AmqpValue]) -> Answer:
        skip, top = _whole(asked, "skip"), _whole(asked, "top")
        rules: list[AmqpValue] = [
            {"rule-description": rule_description(rule)} for rule in self._subscription().rules[skip : skip + top]
        ]
        return _answer(200, "OK", {"rules": rules}) if rules else _answer(204, "No Content", {})

    def _subscription(self) -> Entity:
        found = self._entity()
        if found.kind is not EntityKind.SUBSCRIPTION:
            raise _malformed(f"rules of a {found.kind}")
        return found


def _answer(
    status: int, description: str, body: dict[AmqpValue, AmqpValue] | None = None, *, condition: str = ""
) -> Answer:
    """An answer in the words of both generations of clients."""
    properties: dict[str, AmqpValue] = {"statusCode": Int(status), "statusDescription": description}
    if condition:
        properties |= {"errorCondition": Symbol(condition), "error-condition": Symbol(condition)}
    return Answer(status, description, properties, body)


def _locked(message: LockedMessage) -> AmqpValue:
    entry: dict[AmqpValue, AmqpValue] = {"message": give(message)}
    if message.token:
        entry["lock-token"] = uuid.UUID(message.token)
    return entry


def _scheduled(given: AmqpValue, new_id: NewId) -> Incoming:
    encoded = given.get("message") if isinstance(given, dict) else None
    if not isinstance(encoded, bytes):
        raise _malformed("a message that is not binary")
    return take_one(encoded, new_id)


def _tokens(asked: Mapping[str, AmqpValue]) -> list[str]:
    tokens = _items(asked, "lock-tokens")
    if not all(isinstance(token, uuid.UUID) for token in tokens):
        raise _malformed("lock-tokens")
    return [str(token) for token in tokens]


def _sequences(asked: Mapping[str, AmqpValue]) -> list[int]:
    sequences = [int(each) for each in _items(asked, "sequence-numbers") if isinstance(each, int)]
    if not sequences:
        raise _malformed("sequence-numbers")
    return sequences


def _items(asked: Mapping[str, AmqpValue], name: str) -> Sequence[AmqpValue]:
    given = asked.get(name)
    items = given.items if isinstance(given, Array) else given
    if not isinstance(items, list | tuple) or not 0 < len(items) <= AT_ONCE_MAX:
        raise _malformed(name)
    return items


def _whole(asked: Mapping[str, AmqpValue], name: str) -> int:
    value = asked.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _malformed(name)
    return max(0, int(value))


def _text(value: AmqpValue) -> str | None:
    return None if value is None else str(value)


def _malformed(what: str) -> HubError:
    return HubError(
        Code.ARGUMENT_INVALID,
        "The request is not as it should be.",
        Refusal(Hop.CONTRACT, "contract.management", what[:200], "Ask as the request-response guide says."),
    )


def _rule_exists(name: str) -> HubError:
    return HubError(
        Code.CONFLICT,
        f"A rule with the name '{name[:64]}' exists already.",
        Refusal(Hop.CONTRACT, "contract.entity-exists", name[:64], "Remove the rule first, or use another name."),
    )


def _not_offered(name: str) -> HubError:
    return HubError(
        Code.NOT_IMPLEMENTED,
        "The operation is not offered here.",
        Refusal(Hop.CONTRACT, "contract.not-implemented", name[:200], "Sessions and batch deletion are not offered."),
    )
