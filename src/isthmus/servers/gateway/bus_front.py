"""The HTTPS face of Service Bus namespaces: queues, topics, subscriptions and rules, as administration clients do it.

Paths and answers are those of the Service Bus REST reference, "Manage entities": `/{queue or topic}`,
`/{topic}/subscriptions/{s}`, `/{topic}/subscriptions/{s}/rules/{r}`, and collections with `$skip` and `$top`. Every
call needs the right Manage, or a role that allows everything in the namespace. Messages go by AMQP only.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from urllib.parse import parse_qs, unquote
from xml.etree.ElementTree import Element

from aiohttp import web

from isthmus.access.access_tokens import is_bearer
from isthmus.access.authenticate import require_permission
from isthmus.access.explain import change_texts
from isthmus.access.journal import Decision, Verdict
from isthmus.access.principal import Right
from isthmus.base.clock import Clock
from isthmus.base.errors import Code, HubError
from isthmus.base.numbers import whole_number
from isthmus.neighbours.bus import Bus, address_of
from isthmus.neighbours.bus_arm import apply_members, members_of
from isthmus.neighbours.bus_entities import BusEntities
from isthmus.neighbours.bus_entity import Entity, EntityKind, put_rule, remove_rule, require_rule
from isthmus.neighbours.neighbour import Neighbour
from isthmus.queues import Counts
from isthmus.resources.guarded import Guarded
from isthmus.servers.gateway import bus_atom
from isthmus.servers.gateway.bus_nodes import BusNodes, part_of
from isthmus.servers.gateway.gate import Admitted, Gate
from isthmus.servers.gateway.http_app import HttpPeer, JournaledOnce, raw_path, raw_query
from isthmus.servers.gateway.http_body import check_request_size, read_body
from isthmus.servers.gateway.namespace_refusals import IP_PREVENTED_LONG, link_refused, token_refused
from isthmus.servers.gateway.plane import Plane

PAGE_MAX = 100
"""Entities or rules of one page (Service Bus REST reference, `$top`)."""

UNWORDED = "Unauthorized"
VERBS: Mapping[str, str] = MappingProxyType({"GET": "read", "PUT": "write", "DELETE": "delete"})
SIGNED_QUERY = "%3fapi-version"
ATOM_TYPE = "application/atom+xml;type=entry;charset=utf-8"
FEED_TYPE = "application/atom+xml;type=feed;charset=utf-8"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered."""

    status: int
    body: bytes = b""
    content_type: str = ATOM_TYPE


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was let in."""

    method: str
    segments: tuple[str, ...]
    skip: int
    top: int
    replaces: bool
    body: bytes
    namespace: Neighbour
    admitted: Admitted
    connection: HttpPeer

    @property
    def host(self) -> str:
        """The namespace's host name."""
        return self.namespace.host_name


