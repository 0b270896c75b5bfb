"""Heads of the journal: number and chain of its last record, signed, to be kept where the hub's machine cannot write.

A head is one line of JSON. Its signature (Ed25519, RFC 8032) is over the text

    isthmus journal head 1\\n{sequence}\\n{time}\\n{chain}\\n

with the members' own spelling. The line may stand behind whatever a log server writes in front of it.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from isthmus.access.findings import Fault, Finding
from isthmus.base.clock import iso_utc, parse_iso_ms
from isthmus.base.errors import ConfigurationError
from isthmus.base.state import ChainEnd

MARK = '{"isthmusJournalHead":'
"""Begins every head, so that it is found in a log server's file."""

FINGERPRINT_CHARACTERS = 32
"""Of the key's SHA-256 in hexadecimal, 128 bits."""


class _Line(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    isthmus_journal_head: int
    sequence: int
    time: str
    chain: str
    key: str
    signature: str = ""


@dataclass(frozen=True, slots=True)
class Head:
    """The last record of a journal at a time."""

    sequence: int
    chain: bytes
    utc_ms: int


@dataclass(frozen=True, slots=True)
class FoundHead:
    """A head whose signature is right; `source` is where it was found, `FILE:LINE`."""

    head: Head
    source: str


def signed_line(end: ChainEnd, utc_ms: int, key: Ed25519PrivateKey) -> str:
    """The head of a journal that ends there, as a line without its end."""
    line = _Line(1, end.entry_id, iso_utc(utc_ms), end.chain.hex(), fingerprint(key.public_key()))
    signature = base64.b64encode(key.sign(_signed(line))).decode()
    return msgspec.json.encode(msgspec.structs.replace(line, signature=signature)).decode()


def heads_in(lines: Iterable[str], name: str, key: Ed25519PublicKey) -> tuple[list[FoundHead], list[Finding], int]:
    """Heads with right signatures, findings about the others, and how many lines are no heads at all."""
    good: list[FoundHead] = []
    bad: list[Finding] = []
    ignored = 0
    for number, text in enumerate(lines, 1):
        start = text.find(MARK)
        if start < 0:
            ignored += bool(text.strip())
            continue
        found = _judged(text[start:].strip(), f"{name}:{number}", key)
        if isinstance(found, Finding):
            bad.append(found)
        else:
            good.append(found)
    return good, bad, ignored


def public_pem(key: Ed25519PublicKey) -> bytes:
    """The public key as PEM."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def public_key_of(pem: bytes, name: str) -> Ed25519PublicKey:
    """The key of a PEM text; raises `ConfigurationError` when that is none, `name` says what was read."""
    try:
        key = load_pem_public_key(pem)
    except ValueError as error:
        raise ConfigurationError(f"{name} holds no public key in PEM; `isthmus audit key` prints one.") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigurationError(f"{name} holds a public key of another kind than Ed25519.")
    return key


def fingerprint(key: Ed25519PublicKey) -> str:
    """By which a head names its key."""
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:FINGERPRINT_CHARACTERS]


def _signed(line: _Line) -> bytes:
    return f"isthmus journal head 1\n{line.sequence}\n{line.time}\n{line.chain}\n".encode()


def _judged(text: str, source: str, key: Ed25519PublicKey) -> FoundHead | Finding:
    try:
        line = msgspec.json.decode(text, type=_Line)
        utc_ms, chain = parse_iso_ms(line.time), bytes.fromhex(line.chain)
        signature = base64.b64decode(line.signature, validate=True)
    except (msgspec.DecodeError, ValueError, binascii.Error) as error:
        return Finding(Fault.HEAD_UNREADABLE, 0, 0, 0, f"the head at {source} is damaged: {error}", source)
    moment = utc_ms or 0
    said = f"the head of record {line.sequence} at {source}, dated {line.time},"
    if line.key != fingerprint(key):
        reason = f"{said} is signed with another key ({line.key}) than {fingerprint(key)}"
        return Finding(Fault.HEAD_FORGED, line.sequence, line.sequence, moment, reason, source)
    try:
        key.verify(signature, _signed(line))
    except InvalidSignature:
        reason = f"{said} is forged or was altered: its signature is not right"
        return Finding(Fault.HEAD_FORGED, line.sequence, line.sequence, moment, reason, source)
    return FoundHead(Head(line.sequence, chain, moment), source)
