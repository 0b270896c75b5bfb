"""What a merge patch has to say to make one JSON value of another."""

from isthmus.devices.twin import JsonObject


def difference(before: JsonObject, after: JsonObject) -> JsonObject:
    """The merge patch that makes `after` of `before` (RFC 7396)."""
    patch: JsonObject = dict.fromkeys(name for name in before if name not in after)
    for name, value in after.items():
        present = before.get(name)
        if isinstance(value, dict) and isinstance(present, dict):
            below = difference(present, value)
            patch |= {name: below} if below else {}
        elif name not in before or not same_json(present, value):
            patch[name] = value
    return patch


def same_json(one: object, other: object) -> bool:
    """True for equal JSON values; a boolean is not a number."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_json(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    return isinstance(one, bool) is isinstance(other, bool) and one == other