class BusFront:
    """Implements `NeighbourFront` for Service Bus namespaces."""

    def __init__(self, gate: Gate, nodes: BusNodes, clock: Clock) -> None:
        self._gate = gate
        self._nodes = nodes
        self._bus: Bus = nodes.bus
        self._entities: BusEntities = nodes.entities
        self._clock = clock
        self._arrivals = JournaledOnce(gate, clock)

    async def handle(self, request: web.BaseRequest, connection: HttpPeer, neighbour: Guarded) -> web.StreamResponse:
        """Answers a request; never raises but for cancellation, which follows when the peer has gone."""
        principal = ""
        try:
            path = _path(request)
            await self._prepare(request)
            admitted = self._admit(request, connection, neighbour, path)
            principal = admitted.principal.label
            self._arrivals.note(connection, admitted)
            body = await read_body(request, check_request_size)
            asked = _asked(request, path, body, admitted, connection)
            self._require(asked)
            answer = await self._answered(asked)
        except HubError as error:
            answer = self._refused(connection, neighbour, error, principal)
        except Exception:
            logger.exception("a request to a Service Bus namespace failed", extra={"namespace": neighbour.name})
            detail = "The server was unable to process the request; please retry the operation."
            answer = Answer(500, bus_atom.error_document(500, detail), "application/xml")
        return web.Response(status=answer.status, body=answer.body, headers={"Content-Type": answer.content_type})

    async def _prepare(self, request: web.BaseRequest) -> None:
        """Has at hand what a bearer token of an issuer elsewhere is judged by."""
        token = request.headers.get("Authorization", "")
        if is_bearer(token):
            await self._gate.prepare(token)

    def _admit(
        self, request: web.BaseRequest, connection: HttpPeer, neighbour: Guarded, path: Sequence[str]
    ) -> Admitted:
        token = request.headers.get("Authorization", "")
        audience = f"https://{neighbour.host_name}/{'/'.join(path)}"
        policies = self._nodes.policies(neighbour, audience)
        if SIGNED_QUERY in token.lower():
            # One client signs the whole address, where others sign the path or the namespace.
            audience += f"?{raw_query(request)}"
        return self._gate.namespace(connection, neighbour, token, audience, policies)

    def _require(self, asked: Asked) -> None:
        found = self._entities.find(asked.namespace.number, asked.segments[0]) if asked.segments else None
        principal = asked.admitted.principal
        if found is not None:
            principal = replace(principal, resource_id=f"{principal.resource_id}{part_of(found)}")
        try:
            require_permission(principal, Right.MANAGE, _action(asked))
        except HubError as error:
            resource = f"sb://{asked.host}/{'/'.join(asked.segments)}"
            raise link_refused(error, Right.MANAGE, resource) from error

    def _refused(self, connection: HttpPeer, neighbour: Guarded, error: HubError, principal: str) -> Answer:
        tracking_id = self._gate.refused(connection, Plane.HTTPS, neighbour.name, "", error, principal=principal)
        rule = error.refusal.rule if error.refusal is not None else ""
        said = token_refused(error).message if error.message == UNWORDED else error.message
        if rule.startswith("network."):
            said = IP_PREVENTED_LONG
        status = error.code.http_status
        return Answer(
            status,
            bus_atom.error_document(status, f"{said} TrackingId:{tracking_id}"),
            "application/xml; charset=utf-8",
        )

    async def _answered(self, asked: Asked) -> Answer:
        lowered = [segment.lower() for segment in asked.segments]
        match lowered:
            case ["$namespaceinfo"]:
                namespace = asked.namespace
                return Answer(200, bus_atom.namespace_entry(asked.host, namespace.name, namespace.created_ms))
            case ["$resources", "queues"]:
                return await self._list(asked, EntityKind.QUEUE, "")
            case ["$resources", "topics"]:
                return await self._list(asked, EntityKind.TOPIC, "")
            case [*_, "subscriptions"]:
                return await self._list(asked, EntityKind.SUBSCRIPTION, "/".join(asked.segments[:-1]))
            case [*_, "subscriptions", _, "rules"]:
                return self._list_rules(asked, self._subscription(asked, asked.segments[:-1]))
            case [*_, "subscriptions", _, "rules", _]:
                return await self._rule(asked, self._subscription(asked, asked.segments[:-2]), asked.segments[-1])
            case [*_, "subscriptions", _]:
                return await self._entity(asked, "/".join(asked.segments[:-2]), asked.segments[-1])
        return await self._entity(asked, "", "/".join(asked.segments))

    async def _list(self, asked: Asked, kind: EntityKind, topic: str) -> Answer:
        if topic:
            topic = self._entities.require(asked.namespace.number, EntityKind.TOPIC, topic).name
        found = self._entities.of(asked.namespace.number, kind, topic)
        page = [await self._told(each) for each in found[asked.skip : asked.skip + asked.top]]
        title = "/".join(asked.segments)
        return Answer(200, bus_atom.entity_feed(asked.host, title, page, _next(asked, len(found))), FEED_TYPE)

    def _list_rules(self, asked: Asked, subscription: Entity) -> Answer:
        page = subscription.rules[asked.skip : asked.skip + asked.top]
        more = _next(asked, len(subscription.rules))
        return Answer(200, bus_atom.rule_feed(asked.host, subscription, page, more), FEED_TYPE)

    async def _entity(self, asked: Asked, topic: str, name: str) -> Answer:
        path = f"{topic}/Subscriptions/{name}" if topic else name
        present = self._entities.find(asked.namespace.number, path)
        if asked.method == "PUT":
            description = bus_atom.description_of(asked.body)
            if present is None or not asked.replaces:
                return await self._create(asked, description, topic, name)
            members = bus_atom.entity_members(description)
            return await self._change(asked, present, lambda now: apply_members(now, members))
        if present is None:
            raise HubError(Code.NOT_FOUND, f"Entity '{path[:256]}' was not found.")
        if asked.method == "DELETE":
            await self._entities.delete(present)
            self._done(asked, f"{present.kind} {present.path} deleted", members_of(present), None)
            return Answer(200)
        _require_method(asked, "GET")
        return Answer(200, bus_atom.entity_entry(asked.host, await self._told(present)))

    async def _create(self, asked: Asked, description: Element, topic: str, name: str) -> Answer:
        if asked.replaces:
            raise HubError(Code.NOT_FOUND, f"Entity '{name[:256]}' was not found.")
        kind = _kind_of(description, topic)
        members = bus_atom.entity_members(description)
        first = bus_atom.default_rule_of(description, self._clock.utc_ms()) if topic else None

        def completed(draft: Entity) -> Entity:
            made = apply_members(draft, members)
            return made if first is None else put_rule(replace(made, rules=()), first)

        made = await self._entities.create(asked.namespace.number, kind, name, completed, topic=topic)
        self._done(asked, f"{made.kind} {made.path} created", None, members_of(made))
        return Answer(201, bus_atom.entity_entry(asked.host, await self._told(made)))

    async def _change(self, asked: Asked, present: Entity, rule: Callable[[Entity], Entity]) -> Answer:
        changed = await self._entities.change(present, rule)
        self._done(asked, f"{changed.kind} {changed.path} updated", members_of(present), members_of(changed))
        return Answer(200, bus_atom.entity_entry(asked.host, await self._told(changed)))

    async def _rule(self, asked: Asked, subscription: Entity, name: str) -> Answer:
        if asked.method == "PUT":
            rule = bus_atom.rule_of_entry(name, bus_atom.description_of(asked.body), self._clock.utc_ms())
            known = subscription.rule(name)
            if known is not None and not asked.replaces:
                raise HubError(Code.CONFLICT, f"The rule '{name[:64]}' already exists.")
            if asked.replaces:
                require_rule(subscription, name)
            changed = await self._entities.change(subscription, lambda now: put_rule(now, rule))
            made = require_rule(changed, name)
            self._done(asked, f"rule {made.name} of {changed.path} set", None, None)
            return Answer(200 if known else 201, bus_atom.rule_entry(asked.host, changed, made))
        found = require_rule(subscription, name)
        if asked.method == "DELETE":
            await self._entities.change(subscription, lambda now: remove_rule(now, name))
            self._done(asked, f"rule {found.name} of {subscription.path} deleted", None, None)
            return Answer(200)
        _require_method(asked, "GET")
        return Answer(200, bus_atom.rule_entry(asked.host, subscription, found))

    def _subscription(self, asked: Asked, segments: Sequence[str]) -> Entity:
        topic = "/".join(segments[:-2])
        return self._entities.require(asked.namespace.number, EntityKind.SUBSCRIPTION, segments[-1], topic)

    async def _told(self, entity: Entity) -> bus_atom.Told:
        counts = await self._bus.counts(address_of(entity))
        dead = await self._bus.counts(address_of(entity).dead_letters) if entity.can_be_read else Counts()
        below = len(self._entities.of(entity.namespace, EntityKind.SUBSCRIPTION, entity.name))
        return bus_atom.Told(entity, counts, dead, below)

    def _done(self, asked: Asked, detail: str, before: object, after: object) -> None:
        was, now = change_texts(before, after)
        principal = asked.admitted.principal.label
        change = Decision(Verdict.CHANGED, hub=asked.namespace.name, principal=principal, detail=detail)
        self._gate.done(asked.connection, Plane.HTTPS, replace(change, before=was, after=now))


