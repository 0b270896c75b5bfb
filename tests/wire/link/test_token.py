"""The enrolment token's text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.wire.link.token import PREFIX, EnrolmentToken, TokenError, encode_token, parse_token

TOKEN = EnrolmentToken(
    secret="AbCdEfGhIjKlMnOpQrStUvWxYz012345",
    name="plant-a",
    network="plant",
    hubs=("hub.example.test:9443", "[fd00::1]:9443"),
    tls_name="hub.example.test",
    ca_sha256="0" * 64,
    expires=1_900_000_000,
)


def test_there_and_back() -> None:
    text = encode_token(TOKEN)

    assert text.startswith(PREFIX)
    assert parse_token(f"  {text}\n") == TOKEN


def test_it_survives_shells_and_files() -> None:
    assert set(encode_token(TOKEN)) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


def test_its_secret_is_in_no_text() -> None:
    assert TOKEN.secret not in repr(TOKEN)


@given(st.integers(0, 10_000), st.characters())
def test_a_changed_token_is_refused_or_still_a_token_and_never_repeated(position: int, character: str) -> None:
    text = encode_token(TOKEN)
    position %= len(text)
    changed = text[:position] + character + text[position + 1 :]
    said = objection(changed)
    assert text[len(PREFIX) :] not in said
    assert TOKEN.secret not in said


def objection(text: str) -> str:
    """All that anybody may come to read of the refusal; empty when the text is a token."""
    try:
        parse_token(text)
    except TokenError as error:
        return f"{error} {error.__cause__}"
    return ""


@pytest.mark.parametrize(
    "text",
    ["", "hello", PREFIX, encode_token(TOKEN)[:-5], PREFIX + "e30", PREFIX + "A" * 10_000, PREFIX + "W" * 8_001],
    ids=["nothing", "a word", "a prefix", "cut", "empty", "too long", "deep"],
)
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(TokenError):
        parse_token(text)
