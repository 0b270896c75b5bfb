"""What a twin has to become for the configurations that match it: a pure rule, and the record of what was done.

Theory of operation. Each configuration that matches claims paths of the twin. A path goes to the claim of the highest
rank; one that lies below a path of a higher rank goes nowhere. What is left are sections, none inside another, each
with a value: that of its own path, and over it what higher ranks say of paths inside. A section that comes to new
owners is replaced whole. One that stays with its owners is only mended: members that its value names are set again
where somebody changed them, and everything beside them is left alone. What no owner wants any more is taken out member
by member, with the objects that become empty by that, and nothing else.

The record of this stands in the twin itself (`Twin.configured`), so that a twin and the present configurations are all
that is needed, at any time, in any order, and as often as one likes: a configuration may be gone long since.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from isthmus.configurations.content import DESIRED, Settings, TwinPath, joined
from isthmus.devices.differences import difference
from isthmus.devices.twin import JsonObject, Twin

APPLIED = "Applied"
TARGETED = "Targeted"
"""The statuses of a configuration at a twin: it has a path there, or only would like to."""

_ABSENT = None
"""The value of what has to be removed."""

_LEAF = 0
"""Stands in a shape for a value that is no object, or an empty one."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What one configuration wants of one twin; `owner` names the configuration and its creation."""

    config_id: str
    owner: str
    settings: Settings
    tells: bool = True
    """Whether the twin tells the configuration's status."""


class Section(msgspec.Struct, frozen=True):
    """What configurations have put at a path: whose it is, and the shape of it without the values."""

    owners: tuple[str, ...]
    shape: object

    def to_json(self) -> JsonObject:
        """As a twin holds it."""
        return {"owners": list(self.owners), "shape": self.shape}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a twin has to become; an empty `patch` leaves its desired properties alone."""

    patch: JsonObject
    configured: Mapping[str, Section]
    statuses: Mapping[str, str]

    def written(self, twin: Twin) -> Twin:
        """The twin that tells the statuses and holds the record; its desired properties are still to be patched."""
        return msgspec.structs.replace(
            twin,
            configurations={name: {"status": status} for name, status in self.statuses.items()} or msgspec.UNSET,
            configured={path: each.to_json() for path, each in self.configured.items()} or msgspec.UNSET,
        )

    def refused(self, twin: Twin, claims: Sequence[Claim]) -> "Plan":
        """What becomes of a twin that takes no such patch: all stays as it was, and the statuses say so."""
        before = recorded(twin)
        holders = {owner for section in before.values() for owner in section.owners}
        owners = {claim.config_id: claim.owner for claim in claims}
        statuses = {name: APPLIED if owners[name] in holders else TARGETED for name in self.statuses}
        return Plan({}, before, statuses)


def plan(twin: Twin, claims: Sequence[Claim], applied: Iterable[str] | None = None) -> Plan | None:
    """The way from a twin to what `claims`, the highest rank first, make of it; None when it is there.

    `applied` are the owners whose status is `Applied`, where paths of this twin alone do not say so.
    """
    if not claims and twin.configured is msgspec.UNSET and twin.configurations is msgspec.UNSET:
        return None
    sections = _sections(claims)
    before = recorded(twin)
    wanted = _desired(twin.properties.desired, before, sections)
    patch = difference(twin.properties.desired, wanted)
    holders = set(winners(claims)) if applied is None else set(applied)
    statuses = {each.config_id: APPLIED if each.owner in holders else TARGETED for each in claims if each.tells}
    configured = {joined(path): Section(each.owners, _shape(each.value)) for path, each in sections.items()}
    if not patch and configured == before and statuses == told(twin):
        return None
    return Plan(patch, configured, statuses)


def patch_for(twin: Twin, settings: Settings) -> JsonObject:
    """The patch of a twin's desired properties that writes settings once, for nobody to keep."""
    present = twin.properties.desired
    return difference(present, _desired(present, {}, _sections([Claim("", "", settings)])))


def winners(claims: Sequence[Claim]) -> list[str]:
    """The owners that get a path, and those that claim none: nothing of theirs is missing."""
    won = {claim.owner for claim in _won(claims).values()}
    return [claim.owner for claim in claims if claim.owner in won or not claim.settings]


