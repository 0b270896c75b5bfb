"""Who holds which role where, and the decision: may this principal do this data action at this scope?

Pure. A scope is the path of a resource or of a group of them; an assignment holds there and at everything below, by
whole segments, and nothing below takes it back ("Understand scope for Azure RBAC"). The decision is the disjunction of
all assignments: one that allows the action at a scope that covers the asked one is enough.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from isthmus.access.role_definitions import DATA_ROLE_OF, DataRole, roles_that_allow, roles_that_allow_action
from isthmus.access.roles import covers, segments_of
from isthmus.base.errors import Hop, Refusal


@dataclass(frozen=True, slots=True)
class RoleAssignment:
    """A principal's role at a scope; `name` and `role_guid` are GUIDs, `created_ms` is since the epoch."""

    name: str
    principal_id: str
    role_guid: str
    scope: str
    principal_type: str = "ServicePrincipal"
    description: str = ""
    created_ms: int = 0
    created_by: str = ""

    @property
    def role(self) -> DataRole:
        """The role that is held."""
        return DATA_ROLE_OF[self.role_guid]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a principal may, by which assignment, and which of his assignments miss only by their scope."""

    allowed_by: RoleAssignment | None
    elsewhere: tuple[RoleAssignment, ...] = ()
    held: tuple[RoleAssignment, ...] = ()

    @property
    def allowed(self) -> bool:
        """True when he may."""
        return self.allowed_by is not None


def judge(
    assignments: Iterable[RoleAssignment], principal_id: str, action: str, scope: str, *, is_data: bool = True
) -> Verdict:
    """May the principal do the action at the scope, given all (or all his) assignments?

    `is_data` when it is a data action; the Blob service asks for others, too, such as those about containers.
    """

    def allows(role: DataRole) -> bool:
        return role.allows(action) if is_data else role.allows_action(action)

    asked, own = segments_of(scope), [each for each in assignments if each.principal_id.lower() == principal_id.lower()]
    held = tuple(each for each in own if covers(segments_of(each.scope), asked))
    allowing = next((each for each in held if allows(each.role)), None)
    elsewhere = tuple(each for each in own if each not in held and allows(each.role))
    return Verdict(allowing, elsewhere, held)


def refusal_of(verdict: Verdict, principal: str, action: str, scope: str, *, is_data: bool = True) -> Refusal:
    """Why a verdict says no, and what would help; `principal` is the label of whom it was about."""
    sufficient = next(roles_that_allow(action) if is_data else roles_that_allow_action(action), None)
    role = f'"{sufficient.name}"' if sufficient is not None else "a role that allows it"
    remedy = f"isthmus role assignment create --assignee-object-id {principal.rpartition(':')[2]} --role {role}"
    remedy = f"{remedy} --scope {scope}"
    if verdict.elsewhere:
        near = verdict.elsewhere[0]
        value = f"{principal} has {near.role.name} at {near.scope}, which does not cover {scope}"
        return Refusal(Hop.AUTHORIZATION, "auth.role-scope", value, remedy)
    names = ", ".join(dict.fromkeys(each.role.name for each in verdict.held)) or "no role"
    return Refusal(Hop.AUTHORIZATION, "auth.role-missing", f"{principal} has {names} at {scope}: {action}", remedy)
