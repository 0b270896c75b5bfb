"""The management call that proves a routing endpoint: `POST /check/endpoint/{hub}/{endpoint}`.

Six steps in the order of a delivery: the identity, a token for the target's audience, the role and the scope at which
it is held, the target's network rules, where its name leads, and a trial write by the very process that delivers. All
six are taken whatever becomes of one, so that two things that are wrong are told at once. Beside them stand the four
switches (`endpoint_switches`); those that are off are named in the verdict when the trial failed.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from isthmus.access.role_assignments import RoleAssignment
from isthmus.base.clock import iso_utc
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import HubId
from isthmus.network.admission import Allow, admit
from isthmus.network.door import PUBLIC_DOOR
from isthmus.resources.directory import Directory
from isthmus.resources.guarded import Guarded
from isthmus.resources.hub import Hub
from isthmus.resources.hubs import Hubs
from isthmus.resources.routing_endpoint import EndpointAuthentication, RoutingEndpoint
from isthmus.resources.token_authority import audience_of
from isthmus.routing.diagnosis import Diagnosis, Switch, diagnose
from isthmus.routing.sink import Destination, SinkFailure
from isthmus.servers.management.endpoint_switches import TARGETS, Setting, State, settings_of
from isthmus.servers.management.request import Call, Reply


class Outcome(StrEnum):
    """What became of a step."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what was found, and what would help."""

    name: str
    outcome: Outcome
    value: str
    remedy: str = ""

    def to_json(self) -> dict[str, str]:
        """As its reader sees it."""
        return {"step": self.name, "outcome": self.outcome.value, "value": self.value, "remedy": self.remedy}


class Deliverer(Protocol):
    """Who delivers to endpoints; `egress.office.EgressOffice`."""

    async def probe(self, hub: Hub, endpoint: RoutingEndpoint) -> None:
        """Has the target asked whether it lets the hub write; raises `SinkFailure`."""


class WayOut(Protocol):
    """How this process goes out; part of `routing.sink.Egress`."""

    async def resolve(self, hub: HubId, host: str, port: int) -> Sequence[Destination]:
        """Where a target's name leads; raises `SinkFailure` NAME or OUTBOUND."""


GiveToken = Callable[[HubId, str, str], Awaitable[tuple[str, int]]]
"""A token of a hub's identity for a scope, and its last second; raises HubError."""

Roles = Callable[[str], Iterable[RoleAssignment]]
"""All role assignments of a principal."""


@dataclass(frozen=True, slots=True)
class EndpointCalls:
    """Answers the call; on the event loop only. With `own_tokens` off, deliveries show tokens of Azure's."""

    hubs: Hubs
    directory: Directory
    roles: Roles
    token: GiveToken
    way: WayOut
    deliverer: Deliverer
    own_tokens: bool = True

    async def answer(self, call: Call) -> Reply:
        """What was found; raises HubError GenericNotFound."""
        if call.path[:2] != ("check", "endpoint") or len(call.path) != 4 or call.method != "POST":
            raise HubError(Code.NOT_FOUND, f"There is nothing at {call.method} /{'/'.join(call.path)}")
        hub = self.hubs.require(call.path[2])
        endpoint = next((each for each in hub.endpoints if each.name.lower() == call.path[3].lower()), None)
        if endpoint is None:
            known = ", ".join(each.name for each in hub.endpoints) or "none"
            raise HubError(Code.NOT_FOUND, f"{hub.name} has no routing endpoint {call.path[3]}; it has: {known}")
        return Reply(value=await self._checked(hub, endpoint))

    async def _checked(self, hub: Hub, endpoint: RoutingEndpoint) -> dict[str, object]:
        target = self.directory.by_host(endpoint.host) if endpoint.host else None
        found: Sequence[Destination] = ()
        name = Step("name", Outcome.FAILED, "the endpoint names no target")
        if endpoint.host:
            found, name = await self._named(hub, endpoint, target)
        failure, write = await self._written(hub, endpoint)
        settings = settings_of(hub, endpoint, target, self.roles, failure.kind if failure is not None else None)
        identity, authentication, trusted, role = settings
        steps = (
            _identity_step(identity, authentication),
            await self._token_step(hub, endpoint),
            _role_step(role, authentication),
            _network_step(hub, endpoint, target, found, trusted),
            name,
            write,
        )
        diagnosis = diagnose(endpoint, failure.kind) if failure is not None else None
        return {
            "hub": hub.name,
            "endpoint": endpoint.name,
            "type": endpoint.kind.value,
            "target": f"{endpoint.host}/{endpoint.entity}",
            "works": failure is None,
            "steps": [step.to_json() for step in steps],
            "switches": [setting.to_json() for setting in settings],
            "off": _off(settings, diagnosis),
            "verdict": _verdict(endpoint, settings, diagnosis),
        }

    async def _named(
        self, hub: Hub, endpoint: RoutingEndpoint, target: Guarded | None
    ) -> tuple[Sequence[Destination], Step]:
        try:
            found = await self.way.resolve(hub.number, endpoint.host, TARGETS[endpoint.kind].port)
        except SinkFailure as failure:
            return (), Step("name", Outcome.FAILED, failure.reason, diagnose(endpoint, failure.kind).remedy)
        addresses = ", ".join(f"{each.address} port {each.port}" for each in found)
        where = f", {target.name}, hosted here" if target is not None else ""
        return found, Step("name", Outcome.OK, f"{endpoint.host} is {addresses}{where}")

    async def _token_step(self, hub: Hub, endpoint: RoutingEndpoint) -> Step:
        scope = TARGETS[endpoint.kind].scope
        if endpoint.authentication is EndpointAuthentication.KEY:
            return Step("token", Outcome.SKIPPED, "the endpoint has a key and asks for none")
        if not self.own_tokens:
            return Step("token", Outcome.UNKNOWN, f"for {audience_of(scope)}, of Azure's own credentials")
        try:
            _, expires_s = await self.token(hub.number, endpoint.identity, scope)
        except HubError as error:
            return Step("token", Outcome.FAILED, error.message)
        return Step("token", Outcome.OK, f"for {audience_of(scope)}, until {iso_utc(expires_s * 1000)[:19]}Z")

    async def _written(self, hub: Hub, endpoint: RoutingEndpoint) -> tuple[SinkFailure | None, Step]:
        try:
            await self.deliverer.probe(hub, endpoint)
        except SinkFailure as failure:
            code = f" ({failure.code})" if failure.code else ""
            remedy = diagnose(endpoint, failure.kind).remedy
            return failure, Step("write", Outcome.FAILED, f"{failure.reason}{code}", remedy)
        return None, Step("write", Outcome.OK, f"{endpoint.entity} lets the hub write")


