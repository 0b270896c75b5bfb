"""Paths into JSON: `seg.seg[0].seg`, below `$body.` and `$twin.`."""

import re
from collections.abc import Mapping, Sequence

from isthmus.query.conditions.nodes import Undefined

Step = str | int
_SEGMENT = re.compile(r"([^.\[\]]+)((?:\[[0-9]{1,9}\])*)")
_TWIN_SECTIONS = (("tags",), ("properties", "desired"), ("properties", "reported"))


def parse_path(path: str) -> tuple[Step, ...]:
    """The steps of a path; raises ValueError with what is wrong: no slices, no empty indices, no quoted names."""
    steps: list[Step] = []
    for segment in path.split("."):
        found = _SEGMENT.fullmatch(segment)
        if found is None:
            raise ValueError(
                f"'{segment}' is no member's name with an index" if segment else "A member's name is missing"
            )
        steps.append(found[1])
        steps.extend(int(index) for index in re.findall(r"[0-9]+", found[2]))
    return tuple(steps)


def parse_twin_path(path: str) -> tuple[Step, ...]:
    """As `parse_path`, below `tags`, `properties.desired` or `properties.reported`, in any case."""
    steps = parse_path(path)
    for section in _TWIN_SECTIONS:
        if tuple(str(step).lower() for step in steps[: len(section)]) == section and len(steps) > len(section):
            return (*section, *steps[len(section) :])
    raise ValueError("A twin is asked for tags, properties.desired or properties.reported and a member of these")


def member(document: object, steps: Sequence[Step]) -> object:
    """What lies at a path, `MISSING` when nothing does."""
    for step in steps:
        if isinstance(step, int):
            if not isinstance(document, list) or step >= len(document):
                return Undefined.MISSING
            document = document[step]
        elif isinstance(document, Mapping) and step in document:
            document = document[step]
        else:
            return Undefined.MISSING
    return document


def member_in_any_case(document: object, steps: Sequence[Step]) -> object:
    """As `member`, where names of another case do when there is none of the same ("Routing on device twin")."""
    for step in steps:
        found = member(document, (step,))
        if found is Undefined.MISSING and isinstance(document, Mapping) and isinstance(step, str):
            wanted = step.lower()
            alike = (value for name, value in document.items() if name.lower() == wanted)
            found = next(alike, Undefined.MISSING)
        if found is Undefined.MISSING:
            return found
        document = found
    return document
