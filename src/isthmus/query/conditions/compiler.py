"""Compiles a route condition: types are checked once, and what is left are closures that never raise.

Theory of operation. Each node becomes a `_Part`: its static type and a closure. Application and system properties are
strings, a body's and a twin's values are of any type, everything else is known. What cannot be right whatever the
message says (`severity > 2`: a property is a string) is refused here, so that a route that was saved means something.
What depends on the message is judged without conversion, and undefined where its types do not fit.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from isthmus.query.conditions.functions import CONCAT, FUNCTIONS, Function, Takes, Type
from isthmus.query.conditions.lexer import ConditionError
from isthmus.query.conditions.nodes import Binary, Call, Literal, Logical, Node, Property, Reference, Unary, Undefined
from isthmus.query.conditions.parser import parse
from isthmus.query.conditions.paths import member, member_in_any_case, parse_path, parse_twin_path
from isthmus.query.conditions.values import (
    UNDEFINED,
    Judged,
    Subject,
    Value,
    equal,
    number,
    opposite,
    ordered,
    primitive,
    text_or_more,
    unequal,
)

BODY, TWIN = "$body.", "$twin."

Operation = Callable[[Value, Value], Value]


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled condition. `asks_body` and `asks_twin` tell what of a message must be at hand."""

    text: str
    judge: Judged
    asks_body: bool
    asks_twin: bool

    def holds(self, subject: Subject) -> bool | None:
        """True or false; None for a condition that is undefined for this message. Never raises."""
        result = self.judge(subject)
        return result if isinstance(result, bool) else None


def compile_condition(text: str, *, twin_changes: bool = False) -> Condition:
    """Compiles a condition; raises `ConditionError` with the place.

    `twin_changes` is set for routes whose messages are changes of twins: only these may ask `twin_change_includes`.
    """
    compiler = _Compiler(twin_changes)
    part = compiler.part(parse(text))
    return Condition(text, part.judge, compiler.asks_body, compiler.asks_twin)


@dataclass(frozen=True, slots=True)
class _Part:
    """A compiled node; `raw` gives JSON as it is, for the functions that ask what a value is."""

    type: Type
    judge: Judged
    raw: Judged


