"""Cuts a route condition into tokens ("IoT Hub message routing query syntax"; names as Azure IoT Edge's router has).

A name runs to the next character that no property's name can have, so `a-b`, `a+b` and `x!` are names, and arithmetic
needs spaces. Only a quote ends a name beyond that: `'a'||'b'` joins two strings.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto

CONDITION_CHARACTERS_MAX = 8_192
"""Length of a condition's text: what the query language of twins takes as well."""


class Kind(Enum):
    """Kinds of tokens; a reference begins with a dollar sign."""

    NAME = auto()
    REFERENCE = auto()
    STRING = auto()
    NUMBER = auto()
    SYMBOL = auto()
    END = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """A word of the language at `start` (characters from the beginning); `text` is as written."""

    kind: Kind
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    def is_word(self, word: str) -> bool:
        """True for that operator in letters, whatever its case."""
        return self.kind is Kind.NAME and self.text.upper() == word


class ConditionError(ValueError):
    """A condition that does not compile; `start` and `end` are characters from its beginning."""

    def __init__(self, message: str, start: int, end: int) -> None:
        super().__init__(message)
        self.message = message
        self.start = start
        self.end = end


def tokens(text: str) -> list[Token]:
    """The tokens of a condition, an END last; raises `ConditionError`."""
    if len(text) > CONDITION_CHARACTERS_MAX:
        raise ConditionError(f"A condition has {CONDITION_CHARACTERS_MAX} characters at most.", 0, len(text))
    found: list[Token] = []
    position = 0
    while position < len(text):
        skipped = _SKIPPED.match(text, position)
        if skipped is not None:
            position = skipped.end()
            continue
        if text.startswith("/*", position):
            raise ConditionError("Syntax error: unterminated comment", position, len(text))
        token = _token(text, position)
        found.append(token)
        position = token.end
    found.append(Token(Kind.END, "", len(text)))
    return found


def string_value(literal: str) -> str:
    """The value of a quoted literal."""
    return _ESCAPE.sub(_unescaped, literal[1:-1])


def number_value(literal: str) -> float:
    """The value of a number; hexadecimal ones are whole."""
    return float(int(literal, 16)) if literal[:2] in ("0x", "0X") else float(literal)


_SKIPPED = re.compile(r"[ \t\r\n]+|/\*.*?\*/", re.DOTALL)
_STRING = re.compile(
    r"""'(?:[^'\\]|\\(?:["'\\]|[uU][0-9a-fA-F]{4}))*'|"(?:[^"\\]|\\(?:["'\\]|[uU][0-9a-fA-F]{4}))*\""""
)
_ESCAPE = re.compile(r"\\(?:[uU]([0-9a-fA-F]{4})|([\"'\\]))")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,15}|-?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NAME = re.compile(r"""[^()<>@,;:\\"'/\[\]?={} \t\r\n]+""")
_REFERENCE = re.compile(r"""\$[^()<>@,;:\\"'/?={} \t\r\n]+""")
_SYMBOL = re.compile(r"\|\||\?\?|!=|<>|<=|>=|[=<>()+\-*/%,{}]")
_OPERATORS = frozenset({"||", "+", "-", "*", "%"})
"""Symbols whose characters a name may have as well: they are operators when they stand alone."""


def _token(text: str, position: int) -> Token:
    if text[position] in "'\"":
        return _quoted(text, position)
    reference = _REFERENCE.match(text, position)
    if reference is not None:
        return Token(Kind.REFERENCE, reference[0], position)
    symbol = _SYMBOL.match(text, position)
    word = _NAME.match(text, position)
    if symbol is not None and (word is None or word[0] in _OPERATORS or len(symbol[0]) > len(word[0])):
        return Token(Kind.SYMBOL, symbol[0], position)
    if word is None:
        raise ConditionError(f"Syntax error: invalid symbol '{text[position]}'", position, position + 1)
    return Token(Kind.NUMBER if _NUMBER.fullmatch(word[0]) else Kind.NAME, word[0], position)


def _quoted(text: str, position: int) -> Token:
    literal = _STRING.match(text, position)
    if literal is None:
        raise ConditionError("Syntax error: unterminated string", position, len(text))
    return Token(Kind.STRING, literal[0], position)


def _unescaped(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16)) if escape[1] else escape[2]
