"""Which messages of a topic a subscription gets: rules with true, false and correlation filters; pure.

A message goes to a subscription once when any of its rules selects it. A correlation filter selects what agrees with
everything it names, letter by letter (Azure Service Bus, "Topic filters and actions"). SQL filters and actions are not
offered.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from isthmus.base.errors import Code, HubError

FilterValue = str | int | float | bool | None
"""What a property is compared with; bytes agree with nothing."""

RULES_MAX = 2_000
"""Rules of a subscription ("Service Bus quotas", filters of a topic by subscription)."""

CORRELATION_PROPERTIES_MAX = 32
"""Application properties that one correlation filter may name; each costs a look-up for every message."""

DEFAULT_RULE = "$Default"
"""The rule a subscription is made with; it selects everything unless it was made otherwise."""

RULE_NAME = re.compile(r"[A-Za-z0-9$](?:[A-Za-z0-9._-]{0,48}[A-Za-z0-9])?")
"""1 to 50 characters (naming rules, Microsoft.ServiceBus/namespaces/topics/subscriptions/rules)."""


class FilterKind(StrEnum):
    """What a filter is."""

    TRUE = "TrueFilter"
    FALSE = "FalseFilter"
    CORRELATION = "CorrelationFilter"


@dataclass(frozen=True, slots=True)
class Facts:
    """What filters look at in a message; `properties` are the sender's."""

    message_id: str | None = None
    correlation_id: str | None = None
    to: str | None = None
    reply_to: str | None = None
    label: str | None = None
    session_id: str | None = None
    reply_to_session_id: str | None = None
    content_type: str | None = None
    properties: Mapping[str, FilterValue] = field(default_factory=dict)


SYSTEM_FACTS = (
    *("message_id", "correlation_id", "to", "reply_to"),
    *("label", "session_id", "reply_to_session_id", "content_type"),
)
"""The facts that are not the sender's own properties."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A named filter; `wanted` is what a correlation filter asks for, None where it does not care."""

    name: str
    kind: FilterKind = FilterKind.TRUE
    wanted: Facts = Facts()
    created_ms: int = 0

    def selects(self, facts: Facts) -> bool:
        """True when a message goes to the subscription by this rule."""
        match self.kind:
            case FilterKind.TRUE:
                return True
            case FilterKind.FALSE:
                return False
            case FilterKind.CORRELATION:
                return _agrees(self.wanted, facts)


def selected(rules: Sequence[Rule], facts: Callable[[], Facts]) -> bool:
    """True when any rule selects the message; its facts are asked for only where they matter."""
    if any(rule.kind is FilterKind.TRUE for rule in rules):
        return True
    looking = [rule for rule in rules if rule.kind is FilterKind.CORRELATION]
    return bool(looking) and any(rule.selects(facts()) for rule in looking)


def check_rule(rule: Rule) -> None:
    """Raises HubError ArgumentInvalid for a rule that cannot be."""
    if not RULE_NAME.fullmatch(rule.name):
        raise HubError(Code.ARGUMENT_INVALID, f"A rule has 1 to 50 letters, digits, '.', '-', '_': {rule.name!r}")
    if rule.kind is not FilterKind.CORRELATION:
        return
    if len(rule.wanted.properties) > CORRELATION_PROPERTIES_MAX:
        message = f"A correlation filter names at most {CORRELATION_PROPERTIES_MAX} properties"
        raise HubError(Code.ARGUMENT_INVALID, message)
    odd = next((name for name, value in rule.wanted.properties.items() if not _is_sendable(value)), None)
    if odd is not None:
        raise HubError(Code.ARGUMENT_INVALID, f"No message can have the number that a filter wants in {odd[:64]!r}")
    if not rule.wanted.properties and all(getattr(rule.wanted, name) is None for name in SYSTEM_FACTS):
        raise HubError(Code.ARGUMENT_INVALID, "A correlation filter names at least one property")


def _is_sendable(value: FilterValue) -> bool:
    """False for numbers beyond 64 bits, and for those that are none or have no end: nothing equals them."""
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, int) or -(2**63) <= value < 2**63


def _agrees(wanted: Facts, facts: Facts) -> bool:
    for name in SYSTEM_FACTS:
        value = getattr(wanted, name)
        if value is not None and getattr(facts, name) != value:
            return False
    return all(
        name in facts.properties and _same(facts.properties[name], value) for name, value in wanted.properties.items()
    )


def _same(found: FilterValue, value: FilterValue) -> bool:
    """Equal in value and in kind: a boolean is no number."""
    if isinstance(found, bool) or isinstance(value, bool):
        return found is value
    return found == value
