"""What the journal says when something cannot be written to its disk, and when it can again."""

from isthmus.access.journal import Decision, Verdict
from isthmus.base.errors import Code, Hop

REMEDY = "Make room on the disk of the data folder, or replace it; the hub goes on by itself as soon as it can write."


def written_again(plane: str, name: str) -> Decision:
    """The end of it; `plane` is how the journal calls what is written where a plane stands."""
    return Decision(Verdict.ALLOWED, plane=plane, door=plane, detail=f"{name} is written again")


def not_written(plane: str, failure: str, detail: str) -> Decision:
    """The beginning of it: why, and what becomes of what comes meanwhile."""
    return Decision(
        Verdict.REFUSED,
        plane=plane,
        door=plane,
        code=Code.SERVICE_UNAVAILABLE.wire_name,
        hop=Hop.LIMIT.value,
        rule="limit.disk",
        value=failure,
        remedy=REMEDY,
        detail=detail,
    )
