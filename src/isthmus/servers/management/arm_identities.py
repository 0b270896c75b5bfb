"""User-assigned identities, role assignments and role definitions in ARM's paths.

Types Microsoft.ManagedIdentity/userAssignedIdentities 2023-01-31 and Microsoft.Authorization 2022-04-01. A role
assignment's path begins with its scope, which may be any resource. Secrets of identities are this product's own.
"""

import re
from dataclasses import replace

from isthmus.access.explain import change_texts
from isthmus.access.journal import Journal
from isthmus.access.role_assignments import RoleAssignment
from isthmus.access.role_definitions import DATA_ROLES, find_role
from isthmus.base.errors import Code, HubError
from isthmus.resources.hubs import Hubs
from isthmus.resources.role_assignments import RoleAssignments, assignment_to_arm, definition_to_arm
from isthmus.resources.user_identities import UserIdentities, secret_to_json, user_identity_to_arm
from isthmus.servers.management.arm import CREATED, NO_CONTENT, Routes, change_of
from isthmus.servers.management.permissions import provider_place
from isthmus.servers.management.request import Call, Reply

_PRINCIPAL = re.compile(r"(?:principalId\s+eq\s+|assignedTo\(\s*)'([^']*)'\s*\)?", re.IGNORECASE)
_ROLE_NAME = re.compile(r"roleName\s+eq\s+'((?:[^']|'')*)'", re.IGNORECASE)
_AT_SCOPE = re.compile(r"atScope\(\)", re.IGNORECASE)
_AND = re.compile(r"(?<!\s)\s+and\s+", re.IGNORECASE)


