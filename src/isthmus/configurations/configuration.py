"""A configuration: its record, what may be written, and its form on the wire (IoT Hub REST reference, "Configuration").

What a configuration writes never changes: its content is given when it is created. Target condition, priority, metrics
and labels may change under the etag.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from isthmus.base.clock import iso_utc
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.etags import identity_etag
from isthmus.base.ids import HubId
from isthmus.base.state import Key
from isthmus.configurations.content import ContentKind, parse_content
from isthmus.configurations.target import check_metric, parse_target, system_queries
from isthmus.devices.differences import same_json
from isthmus.devices.joined_view import View
from isthmus.devices.twin import JsonObject

CONFIGURATIONS_MAX = 100
"""Configurations of a hub, of all kinds ("IoT Hub quotas and throttling", standard sizes)."""

METRICS_MAX = 5
"""Queries of a configuration's own metrics ("IoT Hub quotas and throttling")."""

PRIORITY_MAX = 2**31 - 1
"""Clients hold a priority in 32 bits."""

CONFIG_ID = re.compile(r"[a-z0-9\-:+%_#*?!(),=@;']{1,128}")
"""What the REST reference allows in an id."""

KIND = "configuration"


class Configuration(msgspec.Struct, frozen=True, rename="camel"):
    """The record of a configuration; times are milliseconds since the epoch.

    `number` counts the changes of a hub's configurations and is this one's from its creation: no other has it.
    """

    id: str
    number: int
    content: JsonObject
    created_ms: int
    updated_ms: int
    schema_version: str | None = None
    labels: dict[str, str] | None = None
    target_condition: str = ""
    priority: int = 0
    metrics: dict[str, str] = {}
    etag_number: int = 1

    @property
    def etag(self) -> str:
        return identity_etag(self.etag_number)

    @property
    def kind(self) -> ContentKind:
        return ContentKind(next(iter(self.content)))

    @property
    def system_queries(self) -> dict[str, str]:
        """The queries of its system metrics."""
        return system_queries(self.id, self.target_condition, self.kind)


class Rule:
    """A configuration made ready to be judged by; the higher the rank, the more it has to say.

    Raises `HubError` for a record that its own rules do not allow.
    """

    def __init__(self, configuration: Configuration) -> None:
        self.config_id = configuration.id
        self.owner = f"{configuration.id}@{configuration.number}"
        self.rank = (configuration.priority, configuration.created_ms, configuration.number)
        self.content = parse_content(configuration.content)
        self.target = parse_target(configuration.target_condition, self.content.kind)
        self.looks_at_reported = "reported" in configuration.target_condition.lower()

    def targets(self, view: View) -> bool:
        """True for the joined view of a device or module, whichever this is about, that it is for."""
        return self.target is not None and self.target.holds(view)


class _Metrics(msgspec.Struct, frozen=True, rename="camel"):
    queries: dict[str, str] | None = None


class _Body(msgspec.Struct, frozen=True, rename="camel"):
    """The members that a client may set; others are ignored."""

    id: str | None = None
    schema_version: str | None = None
    content: JsonObject | None = None
    labels: dict[str, str] | None = None
    target_condition: str | None = None
    priority: int | None = None
    metrics: _Metrics | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """What a client wrote, checked as far as it can be without what is there."""

    config_id: str
    content: JsonObject | None
    labels: dict[str, str] | None
    target_condition: str
    priority: int
    metrics: dict[str, str]
    schema_version: str | None


encode_configuration = msgspec.json.Encoder().encode
decode_configuration = msgspec.json.Decoder(Configuration).decode
"""The stored form."""


def configuration_key(hub: HubId, config_id: str) -> Key:
    """Where the record of a configuration is."""
    return Key(KIND, hub, config_id)


