"""Sealed bodies: what opens them, what does not, and what they show."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.base.sealing import KEY_BYTES, Sealer, SealingKey, Unsealable, is_sealed, key_id_of

KEY, OTHER = SealingKey(b"k" * KEY_BYTES), SealingKey(b"o" * KEY_BYTES)


@given(st.binary(), st.binary())
def test_what_is_sealed_opens_at_its_place(place: bytes, body: bytes) -> None:
    sealer = Sealer((KEY,))

    stored = sealer.seal(place, body)

    assert sealer.open(place, stored) == body
    assert is_sealed(stored)
    assert key_id_of(stored) == KEY.key_id


@given(st.integers(min_value=0), st.integers(1, 255))
def test_any_changed_byte_is_found(where: int, change: int) -> None:
    sealer = Sealer((KEY,))
    stored = bytearray(sealer.seal(b"place", b"body"))
    stored[where % len(stored)] ^= change

    with pytest.raises(Unsealable):
        sealer.open(b"place", bytes(stored))


def test_a_body_in_another_place_does_not_open() -> None:
    sealer = Sealer((KEY,))

    with pytest.raises(Unsealable, match="another place"):
        sealer.open(b"there", sealer.seal(b"here", b"body"))


def test_a_body_of_an_unknown_key_names_the_key() -> None:
    stored = Sealer((OTHER,)).seal(b"place", b"body")

    with pytest.raises(Unsealable, match=OTHER.key_id):
        Sealer((KEY,)).open(b"place", stored)
    with pytest.raises(Unsealable, match=OTHER.key_id):
        Sealer().open(b"place", stored)


def test_the_first_key_seals_and_all_open() -> None:
    old = Sealer((OTHER,)).seal(b"place", b"body")
    both = Sealer((KEY, OTHER))

    assert both.open(b"place", old) == b"body"
    assert not both.is_current(old)
    assert both.is_current(both.seal(b"place", b"body"))


def test_plain_bodies_count_only_while_they_are_expected() -> None:
    assert Sealer((KEY,), opens_plain=True).open(b"place", b"{}") == b"{}"
    assert not Sealer((KEY,), opens_plain=True).is_current(b"{}")
    with pytest.raises(Unsealable, match="not sealed"):
        Sealer((KEY,)).open(b"place", b"{}")


def test_without_a_key_nothing_is_sealed() -> None:
    assert Sealer().seal(b"place", b"{}") == b"{}"
    assert Sealer().open(b"place", b"{}") == b"{}"
    assert Sealer().is_current(b"{}")


def test_each_seal_has_a_nonce_of_its_own() -> None:
    sealer = Sealer((KEY,))

    assert len({sealer.seal(b"place", b"body") for _ in range(100)}) == 100


def test_a_key_is_not_shown_and_has_its_length() -> None:
    assert "kkkk" not in repr(KEY)
    with pytest.raises(ValueError, match="32"):
        SealingKey(b"short")
