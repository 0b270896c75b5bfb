"""What a list of policies in a body asks for: which stay, which are new, whose keys are changed."""

from typing import Any

import pytest

from isthmus.access.principal import Right, SharedAccessPolicy
from isthmus.base.errors import Code, HubError
from isthmus.resources.shared_access_policies import (
    POLICIES_MAX,
    SERVICE_POLICIES_MAX,
    completed_policies,
    told_difference,
    with_policies,
)

ONE, TWO, NEW = (f"{letter}{'A' * 42}=" for letter in "ABC")
READER = SharedAccessPolicy("reader", frozenset({Right.REGISTRY_READ}), ONE, TWO)
OTHER = SharedAccessPolicy("other", frozenset({Right.SERVICE_CONNECT}), TWO, ONE)
PRESENT = (READER, OTHER)
PATH = "properties.authorizationPolicies"


def asked(*wanted: dict[str, Any]) -> tuple[SharedAccessPolicy, ...]:
    return with_policies(PRESENT, list(wanted), PATH)


def test_a_policy_that_is_left_out_ends_and_one_without_keys_keeps_them() -> None:
    assert asked({"keyName": "READER", "primaryKey": None, "secondaryKey": ""}) == (READER,)
    assert asked() == ()


def test_one_key_is_rolled_and_the_other_stays() -> None:
    (rolled,) = asked({"keyName": "reader", "primaryKey": NEW})
    assert (rolled.keys, rolled.rights) == ((NEW, TWO), READER.rights)


def test_a_new_policy_gets_the_keys_that_it_was_not_given() -> None:
    (made,) = asked({"keyName": "made", "rights": "serviceconnect,DeviceConnect", "secondaryKey": NEW})
    assert made == SharedAccessPolicy("made", frozenset({Right.SERVICE_CONNECT, Right.DEVICE_CONNECT}), "", NEW)
    assert completed_policies((READER, made), lambda: ONE)[1].keys == (ONE, NEW)
    assert completed_policies(PRESENT, lambda: ONE) is PRESENT


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        ({"rights": "ServiceConnect"}, "keyName"),
        ({"keyName": "a b", "rights": "ServiceConnect"}, "keyName"),
        ({"keyName": "x" * 65, "rights": "ServiceConnect"}, "keyName"),
        ({"keyName": "made"}, "rights"),
        ({"keyName": "made", "rights": ""}, "rights"),
        ({"keyName": "made", "rights": "Send"}, "rights"),
        ({"keyName": "reader", "primaryKey": "short"}, "primaryKey"),
        ({"keyName": "reader", "secondaryKey": "QUFBQQ=="}, "secondaryKey"),
        ({"keyName": "reader", "surprise": 1}, "surprise"),
    ],
)
def test_what_is_no_policy_is_refused_by_its_member(wanted: dict[str, Any], named: str) -> None:
    with pytest.raises(HubError, match=named) as refused:
        asked(wanted)
    assert refused.value.code is Code.ARGUMENT_INVALID


def test_a_name_is_there_once_whatever_its_case() -> None:
    with pytest.raises(HubError, match="two policies"):
        asked({"keyName": "reader"}, {"keyName": "Reader"})


def test_there_are_at_most_sixteen_and_ten_with_service_connect() -> None:
    many = [{"keyName": f"p{number}", "rights": "RegistryRead"} for number in range(POLICIES_MAX + 1)]
    assert len(asked(*many[:-1])) == POLICIES_MAX
    with pytest.raises(HubError, match="at most 16") as refused:
        asked(*many)
    assert refused.value.code is Code.QUOTA_EXCEEDED
    serving = [{**each, "rights": "ServiceConnect"} for each in many[: SERVICE_POLICIES_MAX + 1]]
    assert len(asked(*serving[:-1])) == SERVICE_POLICIES_MAX
    with pytest.raises(HubError, match="At most 10"):
        asked(*serving)


def test_the_journal_is_told_what_changed_and_no_key() -> None:
    swapped = with_policies(PRESENT, [{"keyName": "reader", "primaryKey": TWO, "secondaryKey": ONE}], PATH)
    assert told_difference(PRESENT, swapped) == "policy other deleted, keys of policy reader swapped"
    rolled = asked({"keyName": "reader", "primaryKey": NEW, "rights": "DeviceConnect"}, {"keyName": "other"})
    assert told_difference(PRESENT, rolled) == "primary key and rights of policy reader changed"
    assert told_difference((), PRESENT) == "policy reader created, policy other created"
    assert told_difference(PRESENT, PRESENT) == ""
