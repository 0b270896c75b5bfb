"""`explain` and audit: views of the journal, by tracking id, device, address, hub or time."""

from collections.abc import Mapping

import msgspec

from isthmus.access.journal import Decision, Noted, tracking_key
from isthmus.base.clock import iso_utc, parse_iso_ms
from isthmus.base.errors import Code, HubError
from isthmus.base.state import JournalFilter

TOP_DEFAULT = 20
TOP_MAX = 1_000
"""Decisions in one answer."""

SECRET_WORDS = ("key", "secret", "password", "token", "signature", "connectionstring")
"""A member whose name ends in one of these (without case) is not written into the journal."""

CHANGE_CHARACTERS_MAX = 4_096
"""Each side of a change; a longer one is told by its length."""

HIDDEN = "(secret)"


def filter_of(query: Mapping[str, str]) -> JournalFilter:
    """The decisions that a query asks for; an empty or absent parameter matches all.

    Parameters: `trackingId`, `deviceId`, `address`, `hub`, `verdict`, `who` (the principal), `since` and `until` (ISO
    8601; the second is the first moment that is too late), `top`. Raises HubError ArgumentInvalid.
    """
    top = query.get("top") or str(TOP_DEFAULT)
    if not (top.isascii() and top.isdigit() and len(top) < 10 and 1 <= int(top) <= TOP_MAX):
        raise HubError(Code.ARGUMENT_INVALID, f"top must be a number from 1 to {TOP_MAX}")
    return JournalFilter(
        hub=query.get("hub", ""),
        device=query.get("deviceId", ""),
        address=query.get("address", ""),
        tracking_id=tracking_key(query.get("trackingId", "")),
        verdict=query.get("verdict", ""),
        principal=query.get("who", ""),
        since_ms=_moment(query, "since"),
        until_ms=_moment(query, "until"),
        limit=int(top),
    )


def recorded(noted: Noted) -> dict[str, object]:
    """A decision as `explained`, with its number in the journal."""
    return {"sequence": noted.sequence, **explained(noted.decision)}


def explained(decision: Decision) -> dict[str, object]:
    """A decision as JSON members, all of them; an empty one does not apply."""
    return {
        "time": iso_utc(decision.utc_ms),
        "verdict": decision.verdict.value,
        "hub": decision.hub,
        "plane": decision.plane,
        "door": decision.door,
        "address": decision.address,
        "device": decision.device,
        "principal": decision.principal,
        "code": decision.code,
        "hop": decision.hop,
        "rule": decision.rule,
        "value": decision.value,
        "remedy": decision.remedy,
        "trackingId": decision.tracking_id,
        "detail": decision.detail,
        "asked": decision.asked,
        "before": msgspec.json.decode(decision.before) if decision.before else None,
        "after": msgspec.json.decode(decision.after) if decision.after else None,
        "count": decision.count,
        "key": decision.key,
    }


def _moment(query: Mapping[str, str], name: str) -> int:
    text = query.get(name, "")
    moment = parse_iso_ms(text) if text else 0
    if moment is None:
        raise HubError(Code.ARGUMENT_INVALID, f"{name} must be an ISO 8601 date and time")
    return moment


def change_texts(before: object, after: object) -> tuple[str, str]:
    """What a change made of a JSON value, as two JSON texts of only the members that differ, without secrets.

    None stands for what was not there; the texts are empty then. A secret that changed is told as `(secret)`.
    """
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        before, after = _differing(before, after)
    return _text(before), _text(after)


def _differing(before: Mapping[str, object], after: Mapping[str, object]) -> tuple[object, object]:
    old: dict[str, object] = {}
    new: dict[str, object] = {}
    for name in [*before, *(name for name in after if name not in before)]:
        have, want = before.get(name), after.get(name)
        if have == want:
            continue
        if isinstance(have, Mapping) and isinstance(want, Mapping):
            have, want = _differing(have, want)
        old[name], new[name] = have, want
    return old, new


def _text(value: object) -> str:
    if value is None:
        return ""
    text = msgspec.json.encode(_without_secrets(value)).decode()
    return text if len(text) <= CHANGE_CHARACTERS_MAX else f'"({len(text)} characters)"'


def _without_secrets(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _hidden(name, each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_secrets(each) for each in value]
    return value


def _hidden(name: str, value: object) -> object:
    if isinstance(value, str) and str(name).lower().endswith(SECRET_WORDS):
        return HIDDEN
    return _without_secrets(value)
