"""Parses a route condition: `??` binds loosest, then OR, AND, equality, order, sums, products, NOT, minus."""

from isthmus.query.conditions.lexer import ConditionError, Kind, Token, number_value, string_value, tokens
from isthmus.query.conditions.nodes import (
    Binary,
    Call,
    Constant,
    Literal,
    Logical,
    Node,
    Property,
    Reference,
    Unary,
    Undefined,
)

NESTING_MAX = 32
"""Parentheses within parentheses: deeper is no condition that somebody wrote."""

OPERATIONS_MAX = 200
"""Comparisons and operations of a condition; those joined by AND and OR are bounded by its length alone."""

LEVELS: tuple[dict[str, str], ...] = (
    {"??": "??"},
    {"OR": "OR"},
    {"AND": "AND"},
    {"=": "=", "!=": "!=", "<>": "!="},
    {"<": "<", "<=": "<=", ">": ">", ">=": ">="},
    {"+": "+", "-": "-", "||": "||"},
    {"*": "*", "/": "/", "%": "%"},
)
"""Operators as written and as meant, the loosest first; those of one level bind from the left."""

CONSTANTS: dict[str, Constant] = {"true": True, "false": False, "null": None, "undefined": Undefined.UNDEFINED}
"""Words that are values; in small letters only."""


def parse(text: str) -> Node:
    """The condition's tree; an empty condition is undefined. Raises `ConditionError`."""
    parser = _Parser(text)
    if parser.token.kind is Kind.END:
        return Literal(Undefined.UNDEFINED, 0, len(text))
    node = parser.level(0)
    parser.finish()
    return node


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokens(text)
        self._next = 0
        self._depth = 0
        self._operations = 0

    @property
    def token(self) -> Token:
        return self._tokens[self._next]

    def level(self, number: int) -> Node:
        if number == len(LEVELS):
            return self._negation()
        operands = [self.level(number + 1)]
        operators: list[str] = []
        while (operator := self._operator(LEVELS[number])) is not None:
            self._take()
            operators.append(operator)
            operands.append(self.level(number + 1))
        if operators and operators[0] in ("AND", "OR"):
            return Logical(operators[0], tuple(operands), operands[0].start, operands[-1].end)
        return self._from_the_left(operands, operators)

    def _from_the_left(self, operands: list[Node], operators: list[str]) -> Node:
        self._operations += len(operators)
        if self._operations > OPERATIONS_MAX:
            message = f"A condition has {OPERATIONS_MAX} comparisons and operations at most."
            raise ConditionError(message, operands[0].start, operands[-1].end)
        left = operands[0]
        for operator, right in zip(operators, operands[1:], strict=True):
            left = Binary(operator, left, right, left.start, right.end)
        return left

    def finish(self) -> None:
        """Raises unless all of the text was read."""
        if self.token.kind is not Kind.END:
            raise self._unexpected("unmatched closing ')'" if self.token.text == ")" else "")

    def _operator(self, level: dict[str, str]) -> str | None:
        token = self.token
        if token.kind not in (Kind.SYMBOL, Kind.NAME):
            return None
        return level.get(token.text if token.kind is Kind.SYMBOL else token.text.upper())

    def _negation(self) -> Node:
        token = self.token
        if token.is_word("NOT"):
            self._take()
            operand = self._minus()
            return Unary("NOT", operand, token.start, operand.end)
        return self._minus()

    def _minus(self) -> Node:
        token = self.token
        if token.kind is Kind.SYMBOL and token.text == "-":
            self._take()
            operand = self._primary()
            return Unary("-", operand, token.start, operand.end)
        return self._primary()

    def _primary(self) -> Node:
        token = self._take()
        match token.kind:
            case Kind.NUMBER:
                return Literal(number_value(token.text), token.start, token.end)
            case Kind.STRING:
                return Literal(string_value(token.text), token.start, token.end)
            case Kind.REFERENCE:
                return Reference(token.text, False, token.start, token.end)
            case Kind.NAME:
                return self._named(token)
            case Kind.SYMBOL if token.text == "(":
                return self._nested()
            case Kind.SYMBOL if token.text == "{":
                return self._braced(token)
            case _:
                self._next -= token.kind is not Kind.END
                raise self._unexpected("")

    def _named(self, name: Token) -> Node:
        if self.token.text == "(" and self.token.kind is Kind.SYMBOL:
            return self._call(name)
        if name.text in CONSTANTS:
            return Literal(CONSTANTS[name.text], name.start, name.end)
        if name.text.upper() in ("AND", "OR", "NOT"):
            self._next -= 1
            raise self._unexpected("")
        return Property(name.text, name.start, name.end)

    def _nested(self) -> Node:
        self._deepen()
        node = self.level(0)
        self._close()
        return node

    def _braced(self, brace: Token) -> Node:
        inner = self._take()
        if inner.kind is not Kind.REFERENCE or self.token.text != "}":
            raise ConditionError("Syntax error.", brace.start, inner.end)
        return Reference(inner.text, True, brace.start, self._take().end)

    def _call(self, name: Token) -> Node:
        opening = self._take()
        self._deepen()
        arguments: list[Node] = []
        if self.token.text != ")" or self.token.kind is not Kind.SYMBOL:
            arguments.append(self.level(0))
            while self.token.kind is Kind.SYMBOL and self.token.text == ",":
                self._take()
                arguments.append(self.level(0))
        closing = self._close()
        between = self._text[opening.end : closing.start].strip()
        return Call(name.text, tuple(arguments), between, name.start, closing.end)

    def _deepen(self) -> None:
        self._depth += 1
        if self._depth > NESTING_MAX:
            raise ConditionError(f"Parentheses nest {NESTING_MAX} deep at most.", self.token.start, self.token.end)

    def _close(self) -> Token:
        if self.token.kind is not Kind.SYMBOL or self.token.text != ")":
            raise self._unexpected("missing closing ')'" if self.token.kind is Kind.END else "")
        self._depth -= 1
        return self._take()

    def _take(self) -> Token:
        token = self.token
        if token.kind is not Kind.END:
            self._next += 1
        return token

    def _unexpected(self, reason: str) -> ConditionError:
        token = self.token
        return ConditionError(f"Syntax error: {reason}" if reason else "Syntax error.", token.start, token.end)
