"""Parses the whole language, whatever of it can be answered yet.

A Pratt parser: `_expression(power)` takes a prefix and then every operator that binds tighter than `power`.
"""

from isthmus.query.lexer import Kind, Token, tokens, unexpected
from isthmus.query.syntax import (
    Aggregate,
    Binary,
    Call,
    Collection,
    Expression,
    ListOf,
    Literal,
    Path,
    Query,
    Selected,
    Unary,
    Undefined,
)

DEPTH_MAX = 100
"""Expressions inside one another; far above what people write, far below the interpreter's stack."""

POWERS = {
    "OR": 1,
    "AND": 2,
    **dict.fromkeys(("=", "!=", "<>", "<", "<=", ">", ">=", "IN", "NIN", "NOT IN"), 4),
    **dict.fromkeys(("+", "-"), 5),
    **dict.fromkeys(("*", "/", "%"), 6),
}
NOT_POWER = 3
SIGN_POWER = 7

AGGREGATES = frozenset(("COUNT", "AVG", "SUM", "MIN", "MAX"))
CONSTANTS = {"TRUE": True, "FALSE": False, "NULL": None}
KEYWORDS = frozenset(("SELECT", "TOP", "FROM", "WHERE", "GROUP", "BY", "AS", "AND", "OR", "NOT", "IN", "NIN"))


def parse(text: str) -> Query:
    """The tree of a query; raises `ARGUMENT_INVALID` with the position of what is wrong."""
    return _Parser(text).query()


