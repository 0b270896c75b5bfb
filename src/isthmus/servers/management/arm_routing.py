"""The calls that try routes: `routing/routes/$testnew` and `$testall` of Microsoft.Devices/IotHubs."""

from dataclasses import replace

from isthmus.base.errors import HubError
from isthmus.query.conditions.lexer import ConditionError
from isthmus.resources.hub import RouteSource
from isthmus.resources.hubs import Hubs
from isthmus.resources.members import Json, choice, known_members, mapping, text
from isthmus.resources.routes import check_routing, checked_route, route_to_arm
from isthmus.routing.trial import MadeUpMessage, routes_taken, try_route
from isthmus.servers.management.arm import Routes
from isthmus.servers.management.request import Call, Reply


class ArmRouting:
    """Answers ARM calls that try routes; nothing is changed and nothing sent."""

    def __init__(self, hubs: Hubs) -> None:
        self._hubs = hubs
        below = "microsoft.devices/iothubs/*/routing/*"
        self.routes: Routes = {
            ("POST", f"{below}/$testnew"): self._test_one,
            ("POST", f"{below}/$testall"): self._test_all,
        }
        """Handlers by method and path pattern; see `arm.Routes`."""

    async def _test_one(self, call: Call, names: tuple[str, ...]) -> Reply:
        hub = self._hubs.require(names[0])
        body = call.json()
        known_members(body, "the body", ("message", "route", "twin"))
        message = _message(body)
        try:
            route = checked_route(body.get("route"), "route")
            check_routing(replace(hub, routes=(route,)))
            result = try_route(route, message)
        except HubError as error:
            if not isinstance(error.__cause__, ConditionError):
                raise
            return _tested("undefined", [_complaint(error.__cause__, body)])
        return _tested("undefined" if result is None else str(result).lower(), [])

    async def _test_all(self, call: Call, names: tuple[str, ...]) -> Reply:
        hub = self._hubs.require(names[0])
        body = call.json()
        known_members(body, "the body", ("message", "routingSource", "twin"))
        source = choice(body.get("routingSource") or "DeviceMessages", "routingSource", tuple(RouteSource))
        taken = routes_taken(hub, RouteSource(source), _message(body))
        return Reply(value={"routes": [{"properties": route_to_arm(each)} for each in taken]})


def _tested(result: str, errors: list[object]) -> Reply:
    return Reply(value={"result": result, "details": {"compilationErrors": errors}})


def _message(body: Json) -> MadeUpMessage:
    given = _members(body.get("message"), "message")
    known_members(given, "message", ("appProperties", "body", "systemProperties"))
    return MadeUpMessage(
        document=text(given.get("body") or "", "message.body"),
        properties=_texts(given.get("appProperties"), "message.appProperties"),
        system=_texts(given.get("systemProperties"), "message.systemProperties"),
        sender=_members(body["twin"], "twin") if body.get("twin") is not None else None,
    )


def _texts(value: object, path: str) -> dict[str, str]:
    return {name: text(each, f"{path}.{name}") for name, each in _members(value, path).items()}


def _members(value: object, path: str) -> Json:
    return {} if value is None else mapping(value, path)


def _complaint(error: ConditionError, body: Json) -> dict[str, object]:
    condition = str(_members(body.get("route"), "route").get("condition") or "")
    location = {"start": _place(condition, error.start), "end": _place(condition, error.end)}
    return {"message": error.message, "severity": "error", "location": location}


def _place(condition: str, position: int) -> dict[str, int]:
    before = condition[:position]
    return {"line": before.count("\n") + 1, "column": position - (before.rfind("\n") + 1) + 1}
