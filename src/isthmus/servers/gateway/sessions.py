"""The index of live sessions: who is connected to which hub, by which door, from where, by which right and key.

A change of rules cuts exactly the sessions it concerns: `where` finds the candidates by index, a predicate judges each
of them, and the caller hears when the last one is gone.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Protocol

from isthmus.access.principal import Principal
from isthmus.base.errors import Code, Refusal
from isthmus.base.ids import HubId
from isthmus.network.door import Door
from isthmus.servers.gateway.plane import Plane

CUT_SECONDS_MAX = 10.0
"""How long `cut` waits for its sessions: twice what a connection takes to close when its peer does not read."""

logger = logging.getLogger(__name__)


class Session(Protocol):
    """A live session, or an AMQP link with rights of its own; what it is indexed by does not change while it is in."""

    @property
    def hub(self) -> HubId: ...

    @property
    def door(self) -> Door: ...

    @property
    def address(self) -> str: ...

    @property
    def principal(self) -> Principal: ...

    @property
    def device(self) -> str:
        """The device or `device/module` that it is the session of, whoever's key let it in; empty for services."""

    @property
    def plane(self) -> Plane: ...

    @property
    def built_in(self) -> bool:
        """True when it was admitted to the built-in endpoint only, which network rules may leave out."""

    def cut(self, refusal: Refusal, code: Code) -> None:
        """Says goodbye in its protocol's words and closes; whoever added the session removes it when it is closed."""


@dataclass(frozen=True, slots=True)
class Where:
    """Which sessions; None is any. `principal` is the label, such as `device:d1` or `policy:service`.

    `device_id` finds the sessions of a device and of its modules.
    """

    hub: HubId | None = None
    door: Door | None = None
    address: str | None = None
    principal: str | None = None
    device_id: str | None = None
    key_fingerprint: str | None = None


class Sessions:
    """Use it on one loop only."""

    def __init__(self) -> None:
        self._all: dict[int, Session] = {}
        self._index: dict[tuple[str, object], dict[int, Session]] = {}
        self._waiting: dict[int, list[asyncio.Event]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def add(self, session: Session) -> None:
        """Takes a session in; the same object only once."""
        number = id(session)
        assert number not in self._all, "the session is in already"
        self._all[number] = session
        for entry in _entries(session):
            self._index.setdefault(entry, {})[number] = session

    def remove(self, session: Session) -> None:
        """Lets a closed session go, and with it whoever waits for its end; without effect when it is not in."""
        number = id(session)
        if self._all.pop(number, None) is None:
            return
        for entry in _entries(session):
            sessions = self._index[entry]
            del sessions[number]
            if not sessions:
                del self._index[entry]
        for gone in self._waiting.pop(number, ()):
            gone.set()

    def all(self, hub: HubId) -> tuple[Session, ...]:
        """Every session of a hub."""
        return self.find(Where(hub=hub))

    def find(self, where: Where) -> tuple[Session, ...]:
        """The sessions that match, found through the narrowest of the indexes that `where` names."""
        wanted = [(name, value) for name, value in _parts(where) if value is not None]
        if not wanted:
            return tuple(self._all.values())
        candidates = min((self._index.get(entry, {}) for entry in wanted), key=len)
        return tuple(session for session in candidates.values() if _has_all(session, wanted))

    async def cut(self, judge: Callable[[Session], Refusal | None], code: Code, *, where: Where | None = None) -> int:
        """Cuts the sessions of `where` for which `judge` tells why; returns how many, after the last one is removed.

        Waits `CUT_SECONDS_MAX` at most; sessions that did not end by then are logged. When cancelled, the sessions are
        cut all the same and nobody waits for them.
        """
        judged = [(session, judge(session)) for session in self.find(where or Where())]
        chosen = [(session, refusal) for session, refusal in judged if refusal is not None]
        ends = [self._end_of(session) for session, _ in chosen]
        for session, refusal in chosen:
            session.cut(refusal, code)
        try:
            async with asyncio.timeout(CUT_SECONDS_MAX):
                for gone in ends:
                    await gone.wait()
        except TimeoutError:
            left = sum(not gone.is_set() for gone in ends)
            rules = sorted({refusal.rule for _, refusal in chosen})
            logger.error("cut sessions did not end", extra={"sessions": left, "rules": rules})
        return len(chosen)

    def _end_of(self, session: Session) -> asyncio.Event:
        gone = asyncio.Event()
        self._waiting.setdefault(id(session), []).append(gone)
        return gone


_PARTS = tuple(field.name for field in fields(Where))


def _parts(where: Where) -> Iterable[tuple[str, object]]:
    return ((name, getattr(where, name)) for name in _PARTS)


def _entries(session: Session) -> tuple[tuple[str, object], ...]:
    """What a session is found by, in the names of `Where`."""
    return (
        ("hub", session.hub),
        ("door", session.door),
        ("address", session.address),
        ("principal", session.principal.label),
        ("device_id", session.device.partition("/")[0]),
        ("key_fingerprint", session.principal.key_fingerprint),
    )


def _has_all(session: Session, wanted: list[tuple[str, object]]) -> bool:
    entries = _entries(session)
    return all(entry in entries for entry in wanted)
