"""Views of the journal."""

import pytest

from devices.fakes import NOW_MS
from isthmus.access.explain import CHANGE_CHARACTERS_MAX, change_texts, explained, filter_of
from isthmus.access.journal import Decision, Verdict
from isthmus.base.errors import Code, HubError
from isthmus.base.state import JournalFilter


def test_a_query_becomes_a_filter() -> None:
    query = {"trackingId": "T", "deviceId": "d", "address": "a", "hub": "h", "verdict": "refused", "top": "7"}
    times = {"since": "2026-01-01T00:00:00.123Z", "until": "2026-01-01T00:00:00.125Z"}
    assert filter_of({**query, **times, "who": "w"}) == JournalFilter(
        "h", "d", "a", "T", "refused", "w", NOW_MS, NOW_MS + 2, limit=7
    )
    assert filter_of({"top": "", "since": ""}) == JournalFilter(limit=20)


@pytest.mark.parametrize("query", [{"top": "0"}, {"top": "1001"}, {"top": "x"}, {"top": "-1"}, {"since": "yesterday"}])
def test_a_bad_query_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(HubError) as caught:
        filter_of(query)
    assert caught.value.code is Code.ARGUMENT_INVALID


def test_an_explanation_names_hop_rule_value_and_remedy() -> None:
    decision = Decision(
        Verdict.REFUSED,
        utc_ms=NOW_MS,
        hop="network",
        rule="network.public-access",
        value="v",
        remedy="r",
        tracking_id="T",
    )
    told = explained(decision)
    assert told["time"] == "2026-01-01T00:00:00.1230000Z"
    assert [told[name] for name in ("hop", "rule", "value", "remedy", "trackingId", "verdict")] == [
        *("network", "network.public-access", "v", "r", "T", "refused")
    ]


def test_a_change_tells_only_what_differs_and_no_secret() -> None:
    before = {"a": 1, "same": [1], "properties": {"x": "Enabled", "y": 0}, "primaryKey": "old"}
    after = {"a": 2, "same": [1], "properties": {"x": "Disabled", "y": 0}, "primaryKey": "new", "added": None}
    texts = change_texts(before, after)
    assert texts == (
        '{"a":1,"properties":{"x":"Enabled"},"primaryKey":"(secret)"}',
        '{"a":2,"properties":{"x":"Disabled"},"primaryKey":"(secret)"}',
    )
    told = explained(Decision(Verdict.CHANGED, before=texts[0], after=texts[1]))
    assert told["after"] == {"a": 2, "properties": {"x": "Disabled"}, "primaryKey": "(secret)"}


def test_secrets_are_hidden_at_any_depth() -> None:
    made = {"policies": [{"keyName": "device", "secondaryKey": "s"}], "sharedAccessKey": "s", "connectionString": "s"}
    assert change_texts(None, made) == (
        "",
        '{"policies":[{"keyName":"device","secondaryKey":"(secret)"}],'
        '"sharedAccessKey":"(secret)","connectionString":"(secret)"}',
    )


def test_a_large_change_is_told_by_its_size() -> None:
    assert change_texts(None, "x" * CHANGE_CHARACTERS_MAX)[1] == f'"({CHANGE_CHARACTERS_MAX + 2} characters)"'