class _Compiler:
    def __init__(self, twin_changes: bool) -> None:
        self._twin_changes = twin_changes
        self.asks_body = False
        self.asks_twin = False

    def part(self, node: Node) -> _Part:
        match node:
            case Literal():
                return _literal(node)
            case Property():
                return _property(node.name.lower())
            case Reference():
                return self._reference(node)
            case Call():
                return self._call(node)
            case Unary():
                return self._unary(node)
            case Logical():
                return self._logical(node)
            case Binary():
                return self._binary(node)

    def _reference(self, node: Reference) -> _Part:
        lowered = node.text.lower()
        if lowered.startswith((BODY, TWIN)):
            return self._document(node, lowered)
        if "[" in node.text or "]" in node.text:
            return _constant(Type.UNDEFINED, UNDEFINED)
        name = lowered[1:]

        def judge(subject: Subject) -> Value:
            value = None if forced else subject.application_property(lowered)
            if value is None:
                value = subject.system_property(name)
            return UNDEFINED if value is None else value

        forced = node.forced
        return _Part(Type.STRING, judge, judge)

    def _document(self, node: Reference, lowered: str) -> _Part:
        prefix = BODY if lowered.startswith(BODY) else TWIN
        path = node.text[len(prefix) :]
        try:
            raw = self._body(path) if prefix == BODY else self._twin(path)
        except ValueError as error:
            raise ConditionError(f"Error in {prefix[:-1]} query. {error}.", node.start, node.end) from error
        if not node.forced and "[" not in node.text and "]" not in node.text:
            raw = _property_first(lowered, raw)
        simple = primitive if prefix == BODY else text_or_more
        return _Part(Type.ANY, lambda subject: simple(raw(subject)), raw)

    def _body(self, path: str) -> Judged:
        steps = parse_path(path)
        self.asks_body = True

        def raw(subject: Subject) -> Value:
            document = subject.body()
            return UNDEFINED if document is None else member(document, steps)  # type: ignore[return-value]  # JSON

        return raw

    def _twin(self, path: str) -> Judged:
        steps = parse_twin_path(path)
        self.asks_twin = True

        def raw(subject: Subject) -> Value:
            document = subject.twin()
            return UNDEFINED if document is None else member_in_any_case(document, steps)  # type: ignore[return-value]

        return raw

    def _call(self, node: Call) -> _Part:
        name = node.function.upper()
        if name == "TWIN_CHANGE_INCLUDES":
            return self._change_includes(node)
        arguments = [self.part(each) for each in node.arguments]
        if name == "IS_DEFINED":
            if len(arguments) != 1:
                raise _arguments(node, "1 argument")
            return _defined(arguments[0])
        function = FUNCTIONS.get(name)
        if function is None:
            raise ConditionError(f"There is no function '{node.function}'.", node.start, node.end)
        _check_arguments(node, function, arguments)
        return _applied(function, arguments)

    def _change_includes(self, node: Call) -> _Part:
        if not self._twin_changes:
            message = f"'{node.function}' is for routes of twin changes only."
            raise ConditionError(message, node.start, node.end)
        try:
            steps = parse_path(node.argument_text)
        except ValueError as error:
            raise ConditionError(f"'{node.function}' takes a path: {error}.", node.start, node.end) from error
        self.asks_body = True

        def judge(subject: Subject) -> Value:
            document = subject.body()
            return UNDEFINED if document is None else member(document, steps) is not Undefined.MISSING

        return _Part(Type.BOOLEAN, judge, judge)

    def _unary(self, node: Unary) -> _Part:
        operand = self.part(node.operand)
        accepted = (Type.BOOLEAN, Type.NULL, Type.UNDEFINED) if node.operator == "NOT" else (Type.NUMBER,)
        if operand.type not in (*accepted, Type.ANY):
            raise _operands(node, node.operator, operand.type)
        judge = operand.judge
        if node.operator == "NOT":
            return _plain(Type.BOOLEAN, lambda subject: opposite(judge(subject)))
        return _plain(Type.NUMBER, lambda subject: _negated(judge(subject)))

    def _logical(self, node: Logical) -> _Part:
        parts = [self.part(each) for each in node.operands]
        for operand, part in zip(node.operands, parts, strict=True):
            if part.type not in (Type.BOOLEAN, Type.NULL, Type.UNDEFINED, Type.ANY):
                raise _operands(operand, node.operator, part.type)
        return _plain(Type.BOOLEAN, _judged_in_turn(node.operator, [part.judge for part in parts]))

    def _binary(self, node: Binary) -> _Part:
        left, right = self.part(node.left), self.part(node.right)
        match node.operator:
            case "??":
                _check_alike(node, left, right)
                return _coalesced(left, right)
            case "||":
                _check_types(node, left, right, (Type.STRING,))
                return _applied(CONCAT, [left, right])
            case "+" | "-" | "*" | "/" | "%":
                _check_types(node, left, right, (Type.NUMBER,))
                return _plain(Type.NUMBER, _joined(_ARITHMETIC[node.operator], left.judge, right.judge))
            case _:
                _check_alike(node, left, right)
                return _plain(Type.BOOLEAN, _joined(_COMPARISONS[node.operator], left.judge, right.judge))


def _literal(node: Literal) -> _Part:
    match node.value:
        case bool():
            return _constant(Type.BOOLEAN, node.value)
        case str():
            return _constant(Type.STRING, node.value)
        case float():
            return _constant(Type.NUMBER, node.value)
        case None:
            return _constant(Type.NULL, None)
        case _:
            return _constant(Type.UNDEFINED, UNDEFINED)


def _constant(kind: Type, value: Value) -> _Part:
    return _plain(kind, lambda subject: value)


def _plain(kind: Type, judge: Judged) -> _Part:
    return _Part(kind, judge, judge)


def _property(name: str) -> _Part:
    def judge(subject: Subject) -> Value:
        value = subject.application_property(name)
        return UNDEFINED if value is None else value

    return _plain(Type.STRING, judge)


def _property_first(name: str, otherwise: Judged) -> Judged:
    """An application property that is literally called like the reference wins."""

    def judge(subject: Subject) -> Value:
        value = subject.application_property(name)
        return otherwise(subject) if value is None else value

    return judge


def _defined(argument: _Part) -> _Part:
    judge, raw = argument.judge, argument.raw

    def defined(subject: Subject) -> Value:
        return raw(subject) is not Undefined.MISSING and judge(subject) is not UNDEFINED

    return _plain(Type.BOOLEAN, defined)