class _Parser:
    """The tokens still to come, and how deep the expression is."""

    def __init__(self, text: str) -> None:
        self._tokens = list(tokens(text))
        self._at = 0
        self._depth = 0

    def query(self) -> Query:
        self._expect_word("SELECT")
        top = self._top()
        select = self._select()
        self._expect_word("FROM")
        collection = self._collection()
        where = self._expression(0) if self._take_word("WHERE") else None
        group_by = self._group_by()
        if self._next.kind is not Kind.END:
            raise unexpected(self._next.position, f"unexpected {_shown(self._next)}")
        return Query(select, collection, where, group_by, top)

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _advance(self) -> Token:
        token = self._next
        self._at += token.kind is not Kind.END
        return token

    def _take_word(self, word: str) -> bool:
        found = self._next.is_word(word)
        self._at += found
        return found

    def _take_symbol(self, symbol: str) -> bool:
        found = self._next.is_symbol(symbol)
        self._at += found
        return found

    def _expect_word(self, word: str) -> None:
        if not self._take_word(word):
            raise unexpected(self._next.position, f"{word} expected")

    def _expect_symbol(self, symbol: str) -> None:
        if not self._take_symbol(symbol):
            raise unexpected(self._next.position, f"'{symbol}' expected")

    def _top(self) -> int | None:
        if not self._take_word("TOP"):
            return None
        token = self._advance()
        if not isinstance(token.value, int):
            raise unexpected(token.position, "a whole number expected")
        return token.value

    def _select(self) -> tuple[Selected, ...]:
        if self._take_symbol("*"):
            return ()
        selected = [self._selected()]
        while self._take_symbol(","):
            selected.append(self._selected())
        return tuple(selected)

    def _selected(self) -> Selected:
        what = self._aggregate() or self._path()
        return Selected(what, self._name() if self._take_word("AS") else None)

    def _aggregate(self) -> Aggregate | None:
        token, after = self._next, self._tokens[min(self._at + 1, len(self._tokens) - 1)]
        function = str(token.value).upper()
        if token.kind is not Kind.NAME or function not in AGGREGATES or not after.is_symbol("("):
            return None
        self._at += 2
        path = None
        if not (function == "COUNT" and (self._take_symbol("*") or self._next.is_symbol(")"))):
            path = self._path()
        self._expect_symbol(")")
        return Aggregate(function, path, token.position)

    def _collection(self) -> Collection:
        position = self._next.position
        name = self._name()
        while self._take_symbol("."):
            name += f".{self._name()}"
        for collection in Collection:
            if collection.value == name.lower():
                return collection
        raise unexpected(position, "devices, devices.modules or devices.jobs expected")

    def _group_by(self) -> tuple[Path, ...]:
        if not self._take_word("GROUP"):
            return ()
        self._expect_word("BY")
        paths = [self._path()]
        while self._take_symbol(","):
            paths.append(self._path())
        return tuple(paths)

    def _name(self) -> str:
        token = self._next
        is_keyword = token.kind is Kind.NAME and str(token.value).upper() in KEYWORDS
        if token.kind not in (Kind.NAME, Kind.QUOTED_NAME) or is_keyword:
            raise unexpected(token.position, "a name expected")
        self._at += 1
        return str(token.value)

    def _path(self) -> Path:
        position = self._next.position
        segments: list[str | int] = [self._name()]
        while True:
            if self._take_symbol("."):
                segments.append(self._segment())
            elif self._next.is_symbol("["):
                segments.append(self._index())
            else:
                return Path(_below_collection(segments), position)

    def _segment(self) -> str:
        """A name behind a dot, where a keyword other than the reserved `group` is a name like any other."""
        token = self._next
        if token.kind is not Kind.NAME or token.is_word("GROUP"):
            return self._name()
        self._at += 1
        return str(token.value)

    def _index(self) -> int:
        self._expect_symbol("[")
        token = self._advance()
        if not isinstance(token.value, int):
            raise unexpected(token.position, "an index expected")
        self._expect_symbol("]")
        return token.value

    def _expression(self, power: int) -> Expression:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise unexpected(self._next.position, f"more than {DEPTH_MAX} expressions inside one another")
        left = self._prefix()
        while (operator := self._operator()) and POWERS[operator] > power:
            position = self._next.position
            self._at += 2 if operator == "NOT IN" else 1
            right = self._members() if operator in ("IN", "NIN", "NOT IN") else self._expression(POWERS[operator])
            left = Binary({"<>": "!=", "NOT IN": "NIN"}.get(operator, operator), left, right, position)
        self._depth -= 1
        return left

    def _operator(self) -> str | None:
        token = self._next
        if token.is_word("NOT"):
            return "NOT IN" if self._tokens[self._at + 1].is_word("IN") else None
        name = str(token.value).upper()
        return name if token.kind in (Kind.NAME, Kind.SYMBOL) and name in POWERS else None

    def _prefix(self) -> Expression:
        token = self._next
        if token.kind in (Kind.STRING, Kind.NUMBER):
            return Literal(self._advance().value, token.position)
        if self._take_word("NOT"):
            return Unary("NOT", self._expression(NOT_POWER), token.position)
        if self._take_symbol("-") or self._take_symbol("+"):
            return _signed(str(token.value), self._expression(SIGN_POWER), token.position)
        if self._take_symbol("("):
            inner = self._expression(0)
            self._expect_symbol(")")
            return inner
        if token.is_symbol("["):
            return self._members()
        return self._constant() or self._call() or self._path()

    def _constant(self) -> Expression | None:
        token = self._next
        if self._take_word("UNDEFINED"):
            return Undefined(token.position)
        name = str(token.value).upper()
        if token.kind is not Kind.NAME or name not in CONSTANTS:
            return None
        self._at += 1
        return Literal(CONSTANTS[name], token.position)

    def _call(self) -> Call | None:
        token = self._next
        if token.kind is not Kind.NAME or not self._tokens[self._at + 1].is_symbol("("):
            return None
        self._name()
        self._expect_symbol("(")
        arguments = () if self._next.is_symbol(")") else self._expressions()
        self._expect_symbol(")")
        return Call(str(token.value).upper(), arguments, token.position)

    def _members(self) -> ListOf:
        """A list in square brackets, or in round ones behind IN."""
        position = self._next.position
        closing = ")" if self._take_symbol("(") else "]"
        if closing == "]":
            self._expect_symbol("[")
        members = () if self._next.is_symbol(closing) else self._expressions()
        self._expect_symbol(closing)
        return ListOf(members, position)

    def _expressions(self) -> tuple[Expression, ...]:
        found = [self._expression(0)]
        while self._take_symbol(","):
            found.append(self._expression(0))
        return tuple(found)


def _below_collection(segments: list[str | int]) -> tuple[str | int, ...]:
    """`devices.deviceId`, `devices.modules.moduleId` and `devices.jobs.jobId` name members of the document."""
    words = [segment.lower() if isinstance(segment, str) else segment for segment in segments[:2]]
    if len(segments) > 2 and words in (["devices", "modules"], ["devices", "jobs"]):
        return tuple(segments[2:])
    return tuple(segments[1:]) if len(segments) > 1 and words[0] == "devices" else tuple(segments)


def _signed(sign: str, operand: Expression, position: int) -> Expression:
    if isinstance(operand, Literal) and isinstance(operand.value, int | float) and not isinstance(operand.value, bool):
        return Literal(-operand.value if sign == "-" else operand.value, position)
    return Unary(sign, operand, position)


def _shown(token: Token) -> str:
    return f"'{str(token.value)[:40]}'"
