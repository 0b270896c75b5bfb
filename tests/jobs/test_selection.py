"""Which devices or modules a job is for."""

import pytest

from isthmus.base.errors import Code, HubError
from isthmus.base.filters import EVERYTHING, AnyOf, Comparison, Constant, Field, Order, equals
from isthmus.jobs.selection import CONDITION_CHARACTERS_MAX, Selection, parse_selection


@pytest.mark.parametrize(
    ("condition", "selection"),
    [
        ("*", Selection(False, EVERYTHING)),
        (" tags.hall = 2\n", Selection(False, equals(("tags", "hall"), 2))),
        ("FROM devices", Selection(False, EVERYTHING)),
        ("from\n devices.modules", Selection(True, EVERYTHING)),
        ("FROM devices.modules WHERE moduleId = 'm'", Selection(True, equals(("moduleId",), "m"))),
        (
            "tags.hall = 2 OR tags.t > 5",
            Selection(
                False,
                AnyOf(
                    (equals(("tags", "hall"), 2), Comparison(Order.GREATER, Field(("tags", "t")), Constant(5))),
                ),
            ),
        ),
    ],
)
def test_a_condition_is_the_end_of_a_query(condition: str, selection: Selection) -> None:
    assert parse_selection(condition) == selection


@pytest.mark.parametrize(
    "condition",
    [
        "",
        "FROM devices.jobs WHERE jobId = 'j'",
        "tags.x = 1 GROUP BY tags.x",
        "tags.x LIKE 1",
        "location = 'x'",
        "tags.x = 1".ljust(CONDITION_CHARACTERS_MAX + 1),
    ],
)
def test_other_conditions_are_refused(condition: str) -> None:
    with pytest.raises(HubError) as caught:
        parse_selection(condition)
    assert caught.value.code is Code.ARGUMENT_INVALID
