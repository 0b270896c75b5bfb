"""Automatic device management over the service API (IoT Hub REST reference, "Configuration")."""

from collections.abc import Mapping

from isthmus.base.errors import Code, HubError
from isthmus.base.numbers import whole_number
from isthmus.configurations.configuration import CONFIGURATIONS_MAX, Configuration, configuration_to_wire
from isthmus.configurations.configurations import Configurations
from isthmus.configurations.edge import EdgeContent
from isthmus.configurations.metrics import MetricCounts
from isthmus.configurations.target import check_condition, check_metric
from isthmus.servers.gateway.http_message import Call, Change, Reply, json_reply
from isthmus.servers.gateway.http_routes import Action
from isthmus.servers.gateway.http_service import Handler


class ConfigurationsApi:
    """Answers the calls about configurations, and applies content to edge devices."""

    def __init__(self, configurations: Configurations, counts: MetricCounts, edge: EdgeContent) -> None:
        self._configurations = configurations
        self._counts = counts
        self._edge = edge
        self.handlers: Mapping[Action, Handler] = {
            Action.LIST_CONFIGURATIONS: self._list,
            Action.GET_CONFIGURATION: self._get,
            Action.PUT_CONFIGURATION: self._put,
            Action.DELETE_CONFIGURATION: self._delete,
            Action.TEST_QUERIES: self._test_queries,
            Action.APPLY_CONTENT: self._apply,
        }

    async def _list(self, call: Call) -> Reply:
        """At most `top` of them; without one, or with one that is out of range, all."""
        top = whole_number(call.query.get("top", "")) or CONFIGURATIONS_MAX
        found = (await self._configurations.all(call.hub.number))[: max(1, top)]
        until = self._counts.begin()
        return json_reply([await self._told(call, each, until) for each in found])

    async def _get(self, call: Call) -> Reply:
        found = await self._configurations.get(call.hub.number, call.name)
        return json_reply(await self._told(call, found, self._counts.begin()), etag=found.etag)

    async def _put(self, call: Call) -> Reply:
        before = await self._configurations.find(call.hub.number, call.name)
        written = await self._configurations.put(call.hub, call.name, call.json(), call.if_match)
        change = Change(None if before is None else configuration_to_wire(before), configuration_to_wire(written))
        return json_reply(await self._told(call, written, self._counts.begin()), etag=written.etag, change=change)

    async def _delete(self, call: Call) -> Reply:
        before = await self._configurations.get(call.hub.number, call.name)
        await self._configurations.delete(call.hub, call.name, call.if_match)
        return Reply(204, change=Change(configuration_to_wire(before), None))

    async def _test_queries(self, call: Call) -> Reply:
        """Says what is wrong with a target condition and with queries, and is answered 200 whatever it is."""
        body = call.json()
        given = body if isinstance(body, dict) else {}
        condition, queries = given.get("targetCondition"), given.get("customMetricQueries") or {}
        if not isinstance(condition, str | None) or not isinstance(queries, dict):
            raise HubError(Code.ARGUMENT_INVALID, "targetCondition is a string, customMetricQueries an object")
        wrong = {name: reason for name, query in queries.items() if (reason := _wrong_metric(query)) is not None}
        return json_reply({"targetConditionError": _wrong_condition(condition), "customMetricQueryErrors": wrong})

    async def _apply(self, call: Call) -> Reply:
        body = call.json()
        await self._edge.apply(call.ref, body)
        return Reply(204, change=Change(None, body))

    async def _told(self, call: Call, configuration: Configuration, until: float) -> dict[str, object]:
        system, own = await self._counts.results(call.hub.number, configuration, until)
        return configuration_to_wire(configuration, system, own)


def _wrong_condition(condition: str | None) -> str | None:
    try:
        check_condition(condition or "")
    except HubError as error:
        return error.message
    return None


def _wrong_metric(query: object) -> str | None:
    if not isinstance(query, str):
        return "The query is not a string"
    try:
        check_metric(query)
    except HubError as error:
        return error.message
    return None
