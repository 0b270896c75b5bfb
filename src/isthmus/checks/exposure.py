"""The exposure matrix: every socket that listens, what should be there, what is, and whether the two agree."""

import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from isthmus.checks.kernel import Found, Spot, Survey
from isthmus.checks.knocking import NOBODY, Bell, Key, Met, knock, look_at_file, query_name

KNOCKS_AT_ONCE = 16
"""Some of what is knocked at answers with silence."""

CONNECTOR = "connector:"
"""Begins the place of what a connector reports."""

HELPER = "namespace helper"
NOT_ASKED = "listens; not asked from here"
"""The process that listens at its socket for the hub's user."""

_TOLD = ("process", "place", "protocol", "address", "plane", "door", "who")
WILDCARDS = ("0.0.0.0", "::")

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the matrix; `expected` and `observed` are for people, `agrees` is the verdict."""

    expected: str
    observed: str
    agrees: bool
    process: str = ""
    place: str = ""
    protocol: str = ""
    address: str = ""
    port: int = 0
    plane: str = ""
    door: str = ""
    hub: str = ""
    who: str = ""

    def to_json(self) -> dict[str, object]:
        """As JSON members."""
        return {
            "process": self.process,
            "place": self.place,
            "protocol": self.protocol,
            "address": self.address,
            "port": self.port,
            "plane": self.plane,
            "door": self.door,
            "hub": self.hub,
            "who": self.who,
            "expected": self.expected,
            "observed": self.observed,
            "verdict": "as expected" if self.agrees else "DIFFERENT",
        }


@dataclass(frozen=True, slots=True)
class Vantage:
    """From where strangers knock, and with what: `keys` by the name of the hub, `rules` tells why a device was refused.

    `rules` is asked after all knocks, with the device's name, and answers with an empty text where nothing is known.
    """

    source: str
    trust: ssl.SSLContext
    keys: Mapping[str, Key]
    rules: Callable[[str], str]


def matrix(table: Json, survey: Survey, vantage: Vantage) -> list[Row]:
    """Compares the server's own table with the kernel's and with what answers, a row for each socket and hub."""
    sockets: Sequence[Json] = table["sockets"]
    found = {each.spot: each for each in survey.found}
    questions = [question for each in sockets for question in _questions(each, table["hubs"], found)]
    bells = [_bell(each, index, vantage.source) for index, each in enumerate(questions)]
    with ThreadPoolExecutor(KNOCKS_AT_ONCE) as pool:
        met = list(pool.map(lambda question, bell: _ask(question, bell, vantage), questions, bells))
    rows = [_judged(*each, vantage.rules) for each in zip(questions, bells, met, strict=True)]
    rows += [_unknown(each, vantage) for each in _further(survey.found, {_spot(each) for each in sockets})]
    return rows + [_blind(each) for each in survey.blind]


@dataclass(frozen=True, slots=True)
class _Question:
    """One socket as it should be, for one hub where a hub is served there; `there` when the kernel has it."""

    socket: Json
    hub: str
    host: str
    there: bool

    @property
    def admission(self) -> Json | None:
        """Whether a stranger's address is let in, where a hub is served."""
        admission: Json | None = self.socket["hubs"].get(self.hub)
        return admission

    @property
    def is_elsewhere(self) -> bool:
        """True for what a connector has."""
        return str(self.socket["place"]).startswith(CONNECTOR)


def _questions(socket: Json, hubs: Sequence[Json], found: Mapping[Spot, Found]) -> Iterable[_Question]:
    there = _spot(socket) in found
    if not socket["hubs"]:
        return [_Question(socket, "", hubs[0]["hostName"] if hubs else "", there)]
    return [_Question(socket, hub["name"], hub["hostName"], there) for hub in hubs]


def _spot(socket: Json) -> Spot:
    return Spot(socket["place"], socket["protocol"], socket["address"], socket["port"])


def _bell(question: _Question, index: int, source: str) -> Bell:
    socket = question.socket
    address = socket["address"]
    origin = source if (":" in address) == (":" in source) else _loopback(address)
    if address in WILDCARDS:
        address = origin
    return Bell(address, socket["port"], socket["plane"], origin, question.host, question.hub, f"{NOBODY}-{index}")


def _loopback(address: str) -> str:
    """The machine itself, in the family of an address."""
    return "::1" if ":" in address else "127.0.0.1"