def recorded(twin: Twin) -> dict[str, Section]:
    """What configurations have put into a twin, by its path."""
    return {} if twin.configured is msgspec.UNSET else msgspec.convert(twin.configured, dict[str, Section])


def told(twin: Twin) -> dict[str, str]:
    """The statuses that a twin tells now."""
    if twin.configurations is msgspec.UNSET:
        return {}
    return {name: each["status"] for name, each in twin.configurations.items()}


@dataclass(slots=True)
class _Claimed:
    """A section in the making."""

    value: object
    owners: tuple[str, ...]


def _won(claims: Sequence[Claim]) -> dict[TwinPath, Claim]:
    won: dict[TwinPath, Claim] = {}
    for claim in claims:
        for path in claim.settings:
            above = (won.get(path[:length]) for length in range(len(path) + 1))
            if all(higher is None or higher is claim for higher in above):
                won[path] = claim
    return won


def _sections(claims: Sequence[Claim]) -> dict[TwinPath, _Claimed]:
    """Sections by path; paths inside others come after them, for they are shorter."""
    sections: dict[TwinPath, _Claimed] = {}
    won = _won(claims)
    for path in sorted(won, key=lambda each: (len(each), each)):
        claim = won[path]
        value = _without_nulls(claim.settings[path])
        root = next((path[:length] for length in range(len(path)) if path[:length] in sections), None)
        if root is None:
            sections[path] = _Claimed(value, (claim.owner,))
            continue
        section = sections[root]
        section.value = _placed(section.value, path[len(root) :], value)
        section.owners = tuple(dict.fromkeys((*section.owners, claim.owner)))
    return sections


def _desired(present: JsonObject, before: Mapping[str, Section], sections: Mapping[TwinPath, _Claimed]) -> JsonObject:
    """The desired properties that are wanted."""
    kept = {joined(path) for path, each in sections.items() if _stays(before.get(joined(path)), each)}
    desired: object = present
    for name, section in before.items():
        if name not in kept:
            desired = _taken(desired, _members(name), section.shape)
    for path, each in sections.items():
        desired = _mended(desired, path, each.value) if joined(path) in kept else _placed(desired, path, each.value)
    return desired if isinstance(desired, dict) else {}


def _stays(section: Section | None, claimed: _Claimed) -> bool:
    return section is not None and section.owners == claimed.owners


def _members(name: str) -> TwinPath:
    return tuple(name.split(".")[len(DESIRED.split(".")) :])


def _placed(tree: object, path: TwinPath, value: object) -> object:
    """The tree with this value, and nothing else, at the path; objects on the way are made."""
    if not path:
        return value
    members = dict(tree) if isinstance(tree, dict) else {}
    first, *below = path
    if value is _ABSENT and first not in members:
        return tree
    placed = _placed(members.get(first), tuple(below), value)
    if placed is _ABSENT:
        members.pop(first, None)
    else:
        members[first] = placed
    return members


def _mended(tree: object, path: TwinPath, value: object) -> object:
    """The tree in which what the value names is as it says."""
    if path:
        present = tree.get(path[0]) if isinstance(tree, dict) else None
        return _placed(tree, path[:1], _mended(present, path[1:], value))
    if not isinstance(value, dict) or not isinstance(tree, dict):
        return value
    mended = dict(tree)
    for name, each in value.items():
        mended[name] = _mended(mended.get(name), (), each)
    return mended


def _taken(tree: object, path: TwinPath, shape: object) -> object:
    """The tree without what has this shape at the path, and without the objects that are empty then."""
    if not path and not isinstance(shape, dict):
        return _ABSENT
    if not isinstance(tree, dict):
        return tree
    left = dict(tree)
    for name, below in _below(path, shape):
        if name in left:
            inner = _taken(left[name], path[1:], below)
            if inner is _ABSENT:
                del left[name]
            else:
                left[name] = inner
    return left or _ABSENT


def _below(path: TwinPath, shape: object) -> Iterable[tuple[str, object]]:
    if path:
        return ((path[0], shape),)
    return shape.items() if isinstance(shape, dict) else ()


def _without_nulls(value: object) -> object:
    if not isinstance(value, dict):
        return value
    return {name: _without_nulls(each) for name, each in value.items() if each is not None}


def _shape(value: object) -> object:
    if value is _ABSENT:
        return {}
    if isinstance(value, dict):
        return {name: _shape(each) for name, each in value.items()}
    return _LEAF