class ArmIdentities:
    """Answers ARM calls about identities and roles; used on the event loop only."""

    def __init__(self, hubs: Hubs, identities: UserIdentities, roles: RoleAssignments, journal: Journal) -> None:
        self._hubs = hubs
        self._identities = identities
        self._roles = roles
        self._journal = journal
        identity = "microsoft.managedidentity/userassignedidentities"
        assignment, definition = (f"microsoft.authorization/role{word}" for word in ("assignments", "definitions"))
        self.routes: Routes = {
            ("GET", identity): self._list_identities,
            ("GET", f"{identity}/*"): self._show_identity,
            ("PUT", f"{identity}/*"): self._put_identity,
            ("PATCH", f"{identity}/*"): self._put_identity,
            ("DELETE", f"{identity}/*"): self._delete_identity,
            ("GET", f"{identity}/*/secrets"): self._list_secrets,
            ("PUT", f"{identity}/*/secrets/*"): self._add_secret,
            ("DELETE", f"{identity}/*/secrets/*"): self._delete_secret,
            ("GET", assignment): self._list_assignments,
            ("GET", f"{assignment}/*"): self._show_assignment,
            ("PUT", f"{assignment}/*"): self._put_assignment,
            ("DELETE", f"{assignment}/*"): self._delete_assignment,
            ("GET", definition): self._list_definitions,
            ("GET", f"{definition}/*"): self._show_definition,
        }
        """Handlers by method and path pattern; see `arm.Routes`."""

    async def _list_identities(self, call: Call, names: tuple[str, ...]) -> Reply:
        return Reply(value={"value": [user_identity_to_arm(each) for each in self._identities.all()]})

    async def _show_identity(self, call: Call, names: tuple[str, ...]) -> Reply:
        return Reply(value=user_identity_to_arm(self._identities.require(names[0])))

    async def _put_identity(self, call: Call, names: tuple[str, ...]) -> Reply:
        present = self._identities.get(names[0])
        if present is None and call.method == "PATCH":
            self._identities.require(names[0])
        identity, is_new = await self._identities.put(names[0], call.json())
        before, after = user_identity_to_arm(present) if present else None, user_identity_to_arm(identity)
        self._changed(call, "", f"identity {identity.name} {'created' if is_new else 'updated'}", before, after)
        return Reply(CREATED if is_new else 200, after)

    async def _delete_identity(self, call: Call, names: tuple[str, ...]) -> Reply:
        present = self._identities.get(names[0])
        if present is None:
            return Reply(NO_CONTENT)
        using = [hub.name for hub in self._hubs.all() if hub.identity.find(present.resource_id)]
        if using:
            message = f"{present.name} is given to the hub {using[0]}; isthmus iot hub identity remove takes it back"
            raise HubError(Code.INVALID_OPERATION, message)
        await self._identities.delete(present.name)
        self._changed(call, "", f"identity {present.name} deleted", user_identity_to_arm(present), None)
        return Reply()

    async def _list_secrets(self, call: Call, names: tuple[str, ...]) -> Reply:
        return Reply(value={"value": [secret_to_json(each) for each in self._identities.require(names[0]).secrets]})

    async def _add_secret(self, call: Call, names: tuple[str, ...]) -> Reply:
        secret, shown = await self._identities.add_secret(names[0], names[1], call.json())
        told = secret_to_json(secret)
        self._changed(call, "", f"secret of identity {names[0]} created", None, told)
        return Reply(CREATED, {**told, "secretText": shown})

    async def _delete_secret(self, call: Call, names: tuple[str, ...]) -> Reply:
        gone = secret_to_json(await self._identities.delete_secret(*names))
        self._changed(call, "", f"secret {names[1]} of identity {names[0]} deleted", gone, None)
        return Reply(NO_CONTENT)

    async def _list_assignments(self, call: Call, names: tuple[str, ...]) -> Reply:
        scope, wanted = _scope_of(call), _filter_of(call)
        found = {each.name: each for each in self._roles.at(scope)}
        if not wanted.at_scope:
            found |= {each.name: each for each in self._roles.below(scope)}
        kept = [each for each in found.values() if wanted.principal in ("", each.principal_id)]
        return Reply(value={"value": [assignment_to_arm(each) for each in kept]})

    async def _show_assignment(self, call: Call, names: tuple[str, ...]) -> Reply:
        return Reply(value=assignment_to_arm(self._required(call, names[0])))

    async def _put_assignment(self, call: Call, names: tuple[str, ...]) -> Reply:
        scope = _scope_of(call)
        made, is_new = await self._roles.create(names[0], scope, call.json(), who=call.who, knows=self._knows)
        told = assignment_to_arm(made)
        if is_new:
            detail = f"role {made.role.name} assigned to {made.principal_id} at {made.scope}"
            self._changed(call, self._hub_of(made), detail, None, told)
        return Reply(CREATED if is_new else 200, told)

    async def _delete_assignment(self, call: Call, names: tuple[str, ...]) -> Reply:
        present = next((each for each in self._roles.at(_scope_of(call)) if each.name == names[0].lower()), None)
        if present is None:
            return Reply(NO_CONTENT)
        gone = await self._roles.delete(present.name)
        told = assignment_to_arm(gone)
        detail = f"role {gone.role.name} taken from {gone.principal_id} at {gone.scope}"
        self._changed(call, self._hub_of(gone), detail, told, None)
        return Reply(value=told)

    async def _list_definitions(self, call: Call, names: tuple[str, ...]) -> Reply:
        said = call.query.get("$filter", "")
        named = _ROLE_NAME.fullmatch(said.strip())
        name = named.group(1).replace("''", "'").lower() if named is not None else ""
        found = [each for each in DATA_ROLES if not name or each.name.lower() == name]
        return Reply(value={"value": [definition_to_arm(each) for each in found]})

    async def _show_definition(self, call: Call, names: tuple[str, ...]) -> Reply:
        role = find_role(names[0])
        if role is None:
            raise HubError(Code.ROLE_DEFINITION_NOT_FOUND, f"There is no role definition {names[0]}")
        return Reply(value=definition_to_arm(role))

    def _required(self, call: Call, name: str) -> RoleAssignment:
        """The assignment of that GUID when it holds at the scope of the path, from which the call was permitted."""
        found = self._roles.require(name)
        if found not in self._roles.at(_scope_of(call)):
            raise HubError(Code.NOT_FOUND, f"There is no role assignment {name} at {_scope_of(call)}")
        return found

    def _knows(self, principal_id: str) -> bool:
        own = any(hub.identity.principal_id == principal_id for hub in self._hubs.all())
        return own or self._identities.by_principal_id(principal_id) is not None

    def _hub_of(self, assignment: RoleAssignment) -> str:
        hub = self._hubs.by_resource_id(assignment.scope)
        return hub.name if hub is not None else ""

    def _changed(self, call: Call, hub: str, detail: str, before: object, after: object) -> None:
        was, now = change_texts(before, after)
        self._journal.write(replace(change_of(call, hub, detail), before=was, after=now))


class _Filter:
    """What a list of assignments is narrowed to."""

    def __init__(self, said: str) -> None:
        """Raises HubError ArgumentInvalid for a filter that is not known."""
        self.at_scope = False
        self.principal = ""
        for term in _AND.split(said.strip()) if said.strip() else ():
            principal = _PRINCIPAL.fullmatch(term)
            if principal is not None:
                self.principal = principal.group(1).lower()
            elif _AT_SCOPE.fullmatch(term):
                self.at_scope = True
            else:
                known = "atScope(), principalId eq '…', assignedTo('…')"
                raise HubError(Code.ARGUMENT_INVALID, f"$filter knows {known}, and not {term!r}")


def _filter_of(call: Call) -> _Filter:
    return _Filter(call.query.get("$filter", ""))


def _scope_of(call: Call) -> str:
    return "/" + "/".join(call.path[: provider_place([segment.lower() for segment in call.path])])
