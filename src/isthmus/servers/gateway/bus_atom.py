"""Entities and rules as Atom entries and feeds, what the administration clients of Service Bus speak; pure.

A description has the members of ARM's form under the same names with a capital, and is read by the same rules
(`neighbours.bus_arm`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from isthmus.base.clock import iso_utc
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.numbers import whole_number
from isthmus.base.xml import parse_xml
from isthmus.neighbours.bus_arm import filter_of_sql, members_of
from isthmus.neighbours.bus_durations import parse_bus_duration
from isthmus.neighbours.bus_entity import Entity, EntityKind
from isthmus.neighbours.bus_rules import Facts, FilterKind, FilterValue, Rule
from isthmus.queues import Counts

ATOM: Final = "http://www.w3.org/2005/Atom"
BUS: Final = "http://schemas.microsoft.com/netservices/2010/10/servicebus/connect"
COUNTS: Final = "http://schemas.microsoft.com/netservices/2011/06/servicebus"
INSTANCE: Final = "http://www.w3.org/2001/XMLSchema-instance"
SCHEMA: Final = "http://www.w3.org/2001/XMLSchema"

DESCRIPTIONS: Final = {
    EntityKind.QUEUE: "QueueDescription",
    EntityKind.TOPIC: "TopicDescription",
    EntityKind.SUBSCRIPTION: "SubscriptionDescription",
}

_IGNORED: Final = frozenset(
    {"AuthorizationRules", "IsAnonymousAccessible", "EntityAvailabilityStatus", "DefaultRuleDescription"}
)
_OWN: Final = {"xmlns": BUS, "xmlns:i": INSTANCE}
"""Names are written without prefixes, save two that are always the same: one client knows nothing of namespaces."""

_FLAGS: Final = frozenset({"true", "false"})
_NUMBERS: Final = ("MaxDeliveryCount", "MaxSizeInMegabytes", "MaxMessageSizeInKilobytes")
_NOT_READ: Final = (
    "SizeInBytes",
    "MessageCount",
    "SubscriptionCount",
    "CountDetails",
    "FilteringMessagesBeforePublishing",
)

_MEMBERS: Final = (
    *(("CorrelationId", "correlation_id"), ("MessageId", "message_id"), ("To", "to"), ("ReplyTo", "reply_to")),
    *(("Label", "label"), ("SessionId", "session_id"), ("ReplyToSessionId", "reply_to_session_id")),
    ("ContentType", "content_type"),
)


@dataclass(frozen=True, slots=True)
class Told:
    """An entity and how many messages it holds; `below` counts a topic's subscriptions."""

    entity: Entity
    counts: Counts
    dead: Counts
    below: int = 0


def entity_entry(host: str, told: Told) -> bytes:
    """An entity as the answer to a request for it."""
    return _bytes(_entry(host, told.entity.path, told.entity.name, _described(told)))


def rule_entry(host: str, subscription: Entity, rule: Rule) -> bytes:
    """A rule as the answer to a request for it."""
    path = f"{subscription.path}/Rules/{rule.name}"
    return _bytes(_entry(host, path, rule.name, _rule(rule)))


def entity_feed(host: str, title: str, page: Sequence[Told], more: str) -> bytes:
    """A page of entities; `more` is the address of the next, empty when this is the last."""
    return _feed(
        host, title, (_entry(host, each.entity.path, each.entity.name, _described(each)) for each in page), more
    )


def rule_feed(host: str, subscription: Entity, page: Sequence[Rule], more: str) -> bytes:
    """A page of rules."""
    path = f"{subscription.path}/Rules"
    return _feed(host, path, (_entry(host, f"{path}/{rule.name}", rule.name, _rule(rule)) for rule in page), more)


def namespace_entry(host: str, name: str, created_ms: int) -> bytes:
    """What a namespace tells of itself."""
    info = Element("NamespaceInfo", _OWN)
    for member, value in (
        *(("CreatedTime", iso_utc(created_ms)), ("MessagingSKU", "Premium"), ("MessagingUnits", "1")),
        *(("ModifiedTime", iso_utc(created_ms)), ("Name", name), ("NamespaceType", "Messaging")),
    ):
        SubElement(info, member).text = value
    return _bytes(_entry(host, "$namespaceinfo", name, info))


