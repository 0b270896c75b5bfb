"""What a management call asks for: its action, the resource it is about, and the resources it ties to that one.

Pure. An ARM path is judged by the resource that it leads to here, not by the words it is written in: all resources live
in one group, whatever group and subscription a path names, so every id is brought to that form first. A POST, and a GET
of a collection or of a view of a resource, is about the resource above it. A call outside ARM's paths is about the
installation as a whole, save a check of a hub's paths or endpoints, and its action begins with `Isthmus/`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import msgspec

from isthmus.access.roles import APPROVE, CONNECTABLE, Segments, allows, covers, segments_of
from isthmus.base.errors import NOT_JSON, Code, Hop, HubError, Refusal
from isthmus.resources.hub import GROUP_PATH, hub_resource_id
from isthmus.resources.tokens import ManagementToken
from isthmus.servers.management.request import Call, Reply

VERBS: Mapping[str, str] = MappingProxyType({"GET": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete"})
"""The last word of an action by HTTP method; of a POST it is the last segment of its path, and `action`."""

ARM_ROOTS = frozenset({"subscriptions", "providers"})
GROUP = segments_of(GROUP_PATH)

EXTENSIONS = ("microsoft.authorization",)
"""Providers whose resources belong to any other resource, and stand below it in their paths."""

KEYS = "{}"
"""A step to the names of the members of an object, less those that are null."""

Steps = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """An action on a resource; `collection` is the path below a group of what is listed, empty when nothing is."""

    action: str
    resource: Segments
    collection: Segments = ()


@dataclass(frozen=True, slots=True)
class Link:
    """A resource that a body names, of one kind (`provider/type[/type]`), and the action that is needed on it.

    Where several kinds may be named, `also` has those besides, the action being one of the kind that is.
    """

    steps: Steps
    kind: str
    action: str
    also: tuple[str, ...] = ()

    def action_on(self, kind: str) -> str:
        """The action that is needed on a resource of a kind, in small letters."""
        other = next((each for each in self.also if each.lower() == kind), None)
        return self.action if other is None else other + self.action[len(self.kind) :]


_PEER = "Microsoft.Network/virtualNetworks/peer/action"
_JOIN = "Microsoft.Network/virtualNetworks/join/action"
_JOIN_SUBNET = "Microsoft.Network/virtualNetworks/subnets/join/action"
_JOIN_ZONE = "Microsoft.Network/privateDnsZones/join/action"
_NETWORK = "microsoft.network/virtualnetworks"

_IDENTITY = "microsoft.managedidentity/userassignedidentities"
_ASSIGN = "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"

LINKS: Mapping[str, tuple[Link, ...]] = MappingProxyType(
    {
        "microsoft.devices/iothubs/write": (Link(("identity", "userAssignedIdentities", KEYS), _IDENTITY, _ASSIGN),),
        "microsoft.network/privateendpoints/write": (
            Link(
                ("properties", "privateLinkServiceConnections", "*", "properties", "privateLinkServiceId"),
                CONNECTABLE[0].lower(),
                f"{CONNECTABLE[0]}/{APPROVE}",
                CONNECTABLE[1:],
            ),
            Link(("properties", "subnet", "id"), f"{_NETWORK}/subnets", _JOIN_SUBNET),
        ),
        "microsoft.network/privateendpoints/privatednszonegroups/write": (
            Link(
                ("properties", "privateDnsZoneConfigs", "*", "properties", "privateDnsZoneId"),
                "microsoft.network/privatednszones",
                _JOIN_ZONE,
            ),
        ),
        "microsoft.network/virtualnetworks/virtualnetworkpeerings/write": (
            Link(("properties", "remoteVirtualNetwork", "id"), _NETWORK, _PEER),
        ),
        "microsoft.network/localnetworkgateways/write": (
            Link(("properties", "virtualNetwork", "id"), _NETWORK, _JOIN),
        ),
        "microsoft.network/privatednszones/virtualnetworklinks/write": (
            Link(("properties", "virtualNetwork", "id"), _NETWORK, _JOIN),
        ),
    }
)
"""What a written resource is tied to: without the right there too, one scope would reach into another."""


def asked_by(method: str, path: Iterable[str]) -> Asked:
    """What a call with these decoded path segments asks for."""
    segments = tuple(segment.lower() for segment in path)
    if not segments or segments[0] not in ARM_ROOTS or "providers" not in segments:
        first = segments[0] if segments else ""
        if segments[:2] in (("check", "path"), ("check", "endpoint")) and len(segments) > 2:
            return Asked("isthmus/check/action", segments_of(hub_resource_id(segments[2])))
        return Asked(f"isthmus/{first}/{VERBS.get(method, 'action')}", ())
    place = provider_place(segments)
    below = segments[place + 1 :]
    kind = "/".join((*below[:1], *below[1::2]))
    if below[:1] == EXTENSIONS:
        return Asked(f"{kind}/{VERBS.get(method, 'action')}", _scope(segments[:place]))
    is_resource = bool(below) and len(below) % 2 == 1
    base = _base(segments)
    above = below if is_resource else below[:-1]
    resource = (*base, "providers", *above) if len(above) > 1 else base
    if method == "POST":
        return Asked(f"{kind}/action", resource)
    collection = () if is_resource or method != "GET" else below
    return Asked(f"{kind}/{VERBS.get(method, 'action')}", resource, collection)


def provider_place(lowered: Sequence[str]) -> int:
    """Where in a path the word `providers` stands that names the kind of resource; raises ValueError without one.

    It is the first, but of a role assignment, which belongs to what its path begins with (ARM, extension resources).
    """
    last = len(lowered) - 1 - tuple(reversed(lowered)).index("providers")
    return last if tuple(lowered[last + 1 : last + 2]) == EXTENSIONS else tuple(lowered).index("providers")


def check_allowed(token: ManagementToken, call: Call) -> Asked:
    """What the call asks for, when the token may do it; raises HubError AuthorizationFailed, LinkedAuthorizationFailed.

    A list may also be asked for by a token whose scope is one of the things that are listed: see `visible`.
    """
    asked = asked_by(call.method, call.path)
    scope = token.scope_segments
    if not allows(token.role, asked.action):
        raise _failed(token, asked, "auth.role")
    if not covers(scope, asked.resource) and not _lists(asked, scope) and not _is_open(asked):
        raise _failed(token, asked, "auth.token-scope")
    for link in LINKS.get(asked.action, ()):
        for name in _named(_decoded(call.body), link.steps):
            _check_link(token, link, name, asked.action)
    return asked


def visible(token: ManagementToken, asked: Asked, reply: Reply) -> Reply:
    """The reply without the things in a list that are outside the token's scope."""
    scope = token.scope_segments
    if covers(scope, asked.resource) or not isinstance(reply.value, dict | list):
        return reply
    if isinstance(reply.value, list):
        return Reply(reply.status, [each for each in reply.value if _is_visible(each, scope)])
    listed = reply.value.get("value")
    kept = [each for each in listed if _is_visible(each, scope)] if isinstance(listed, list) else []
    return Reply(reply.status, {"value": kept})


