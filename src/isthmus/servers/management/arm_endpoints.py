"""Health of routing endpoints, and dead letters below a hub: `…/IotHubs/{hub}/deadLetters/{endpoint}`.

Shapes of health: Microsoft.Devices 2023-06-30, `EndpointHealthData`, whose times are in the form of RFC 9110 §5.6.7;
what stands besides is this hub's own. Dead letters are beyond Azure, which drops them. One is shown by a POST: it holds
what a device has sent, which is not for whoever may only look at resources.
"""

import base64
from collections.abc import Iterable
from dataclasses import replace
from email.utils import formatdate
from typing import Protocol

from isthmus.access.explain import change_texts
from isthmus.access.journal import Journal
from isthmus.base.clock import iso_utc
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import HubId
from isthmus.resources.hub import Hub
from isthmus.resources.hubs import Hubs
from isthmus.resources.members import integer, known_members
from isthmus.resources.routing_endpoint import BUILT_IN_NUMBER, RoutingEndpoint
from isthmus.routing.dead_letters import LIST_MAX, Buried, DeadLetters
from isthmus.routing.diagnosis import diagnose
from isthmus.routing.health import EndpointHealth
from isthmus.servers.management.arm import Routes, change_of
from isthmus.servers.management.request import Call, Reply

Json = dict[str, object]

LISTED_USUALLY = 100
"""Dead letters in a list of which no length was asked."""

ACCEPTED = 202

NUMBER_MAX = 2**53 - 1
"""The largest number that every reader of JSON tells apart."""


class Deliveries(Protocol):
    """How endpoints do; `egress.office.EgressOffice` knows."""

    def health(self, hub: HubId, number: int) -> EndpointHealth: ...
    def behind_bytes(self, hub: HubId, number: int) -> int: ...
    def bury_waiting(self, hub: HubId, number: int, reason: str) -> None: ...


class ArmEndpoints:
    """Answers ARM calls about deliveries; used on the event loop only."""

    def __init__(self, hubs: Hubs, deliveries: Deliveries, dead_letters: DeadLetters, journal: Journal) -> None:
        self._hubs = hubs
        self._deliveries = deliveries
        self._dead_letters = dead_letters
        self._journal = journal
        letters = "microsoft.devices/iothubs/*/deadletters"
        self.routes: Routes = {
            ("GET", letters): self._list,
            ("GET", f"{letters}/*"): self._list_of_one,
            ("POST", f"{letters}/*/letters/*/show"): self._show,
            ("POST", f"{letters}/*/bury"): self._bury,
            ("POST", f"{letters}/*/redrive"): self._redrive,
            ("POST", f"{letters}/*/purge"): self._purge,
        }
        """Handlers by method and path pattern; see `arm.Routes`."""

    def health_of(self, hub: Hub) -> list[Json]:
        """How the endpoints of a hub's own do."""
        return [self._health(hub, endpoint) for endpoint in hub.endpoints]

    def _health(self, hub: Hub, endpoint: RoutingEndpoint) -> Json:
        health = self._deliveries.health(hub.number, endpoint.number)
        shown: Json = {"endpointId": endpoint.name, "healthStatus": health.status.value}
        if health.last_error_ms:
            found = diagnose(endpoint, health.last_kind)
            shown |= {
                "lastKnownError": f"{found.sentence}: {health.last_reason}",
                "lastKnownErrorTime": _moment(health.last_error_ms),
                "lastKnownErrorCode": health.last_code,
                "lastKnownErrorSwitch": found.switch.value,
                "remedy": found.remedy,
            }
        if health.last_success_ms:
            shown["lastSuccessfulSendAttemptTime"] = _moment(health.last_success_ms)
        if health.last_attempt_ms:
            shown["lastSendAttemptTime"] = _moment(health.last_attempt_ms)
        if health.failing_since_ms:
            shown["failingSince"] = _moment(health.failing_since_ms)
        return shown | {
            "behindBytes": self._deliveries.behind_bytes(hub.number, endpoint.number),
            "deadLetters": self._dead_letters.count(hub.number, endpoint.number),
        }

    async def _list(self, call: Call, names: tuple[str, ...]) -> Reply:
        hub = self._hubs.require(names[0])
        numbers = range(BUILT_IN_NUMBER + 1, hub.last_endpoint + 1)
        return Reply(value={"value": self._listed(hub, numbers, *_bounds(call))})

    async def _list_of_one(self, call: Call, names: tuple[str, ...]) -> Reply:
        hub = self._hubs.require(names[0])
        return Reply(value={"value": self._listed(hub, self._of_name(hub, names[1]), *_bounds(call))})

    async def _show(self, call: Call, names: tuple[str, ...]) -> Reply:
        hub = self._hubs.require(names[0])
        number = integer(names[2], "the dead letter's number", least=0, most=NUMBER_MAX)
        for endpoint in reversed(self._of_name(hub, names[1])):
            for found in self._dead_letters.listed(hub.number, endpoint, number, 1):
                if found.number == number:
                    return Reply(value=_whole(hub, self._dead_letters.name(hub, endpoint), endpoint, found))
        raise HubError(Code.NOT_FOUND, f"The endpoint {names[1]} has no dead letter {number}")

    async def _bury(self, call: Call, names: tuple[str, ...]) -> Reply:
        hub = self._hubs.require(names[0])
        endpoint = hub.endpoint(names[1])
        if endpoint is None:
            raise _no_endpoint(hub, names[1])
        self._deliveries.bury_waiting(hub.number, endpoint.number, f"given up by {call.who or 'its owner'}")
        self._changed(call, hub, f"what waits for {endpoint.name} given up", "waiting", "given up")
        return Reply(ACCEPTED, {"endpointName": endpoint.name})

    async def _redrive(self, call: Call, names: tuple[str, ...]) -> Reply:
        hub = self._hubs.require(names[0])
        numbers = self._of_name(hub, names[1])
        target = hub.endpoint(names[1])
        if target is None:
            message = (
                f"The endpoint {names[1]} was deleted: make one of that name to have its dead letters, or purge them"
            )
            raise HubError(Code.ARGUMENT_INVALID, message)
        until, count, there = _until(call), 0, self._count(hub, numbers)
        for number in numbers:
            last = until if number == numbers[-1] else None
            count += await self._dead_letters.redrive(hub, number, last, to=target.number)
        self._changed(call, hub, f"{count} dead letters of {target.name} re-driven", there, there - count)
        return Reply(value={"endpointName": target.name, "redriven": count})

    async def _purge(self, call: Call, names: tuple[str, ...]) -> Reply:
        hub = self._hubs.require(names[0])
        numbers = self._of_name(hub, names[1])
        until, count, there = _until(call), 0, self._count(hub, numbers)
        for number in numbers:
            last = until if number == numbers[-1] else None
            count += await self._dead_letters.purge(hub.number, number, last)
        self._changed(call, hub, f"{count} dead letters of {names[1]} purged", there, there - count)
        return Reply(value={"endpointName": names[1], "purged": count})

    def _of_name(self, hub: Hub, name: str) -> tuple[int, ...]:
        """The numbers that a name has dead letters under; an endpoint may have been deleted, and made again."""
        numbers = self._dead_letters.of_name(hub, name)
        if not numbers and hub.endpoint(name) is None:
            raise _no_endpoint(hub, name)
        return numbers

    def _listed(self, hub: Hub, numbers: Iterable[int], first: int, most: int) -> list[Json]:
        listed: list[Json] = []
        for number in numbers:
            left = most - len(listed)
            found = self._dead_letters.listed(hub.number, number, first, left) if left else []
            name = self._dead_letters.name(hub, number) if found else ""
            listed += [_in_brief(hub, name, each) for each in found]
        return listed

    def _count(self, hub: Hub, numbers: Iterable[int]) -> int:
        return sum(self._dead_letters.count(hub.number, number) for number in numbers)

    def _changed(self, call: Call, hub: Hub, what: str, before: object, after: object) -> None:
        """Journals a change of how many dead letters there are."""
        was, now = change_texts({"deadLetters": before}, {"deadLetters": after})
        self._journal.write(replace(change_of(call, hub.name, what), before=was, after=now))