def error_document(status: int, detail: str) -> bytes:
    """A refusal as Service Bus words it over HTTPS."""
    error = Element("Error")
    SubElement(error, "Code").text = str(status)
    SubElement(error, "Detail").text = detail
    return _bytes(error)


def description_of(body: bytes) -> Element:
    """The description in an entry; raises HubError GenericBadRequest."""
    try:
        entry = parse_xml(body)
    except ValueError as error:
        raise _malformed(str(error)) from error
    content = entry.find(f"{{{ATOM}}}content")
    if content is None or not len(content):
        raise _malformed("an entry without content")
    return content[0]


def entity_members(description: Element) -> dict[str, object]:
    """The members of an entity's description in ARM's form; raises HubError GenericBadRequest."""
    members: dict[str, object] = {}
    for child in description:
        name, text = _local(child.tag), (child.text or "").strip()
        if name in _IGNORED:
            if len(child) and name == "AuthorizationRules":
                raise HubError(Code.NOT_IMPLEMENTED, "Authorization rules are made by the management API here")
            continue
        if name in _NOT_READ or not text:
            continue
        members[name[0].lower() + name[1:]] = _typed(name, text)
    return members


def rule_of_entry(name: str, description: Element, now_ms: int) -> Rule:
    """The rule that a description is; raises HubError GenericBadRequest, or NotImplemented for SQL."""
    action = description.find(f"{{{BUS}}}Action")
    if action is not None and _type(action) == "SqlRuleAction" and action.findtext(f"{{{BUS}}}SqlExpression"):
        raise HubError(Code.NOT_IMPLEMENTED, "Rule actions are not offered here")
    return _filtered(name, description.find(f"{{{BUS}}}Filter"), now_ms)


def default_rule_of(description: Element, now_ms: int) -> Rule | None:
    """The rule that a new subscription is to begin with, when its description has one."""
    given = description.find(f"{{{BUS}}}DefaultRuleDescription")
    if given is None or not len(given):
        return None
    return rule_of_entry(given.findtext(f"{{{BUS}}}Name") or "$Default", given, now_ms)


def _filtered(name: str, given: Element | None, now_ms: int) -> Rule:
    kind = "TrueFilter" if given is None else _type(given)
    match kind:
        case "TrueFilter":
            return Rule(name, created_ms=now_ms)
        case "FalseFilter":
            return Rule(name, FilterKind.FALSE, created_ms=now_ms)
        case "SqlFilter" if given is not None:
            return Rule(name, filter_of_sql(given.findtext(f"{{{BUS}}}SqlExpression") or ""), created_ms=now_ms)
        case "CorrelationFilter" if given is not None:
            return Rule(name, FilterKind.CORRELATION, _wanted(given), now_ms)
    raise _malformed(f"a filter of type {kind}")


def _wanted(given: Element) -> Facts:
    named = {field: given.findtext(f"{{{BUS}}}{member}") for member, field in _MEMBERS}
    properties: dict[str, FilterValue] = {}
    for pair in given.findall(f"{{{BUS}}}Properties/{{{BUS}}}KeyValueOfstringanyType"):
        value = pair.find(f"{{{BUS}}}Value")
        if value is not None:
            properties[pair.findtext(f"{{{BUS}}}Key") or ""] = _simple(_type(value), value.text or "")
    return Facts(**{field: text for field, text in named.items() if text}, properties=properties)


def _simple(kind: str, text: str) -> FilterValue:
    """A value as its XML Schema type says; times and durations as messages carry them, in milliseconds."""
    try:
        match kind:
            case "int" | "long":
                return int(text)
            case "double":
                return float(text)
            case "boolean":
                return text.lower() == "true"
            case "duration":
                return parse_bus_duration(text)
    except ValueError as error:
        raise _malformed(text[:64]) from error
    return text


def _typed(name: str, text: str) -> object:
    if text.lower() in _FLAGS:
        return text.lower() == "true"
    number = whole_number(text) if name in _NUMBERS else None
    return text if number is None else number


