"""What a configuration writes: twin paths with values, for devices, for modules, or for the modules of edge devices.

A path is `properties.desired` and members below it, joined by dots; its value is any JSON, and null removes what is
there (IoT Hub documentation, "Automatic device and module management"; IoT Edge documentation, "Deployment manifest").
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.ids import valid_id
from isthmus.base.limits import MODULES_PER_DEVICE_MAX
from isthmus.devices.identity import SYSTEM_MODULES
from isthmus.devices.twin import (
    NAME_IN_ERROR_MAX,
    PROPERTIES_SIZE_MAX,
    JsonObject,
    check_size,
    client_section,
)

DESIRED = "properties.desired"
"""Begins every path."""

EDGE_AGENT = "$edgeAgent"
"""The system module whose desired properties say which modules an edge device runs."""

TwinPath = tuple[str, ...]
"""Members below the desired properties; empty for all of them."""

Settings = Mapping[TwinPath, object]
"""What is written where in one twin."""


class ContentKind(StrEnum):
    """Whose twins a configuration writes, in the words of its content."""

    DEVICE = "deviceContent"
    MODULES = "modulesContent"
    MODULE = "moduleContent"


@dataclass(frozen=True, slots=True)
class Content:
    """The one kind of content that was given; `modules` by module id for an edge deployment, else `settings`."""

    kind: ContentKind
    settings: Settings
    modules: Mapping[str, Settings]

    @property
    def edge_modules(self) -> tuple[str, ...]:
        """The modules that an edge device needs for this: those that are configured, and those it is told to run."""
        agent = self.modules.get(EDGE_AGENT, {})
        return tuple(sorted({*self.modules, *running_modules(agent)}))


def parse_content(value: object) -> Content:
    """The content of a configuration; raises `INVALID_CONFIGURATION_CONTENT`."""
    given = _object(value, "content")
    kinds = [kind for kind in ContentKind if given.get(kind) is not None]
    if len(kinds) != 1:
        raise _invalid("content must have exactly one of deviceContent, modulesContent and moduleContent")
    kind, found = kinds[0], _object(given[kinds[0]], kinds[0])
    if kind is not ContentKind.MODULES:
        return Content(kind, _settings(found, kind), {})
    modules = {name: _settings(_object(each, name), name) for name, each in found.items()}
    content = Content(kind, {}, modules)
    _check_modules(content.edge_modules)
    return content


def running_modules(agent: Settings) -> Iterable[str]:
    """The modules that settings of the edge agent tell it to run."""
    for path, value in agent.items():
        if path[:1] == ("modules",) and len(path) > 1:
            yield path[1]
        elif path == ("modules",) and isinstance(value, Mapping):
            yield from value
        elif path == () and isinstance(value, Mapping) and isinstance(modules := value.get("modules"), Mapping):
            yield from modules


def joined(path: TwinPath) -> str:
    """A path as configurations write it."""
    return ".".join((DESIRED, *path))


def _settings(given: Mapping[str, object], name: str) -> dict[TwinPath, object]:
    return {(path := _path(key, name)): _value(path, value) for key, value in given.items()}


def _path(key: str, name: str) -> TwinPath:
    members = tuple(key.split("."))
    if ".".join(members[:2]) != DESIRED or not all(members):
        raise _invalid(f"{name} has a path that does not begin with {DESIRED}, or has an empty member")
    return members[2:]


def _value(path: TwinPath, value: object) -> object:
    """The value, which keeps a twin's rules where it will stand, without the members that are the hub's."""
    tree: object = value
    for member in reversed(path):
        tree = {member: tree}
    try:
        section = client_section({} if tree is None else tree, DESIRED)
        check_size(section, PROPERTIES_SIZE_MAX, DESIRED)
    except HubError as error:
        raise _invalid(error.message) from error
    return value if path or value is None else section


def _check_modules(names: Sequence[str]) -> None:
    wrong = [name for name in names if name not in SYSTEM_MODULES and not valid_id(name)]
    if wrong:
        raise _invalid(f"{wrong[0][:NAME_IN_ERROR_MAX]} is not a module id")
    count = len(set(names).difference(SYSTEM_MODULES))
    if count > MODULES_PER_DEVICE_MAX:
        remedy = "make several deployments for different devices, or fewer modules"
        refusal = Refusal(Hop.LIMIT, "limit.configuration-modules", f"{count} modules", remedy)
        raise _invalid(f"A deployment has at most {MODULES_PER_DEVICE_MAX} modules", refusal)


def _object(value: object, name: str) -> JsonObject:
    if not isinstance(value, dict):
        raise _invalid(f"{name[:NAME_IN_ERROR_MAX]} must be a JSON object")
    return value


def _invalid(message: str, refusal: Refusal | None = None) -> HubError:
    return HubError(Code.INVALID_CONFIGURATION_CONTENT, message, refusal)