def _no_endpoint(hub: Hub, name: str) -> HubError:
    known = ", ".join(each.name for each in hub.endpoints) or "none"
    return HubError(Code.NOT_FOUND, f"The hub {hub.name} has no endpoint {name} of its own; it has: {known}")


def _in_brief(hub: Hub, endpoint: str, buried: Buried) -> Json:
    letter, envelope = buried.letter, buried.envelope
    return {
        "id": f"{hub.resource_id}/deadLetters/{endpoint}/letters/{buried.number}",
        "endpointName": endpoint,
        "number": buried.number,
        "deviceId": envelope.device_id if envelope is not None else None,
        "moduleId": (envelope.module_id or None) if envelope is not None else None,
        "source": envelope.source.value if envelope is not None else None,
        "reason": letter.reason,
        "code": letter.code or None,
        "buriedTime": iso_utc(letter.buried_ms),
        "enqueuedTime": iso_utc(letter.enqueued_ms),
        "partition": letter.partition,
        "offset": letter.offset,
        "bytes": len(buried.payload),
    }


def _whole(hub: Hub, name: str, endpoint: int, buried: Buried) -> Json:
    envelope = buried.envelope
    shown = _in_brief(hub, name, buried) | {"body": base64.b64encode(buried.payload).decode()}
    if envelope is None:
        return shown
    return shown | {
        "properties": {name: _plain(value) for name, value in envelope.properties.items()},
        "systemProperties": {name: _plain(value) for name, value in envelope.system.items()},
        "enrichments": envelope.stamped.get(endpoint, {}),
    }


def _plain(value: object) -> object:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _bounds(call: Call) -> tuple[int, int]:
    first = integer(call.query.get("first", 0), "first", least=0, most=NUMBER_MAX)
    return first, integer(call.query.get("top", LISTED_USUALLY), "top", least=1, most=LIST_MAX)


def _until(call: Call) -> int | None:
    body = call.json()
    known_members(body, "the body", ("until",))
    until = body.get("until")
    return None if until is None else integer(until, "until", least=0, most=NUMBER_MAX)


def _moment(utc_ms: int) -> str:
    return formatdate(utc_ms / 1000, usegmt=True)