def _described(told: Told) -> Element:
    entity = told.entity
    description = Element(DESCRIPTIONS[entity.kind], _OWN)
    for name, value in {**members_of(entity), **_numbers(told)}.items():
        if isinstance(value, Mapping):
            counts = SubElement(description, "CountDetails")
            for counted, number in value.items():
                SubElement(counts, f"d2p1:{counted}", {"xmlns:d2p1": COUNTS}).text = str(number)
        elif value is not None:
            SubElement(description, f"{name[0].upper()}{name[1:]}").text = _text(value)
    return description


def _numbers(told: Told) -> dict[str, object]:
    entity, counts, dead = told.entity, told.counts, told.dead
    numbers: dict[str, object] = {
        "createdAt": iso_utc(entity.created_ms),
        "updatedAt": iso_utc(entity.updated_ms),
        "accessedAt": iso_utc(entity.updated_ms),
        "countDetails": {
            "ActiveMessageCount": counts.active + counts.deferred,
            "DeadLetterMessageCount": dead.all,
            "ScheduledMessageCount": counts.scheduled,
            "TransferDeadLetterMessageCount": 0,
            "TransferMessageCount": 0,
        },
        "entityAvailabilityStatus": "Available",
    }
    if entity.kind is not EntityKind.SUBSCRIPTION:
        numbers["sizeInBytes"] = counts.size + dead.size
    if entity.kind is EntityKind.TOPIC:
        numbers["subscriptionCount"] = told.below
    else:
        numbers["messageCount"] = counts.all + dead.all
    return numbers


def _rule(rule: Rule) -> Element:
    description = Element("RuleDescription", _OWN)
    kind = rule.kind.value
    given = SubElement(description, "Filter", {"i:type": kind})
    if rule.kind is FilterKind.CORRELATION:
        _put_wanted(given, rule.wanted)
    else:
        SubElement(given, "SqlExpression").text = "1=1" if rule.kind is FilterKind.TRUE else "1=0"
        SubElement(given, "CompatibilityLevel").text = "20"
    SubElement(description, "Action", {"i:type": "EmptyRuleAction"})
    SubElement(description, "CreatedAt").text = iso_utc(rule.created_ms)
    SubElement(description, "Name").text = rule.name
    return description


def _put_wanted(given: Element, wanted: Facts) -> None:
    for member, field in _MEMBERS:
        value = getattr(wanted, field)
        if value is not None:
            SubElement(given, member).text = value
    properties = SubElement(given, "Properties")
    for name, value in wanted.properties.items():
        pair = SubElement(properties, "KeyValueOfstringanyType")
        SubElement(pair, "Key").text = name
        kind = _schema_type(value)
        attributes = {"i:type": f"d6p1:{kind}", "xmlns:d6p1": SCHEMA}
        SubElement(pair, "Value", attributes).text = _text(value)


def _schema_type(value: FilterValue) -> str:
    match value:
        case bool():
            return "boolean"
        case int():
            return "int" if abs(value) < 1 << 31 else "long"
        case float():
            return "double"
    return "string"


def _entry(host: str, path: str, title: str, description: Element) -> Element:
    entry = Element("entry", {"xmlns": ATOM})
    SubElement(entry, "id").text = f"https://{host}/{path}"
    SubElement(entry, "title", {"type": "text"}).text = title
    SubElement(entry, "link", {"rel": "self", "href": f"https://{host}/{path}"})
    SubElement(entry, "content", {"type": "application/xml"}).append(description)
    return entry


def _feed(host: str, title: str, entries: Iterable[Element], more: str) -> bytes:
    feed = Element("feed", {"xmlns": ATOM})
    SubElement(feed, "title", {"type": "text"}).text = title
    SubElement(feed, "id").text = f"https://{host}/{title}"
    SubElement(feed, "link", {"rel": "self", "href": f"https://{host}/{title}"})
    if more:
        SubElement(feed, "link", {"rel": "next", "href": f"https://{host}/{more}"})
    feed.extend(entries)
    return _bytes(feed)


def _bytes(root: Element) -> bytes:
    data: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return data


def _type(element: Element) -> str:
    """The local part of an element's XML Schema type."""
    return element.attrib.get(f"{{{INSTANCE}}}type", "").rpartition(":")[2]


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _malformed(what: str) -> HubError:
    return HubError(
        Code.GENERIC_BAD_REQUEST,
        "The body is not an Atom entry with a description.",
        Refusal(Hop.CONTRACT, "contract.atom", what[:200], "Send what the administration client sends."),
    )
