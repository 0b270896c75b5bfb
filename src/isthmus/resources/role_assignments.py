"""The role assignments of an installation: kept, listed, and asked (`access.role_assignments` decides)."""

import re
from collections.abc import Awaitable, Callable

import msgspec

from isthmus.access.role_assignments import RoleAssignment, Verdict, judge
from isthmus.access.role_definitions import DATA_ROLES, DEFINITIONS_PATH, DataRole, find_role
from isthmus.access.roles import covers, segments_of
from isthmus.base.clock import Clock, iso_utc
from isthmus.base.errors import Code, HubError
from isthmus.base.places import SUBSCRIPTION
from isthmus.base.state import MUST_NOT_EXIST, NO_HUB, Conflict, Delete, Key, Put, State
from isthmus.completion import Completion
from isthmus.resources.members import Json, bad, choice, known_members, mapping, text
from isthmus.resources.scopes import checked_scope

ASSIGNMENTS_MAX = 4_000
"""Role assignments of an installation ("Azure RBAC limits", of a subscription); each is held in memory."""

GUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
PRINCIPAL_TYPES = ("ServicePrincipal", "User", "Group", "ForeignGroup", "Device")
ASSIGNMENT_TYPE = "Microsoft.Authorization/roleAssignments"

RoleListener = Callable[[], Awaitable[None]]
"""Is told that a role was taken away, before that is answered."""


