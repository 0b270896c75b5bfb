"""The keys of an issuer elsewhere, as he publishes them: fetched when a token needs them, kept, and followed.

Theory of operation. Nothing is fetched before a token of the issuer is shown, so a hub starts whether or not he can be
reached. `prepare` is awaited before a token is judged; judging itself never waits. It fetches when no key is known, or
none of the token's id: so the first token after the issuer has changed his key is already taken. Older keys than
`REFRESH_SECONDS` are fetched anew beside the work, so that a key that he has withdrawn is not taken for long. There is
one fetch at a time, whoever asks, and at most `ASKS_MAX` in `ASKS_SECONDS`: strangers with made-up key ids cannot have
the hub knock at the issuer's door without end. A fetch that fails leaves what is known; after `KEPT_SECONDS_MAX`
without a good one nothing is known any more. Who waits may be cancelled, the fetch goes on for the others.

The pages: the OpenID document, whose issuer must be this one, names the key set (OpenID Connect Discovery 1.0 §4.3);
or the key set's address is given (RFC 7517 §5).
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from isthmus.access.access_tokens import Keys, read_set
from isthmus.base.clock import Clock

FETCH_SECONDS_MAX = 10.0
"""Both pages together; the connection of who shows the token waits for them."""

REFRESH_SECONDS = 3_600.0
"""Age at which keys are fetched anew: what an issuer withdraws is taken that long at most while he can be reached."""

KEPT_SECONDS_MAX = 86_400.0
"""Age at which keys count no more, though the issuer cannot be reached: a day bridges his outages."""

ASKS_MAX = 6
ASKS_SECONDS = 60.0
"""Fetches in a minute: an issuer's new key is known ten seconds after its first token even while strangers guess."""

PAGE_BYTES_MAX = 1024 * 1024
"""A page of an issuer; the largest key sets that are published have some dozens of kilobytes."""

WELL_KNOWN = "/.well-known/openid-configuration"

Fetch = Callable[[str], Awaitable[bytes]]
"""The page at an address, at most `PAGE_BYTES_MAX` of it; raises OSError."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IssuerPages:
    """Where an issuer's keys are found: the key set itself, or without it the OpenID document that names it."""

    issuer: str
    document: str = ""
    key_set: str = ""

    @property
    def document_address(self) -> str:
        """Where the OpenID document is: as was said, else below the issuer's name."""
        return self.document or self.issuer.rstrip("/") + WELL_KNOWN


class IssuerKeys:
    """The keys of one issuer; used on the event loop only. `close` it."""

    def __init__(self, pages: IssuerPages, fetch: Fetch, clock: Clock) -> None:
        self._pages = pages
        self._fetch = fetch
        self._clock = clock
        self._keys: Keys = {}
        self._fetched = 0.0
        self._asked: deque[float] = deque(maxlen=ASKS_MAX)
        self._trouble = "they were not asked for yet"
        self._fetching: asyncio.Task[None] | None = None

    def keys(self) -> Keys:
        """The keys that count now, by their ids."""
        return self._keys if self._age() <= KEPT_SECONDS_MAX else {}

    def trouble(self) -> str:
        """Why the last fetch failed; empty when it did not."""
        return self._trouble

    async def prepare(self, key_id: str) -> None:
        """Fetches what a token of that key id needs; never raises, and returns within `FETCH_SECONDS_MAX`."""
        known = self.keys()
        is_known = key_id in known if key_id else bool(known)
        if is_known and self._age() <= REFRESH_SECONDS:
            return
        if self._fetching is None and self._may_ask():
            self._fetching = asyncio.create_task(self._renew(), name=f"keys of {self._pages.issuer}")
        if self._fetching is not None and not is_known:
            await asyncio.wait({self._fetching})

    async def close(self) -> None:
        """Ends a fetch that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait({self._fetching})

    async def _renew(self) -> None:
        try:
            async with asyncio.timeout(FETCH_SECONDS_MAX):
                self._keys = await self._published()
        except TimeoutError:
            self._failed(f"no answer within {FETCH_SECONDS_MAX:.0f} s")
        except (OSError, ValueError, msgspec.DecodeError) as error:
            self._failed(str(error) or type(error).__name__)
        else:
            self._fetched, self._trouble = self._clock.monotonic(), ""
        finally:
            self._fetching = None

    async def _published(self) -> Keys:
        address = self._pages.key_set or await self._named_key_set()
        page = await self._fetch(address)
        return read_set(msgspec.json.decode(page, type=dict[str, object]))

    async def _named_key_set(self) -> str:
        address = self._pages.document_address
        document = msgspec.json.decode(await self._fetch(address), type=dict[str, object])
        if document.get("issuer") != self._pages.issuer:
            raise ValueError(f"the document at {address} is of the issuer {str(document.get('issuer'))[:128]}")
        key_set = document.get("jwks_uri")
        if not isinstance(key_set, str) or not key_set.startswith("https://"):
            raise ValueError(f"the document at {address} names no key set at an https address")
        return key_set

    def _failed(self, reason: str) -> None:
        self._trouble = reason
        logger.warning("keys of an issuer cannot be fetched", extra={"issuer": self._pages.issuer, "reason": reason})

    def _age(self) -> float:
        return self._clock.monotonic() - self._fetched if self._keys else 0.0

    def _may_ask(self) -> bool:
        now = self._clock.monotonic()
        if len(self._asked) == ASKS_MAX and now - self._asked[0] < ASKS_SECONDS:
            return False
        self._asked.append(now)
        return True
