"""Enrichments: properties that messages get for some endpoints ("Message enrichments for device-to-cloud messages")."""

from collections import Counter
from dataclasses import dataclass, replace

from isthmus.base.errors import Code, HubError
from isthmus.resources.members import bad, items, known_members, mapping, text

ENRICHMENTS_MAX = 10
"""Enrichments of a hub ("IoT Hub quotas and throttling")."""

KEY_CHARS_MAX = 128
VALUE_CHARS_MAX = 1_024
"""Ten of them stay far below what an event may have."""

HUB_NAME = "$iothubname"
TWIN = "$twin."
"""Values that stand for something: the hub's name, and a place in the sender's twin."""

TWIN_PLACES = ("tags", "properties.desired", "properties.reported")


@dataclass(frozen=True, slots=True)
class Enrichment:
    """A property of messages for the endpoints it names; `value` is a text, `$iothubname`, or a place in the twin."""

    key: str
    value: str
    endpoint_names: tuple[str, ...]

    @property
    def twin_place(self) -> tuple[str, ...]:
        """The steps into the sender's twin; none where the value is no such place."""
        return tuple(self.value[len(TWIN) :].split(".")) if self.value.startswith(TWIN) else ()

    def without(self, endpoint: str) -> "Enrichment":
        """The same, not for that endpoint."""
        left = tuple(name for name in self.endpoint_names if name.lower() != endpoint.lower())
        return replace(self, endpoint_names=left)


def enrichment_to_arm(enrichment: Enrichment) -> dict[str, object]:
    """An enrichment as a client reads it."""
    return {
        "key": enrichment.key,
        "value": enrichment.value,
        "endpointNames": list(enrichment.endpoint_names),
    }


def checked_enrichments(value: object, path: str) -> tuple[Enrichment, ...]:
    """The enrichments of an ARM array; raises HubError ArgumentInvalid. Their endpoints are not looked for."""
    read = tuple(_checked(each, f"{path}[{place}]") for place, each in enumerate(items(value, path)))
    if len(read) > ENRICHMENTS_MAX:
        raise bad(path, f"at most {ENRICHMENTS_MAX} enrichments")
    stamped = [(each.key, name.lower()) for each in read for name in each.endpoint_names]
    twice = next((pair for pair, count in Counter(stamped).items() if count > 1), None)
    if twice is not None:
        message = f"{path} gives messages for the endpoint {twice[1]} the property {twice[0]} twice"
        raise HubError(Code.ARGUMENT_INVALID, message)
    return read


def _checked(value: object, path: str) -> Enrichment:
    members = mapping(value, path)
    known_members(members, path, ("key", "value", "endpointNames"))
    key = text(members.get("key"), f"{path}.key")
    if not (0 < len(key) <= KEY_CHARS_MAX and key.isascii() and key.isprintable() and key.strip() == key):
        raise bad(f"{path}.key", f"1 to {KEY_CHARS_MAX} letters, digits, dashes, dots and underscores")
    names = tuple(text(each, f"{path}.endpointNames") for each in items(members.get("endpointNames"), path))
    if not names:
        raise bad(f"{path}.endpointNames", "an array of endpoints' names")
    return Enrichment(key, _value(members.get("value"), f"{path}.value"), names)


def _value(value: object, path: str) -> str:
    given = text(value, path)
    if not 0 < len(given) <= VALUE_CHARS_MAX:
        raise bad(path, f"1 to {VALUE_CHARS_MAX} characters")
    if given.lower().startswith(TWIN):
        rest = given[len(TWIN) :]
        if not any(rest.startswith(f"{place}.") and all(rest.split(".")) for place in TWIN_PLACES):
            raise bad(path, f"a place below {', '.join(TWIN + place for place in TWIN_PLACES)}")
        return TWIN + rest
    return HUB_NAME if given.lower() == HUB_NAME else given