def _ask(question: _Question, bell: Bell, vantage: Vantage) -> Met | None:
    """What answers, None where nobody can be asked from here."""
    protocol = question.socket["protocol"]
    if question.is_elsewhere:
        return None
    if protocol == "unix":
        return look_at_file(question.socket["file"])
    if protocol == "udp" and question.socket["place"]:
        # A datagram has no handshake: it would go to whoever has that address out here, and be of no use to anybody.
        return Met(NOT_ASKED, reached=False)
    if bell.plane == "metadata":
        # Every machine in a cloud has that address of its own, and it is another service's.
        return Met(NOT_ASKED, reached=False)
    if bell.plane == "names":
        return query_name(bell, datagrams=protocol == "udp")
    return knock(bell, vantage.trust, vantage.keys.get(question.hub))


def _judged(question: _Question, bell: Bell, met: Met | None, rules: Callable[[str], str]) -> Row:
    if met is None:
        said = question.socket["reported"]
        listens = said == "listening"
        return _row(question, expected="the connector listens", observed=f"reported: {said}", agrees=listens)
    if not question.there:
        return _row(question, expected=_expected(question), observed="nobody listens there", agrees=False)
    if not met.reached:
        # Another network's address leads nowhere from here, and that is as it should be.
        return _row(question, expected=_expected(question), observed=met.words, agrees=bool(question.socket["place"]))
    if question.admission is None:
        return _row(question, expected=_expected(question), observed=met.words, agrees=_is_plain(question, met))
    rule = rules(bell.device) if bell.plane == "mqtt" else ""
    observed = f"{met.words} ({rule})" if rule else met.words
    return _row(question, expected=_expected(question), observed=observed, agrees=_obeys(question.admission, met, rule))


def _obeys(admission: Json, met: Met, rule: str) -> bool:
    """A stranger is always refused. The key is served where its address is admitted and nowhere else."""
    if not met.stranger_refused:
        return False
    if rule:
        return rule.startswith("auth.") if admission["admitted"] else rule == admission["rule"]
    return met.served is None or met.served is bool(admission["admitted"])


def _is_plain(question: _Question, met: Met) -> bool:
    """What serves no hub: names and metrics answer whoever reaches them, everything else refuses strangers.

    The helper's socket may be reached by every user: it asks the kernel who they are (unix(7), SO_PEERCRED).
    """
    if question.socket["plane"] in ("names", "metrics"):
        return not met.stranger_refused
    return met.stranger_refused or question.socket["process"] == HELPER


def _expected(question: _Question) -> str:
    admission, plane = question.admission, question.socket["plane"]
    if admission is not None:
        return "serves keys, refuses strangers" if admission["admitted"] else f"refuses all: {admission['rule']}"
    if plane in ("names", "metrics"):
        return "answers"
    if plane == "metadata":
        return "gives tokens inside"
    if question.socket["process"] == HELPER:
        return "asks the kernel who calls"
    return "for its user only" if question.socket["protocol"] == "unix" else "refuses strangers"


def _row(question: _Question, *, expected: str, observed: str, agrees: bool) -> Row:
    told = {name: str(question.socket[name]) for name in _TOLD}
    port = question.socket["port"]
    return Row(expected, observed, agrees, hub=question.hub, port=port, **told)


def _further(found: Iterable[Found], known: set[Spot]) -> Iterable[Found]:
    """Sockets that the hub does not know of, and a second one at a place that it does."""
    left = set(known)
    for each in found:
        if each.spot not in left:
            yield each
        left.discard(each.spot)


def _unknown(found: Found, vantage: Vantage) -> Row:
    spot = found.spot
    if spot.protocol == "tcp" and not spot.place:
        origin = vantage.source if (":" in spot.address) == (":" in vantage.source) else _loopback(spot.address)
        address = origin if spot.address in WILDCARDS else spot.address
        observed = knock(Bell(address, spot.port, "", origin, ""), vantage.trust, None).words
    else:
        observed = "listens"
    return Row(
        expected="nothing",
        observed=observed,
        agrees=False,
        process=", ".join(f"process {pid}" for pid in found.pids),
        place=spot.place,
        protocol=spot.protocol,
        address=spot.address,
        port=spot.port,
    )


def _blind(reason: str) -> Row:
    return Row("to be looked at", reason, agrees=False)
