"""What a walk is sent out for, and what it brings back; values that travel to a connector as JSON."""

from enum import StrEnum
from typing import Annotated

import msgspec

STATIONS_MAX = 8
"""Of one walk; there are six, and one for a walk that could not set out."""


class Way(StrEnum):
    """What is tried: a device's MQTT, AMQP, HTTPS, and the built-in endpoint that services read events from."""

    MQTT = "mqtt"
    AMQP = "amqp"
    HTTPS = "https"
    EVENTS = "events"


class Station(StrEnum):
    """The stations of a path, in their order; VANTAGE when nobody could set out."""

    VANTAGE = "vantage"
    NAME = "name"
    TCP = "tcp"
    TLS = "tls"
    PROTOCOL = "protocol"
    AUTHENTICATION = "authentication"
    MESSAGE = "message"


class Verdict(StrEnum):
    """How a station was passed; SKIPPED where there was nothing to try, which breaks no path."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


class Errand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What to try: the hub's name, the address where it should be found, and who the walker says he is.

    `authorities` is the hub's CA as PEM. `name_servers` are asked in turn, each an address with its port; with none the
    machine's own resolver is asked when `own_resolver` is set, and nobody otherwise. `public` are addresses that a
    client inside must not be told. `token` is good for `device_id` alone.
    """

    way: Way
    host_name: str
    address: str
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)]
    authorities: str
    device_id: str
    token: str
    name_servers: tuple[tuple[str, int], ...] = ()
    own_resolver: bool = False
    public: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Errand(way={self.way!r}, host_name={self.host_name!r}, address={self.address!r}, port={self.port})"


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One station: its verdict, how long it took, and what was met there, for people."""

    station: Station
    verdict: Verdict
    milliseconds: float
    detail: Annotated[str, msgspec.Meta(max_length=2_048)] = ""


class Walk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The stations that were reached; the last one is the one that failed, if one did."""

    steps: Annotated[tuple[Step, ...], msgspec.Meta(max_length=STATIONS_MAX)]

    @property
    def works(self) -> bool:
        """True when a message went there and back."""
        return bool(self.steps) and self.steps[-1].station is Station.MESSAGE and self.steps[-1].verdict is Verdict.OK


def encode_errand(errand: Errand) -> dict[str, object]:
    """As JSON values."""
    told: dict[str, object] = msgspec.to_builtins(errand)
    return told


def decode_errand(value: dict[str, object]) -> Errand:
    """What was encoded; raises `msgspec.ValidationError`."""
    return msgspec.convert(value, Errand)


def encode_walk(walk: Walk) -> dict[str, object]:
    """As JSON values."""
    told: dict[str, object] = msgspec.to_builtins(walk)
    return told


def decode_walk(value: dict[str, object]) -> Walk:
    """What was encoded; raises `msgspec.ValidationError`."""
    return msgspec.convert(value, Walk)


def no_walk(reason: str) -> Walk:
    """The walk of somebody who could not set out."""
    return Walk((Step(Station.VANTAGE, Verdict.FAILED, 0.0, reason[:2_048]),))
