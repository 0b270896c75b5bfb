"""What a fuzz target is: a name, which its corpus and its words have too, and what must hold for any bytes."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent

Check = Callable[[bytes], None]
"""Raises AssertionError, or whatever a decoder may not raise, for bytes that break the invariant."""


@dataclass(frozen=True, slots=True)
class Target:
    """One decoder, or one door with all that is behind it; `opened` gives the check, over a world if it needs one."""

    name: str
    opened: Callable[[], AbstractContextManager[Check]]

    def corpus(self) -> list[Path]:
        """The committed inputs, in one order; each is a case, and all are seeds of what mutation makes."""
        return sorted((HERE / "corpus" / self.name).iterdir())

    def words(self) -> list[bytes]:
        """What mutation knows of the language, for places that chance would take ages to find: one a line, escaped."""
        path = HERE / "words" / self.name
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.encode("latin-1").decode("unicode_escape").encode("latin-1") for line in lines]


def pure(name: str, check: Check) -> Target:
    """A target without a world."""
    return Target(name, lambda: nullcontext(check))
