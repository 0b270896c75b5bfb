"""Access tokens: JSON Web Tokens (RFC 7519) that name an identity, signed RS256; made, and judged.

Theory of operation. A signing key is in a ring with others. It is published from the moment it is made, signs from
`signs_from_ms` until the next one does, and stays published until every token that it signed has expired and a clock
that lags is over as well. So a verifier that knew the ring at any moment of a token's life can judge it: rotation
refuses nobody. All of the ring is one stored document, committed before a new key signs anything.

Verification is pinned: one algorithm, one key by its `kid`, of the issuer that the token names; then audience and
times. What a token says is read before its signature is checked only to choose the issuer. The libraries live here.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import msgspec
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from isthmus.access.refusals import unauthorized
from isthmus.base.errors import HubError

ALGORITHM = "RS256"
"""The only one that is made or taken (RFC 7518 §3.3); `none` and keyed hashes never are."""

KEY_BITS = 2048
TOKEN_SECONDS = 3_600
"""Life of an access token."""

SKEW_SECONDS = 300
"""How far clocks may be apart."""

TOKEN_BYTES_MAX = 16 * 1024
"""A token that is longer is not looked at."""

KEYS_KEPT = 16
"""Private keys that are kept as they are used: those of a ring, which are two or three."""

Keys = Mapping[str, RSAKey]
"""Public keys by their ids."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key of the ring; times are milliseconds since the epoch."""

    key_id: str
    private_pem: str = field(repr=False)
    created_ms: int
    signs_from_ms: int


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys of an authority, in the order in which they sign."""

    keys: tuple[SigningKey, ...] = ()

    def signer(self, now_ms: int) -> SigningKey | None:
        """The key that signs now; None when there is none yet."""
        return next((key for key in reversed(self.keys) if key.signs_from_ms <= now_ms), None)

    def published(self, now_ms: int) -> tuple[SigningKey, ...]:
        """The keys that a token of now, or a published set, may name."""
        kept_ms = (TOKEN_SECONDS + SKEW_SECONDS) * 1000
        after = (*(key.signs_from_ms for key in self.keys[1:]), None)[: len(self.keys)]
        return tuple(
            key for key, next_ms in zip(self.keys, after, strict=True) if next_ms is None or now_ms < next_ms + kept_ms
        )

    def with_next(self, key: SigningKey, now_ms: int) -> "KeyRing":
        """The ring with a key that takes over at its time; one that was still to take over will not."""
        kept = tuple(each for each in self.published(now_ms) if each.signs_from_ms <= now_ms)
        return KeyRing((*kept, key))


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """What a verified token says: whose it is (`object_id`), by whom it was issued, and until when, in Unix seconds."""

    issuer: str
    object_id: str
    expires_s: int
    audience: str


async def _nothing(key_id: str) -> None:
    """The keys are known."""


def _no_trouble() -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Issuer:
    """Somebody whose tokens are taken: his name, his public keys now, and audiences besides the usual ones.

    `prepare` is awaited with the key id of a token before it is judged, and `trouble` says why keys may be missing.
    """

    name: str
    keys: Callable[[], Keys]
    audiences: tuple[str, ...] = ()
    prepare: Callable[[str], Awaitable[None]] = _nothing
    trouble: Callable[[], str] = _no_trouble


def new_private_key() -> str:
    """A new key in PEM; takes a good part of a second, and may run in a thread."""
    return RSAKey.generate_key(KEY_BITS).as_pem(private=True).decode()


def public_set(keys: Sequence[SigningKey]) -> dict[str, object]:
    """The public halves as a JSON Web Key Set (RFC 7517 §5)."""
    return {"keys": [_public(key) for key in keys]}


def public_keys(keys: Sequence[SigningKey]) -> Keys:
    """The public halves by their ids."""
    return read_set(public_set(keys)) if keys else {}


def read_set(value: Mapping[str, object]) -> Keys:
    """The keys of a JSON Web Key Set that are of use here, by id; raises ValueError when there is none."""
    found = value.get("keys")
    usable = [each for each in found if _is_usable(each)] if isinstance(found, list) else []
    try:
        keys = {str(each.get("kid") or ""): RSAKey.import_key(each) for each in usable}
    except (JoseError, KeyError, TypeError) as error:
        raise ValueError(f"a key cannot be read: {error}") from error
    if not keys:
        raise ValueError("it has no RSA key for signatures")
    return keys


def sign(claims: Mapping[str, object], key: SigningKey) -> str:
    """A token with these claims."""
    header = {"alg": ALGORITHM, "kid": key.key_id}
    return jwt.encode(header, dict(claims), _private(key.private_pem), algorithms=[ALGORITHM])


async def prepare(token: str, issuers: Collection[Issuer]) -> None:
    """Has the issuer that a token names make its key known; to be awaited before `verify`, raises nothing."""
    try:
        _, key_id, said = _unverified(token)
    except HubError:
        return
    for issuer in issuers:
        if issuer.name == said:
            await issuer.prepare(key_id)


def verify(token: str, issuers: Collection[Issuer], audiences: Collection[str], *, now_ms: int) -> TokenClaims:
    """What a token proves; raises HubError IotHubUnauthorizedAccess with a rule `auth.bearer-*`, the same for all."""
    algorithm, key_id, said = _unverified(token)
    issuer = next((each for each in issuers if each.name == said), None)
    if issuer is None:
        known = ", ".join(each.name for each in issuers)
        raise unauthorized("auth.bearer-issuer", f"iss={said[:128]}", f"use a token of {known}")
    if algorithm != ALGORITHM:
        raise unauthorized("auth.bearer-algorithm", f"alg={algorithm[:32]}", f"sign with {ALGORITHM}")
    claims = _decoded(token, issuer, key_id)
    audience = _audience(claims, {*audiences, *issuer.audiences})
    expires_s = _require_times(claims, now_ms // 1000)
    object_id = claims.get("oid") or claims.get("sub")
    if not isinstance(object_id, str) or not object_id:
        raise unauthorized("auth.bearer-subject", "neither oid nor sub", "ask for a token of an identity")
    return TokenClaims(issuer.name, object_id.lower(), expires_s, audience)


def is_bearer(text: str) -> bool:
    """True for a text that is a bearer token by its looks, with or without the word before it."""
    return text[:7].lower() == "bearer " or (text.startswith("ey") and text.count(".") == 2)


def bearer_of(text: str) -> str:
    """The token without the word before it."""
    return text[7:].strip() if text[:7].lower() == "bearer " else text


def same_audience(one: str, other: str) -> bool:
    """Audiences are one when they differ in case or in slashes at the end only."""
    return one.rstrip("/").lower() == other.rstrip("/").lower()


def _unverified(token: str) -> tuple[str, str, str]:
    """Algorithm, key id and issuer that a token names, of which nothing is proved."""
    if len(token) > TOKEN_BYTES_MAX or not token.isascii():
        raise unauthorized("auth.bearer-malformed", f"{len(token)} characters", _REMEDY)
    try:
        parsed = jws.extract_compact(token.encode())
        header, claims = parsed.headers(), msgspec.json.decode(parsed.payload, type=dict[str, object])
    except (JoseError, ValueError, RecursionError) as error:
        raise unauthorized("auth.bearer-malformed", str(error)[:128], _REMEDY) from error
    return str(header.get("alg")), str(header.get("kid") or ""), str(claims.get("iss"))


def _decoded(token: str, issuer: Issuer, key_id: str) -> Mapping[str, object]:
    """The claims of a token whose signature is the issuer's."""
    keys = issuer.keys()
    key = keys.get(key_id) or (next(iter(keys.values())) if not key_id and len(keys) == 1 else None)
    if key is None:
        raise _no_key(issuer, key_id)
    try:
        claims: Mapping[str, object] = jwt.decode(token, key, algorithms=[ALGORITHM]).claims
    except (JoseError, ValueError, RecursionError) as error:
        raise unauthorized(
            "auth.bearer-signature", f"kid={key_id[:128]}", f"use a token as {issuer.name} gave it"
        ) from error
    return claims


