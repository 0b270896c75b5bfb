"""The managed identities of a hub: its own, which lives and dies with it, and those that it was given.

A hub's own identity is asked for without a principal id, which `Hubs` gives when it commits the change; so is what an
attached identity is known by. Taking the own one away ends its principal for ever: asking again makes another.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from isthmus.base.errors import Code, HubError
from isthmus.base.places import TENANT
from isthmus.resources.members import Json, known_members, mapping, text

ATTACHED_MAX = 32
"""User-assigned identities of one hub."""

SYSTEM = "SystemAssigned"
USER = "UserAssigned"
BOTH = f"{SYSTEM}, {USER}"
NONE = "None"


@dataclass(frozen=True, slots=True)
class AttachedIdentity:
    """A user-assigned identity that a hub may use; `principal_id` and `client_id` never change."""

    resource_id: str
    principal_id: str = ""
    client_id: str = ""


@dataclass(frozen=True, slots=True)
class HubIdentity:
    """The identities of a hub; `principal_id` is that of its own, empty without one or before it is given."""

    system: bool = False
    principal_id: str = ""
    attached: tuple[AttachedIdentity, ...] = ()

    def find(self, resource_id: str) -> AttachedIdentity | None:
        """The attached identity of an ARM id, compared without case."""
        return next((each for each in self.attached if each.resource_id.lower() == resource_id.lower()), None)


NO_IDENTITY = HubIdentity()

FindIdentity = Callable[[str], AttachedIdentity]
"""The user-assigned identity of an ARM id; raises HubError."""


def no_such_identity(resource_id: str) -> AttachedIdentity:
    """A `FindIdentity` where there are none."""
    raise HubError(Code.ARGUMENT_INVALID, f"There is no user-assigned identity {resource_id}")


def identity_to_arm(identity: HubIdentity) -> dict[str, object]:
    """The `identity` member of a hub's body (`ArmIdentity`)."""
    shown: dict[str, object] = {"type": _kind(identity)}
    if identity.system:
        shown |= {"principalId": identity.principal_id, "tenantId": TENANT}
    if identity.attached:
        shown["userAssignedIdentities"] = {
            each.resource_id: {"principalId": each.principal_id, "clientId": each.client_id}
            for each in identity.attached
        }
    return shown


def with_identity(present: HubIdentity, value: object, path: str) -> HubIdentity:
    """The identities that a hub's body asks for; raises HubError ArgumentInvalid, QuotaExceeded.

    An attached identity whose value is null is detached; one that the type leaves out is, too.
    """
    members: Json = {} if value is None else mapping(value, path)
    known_members(members, path, ("type", "userAssignedIdentities", "principalId", "tenantId"))
    kinds = _kinds(members.get("type"), path)
    named = members.get("userAssignedIdentities")
    asked = {} if named is None else mapping(named, f"{path}.userAssignedIdentities")
    attached = _attached(present, asked) if USER in kinds else ()
    if (USER in kinds) is not bool(attached):
        raise HubError(Code.ARGUMENT_INVALID, f"{path}.type says UserAssigned when userAssignedIdentities names some")
    if len(attached) > ATTACHED_MAX:
        raise HubError(Code.QUOTA_EXCEEDED, f"A hub has at most {ATTACHED_MAX} user-assigned identities")
    own = SYSTEM in kinds
    return HubIdentity(own, present.principal_id if own else "", attached)


def completed(identity: HubIdentity, new_id: Callable[[], str], find: FindIdentity) -> HubIdentity:
    """The identities with what a change of them could not know; raises HubError for an attached one that is not."""
    attached = tuple(each if each.principal_id else find(each.resource_id) for each in identity.attached)
    own = identity.principal_id or (new_id() if identity.system else "")
    return replace(identity, principal_id=own, attached=attached)


def _kind(identity: HubIdentity) -> str:
    return {(True, True): BOTH, (True, False): SYSTEM, (False, True): USER, (False, False): NONE}[
        (identity.system, bool(identity.attached))
    ]


def _kinds(value: object, path: str) -> frozenset[str]:
    said = "" if value is None else text(value, f"{path}.type")
    wanted = {part.strip().lower() for part in said.split(",") if part.strip()} - {NONE.lower()}
    known = {word.lower(): word for word in (SYSTEM, USER)}
    if not wanted <= set(known):
        raise HubError(Code.ARGUMENT_INVALID, f"{path}.type must be one of {NONE}, {SYSTEM}, {USER}, or {BOTH}")
    return frozenset(known[word] for word in wanted)


def _attached(present: HubIdentity, asked: Mapping[str, object]) -> tuple[AttachedIdentity, ...]:
    kept = [name for name, value in asked.items() if value is not None]
    found = [present.find(name) or AttachedIdentity(name) for name in kept]
    return tuple(sorted(found, key=lambda each: each.resource_id.lower()))
