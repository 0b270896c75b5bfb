"""Whole numbers as protocols write them."""

from typing import Final

DIGITS_MAX: Final = 19
"""Of a number in 63 bits; Python refuses to read several thousand, by an error of its own."""


def whole_number(text: str) -> int | None:
    """The number that a text of ASCII digits is; None for anything else, and for more than `DIGITS_MAX` of them."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX else None
