"""The functions of queries over twins and jobs.

Officially there is `IS_DEFINED`, which asks for a name and is the compiler's own (IoT Hub developer guide, "Query
language", functions); in practice clients also send `STARTSWITH` and `ARRAY_CONTAINS`. Beside these stand all functions
of route conditions, with the same meaning.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from isthmus.base.filters import UNDEFINED, equal
from isthmus.query.conditions import functions as routes
from isthmus.query.conditions.nodes import Undefined as UndefinedOfRoutes
from isthmus.query.conditions.values import number

UNBOUNDED = 64
"""Arguments of a function that takes as many as it is given."""


@dataclass(frozen=True, slots=True)
class Function:
    """A pure function of values that raises nothing, and how many arguments it takes."""

    apply: Callable[..., object]
    arguments_min: int
    arguments_max: int

    @property
    def arity(self) -> str:
        """How many arguments it takes, in words."""
        if self.arguments_min == self.arguments_max:
            return f"{self.arguments_min} argument{'' if self.arguments_min == 1 else 's'}"
        return f"{self.arguments_min} to {self.arguments_max} arguments"


def _array_contains(array: object, value: object) -> object:
    """Undefined where there is no array, or nothing that could be in one."""
    if not isinstance(array, list | tuple) or value is UNDEFINED or isinstance(value, list | tuple | dict):
        return UNDEFINED
    return any(equal(member, value) is True for member in array)


def _of_routes(function: routes.Function) -> Function:
    """A function of route conditions, which know numbers as doubles."""

    def apply(*values: object) -> object:
        result: object = function.apply(*[_given(value) for value in values])
        return UNDEFINED if isinstance(result, UndefinedOfRoutes) else result

    least, most = function.required, len(function.parameters)
    return Function(apply, least, UNBOUNDED if function.repeats else most)


def _given(value: object) -> object:
    if value is UNDEFINED:
        return UndefinedOfRoutes.UNDEFINED
    return number(value) if isinstance(value, int) and not isinstance(value, bool) else value


FUNCTIONS: Mapping[str, Function] = MappingProxyType(
    {
        **{name: _of_routes(function) for name, function in routes.FUNCTIONS.items()},
        "ARRAY_CONTAINS": Function(_array_contains, 2, 2),
    }
)
"""By name in capitals."""
