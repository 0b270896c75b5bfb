"""Rules of subscriptions in AMQP (Service Bus request-response guide, rule operations); pure."""

from typing import Final

from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.neighbours.bus_arm import filter_of_sql
from isthmus.neighbours.bus_rules import Facts, FilterKind, FilterValue, Rule
from isthmus.servers.gateway.bus_codec import plain
from isthmus.wire.amqp.values import AmqpValue, Described, Int, Long, Timestamp, ULong

RULE: Final = ULong(0x0000_0137_0000_0004)
NO_ACTION: Final = ULong(0x0000_0137_0000_0005)
TRUE_FILTER: Final = ULong(0x0000_0013_7000_0007)
FALSE_FILTER: Final = ULong(0x0000_0013_7000_0008)
CORRELATION_FILTER: Final = ULong(0x0000_0013_7000_0009)
"""Descriptors; those of filters have a digit less between, which is no slip of this file."""

_MEMBERS: Final = (
    *(("correlation-id", "correlation_id"), ("message-id", "message_id"), ("to", "to"), ("reply-to", "reply_to")),
    *(("label", "label"), ("session-id", "session_id"), ("reply-to-session-id", "reply_to_session_id")),
    ("content-type", "content_type"),
)


def rule_of(name: str, description: AmqpValue) -> Rule:
    """The rule that a request describes; raises HubError ARGUMENT_INVALID, or NOT_IMPLEMENTED for SQL."""
    members = {str(key): value for key, value in description.items()} if isinstance(description, dict) else {}
    action = members.get("sql-rule-action")
    if isinstance(action, dict) and action.get("expression"):
        raise no_sql("an action")
    correlation, sql = members.get("correlation-filter"), members.get("sql-filter")
    if isinstance(correlation, dict):
        return Rule(name, FilterKind.CORRELATION, _wanted({str(key): value for key, value in correlation.items()}))
    if isinstance(sql, dict):
        return Rule(name, filter_of_sql(str(sql.get("expression") or "")))
    if "true-filter" in members or not members:
        return Rule(name)
    if "false-filter" in members:
        return Rule(name, FilterKind.FALSE)
    raise no_sql(", ".join(members))


def rule_description(rule: Rule) -> AmqpValue:
    """The rule as a request for all rules is answered."""
    return Described(RULE, [_filter(rule), Described(NO_ACTION, []), rule.name, Timestamp(rule.created_ms)])


def no_sql(what: str) -> HubError:
    """The refusal of SQL filters and actions."""
    return HubError(
        Code.NOT_IMPLEMENTED,
        "SQL filters and rule actions are not offered here.",
        Refusal(Hop.CONTRACT, "contract.not-implemented", what[:200], "Use a true, false or correlation filter."),
    )


def _wanted(members: dict[str, AmqpValue]) -> Facts:
    given: dict[str, str] = {field: str(members[name]) for name, field in _MEMBERS if members.get(name) is not None}
    properties = members.get("properties")
    sent: dict[str, FilterValue] = (
        {str(key): plain(value) for key, value in properties.items()} if isinstance(properties, dict) else {}
    )
    return Facts(**given, properties=sent)


def _filter(rule: Rule) -> AmqpValue:
    match rule.kind:
        case FilterKind.TRUE:
            return Described(TRUE_FILTER, [])
        case FilterKind.FALSE:
            return Described(FALSE_FILTER, [])
        case FilterKind.CORRELATION:
            wanted: list[AmqpValue] = [getattr(rule.wanted, field) for _, field in _MEMBERS]
            properties: dict[AmqpValue, AmqpValue] = {
                key: _amqp(value) for key, value in rule.wanted.properties.items()
            }
            return Described(CORRELATION_FILTER, [*wanted, properties])


def _amqp(value: FilterValue) -> AmqpValue:
    if isinstance(value, int) and not isinstance(value, bool):
        return Int(value) if abs(value) < 1 << 31 else Long(value)
    return value
