"""The role matrix: every action of management, who may do it; a difference is meant or it is a hole."""

import os
from pathlib import Path

from isthmus.access.roles import APPROVE, Role, allows
from isthmus.servers.management.permissions import LINKS, asked_by
from servers.management_world import ManagementWorld

GOLDEN = Path(__file__).parents[1] / "golden" / "roles.txt"
WRITE_VARIABLE = "ISTHMUS_WRITE_GOLDEN"

OWN = (
    *(("GET", ("hubs",)), ("GET", ("explain",)), ("GET", ("health",)), ("GET", ("audit",)), ("POST", ("audit",))),
    *(("GET", ("authority",)), ("POST", ("authority", "rotate"))),
    *(("GET", ("tokens",)), ("PUT", ("tokens", "x")), ("DELETE", ("tokens", "x"))),
    *(
        ("GET", ("connectors",)),
        ("PUT", ("connectors", "x")),
        ("POST", ("connectors", "x")),
        ("DELETE", ("connectors",)),
    ),
)
"""Calls outside ARM's paths."""


async def test_the_roles_allow_what_the_matrix_says() -> None:
    world = await ManagementWorld().start()
    linked = {
        link.action_on(kind.lower()).lower()
        for links in LINKS.values()
        for link in links
        for kind in (link.kind, *link.also)
    }
    own = {asked_by(*call).action for call in OWN}
    matrix = _matrix(sorted({*world.api.arm.actions, *linked, *own}))
    if os.environ.get(WRITE_VARIABLE):
        GOLDEN.write_text(matrix)

    assert matrix == GOLDEN.read_text(), f"is that meant? then write it anew with {WRITE_VARIABLE}=1"
    assert APPROVE.lower() in matrix


def _matrix(actions: list[str]) -> str:
    """A line an action, a column a role."""
    width = max(map(len, actions))
    columns = "  ".join(role.value for role in Role)
    rows = ("  ".join([action.ljust(width), *(_mark(role, action) for role in Role)]).rstrip() for action in actions)
    return "\n".join([f"{'action'.ljust(width)}  {columns}", *rows]) + "\n"


def _mark(role: Role, action: str) -> str:
    return ("yes" if allows(role, action) else "-").ljust(len(role.value))
