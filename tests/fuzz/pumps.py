"""Texts at which a pattern could go back again and again, made of the pattern itself."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from fuzz.steps import codes, compiler, parser

PUMPS_MAX = 60
"""Of a pattern; its repetitions with what they repeat, alone and with a neighbour."""

ENDS = ("", "\0", "!")
"""What stands behind: nothing, or what hardly any pattern takes."""


def pumped(pattern: "re.Pattern[str]") -> Iterator[tuple[str, str, str]]:
    """What comes before, what is repeated, and what is behind."""
    tree = parser.parse(pattern.pattern, pattern.flags)
    found = dict.fromkeys(_places(list(tree), ""))
    for before, pump in islice(found, PUMPS_MAX):
        for behind in ENDS:
            yield before, pump, behind


def _places(nodes: list[tuple[Any, Any]], before: str) -> Iterator[tuple[str, str]]:
    """Each repetition of the tree behind a text that leads there, with texts that it repeats."""
    for number, (kind, argument) in enumerate(nodes):
        if kind in (codes.MAX_REPEAT, codes.MIN_REPEAT):
            _, most, inner = argument
            if most > 8:
                rest = _sample(nodes[number + 1 :])
                for pump in _samples(list(inner)):
                    yield before, pump
                    yield before, pump + rest if rest else pump * 2
                    yield "", before + pump + rest
            yield from _places(list(inner), before)
        elif kind is codes.SUBPATTERN:
            yield from _places(list(argument[3]), before)
        elif kind is codes.BRANCH:
            for alternative in argument[1]:
                yield from _places(list(alternative), before)
        before += _sample([(kind, argument)])


def _samples(nodes: list[tuple[Any, Any]]) -> list[str]:
    """Some texts that the nodes match: each alternative, and more than one character of a class."""
    if len(nodes) == 1:
        kind, argument = nodes[0]
        if kind is codes.BRANCH:
            return [_sample(list(each)) for each in argument[1]]
        if kind is codes.SUBPATTERN:
            return _samples(list(argument[3]))
        if kind in (codes.IN, codes.ANY, codes.NOT_LITERAL):
            return [each for each in TRIED if _matches(kind, argument, each)][:12] or [_sample(nodes)]
    return [_sample(nodes)]


TRIED = "a A1-._/=&'\"\\[](){}<>*+\t\n:;,%$#"
"""Characters that samples are made of where a class leaves the choice."""


def _matches(kind: Any, argument: Any, character: str) -> bool:
    tree = parser.SubPattern(parser.State(), [(kind, argument)])
    tree.state.str, tree.state.flags = "", re.DOTALL
    return compiler.compile(tree, re.DOTALL).match(character) is not None


def _sample(nodes: list[tuple[Any, Any]]) -> str:
    """A short text that the nodes match, or nearly."""
    return "".join(_one(kind, argument) for kind, argument in nodes)


def _one(kind: Any, argument: Any) -> str:
    match kind:
        case codes.LITERAL:
            return chr(argument)
        case codes.IN | codes.ANY | codes.NOT_LITERAL:
            return next((each for each in TRIED if _matches(kind, argument, each)), "")
        case codes.SUBPATTERN:
            return _sample(list(argument[3]))
        case codes.BRANCH:
            return _sample(list(argument[1][0]))
        case codes.MAX_REPEAT | codes.MIN_REPEAT:
            return _sample(list(argument[2])) * int(argument[0])
        case _:
            return ""
