"""Readers of JSON members that somebody sent: the value in its type, or HubError ArgumentInvalid naming the member."""

import json
from collections.abc import Collection, Mapping

from isthmus.base.errors import Code, HubError
from isthmus.resources.durations import format_duration, parse_duration

Json = Mapping[str, object]

TAGS_MAX = 50
"""Tags of a resource (ARM)."""


def bad(path: str, wanted: str) -> HubError:
    """The refusal of a member: what it should have been."""
    return HubError(Code.ARGUMENT_INVALID, f"{path} must be {wanted}")


def mapping(value: object, path: str) -> Json:
    """An object."""
    if not isinstance(value, Mapping):
        raise bad(path, "an object")
    return value


def items(value: object, path: str) -> list[object]:
    """An array; null counts as an empty one."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise bad(path, "an array")
    return value


def text(value: object, path: str) -> str:
    """A string; also the words of a number or of true and false, which command lines send as what they look like."""
    if isinstance(value, int | float):
        return json.dumps(value)
    if not isinstance(value, str):
        raise bad(path, "a string")
    return value


def boolean(value: object, path: str) -> bool:
    """True or false; also in words, as command lines write it."""
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise bad(path, "true or false")
    return value


def integer(value: object, path: str, *, least: int, most: int) -> int:
    """A whole number between bounds, also in decimal digits."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise bad(path, f"a number from {least} to {most}")
    return value


def duration_ms(value: object, path: str, *, least: int, most: int) -> int:
    """Milliseconds of an ISO 8601 duration between bounds."""
    parsed = parse_duration(value) if isinstance(value, str) else None
    if parsed is None or not least <= parsed <= most:
        raise bad(path, f"an ISO 8601 duration from {format_duration(least)} to {format_duration(most)}")
    return parsed


def choice(value: object, path: str, words: Collection[str]) -> str:
    """One of the words, compared without case, in the spelling of `words`."""
    if isinstance(value, str):
        for word in words:
            if word.lower() == value.lower():
                return word
    raise bad(path, f"one of {', '.join(words)}")


def known_members(value: Json, path: str, names: Collection[str]) -> None:
    """Raises for a member that is not in `names`."""
    unknown = [name for name in value if name not in names]
    if unknown:
        raise HubError(Code.ARGUMENT_INVALID, f"{path}.{unknown[0]} is not known; known: {', '.join(names)}")


def tags_of(value: object) -> dict[str, str]:
    """The tags of a resource; those that are null are left out, and null is none."""
    members = {} if value is None else mapping(value, "tags")
    tags = {name: text(each, f"tags.{name}") for name, each in members.items() if each is not None}
    if len(tags) > TAGS_MAX:
        raise bad("tags", f"at most {TAGS_MAX} tags")
    return tags
