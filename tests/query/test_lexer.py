"""Words of the query language."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from isthmus.base.errors import Code, HubError
from isthmus.query.lexer import QUERY_CHARACTERS_MAX, Kind, tokens


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("'it''s'", "it's"),
        (r"'it\'s'", "it's"),
        ('"say ""no"""', 'say "no"'),
        (r"'\u00e9\\'", "é\\"),
        (r"'\ud83d\ude00'", "😀"),
        ("'two\nlines'", "two\nlines"),
        ("''", ""),
        ("12", 12),
        ("1.5e3", 1500.0),
        (".5", 0.5),
        ("0xFf", 255),
        ("007", 7),
        ("9223372036854775807", 9223372036854775807),
        ("9223372036854775808", 9223372036854775808.0),
        ("$version", "$version"),
        ("a-b", "a-b"),
        ("[[my config]]", "my config"),
        ("<>", "<>"),
    ],
)
def test_one_word(text: str, value: object) -> None:
    word, end = tokens(text)
    assert (word.value, type(word.value)) == (value, type(value))
    assert end.kind is Kind.END


def test_space_and_comments_separate() -> None:
    found = [(token.value, token.position) for token in tokens("a/* b\n */c\t d")]
    assert found == [("a", 0), ("c", 9), ("d", 12), ("", 13)]


def test_a_minus_before_a_digit_is_no_part_of_the_name() -> None:
    assert [token.value for token in tokens("a-1")][:-1] == ["a", "-", 1]


WRONG = ("'open", "a ; b", "a /* b", "/* " * 9, "#", r"'\ud800'", "9" * 65, "x" * (QUERY_CHARACTERS_MAX + 1))


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_word_is_refused(text: str) -> None:
    with pytest.raises(HubError) as caught:
        list(tokens(text))
    assert caught.value.code is Code.ARGUMENT_INVALID
    assert ";" not in caught.value.message


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=60))
@example("1" + "e" + "9" * 10)
def test_any_text_gives_words_or_is_refused(text: str) -> None:
    try:
        found = list(tokens(text))
    except HubError:
        return
    assert found[-1].kind is Kind.END