def visible_affected(token: ManagementToken, reply: Reply) -> Reply:
    """The reply of a dry run without the arrivals at hubs outside the token's scope; the numbers stay those of all."""
    if not isinstance(reply.value, dict) or not isinstance(listed := reply.value.get("affected"), list):
        return reply
    scope = token.scope_segments
    kept = [each for each in listed if covers(scope, segments_of(hub_resource_id(str(each.get("hub")))))]
    return Reply(reply.status, {**reply.value, "affected": kept})


def _scope(segments: Segments) -> Segments:
    """The scope that a path is, in the one group there is."""
    if "providers" in segments:
        return (*_base(segments), *segments[segments.index("providers") :])
    return _base((*segments, "providers")) if segments else ()


def _base(segments: Segments) -> Segments:
    """Where a path is: nowhere, in the subscription, or in the group; always ours."""
    if segments[0] == "providers":
        return ()
    return GROUP if "resourcegroups" in segments[: segments.index("providers")] else GROUP[:2]


def _lists(asked: Asked, scope: Segments) -> bool:
    """True when some of what is listed may lie in the scope, be it the group or a single one of the things."""
    path = (*GROUP, "providers", *asked.collection)
    return bool(asked.collection) and (covers(path, scope) or covers(scope, path))


def _is_open(asked: Asked) -> bool:
    """True for the list of hubs outside ARM's paths, of which each token sees its own."""
    return asked.action == "isthmus/hubs/read"


def _is_visible(item: object, scope: Segments) -> bool:
    if not isinstance(item, Mapping):
        return False
    where = item.get("id")
    return covers(scope, segments_of(where if isinstance(where, str) else hub_resource_id(str(item.get("name")))))


def _check_link(token: ManagementToken, link: Link, name: str, action: str) -> None:
    """Judges a named resource by its id, which must be of the one form that nothing can be hidden in."""
    segments = segments_of(name)
    below = segments[segments.index("providers") + 1 :] if "providers" in segments else ()
    kind = "/".join((*below[:1], *below[1::2]))
    known = kind == link.kind or kind in {each.lower() for each in link.also}
    plain = known and len(below) % 2 == 1 and len(segments) == 5 + len(below)
    resource, needed = (*GROUP, "providers", *below) if plain else (), link.action_on(kind)
    if allows(token.role, needed) and covers(token.scope_segments, resource):
        return
    message = (
        f"The client '{token.name}' has permission to perform action '{action}', but not '{needed}' on the linked "
        f"scope '{name}'."
    )
    remedy = f"isthmus token create with a role and scope that allow {needed}"
    refusal = Refusal(Hop.AUTHORIZATION, "auth.linked-scope", f"{token.label}: {needed} on {name}", remedy)
    raise HubError(Code.LINKED_AUTHORIZATION_FAILED, message, refusal)


def _failed(token: ManagementToken, asked: Asked, rule: str) -> HubError:
    scope = "/" + "/".join(asked.resource)
    message = (
        f"The client '{token.name}' does not have authorization to perform action '{asked.action}' over scope "
        f"'{scope}' or the scope is invalid."
    )
    held = f"{token.label} is {token.role.value} of {token.scope}; it asked for {asked.action} over {scope}"
    remedy = "isthmus token create with a role and scope that allow it"
    return HubError(Code.AUTHORIZATION_FAILED, message, Refusal(Hop.AUTHORIZATION, rule, held, remedy))


def _decoded(body: bytes) -> object:
    """The body as JSON; None for what is none, which the resource itself refuses."""
    try:
        return msgspec.json.decode(body or b"null")
    except NOT_JSON:
        return None


def _named(value: object, steps: Steps) -> list[str]:
    """The texts at a place in a JSON value; a star stands for every item of an array, `KEYS` for names of members."""
    if not steps:
        return [value] if isinstance(value, str) else []
    if steps[0] == KEYS:
        return [name for name, each in value.items() if each is not None] if isinstance(value, Mapping) else []
    if steps[0] == "*":
        return [each for item in value for each in _named(item, steps[1:])] if isinstance(value, list) else []
    return _named(value.get(steps[0]), steps[1:]) if isinstance(value, Mapping) else []
