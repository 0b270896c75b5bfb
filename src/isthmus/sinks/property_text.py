"""Properties of messages as text, for targets that keep nothing else."""

from isthmus.telemetry.message import PropertyValue


def property_text(value: PropertyValue) -> str:
    """A property's text: numbers in decimals, truth in small letters, nothing for null."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case bytes():
            return value.decode(errors="replace")
        case _:
            return str(value)
