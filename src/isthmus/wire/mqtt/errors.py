"""What can be wrong with MQTT: the peer's bytes, or our use of the engine."""

from enum import IntEnum


class ConnectCode(IntEnum):
    """Return code of a CONNACK (MQTT 3.1.1 §3.2.2.3)."""

    ACCEPTED = 0
    UNACCEPTABLE_PROTOCOL = 1
    IDENTIFIER_REJECTED = 2
    SERVER_UNAVAILABLE = 3
    BAD_CREDENTIALS = 4
    NOT_AUTHORIZED = 5


class ProtocolError(Exception):
    """The peer broke a rule of MQTT, or one of our limits; the connection has to be closed [MQTT-4.8.0-1].

    `rule` is the number of the broken statement (`MQTT-2.2.2-2`), or `limit` for a bound of ours. `connect_code` is the
    CONNACK that goes out first, where the specification wants one.
    """

    def __init__(self, rule: str, message: str, connect_code: ConnectCode | None = None) -> None:
        super().__init__(f"{message} [{rule}]")
        self.rule = rule
        self.message = message
        self.connect_code = connect_code


class LocalError(Exception):
    """The engine was used against its contract; nothing was sent."""
