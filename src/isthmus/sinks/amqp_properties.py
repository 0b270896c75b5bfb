"""Properties of messages as the official AMQP clients take them."""

from typing import Final

from isthmus.telemetry.message import PropertyValue

INT_MIN: Final = -(2**31)
INT_MAX: Final = 2**31 - 1
LONG_MAX: Final = 2**63 - 1

AmqpValue = PropertyValue | dict[str, PropertyValue]


def amqp_value(value: PropertyValue) -> AmqpValue:
    """A property with its type told where a client would mistake it, or would take long to find it.

    Both refuse a whole number of more than 32 bits; that of Service Bus takes bytes for text. Both find out what a text
    is by raising and catching exceptions, which is a tenth of the work of sending a message.
    """
    match value:
        case str():
            return {"TYPE": "STRING", "VALUE": value}
        case bytes():
            return {"TYPE": "BINARY", "VALUE": value}
        case int() if type(value) is int and not INT_MIN <= value <= INT_MAX:
            return {"TYPE": "LONG" if value <= LONG_MAX else "ULONG", "VALUE": value}
        case _:
            return value


def amqp_time(utc_ms: int) -> AmqpValue:
    """A moment."""
    return {"TYPE": "TIMESTAMP", "VALUE": utc_ms}


def text(system: dict[str, PropertyValue], name: str) -> str | None:
    """A system property's text, or None."""
    value = system.get(name)
    return None if value is None else str(value)


def milliseconds(system: dict[str, PropertyValue], name: str) -> int | None:
    """A system property that is a time, or None."""
    value = system.get(name)
    return value if isinstance(value, int) else None
