"""Access tokens: the ring of keys through rotations, and what verification takes."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.access.access_tokens import (
    SKEW_SECONDS,
    TOKEN_BYTES_MAX,
    TOKEN_SECONDS,
    Issuer,
    KeyRing,
    SigningKey,
    bearer_of,
    is_bearer,
    new_private_key,
    public_keys,
    public_set,
    read_set,
    sign,
    verify,
)
from isthmus.base.errors import HubError

AUDIENCE = "https://iothubs.azure.net"
ISSUER = "https://hub.isthmus.test/t/v2.0"
NOW_S = 1_800_000_000


@cache
def pem() -> str:
    return new_private_key()


def key(name: str = "k", signs_from_s: int = 0) -> SigningKey:
    return SigningKey(name, pem(), 0, signs_from_s * 1000)


def token(**claims: object) -> str:
    usual = {"iss": ISSUER, "aud": AUDIENCE, "oid": "WHO", "exp": NOW_S + 60, "nbf": NOW_S}
    return sign({**usual, **claims}, key())


def judged(text: str) -> str:
    """The rule that refuses a token; empty when it is taken."""
    try:
        verify(text, [Issuer(ISSUER, lambda: public_keys([key()]))], [AUDIENCE], now_ms=NOW_S * 1000)
    except HubError as error:
        return error.refusal.rule if error.refusal is not None else "no rule"
    return ""


@pytest.mark.parametrize(
    ("claims", "rule"),
    [
        ({}, ""),
        ({"aud": f"{AUDIENCE}/"}, ""),
        ({"aud": ["x", AUDIENCE.upper()]}, ""),
        ({"aud": f"{AUDIENCE}.evil"}, "auth.bearer-audience"),
        ({"aud": None}, "auth.bearer-audience"),
        ({"iss": f"{ISSUER}/"}, "auth.bearer-issuer"),
        ({"exp": NOW_S - SKEW_SECONDS}, ""),
        ({"exp": NOW_S - SKEW_SECONDS - 1}, "auth.bearer-expired"),
        ({"exp": None}, "auth.bearer-malformed"),
        ({"nbf": NOW_S + SKEW_SECONDS + 1}, "auth.bearer-early"),
        ({"nbf": "soon"}, "auth.bearer-malformed"),
        ({"oid": None}, "auth.bearer-subject"),
        ({"oid": None, "sub": "who"}, ""),
    ],
)
def test_a_token_is_taken_for_what_it_says(claims: dict[str, object], rule: str) -> None:
    assert judged(token(**claims)) == rule


@given(st.text(max_size=64))
def test_no_text_breaks_the_reader(text: str) -> None:
    for given_text in (text, f"{text}.{text}.{text}", f"{token().rpartition('.')[0]}.{text}"):
        assert judged(given_text).startswith("auth.bearer-")


def test_a_bearer_token_is_known_by_its_looks() -> None:
    text = token()
    assert is_bearer(text)
    assert is_bearer(f"bearer {text}")
    assert bearer_of(f"Bearer {text}") == text
    assert not is_bearer("SharedAccessSignature sr=h&sig=a.b.c&se=1")


@given(st.lists(st.tuples(st.integers(1, 3 * TOKEN_SECONDS), st.sampled_from([0, 60, 86_400])), max_size=6))
def test_no_rotation_refuses_a_token_that_lives(rotations: list[tuple[int, int]]) -> None:
    """At each moment there is a key that signs, and its tokens are good for as long as they live."""
    ring, now_s = KeyRing().with_next(key("0"), 0), 0
    signed: list[tuple[str, int]] = []
    for number, (wait, lead) in enumerate(rotations, 1):
        now_s += wait
        signer = ring.signer(now_s * 1000)
        assert signer is not None
        signed.append((signer.key_id, now_s + TOKEN_SECONDS + SKEW_SECONDS))
        ring = ring.with_next(key(str(number), now_s + lead), now_s * 1000)
        published = {each.key_id for each in ring.published(now_s * 1000)}
        assert {name for name, until_s in signed if until_s > now_s} <= published


def test_a_published_set_has_no_private_half_and_is_read_back() -> None:
    shown = public_set([key("a")])
    keys = shown["keys"]
    assert isinstance(keys, list)
    assert [set(told) for told in keys] == [{"kty", "use", "alg", "kid", "n", "e"}]
    assert list(read_set(shown)) == ["a"]


@pytest.mark.parametrize("value", [{}, {"keys": []}, {"keys": [{"kty": "oct", "k": "AA"}]}, {"keys": [{"kty": "RSA"}]}])
def test_a_set_without_a_key_of_use_is_refused(value: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="key"):
        read_set(value)


def test_a_token_that_is_too_long_is_not_looked_at() -> None:
    assert judged(token(filling="x" * (TOKEN_BYTES_MAX // 2))) == ""
    assert judged(token(filling="x" * TOKEN_BYTES_MAX)) == "auth.bearer-malformed"
