"""Inputs made of a corpus: the same number gives the same input, so a finding is a target's name and a number.

Mutation works on bytes (damage, holes, splices, repetition), on words of the target's language, and, where a seed is or
ends in a JSON document, on its tree, so that what comes out is still read to the end. `ODD` is what decoders fall over:
numbers that are none or do not fit, text that is no text, dates at the ends of time, depth.
"""

import json
from collections.abc import Callable, Sequence
from random import Random

BYTES_MAX = 64 * 1024
"""Of an input; what is larger is cut."""

CHANGES_MAX = 4
"""Mutations one upon another."""

REPEATS = (2, 8, 64, 600, 3_000)
"""How often something is repeated: more than any depth that is read, and than any count that is allowed."""

ODD: tuple[bytes, ...] = (
    *(b"", b"\x00", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xc0\x80", b"\r\n", b"\t", b"\x1b[2J", b"\x7f"),
    *("٣".encode(), "²".encode(), "ſ".encode(), "İ".encode(), "\u2028".encode(), "\u202e".encode(), "😀".encode()),
    *(b"0", b"-0", b"-1", b"1e999", b"-1e999", b"1e-999", b"NaN", b"Infinity", b"inf", b"0x10", b"1_000", b"+1"),
    *(b"127", b"128", b"255", b"65535", b"65536", b"2147483647", b"2147483648", b"4294967296"),
    *(b"9007199254740993", b"9223372036854775807", b"9223372036854775808", b"18446744073709551616"),
    *(b"9" * 25, b"9" * 400, b"9" * 5_000),
    *(b"0001-01-01T00:00:00+23:59", b"9999-12-31T23:59:59.999-23:59", b"2024-02-30", b"1969-12-31T23:59:59Z"),
    *(b"P99999D", b"PT", b"P", b"PT99999999S", b"10:11:12", b"Thu, 01 Jan 1970 00:00:00 GMT"),
    *(b"%", b"%00", b"%ff", b"%2", b"%ED%A0%80", b"%2525", b"..", b"../", b"/", b"//", b"\\", b"//["),
    *(b"'", b'"', b"`", b";", b"&", b"=", b"?", b"#", b"@", b":", b"*", b"+", b"$", b"$$", b"{", b"}", b"[", b"]"),
    *(b"true", b"false", b"null", b"undefined", b"\\ud800", b"\\u0000", b'"\\ud800\\udc00"', b"()", b"<", b"&#0;"),
    *(b"A" * 129, b"A" * 1_025, b"A" * 4_097, b"[" * 3_000, b"(" * 3_000, b'{"a":' * 3_000, b"<a>" * 3_000),
)  # fmt: skip

VALUES: tuple[object, ...] = (
    *(None, True, False, 0, -1, 1, 255, 65_536, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64, 10**30),
    *(0.5, -0.0, 1e308, 5e-324, "", " ", "\x00", "a\x00b", "$", "$version", ".", "a.b", "#", "٣", "²", "😀", "\x1b"),
    *("A" * 129, "A" * 1_025, "A" * 5_000, "9" * 5_000, "1e999", "nan", "-1", "true", "*", "../x", "%00", "null"),
    *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999-23:59", "P99999D", "PT99999999S", "https://[", "http://"),
    *([], {}, [[]], [None], {"": None}, {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {"i": {"j": 1}}}}}}}}}}),
    *("/subscriptions//resourceGroups/x/providers/y", "::ffff:10.0.0.1", "10.0.0.0/33", "fe80::1%eth0", "256.1.1.1"),
)  # fmt: skip

BLANK = b"\r\n\r\n"
"""Behind it a message's body begins, which may be JSON."""

Change = Callable[["_Mutation", bytes], bytes]


def mutated(seeds: Sequence[bytes], words: Sequence[bytes], number: int) -> bytes:
    """The input of that number, at most `BYTES_MAX` long."""
    return _Mutation(seeds, words, Random(number)).made()