def _coalesced(left: _Part, right: _Part) -> _Part:
    defined, first, second = _defined(left).judge, left.judge, right.judge
    kind = right.type if left.type in (Type.UNDEFINED, right.type) else left.type
    kind = Type.ANY if Type.ANY in (left.type, right.type) else kind
    return _plain(kind, lambda subject: first(subject) if defined(subject) else second(subject))


def _applied(function: Function, arguments: list[_Part]) -> _Part:
    apply = function.apply
    judges = [each.raw if function.takes is Takes.RAW else each.judge for each in arguments]
    if len(judges) == 1:
        only = judges[0]
        return _plain(function.result, lambda subject: apply(only(subject)))
    return _plain(function.result, lambda subject: apply(*[judge(subject) for judge in judges]))


def _joined(operation: Operation, left: Judged, right: Judged) -> Judged:
    return lambda subject: operation(left(subject), right(subject))


def _judged_in_turn(operator: str, judges: list[Judged]) -> Judged:
    """False decides an AND, true an OR, and what stands behind is not judged; what is no boolean is undefined."""
    decisive = operator == "OR"

    def judge(subject: Subject) -> Value:
        result: Value = not decisive
        for each in judges:
            value = each(subject)
            if value is decisive:
                return decisive
            if not isinstance(value, bool):
                result = UNDEFINED
        return result

    return judge


def _negated(value: Value) -> Value:
    return -value if isinstance(value, float) else UNDEFINED


def _numbers(operation: Callable[[float, float], float]) -> Operation:
    def apply(left: Value, right: Value) -> Value:
        if not isinstance(left, float) or not isinstance(right, float):
            return UNDEFINED
        return number(operation(left, right))

    return apply


def _divided(left: float, right: float) -> float:
    if right:
        return left / right
    return math.nan if left == 0 or math.isnan(left) else math.copysign(math.inf, left) * math.copysign(1, right)


def _remainder(left: float, right: float) -> float:
    return math.nan if right == 0 or math.isinf(left) else math.fmod(left, right)


_ARITHMETIC: dict[str, Operation] = {
    "+": _numbers(lambda left, right: left + right),
    "-": _numbers(lambda left, right: left - right),
    "*": _numbers(lambda left, right: left * right),
    "/": _numbers(_divided),
    "%": _numbers(_remainder),
}

_COMPARISONS: dict[str, Operation] = {
    "=": equal,
    "!=": unequal,
    "<": ordered(lambda sign: sign < 0),
    "<=": ordered(lambda sign: sign <= 0),
    ">": ordered(lambda sign: sign > 0),
    ">=": ordered(lambda sign: sign >= 0),
}


def _check_types(node: Binary, left: _Part, right: _Part, accepted: tuple[Type, ...]) -> None:
    for part in (left, right):
        if part.type not in (*accepted, Type.ANY):
            raise _operands(node, node.operator, left.type, right.type)


def _check_alike(node: Binary, left: _Part, right: _Part) -> None:
    loose = (Type.ANY, Type.UNDEFINED)
    if left.type is not right.type and left.type not in loose and right.type not in loose:
        raise _operands(node, node.operator, left.type, right.type)


def _check_arguments(node: Call, function: Function, arguments: list[_Part]) -> None:
    most = len(function.parameters)
    if len(arguments) < function.required or (len(arguments) > most and not function.repeats):
        count = f"{function.required}" if most == function.required else f"{function.required} to {most}"
        raise _arguments(node, f"{count}{' or more' if function.repeats else ''} arguments")
    if function.takes is not Takes.TYPED:
        return
    for place, argument in enumerate(arguments):
        wanted = function.parameters[min(place, most - 1)]
        if argument.type not in (wanted, Type.ANY):
            raise _arguments(
                node, f"a {wanted.value} as argument {place + 1}, not a value of type {argument.type.value}"
            )


def _arguments(node: Call, wanted: str) -> ConditionError:
    return ConditionError(f"The function '{node.function}' takes {wanted}.", node.start, node.end)


def _operands(node: Node, operator: str, *types: Type) -> ConditionError:
    given = " and ".join(each.value for each in types)
    hint = "; as_number() makes a number of a property" if set(types) == {Type.STRING, Type.NUMBER} else ""
    return ConditionError(f"The operator '{operator}' does not take {given}{hint}.", node.start, node.end)