def _no_key(issuer: Issuer, key_id: str) -> HubError:
    trouble = issuer.trouble()
    if trouble:
        value = f"the keys of {issuer.name}: {trouble}"
        remedy = "let the hub reach the issuer, and trust its certificate; or give it the key set as a file"
        return unauthorized("auth.issuer-unreachable", value, f"{remedy} (authority.trusted)")
    remedy = f"use a token that a present key of {issuer.name} signed"
    return unauthorized("auth.bearer-key", f"kid={key_id[:128]}", remedy)


def _audience(claims: Mapping[str, object], wanted: Collection[str]) -> str:
    said = claims.get("aud")
    named = [each for each in (said if isinstance(said, list) else [said]) if isinstance(each, str)]
    found = next((each for each in named if any(same_audience(each, audience) for audience in wanted)), None)
    if found is None:
        scopes = " or ".join(sorted(f"{audience}/.default" for audience in wanted))
        raise unauthorized("auth.bearer-audience", f"aud={', '.join(named)[:128]}", f"ask for the scope {scopes}")
    return found


def _require_times(claims: Mapping[str, object], now_s: int) -> int:
    expires_s, starts_s = claims.get("exp"), claims.get("nbf", 0)
    if not isinstance(expires_s, int) or not isinstance(starts_s, int):
        raise unauthorized("auth.bearer-malformed", "exp or nbf is no number", _REMEDY)
    if now_s > expires_s + SKEW_SECONDS:
        raise unauthorized("auth.bearer-expired", f"exp={expires_s}, {now_s - expires_s} s ago", "ask for a new token")
    if now_s < starts_s - SKEW_SECONDS:
        raise unauthorized(
            "auth.bearer-early", f"nbf={starts_s}, in {starts_s - now_s} s", "set the clock of the issuer's machine"
        )
    return expires_s


_REMEDY = "send the token as the issuer gave it"


def _is_usable(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and value.get("kty") == "RSA"
        and value.get("use", "sig") == "sig"
        and value.get("alg", ALGORITHM) == ALGORITHM
    )


@lru_cache(KEYS_KEPT)
def _private(pem: str) -> RSAKey:
    """Reading a key checks it, which costs more than a signature."""
    return RSAKey.import_key(pem)


def _public(key: SigningKey) -> dict[str, object]:
    shown = _private(key.private_pem).as_dict(private=False)
    return {"kty": "RSA", "use": "sig", "alg": ALGORITHM, "kid": key.key_id, "n": shown["n"], "e": shown["e"]}