class _Mutation:
    def __init__(self, seeds: Sequence[bytes], words: Sequence[bytes], random: Random) -> None:
        self.seeds = seeds
        self.words = words
        self.random = random

    def made(self) -> bytes:
        data = self.random.choice(self.seeds)
        for _ in range(self.random.randint(1, CHANGES_MAX)):
            data = self.random.choice(_CHANGES)(self, data)[:BYTES_MAX]
        return data

    def word(self) -> bytes:
        """Something of the language, or something odd."""
        known = self.words and self.random.random() < 0.5
        return self.random.choice(self.words if known else ODD)

    def stretch(self, data: bytes) -> tuple[int, int]:
        """A place of the data, short more often than long."""
        start = self.random.randint(0, len(data))
        return start, min(len(data), start + self.random.choice((0, 1, 1, 2, 4, 16, 64, 512)))

    def token(self, data: bytes) -> tuple[int, int]:
        """A run of letters and digits, or an empty place."""
        start, _ = self.stretch(data)
        end = start
        while end < len(data) and _is_word(data[end]):
            end += 1
        while start and _is_word(data[start - 1]):
            start -= 1
        return start, end


def _is_word(byte: int) -> bool:
    return 48 <= byte <= 57 or 65 <= byte <= 90 or 97 <= byte <= 122


def _flipped(mutation: _Mutation, data: bytes) -> bytes:
    if not data:
        return data
    place = mutation.random.randrange(len(data))
    return data[:place] + bytes((data[place] ^ 1 << mutation.random.randrange(8),)) + data[place + 1 :]


def _random_bytes(mutation: _Mutation, data: bytes) -> bytes:
    start, end = mutation.stretch(data)
    return data[:start] + mutation.random.randbytes(mutation.random.randint(0, 4)) + data[end:]


def _hole(mutation: _Mutation, data: bytes) -> bytes:
    start, end = mutation.stretch(data)
    return data[:start] + data[end:]


def _cut(mutation: _Mutation, data: bytes) -> bytes:
    return data[: mutation.stretch(data)[0]]


def _inserted(mutation: _Mutation, data: bytes) -> bytes:
    start, _ = mutation.stretch(data)
    return data[:start] + mutation.word() + data[start:]


def _replaced(mutation: _Mutation, data: bytes) -> bytes:
    start, end = mutation.token(data)
    return data[:start] + mutation.word() + data[end:]


def _repeated(mutation: _Mutation, data: bytes) -> bytes:
    start, end = mutation.stretch(data)
    return data[:start] + data[start:end] * mutation.random.choice(REPEATS) + data[end:]


def _moved(mutation: _Mutation, data: bytes) -> bytes:
    start, end = mutation.stretch(data)
    place, _ = mutation.stretch(data)
    return data[:place] + data[start:end] + data[place:]


def _spliced(mutation: _Mutation, data: bytes) -> bytes:
    other = mutation.random.choice(mutation.seeds)
    return data[: mutation.stretch(data)[0]] + other[mutation.stretch(other)[0] :]


def _number(mutation: _Mutation, data: bytes) -> bytes:
    """A length or count in binary, as large as it can be, or a little off."""
    if not data:
        return data
    size = mutation.random.choice((1, 2, 4, 8))
    place = mutation.random.randrange(len(data))
    value = mutation.random.choice((0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), len(data) % 2 ** (8 * size)))
    return data[:place] + value.to_bytes(size, mutation.random.choice(("big", "little"))) + data[place + size :]


def _json(mutation: _Mutation, data: bytes) -> bytes:
    """The tree of a JSON document at the end, changed at one place; what has none is changed by a word."""
    head, blank, body = data.partition(BLANK)
    if not blank:
        head, body = b"", data
    try:
        tree = json.loads(body)
    except (ValueError, RecursionError):
        return _replaced(mutation, data)
    return head + blank + json.dumps(_tree_changed(mutation.random, tree), ensure_ascii=False).encode(errors="replace")


def _tree_changed(random: Random, node: object) -> object:
    if isinstance(node, dict) and node and random.random() < 0.8:
        return _object_changed(random, node)
    if isinstance(node, list) and node and random.random() < 0.8:
        place = random.randrange(len(node))
        return [*node[:place], _tree_changed(random, node[place]), *node[place + 1 :]]
    return random.choice(VALUES)


def _object_changed(random: Random, node: dict[str, object]) -> dict[str, object]:
    name = random.choice(list(node))
    match random.randrange(8):
        case 0:
            return {each: value for each, value in node.items() if each != name}
        case 1:
            return {**node, str(random.choice(VALUES)): random.choice(VALUES)}
        case 2:
            return {str(random.choice(VALUES)) if each == name else each: value for each, value in node.items()}
        case _:
            return {**node, name: _tree_changed(random, node[name])}


_CHANGES: tuple[Change, ...] = (
    *(_flipped, _random_bytes, _hole, _cut, _inserted, _inserted, _replaced, _replaced, _replaced),
    *(_repeated, _moved, _spliced, _number, _json, _json, _json, _json),
)