def parse_configuration(config_id: str, body: object) -> Given:
    """What a PUT of a configuration says; raises `ARGUMENT_INVALID` and the codes of what is wrong in it."""
    if CONFIG_ID.fullmatch(config_id) is None:
        raise _invalid("The id must be 1 to 128 lower-case letters, digits and - : + % _ # * ? ! ( ) , = @ ; '")
    try:
        parsed = msgspec.convert(body, _Body)
    except msgspec.ValidationError as error:
        raise _invalid(f"The configuration is not valid: {error}") from error
    if parsed.id not in (None, config_id):
        raise _invalid("id differs from the id in the path")
    priority = parsed.priority or 0
    if not 0 <= priority <= PRIORITY_MAX:
        raise _invalid(f"priority must be between 0 and {PRIORITY_MAX}")
    if parsed.content is not None:
        parse_content(parsed.content)
    metrics = (parsed.metrics.queries or {}) if parsed.metrics is not None else {}
    _check_metrics(metrics)
    return Given(
        config_id,
        parsed.content,
        parsed.labels,
        parsed.target_condition or "",
        priority,
        metrics,
        parsed.schema_version,
    )


def new_configuration(given: Given, number: int, utc_ms: int) -> Configuration:
    """The configuration that is created; raises `INVALID_CONFIGURATION_CONTENT`, `INVALID_TARGET_CONDITION`."""
    kind = parse_content(given.content).kind
    parse_target(given.target_condition, kind)
    return Configuration(
        id=given.config_id,
        number=number,
        content=_given_kind(given.content or {}, kind),
        created_ms=utc_ms,
        updated_ms=utc_ms,
        schema_version=given.schema_version,
        labels=given.labels,
        target_condition=given.target_condition,
        priority=given.priority,
        metrics=given.metrics,
    )


def changed_configuration(current: Configuration, given: Given, utc_ms: int) -> Configuration:
    """`current` as the client wants it; raises `IMMUTABLE_CONTENT`, `INVALID_TARGET_CONDITION`."""
    kind = current.kind
    if given.content is not None and not same_json(
        _given_kind(given.content, parse_content(given.content).kind), current.content
    ):
        raise HubError(Code.IMMUTABLE_CONTENT, "The content of a configuration cannot be changed")
    parse_target(given.target_condition, kind)
    return msgspec.structs.replace(
        current,
        updated_ms=utc_ms,
        schema_version=given.schema_version or current.schema_version,
        labels=given.labels,
        target_condition=given.target_condition,
        priority=given.priority,
        metrics=given.metrics,
        etag_number=current.etag_number + 1,
    )


def configuration_to_wire(
    configuration: Configuration, system: Mapping[str, int] | None = None, own: Mapping[str, int] | None = None
) -> JsonObject:
    """A configuration as services read it; results are those that were counted."""
    return {
        "id": configuration.id,
        "schemaVersion": configuration.schema_version,
        "labels": configuration.labels,
        "content": configuration.content,
        "targetCondition": configuration.target_condition,
        "createdTimeUtc": iso_utc(configuration.created_ms),
        "lastUpdatedTimeUtc": iso_utc(configuration.updated_ms),
        "priority": configuration.priority,
        "systemMetrics": {"results": dict(system or {}), "queries": configuration.system_queries},
        "metrics": {"results": dict(own or {}), "queries": configuration.metrics},
        "etag": configuration.etag,
    }


def _given_kind(content: JsonObject, kind: ContentKind) -> JsonObject:
    """The content without members that are null or nothing the hub knows."""
    return {str(kind): content[kind]}


def _check_metrics(metrics: Mapping[str, str]) -> None:
    if len(metrics) > METRICS_MAX:
        remedy = "ask some of them by a query of your own"
        refusal = Refusal(Hop.LIMIT, "limit.configuration-metrics", f"{len(metrics)} queries", remedy)
        raise HubError(Code.INVALID_METRICS_QUERY, f"A configuration has at most {METRICS_MAX} metric queries", refusal)
    for query in metrics.values():
        check_metric(query)


def _invalid(message: str) -> HubError:
    return HubError(Code.ARGUMENT_INVALID, message)