def _identity_step(identity: Setting, authentication: Setting) -> Step:
    if authentication.state is State.OFF:
        return Step("identity", Outcome.SKIPPED, authentication.value)
    outcome = Outcome.OK if identity.state is State.ON else Outcome.FAILED
    return Step("identity", outcome, identity.value, identity.remedy)


def _role_step(role: Setting, authentication: Setting) -> Step:
    if authentication.state is State.OFF:
        return Step("role", Outcome.SKIPPED, "a key needs none")
    outcome = {State.ON: Outcome.OK, State.OFF: Outcome.FAILED, State.UNKNOWN: Outcome.UNKNOWN}[role.state]
    return Step("role", outcome, role.value, role.remedy)


def _network_step(
    hub: Hub, endpoint: RoutingEndpoint, target: Guarded | None, found: Sequence[Destination], trusted: Setting
) -> Step:
    """By which rule the target's firewall lets the hub in; from its own machine it comes by the address it goes to."""
    if target is None:
        refused = trusted.state is State.OFF
        return Step("network", Outcome.FAILED if refused else Outcome.UNKNOWN, trusted.value, trusted.remedy)
    address = found[0].address if found else "127.0.0.1"
    own = endpoint.authentication is EndpointAuthentication.IDENTITY and not endpoint.identity and hub.identity.system
    plain = admit(target, door=PUBLIC_DOOR, address=address)
    if isinstance(plain, Allow):
        return Step("network", Outcome.OK, f"{target.name} lets everybody at {address} in ({plain.rule})")
    if own and target.trusts(hub.resource_id):
        return Step("network", Outcome.OK, f"{target.name} is closed to {address}, and trusts the hub's own identity")
    exception = "no exception is made for the hub" if trusted.state is State.OFF else "the exception is not for a key"
    if endpoint.identity:
        exception = "the exception is for the hub's own identity only"
    return Step(
        "network", Outcome.FAILED, f"{plain.refusal.value}; {exception}", trusted.remedy or plain.refusal.remedy
    )


def _off(settings: Iterable[Setting], diagnosis: Diagnosis | None) -> list[str]:
    """The switches that are off when the trial failed, and what else was wrong; nothing when it did not fail."""
    if diagnosis is None:
        return []
    off = [setting.switch.value for setting in settings if setting.state is State.OFF]
    further = diagnosis.switch is not Switch.NONE and diagnosis.switch.value not in off
    return [*off, diagnosis.switch.value] if further else off


def _verdict(endpoint: RoutingEndpoint, settings: Iterable[Setting], diagnosis: Diagnosis | None) -> str:
    off = [setting for setting in settings if setting.state is State.OFF]
    named = ", ".join(setting.switch.value for setting in off)
    if diagnosis is None:
        return f"{endpoint.name} works" + (f"; off, and not needed as things are: {named}" if off else "")
    if not off:
        return f"{endpoint.name} does not work: {diagnosis.sentence}"
    return f"{endpoint.name} does not work, and off is: {named}; {diagnosis.sentence}"