def _action(asked: Asked) -> str:
    """What a role must allow: the operation of Microsoft.ServiceBus that the request is."""
    lowered = [segment.lower() for segment in asked.segments]
    kind = "queues"
    if "rules" in lowered:
        kind = "topics/subscriptions/rules"
    elif "subscriptions" in lowered:
        kind = "topics/subscriptions"
    elif lowered[-1:] == ["topics"]:
        kind = "topics"
    return f"Microsoft.ServiceBus/namespaces/{kind}/{VERBS.get(asked.method, 'write')}"


def _path(request: web.BaseRequest) -> tuple[str, ...]:
    """The segments of a request's path, decoded."""
    return tuple(unquote(segment) for segment in raw_path(request).split("/") if segment)


def _asked(
    request: web.BaseRequest, path: tuple[str, ...], body: bytes, admitted: Admitted, connection: HttpPeer
) -> Asked:
    namespace = admitted.resource
    assert isinstance(namespace, Neighbour), "a front of neighbours is asked for neighbours"
    query = parse_qs(raw_query(request))
    top = _number(query, "$top", PAGE_MAX)
    return Asked(
        method=request.method,
        segments=path,
        skip=_number(query, "$skip", 0),
        top=max(1, min(top, PAGE_MAX)),
        replaces=request.headers.get("If-Match") == "*",
        body=body,
        namespace=namespace,
        admitted=admitted,
        connection=connection,
    )


def _number(query: dict[str, list[str]], name: str, default: int) -> int:
    number = whole_number(query.get(name, [str(default)])[0])
    if number is None:
        raise HubError(Code.GENERIC_BAD_REQUEST, f"{name} is a number")
    return number


def _next(asked: Asked, count: int) -> str:
    """The address of the next page; empty when there is none."""
    start = asked.skip + asked.top
    if start >= count:
        return ""
    return f"{'/'.join(asked.segments)}?$skip={start}&$top={asked.top}"


def _kind_of(description: Element, topic: str) -> EntityKind:
    name = description.tag.rpartition("}")[2]
    for kind, described in bus_atom.DESCRIPTIONS.items():
        if name == described and (kind is EntityKind.SUBSCRIPTION) == bool(topic):
            return kind
    raise HubError(Code.GENERIC_BAD_REQUEST, f"The body describes a {name[:64]}, which cannot be there")


def _require_method(asked: Asked, method: str) -> None:
    if asked.method != method:
        raise HubError(Code.METHOD_NOT_ALLOWED, f"{asked.method} is not offered here")
