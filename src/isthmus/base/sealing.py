"""Secrets at rest: sealed by AES-256-GCM (NIST SP 800-38D) under a key that lies elsewhere, each to its place.

A sealed body is `00 01`, which begins no JSON and no PEM, the key's id (8 bytes), a random nonce (12) and what AES-GCM
makes of the plain body. Its associated data is the place that the body was sealed for, so a body that was moved to
another place, or put back in an older one's stead, opens nowhere.

Several keys may be known: the first seals, all open. That is how a key is replaced: started with the new and the old
one, a server reseals what the old one sealed (`is_current` tells what that is).
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from isthmus.base.ids import random_bytes

KEY_BYTES = 32
NONCE_BYTES = 12
SEALS_MAX = 2**32
"""Bodies sealed by one key with random nonces (SP 800-38D §8.3): 100 changed identities a second for a year are 3.2e9.

Nothing counts them: a key is replaced long before.
"""

_MAGIC = b"\x00\x01"
_ID_BYTES = 8
_HEAD_BYTES = len(_MAGIC) + _ID_BYTES + NONCE_BYTES
_TAG_BYTES = 16


class Unsealable(Exception):  # noqa: N818 - a state, not a fault of the caller
    """A body that no known key opens at its place, or one that is not sealed where it has to be."""


@dataclass(frozen=True, slots=True)
class SealingKey:
    """32 secret bytes; `key_id` names them and tells nothing of them."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise ValueError(f"a sealing key has {KEY_BYTES} bytes")

    @property
    def key_id(self) -> str:
        """16 hexadecimal digits."""
        return hmac.digest(self.secret, b"isthmus sealing key", hashlib.sha256)[:_ID_BYTES].hex()


class Sealer:
    """Seals by the first of its keys and opens by all; without a key it does neither. Used from any thread."""

    def __init__(
        self,
        keys: tuple[SealingKey, ...] = (),
        *,
        opens_plain: bool = False,
        nonce: Callable[[int], bytes] = random_bytes,
    ) -> None:
        """With `opens_plain` bodies that were never sealed are taken as they are, until all of them are."""
        self._ciphers = {bytes.fromhex(key.key_id): AESGCM(key.secret) for key in keys}
        self._current = next(iter(self._ciphers), b"")
        self._opens_plain = opens_plain or not keys
        self._nonce = nonce

    def seal(self, place: bytes, body: bytes) -> bytes:
        """The body as it may be stored at `place`."""
        if not self._current:
            return body
        nonce = self._nonce(NONCE_BYTES)
        return b"".join((_MAGIC, self._current, nonce, self._ciphers[self._current].encrypt(nonce, body, place)))

    def open(self, place: bytes, stored: bytes) -> bytes:
        """The body that was sealed for `place`; raises `Unsealable`."""
        if not is_sealed(stored):
            if self._opens_plain:
                return stored
            raise Unsealable("it is not sealed")
        cipher = self._ciphers.get(stored[len(_MAGIC) : len(_MAGIC) + _ID_BYTES])
        if cipher is None:
            raise Unsealable(f"it is sealed by the key {key_id_of(stored)}")
        try:
            return cipher.decrypt(stored[_HEAD_BYTES - NONCE_BYTES : _HEAD_BYTES], stored[_HEAD_BYTES:], place)
        except InvalidTag as error:
            raise Unsealable("it was sealed for another place, or changed") from error

    def is_current(self, stored: bytes) -> bool:
        """True when the body is as `seal` would have made it: by the first key, or plain where there is none."""
        return key_id_of(stored) == self._current.hex()


UNSEALED = Sealer()
"""For what keeps nothing on disk."""


def is_sealed(stored: bytes) -> bool:
    """True for what a `Sealer` with a key made."""
    return stored.startswith(_MAGIC) and len(stored) >= _HEAD_BYTES + _TAG_BYTES


def key_id_of(stored: bytes) -> str:
    """The id of the key that sealed a body; empty when it is plain."""
    return stored[len(_MAGIC) : len(_MAGIC) + _ID_BYTES].hex() if is_sealed(stored) else ""
