"""Cuts a query into tokens (IoT Hub developer guide, "Query language for device and module twins")."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from isthmus.base.errors import Code, HubError

QUERY_CHARACTERS_MAX = 8192
"""Length of a query's text."""

NUMBER_CHARACTERS_MAX = 64
"""Far more than a double can tell apart."""


class Kind(Enum):
    """Kinds of tokens; a quoted name stands in double brackets and is never a keyword."""

    NAME = auto()
    QUOTED_NAME = auto()
    STRING = auto()
    NUMBER = auto()
    SYMBOL = auto()
    END = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """A word of the language; `value` is the name, the unescaped string, the number or the symbol."""

    kind: Kind
    value: str | int | float
    position: int

    def is_word(self, word: str) -> bool:
        """True for that keyword, whatever its case."""
        return self.kind is Kind.NAME and str(self.value).upper() == word

    def is_symbol(self, symbol: str) -> bool:
        return self.kind is Kind.SYMBOL and self.value == symbol


_TOKEN = re.compile(
    r"""
    (?P<space> \s+ | /\*.*?\*/ )
  | \[\[ (?P<quoted_name> (?:[^\[\]]|\](?!\]))* ) \]\]
  | (?P<unended> /\* )
  | (?P<string> '(?:[^'\\]|\\.|'')*' | "(?:[^"\\]|\\.|"")*" )
  | (?P<number> 0[xX][0-9a-fA-F]+ | (?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)? )
  | (?P<name> (?:[^\W\d]|\$) (?:\w|\$|-(?=[^\W\d]))* )
  | (?P<symbol> <> | != | <= | >= | [=<>()\[\],.*/%+-] )
    """,
    re.VERBOSE | re.DOTALL,
)  # a hyphen between letters belongs to the name, before a digit it is a minus
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})|\\(.)|(['\"])\3", re.DOTALL)


def tokens(text: str) -> Iterator[Token]:
    """The tokens of a query, an END last; raises `ARGUMENT_INVALID` where there is none."""
    if len(text) > QUERY_CHARACTERS_MAX:
        raise HubError(Code.ARGUMENT_INVALID, f"A query must not be longer than {QUERY_CHARACTERS_MAX} characters")
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise unexpected(position, "no word of the query language")
        if match.lastgroup == "unended":
            # As two symbols it would have the rest of the text searched for an end at each of them.
            raise unexpected(position, "a comment without its end")
        if match.lastgroup != "space":
            yield _token(match)
        position = match.end()
    yield Token(Kind.END, "", position)


def unexpected(position: int, what: str) -> HubError:
    """The refusal of a query, with the place counted from 1."""
    return HubError(Code.ARGUMENT_INVALID, f"The query is not valid: {what} at position {position + 1}")


def _token(match: re.Match[str]) -> Token:
    text = match.group(str(match.lastgroup))
    kind = Kind[str(match.lastgroup).upper()]
    match kind:
        case Kind.STRING:
            return Token(kind, _unescaped(text[1:-1], match.start()), match.start())
        case Kind.NUMBER:
            return Token(kind, _number(text, match.start()), match.start())
        case _:
            return Token(kind, text, match.start())


def _unescaped(text: str, position: int) -> str:
    """The string without escapes; two escaped surrogates make one character, one alone makes none."""
    plain = _ESCAPE.sub(_character, text)
    try:
        return plain.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise unexpected(position, "half a character") from None


def _character(match: re.Match[str]) -> str:
    code, escaped, doubled = match.groups()
    return chr(int(code, 16)) if code else escaped or doubled


def _number(text: str, position: int) -> int | float:
    """The number; a whole one beyond 64 bits is kept as the nearest fraction, as JSON readers do."""
    if len(text) > NUMBER_CHARACTERS_MAX:
        raise unexpected(position, f"a number of more than {NUMBER_CHARACTERS_MAX} characters")
    if not text.isdigit() and text[:2] not in ("0x", "0X"):
        return float(text)
    whole = int(text, 0 if text[:1] == "0" and not text.isdigit() else 10)
    return whole if whole < 1 << 63 else float(whole)
