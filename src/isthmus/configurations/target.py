"""Which twins a configuration is for: its target condition, and the queries that ask the same of the fleet.

A condition is the part of a query behind its WHERE; `*` means all, and an empty one nobody. One over modules begins
with `from devices.modules` (IoT Hub documentation, "Automatic device and module management").
"""

from dataclasses import dataclass

from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.filters import Filter, holds
from isthmus.configurations.content import EDGE_AGENT, ContentKind
from isthmus.devices.joined_view import View
from isthmus.query.parser import parse
from isthmus.query.search import search_of
from isthmus.query.syntax import Collection

CONDITION_CHARACTERS_MAX = 8_192
"""Of a condition or a query (IoT Hub developer guide, "Query language")."""

ALL = "*"
MODULES = "from devices.modules"
NOBODY = "deviceId = ''"
"""Holds for no device: no id is empty."""


@dataclass(frozen=True, slots=True)
class Target:
    """What must hold, of devices or of modules."""

    modules: bool
    where: Filter

    def holds(self, view: View) -> bool:
        """True when a device or module, whichever this is about, is meant."""
        return holds(self.where, view)


def parse_target(condition: str, kind: ContentKind) -> Target | None:
    """The target of a condition, None for nobody; raises `INVALID_TARGET_CONDITION`.

    Content for modules needs a condition over modules, and other content one over devices.
    """
    if not condition.strip():
        return None
    _check_length(condition, Code.INVALID_TARGET_CONDITION, "targetCondition")
    modules = is_over_modules(condition)
    if modules is not (kind is ContentKind.MODULE):
        wanted = f"begin with {MODULES}" if kind is ContentKind.MODULE else "be about devices"
        raise HubError(Code.INVALID_TARGET_CONDITION, f"The target condition of {kind} must {wanted}")
    return Target(modules, _where(targeted_query(condition, kind), Code.INVALID_TARGET_CONDITION))


def check_condition(condition: str) -> None:
    """Raises `INVALID_TARGET_CONDITION` for a condition that no configuration may have."""
    parse_target(condition, ContentKind.MODULE if is_over_modules(condition) else ContentKind.DEVICE)


def check_metric(query: str) -> None:
    """Raises `INVALID_METRICS_QUERY` for a query that no metric may have."""
    _check_length(query, Code.INVALID_METRICS_QUERY, "A metric's query")
    _where(query, Code.INVALID_METRICS_QUERY)


def is_over_modules(condition: str) -> bool:
    """True for a condition over modules."""
    return " ".join(condition.lower().split()[:2]) == MODULES


def targeted_query(condition: str, kind: ContentKind) -> str:
    """The query for those that a configuration targets."""
    given = condition.strip()
    if kind is ContentKind.MODULE:
        return f"select deviceId from devices.modules where {NOBODY}" if not given else f"select deviceId {given}"
    text = NOBODY if not given else "" if given == ALL else given
    if kind is ContentKind.MODULES:
        text = f"capabilities.iotEdge = true and ({text})" if text else "capabilities.iotEdge = true"
    return f"select deviceId from devices where {text}" if text else "select deviceId from devices"


def system_queries(config_id: str, condition: str, kind: ContentKind) -> dict[str, str]:
    """The queries of the system metrics of a configuration, by their names, as the service tells them."""
    status = f"configurations.[[{config_id}]].status = 'Applied'"
    queries = {"targetedCount": targeted_query(condition, kind)}
    if kind is not ContentKind.MODULES:
        source = "devices.modules" if kind is ContentKind.MODULE else "devices"
        return {**queries, "appliedCount": f"select deviceId from {source} where {status}"}
    applied = f"select deviceId from devices.modules where moduleId = '{EDGE_AGENT}' and {status}"
    reported = f"{applied} and properties.desired.$version = properties.reported.lastDesiredVersion"
    code = "properties.reported.lastDesiredStatus.code"
    return {
        **queries,
        "appliedCount": applied,
        "reportedSuccessfulCount": f"{reported} and {code} = 200",
        "reportedFailedCount": f"{reported} and {code} != 200",
    }


def _where(text: str, code: Code) -> Filter:
    """The filter of a query over devices or modules, in the code of who asks."""
    try:
        query = parse(text)
        if query.collection is Collection.JOBS:
            raise HubError(code, "The query must be about devices or modules")
        search = search_of(query)
    except HubError as error:
        raise HubError(code, error.message) from error
    if search.grouping is not None or search.top is not None:
        raise HubError(code, "Rows are counted here: TOP, GROUP BY and functions over rows cannot be asked")
    return search.where


def _check_length(text: str, code: Code, name: str) -> None:
    if len(text) > CONDITION_CHARACTERS_MAX:
        remedy = f"write it in {CONDITION_CHARACTERS_MAX} characters"
        refusal = Refusal(Hop.LIMIT, "limit.configuration-query", f"{len(text)} characters", remedy)
        raise HubError(code, f"{name} is longer than {CONDITION_CHARACTERS_MAX} characters", refusal)