class RoleAssignments:
    """All role assignments; `load` first. Reading is synchronous; on the event loop only."""

    def __init__(self, state: State, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self._completion = Completion()
        self._listeners: list[RoleListener] = []
        self._by_name: dict[str, RoleAssignment] = {}
        self._by_principal: dict[str, dict[str, RoleAssignment]] = {}

    async def load(self) -> None:
        """Reads all assignments; listeners are not told."""
        for stored in await self._state.scan("role", NO_HUB, limit=ASSIGNMENTS_MAX):
            self._publish(msgspec.json.decode(stored.body, type=RoleAssignment))

    def on_loss(self, listener: RoleListener) -> None:
        """Awaits `listener()` after each deletion, before it is answered."""
        self._listeners.append(listener)

    def all(self) -> tuple[RoleAssignment, ...]:
        """All assignments, the oldest first."""
        return tuple(sorted(self._by_name.values(), key=lambda each: (each.created_ms, each.name)))

    def at(self, scope: str) -> tuple[RoleAssignment, ...]:
        """The assignments that hold at a scope: there, or above."""
        asked = segments_of(scope)
        return tuple(each for each in self.all() if covers(segments_of(each.scope), asked))

    def below(self, scope: str) -> tuple[RoleAssignment, ...]:
        """The assignments at a scope or anywhere below it."""
        asked = segments_of(scope)
        return tuple(each for each in self.all() if covers(asked, segments_of(each.scope)))

    def require(self, name: str) -> RoleAssignment:
        """The assignment of that GUID; raises HubError GenericNotFound."""
        found = self._by_name.get(name.lower())
        if found is None:
            raise HubError(Code.NOT_FOUND, f"There is no role assignment {name}")
        return found

    def of(self, principal_id: str) -> tuple[RoleAssignment, ...]:
        """The assignments of a principal."""
        return tuple(self._by_principal.get(principal_id.lower(), {}).values())

    def judge(self, principal_id: str, data_action: str, scope: str) -> Verdict:
        """May the principal do the data action at the scope? See `access.role_assignments.judge`."""
        return judge(self.of(principal_id), principal_id, data_action, scope)

    async def create(
        self, name: str, scope: str, body: Json, *, who: str, knows: Callable[[str], bool]
    ) -> tuple[RoleAssignment, bool]:
        """Assigns a role; True when it is new, False for what was so already.

        `knows` says whether a principal is one of this installation: without a `principalType`, another is taken for a
        slip. Raises HubError ArgumentInvalid, RoleAssignmentExists, PrincipalNotFound, QuotaExceeded.
        """
        wanted = _parsed(name, scope, body, now_ms=self._clock.utc_ms(), who=who)
        if not mapping(body.get("properties"), "properties").get("principalType") and not knows(wanted.principal_id):
            message = f"Principal {wanted.principal_id} does not exist here; one of elsewhere needs a principalType"
            raise HubError(Code.PRINCIPAL_NOT_FOUND, message)
        return await self._completion.run(self._create(wanted))

    async def delete(self, name: str) -> RoleAssignment:
        """Takes a role away; returns what it was, when nobody works by it any more. Raises GenericNotFound."""
        return await self._completion.run(self._delete(self.require(name)))

    async def _create(self, wanted: RoleAssignment) -> tuple[RoleAssignment, bool]:
        same = next((each for each in self.of(wanted.principal_id) if _says_the_same(each, wanted)), None)
        if same is not None and same.name == wanted.name:
            return same, False
        if same is not None or wanted.name in self._by_name:
            raise HubError(Code.ROLE_ASSIGNMENT_EXISTS, "The role assignment already exists.")
        if len(self._by_name) >= ASSIGNMENTS_MAX:
            raise HubError(Code.QUOTA_EXCEEDED, f"{ASSIGNMENTS_MAX} role assignments are allowed")
        try:
            await self._state.commit([Put(_key(wanted.name), msgspec.json.encode(wanted), MUST_NOT_EXIST)])
        except Conflict as conflict:
            raise HubError(Code.ROLE_ASSIGNMENT_EXISTS, "The role assignment already exists.") from conflict
        self._publish(wanted)
        return wanted, True

    async def _delete(self, present: RoleAssignment) -> RoleAssignment:
        await self._state.commit([Delete(_key(present.name))])
        self._by_name.pop(present.name, None)
        self._by_principal.get(present.principal_id, {}).pop(present.name, None)
        for listener in self._listeners:
            await listener()
        return present

    def _publish(self, assignment: RoleAssignment) -> None:
        self._by_name[assignment.name] = assignment
        self._by_principal.setdefault(assignment.principal_id, {})[assignment.name] = assignment


def assignment_to_arm(assignment: RoleAssignment) -> dict[str, object]:
    """An assignment as clients read it (roleAssignments 2022-04-01)."""
    created = iso_utc(assignment.created_ms)
    scope = "" if assignment.scope == "/" else assignment.scope
    return {
        "id": f"{scope}/providers/{ASSIGNMENT_TYPE}/{assignment.name}",
        "name": assignment.name,
        "type": ASSIGNMENT_TYPE,
        "properties": {
            "scope": assignment.scope,
            "roleDefinitionId": definition_id(assignment.role),
            "principalId": assignment.principal_id,
            "principalType": assignment.principal_type,
            "description": assignment.description or None,
            "condition": None,
            "conditionVersion": None,
            "createdOn": created,
            "updatedOn": created,
            "createdBy": assignment.created_by,
            "updatedBy": assignment.created_by,
            "delegatedManagedIdentityResourceId": None,
        },
    }


def definition_id(role: DataRole) -> str:
    """The ARM id of a role's definition."""
    return f"/subscriptions/{SUBSCRIPTION}{DEFINITIONS_PATH}{role.guid}"


def definition_to_arm(role: DataRole) -> dict[str, object]:
    """A role's definition as clients read it (roleDefinitions 2022-04-01)."""
    permissions = {
        "actions": list(role.actions),
        "notActions": list(role.not_actions),
        "dataActions": list(role.data_actions),
        "notDataActions": list(role.not_data_actions),
    }
    return {
        "id": definition_id(role),
        "name": role.guid,
        "type": "Microsoft.Authorization/roleDefinitions",
        "properties": {
            "roleName": role.name,
            "type": "BuiltInRole",
            "description": "",
            "assignableScopes": ["/"],
            "permissions": [permissions],
        },
    }


def _parsed(name: str, scope: str, body: Json, *, now_ms: int, who: str) -> RoleAssignment:
    properties = mapping(body.get("properties"), "properties")
    known_members(properties, "properties", _MEMBERS)
    if properties.get("condition"):
        raise HubError(Code.NOT_IMPLEMENTED, "properties.condition is not offered: a role holds always")
    said = text(properties.get("roleDefinitionId"), "properties.roleDefinitionId")
    role = find_role(said)
    if role is None:
        known = ", ".join(each.name for each in DATA_ROLES)
        raise HubError(Code.ROLE_DEFINITION_NOT_FOUND, f"There is no role definition {said}; roles here: {known}")
    principal = text(properties.get("principalId"), "properties.principalId").lower()
    if not GUID.fullmatch(name.lower()) or not GUID.fullmatch(principal):
        raise bad("the assignment's name and properties.principalId", "a GUID")
    kind = choice(properties.get("principalType") or "ServicePrincipal", "properties.principalType", PRINCIPAL_TYPES)
    return RoleAssignment(
        name=name.lower(),
        principal_id=principal,
        role_guid=role.guid,
        scope=checked_scope(scope),
        principal_type=kind,
        description=text(properties.get("description") or "", "properties.description"),
        created_ms=now_ms,
        created_by=who,
    )


_MEMBERS = (
    *("roleDefinitionId", "principalId", "principalType", "description", "condition", "conditionVersion", "scope"),
    *("createdOn", "updatedOn", "createdBy", "updatedBy", "delegatedManagedIdentityResourceId"),
)


def _says_the_same(one: RoleAssignment, other: RoleAssignment) -> bool:
    scopes = segments_of(one.scope) == segments_of(other.scope)
    return scopes and (one.principal_id, one.role_guid) == (other.principal_id, other.role_guid)


def _key(name: str) -> Key:
    return Key("role", NO_HUB, name)
