"""The key of the heads is made once, lies private, and is not replaced by itself."""

import stat
from pathlib import Path

import pytest

from isthmus.access.heads import public_key_of
from isthmus.access.signing_key import load_or_create_signing_key
from isthmus.base.errors import ConfigurationError


def test_the_key_is_made_once_and_lies_private(tmp_path: Path) -> None:
    private, public = tmp_path / "audit" / "key", tmp_path / "audit" / "public"
    made = load_or_create_signing_key(private, public)
    again = load_or_create_signing_key(private, public)
    assert again.private_bytes_raw() == made.private_bytes_raw()
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert stat.S_IMODE(private.parent.stat().st_mode) == 0o700
    assert public_key_of(public.read_bytes(), "public") == made.public_key()


def test_a_damaged_key_is_told_and_kept(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("nothing")
    with pytest.raises(ConfigurationError, match="holds no key"):
        load_or_create_signing_key(tmp_path / "key", tmp_path / "public")
    assert (tmp_path / "key").read_text() == "nothing"


def test_what_is_no_public_key_is_told() -> None:
    with pytest.raises(ConfigurationError, match="isthmus audit key"):
        public_key_of(b"nothing", "FILE")
