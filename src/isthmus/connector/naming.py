"""The name service of the connector's network, at the addresses that the hub's setup gives.

As with endpoints, a setup changes what it must and nothing else: an address that stays is served without a gap, with
the new view from the next query on. An address where the service cannot listen (port 53 needs a right that the
connector may not have) is reported and tried again; nothing else of the connector depends on it.
"""

import asyncio
import logging
from collections.abc import Callable

import msgspec

from isthmus.base.hosts import address_and_port
from isthmus.base.ids import Ids
from isthmus.connector.listening import RETRY_SECONDS, Places, name_sockets
from isthmus.names.forward import DNS_PORT, Forwarder
from isthmus.names.serve import NameServer, Served
from isthmus.names.setup import NamesSetup, decode_names_setup
from isthmus.names.zone import Names, View
from isthmus.wire.link.messages import EndpointStatus

logger = logging.getLogger(__name__)


class NameService:
    """Serves names at any number of addresses. Use it on its loop only; `close` ends it."""

    def __init__(self, *, places: Places, ids: Ids, changed: Callable[[], None]) -> None:
        """`changed` is called when `statuses` has changed by itself."""
        self._places = places
        self._ids = ids
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._setup = NamesSetup(View())
        self._names = Names(self._setup.view)
        self._server = NameServer(Forwarder((), ids))
        self._served: dict[str, Served] = {}
        self._reasons: dict[str, str] = {}
        self._retry: asyncio.TimerHandle | None = None

    @property
    def statuses(self) -> tuple[EndpointStatus, ...]:
        """How serving at each address goes."""
        return tuple(self._status(address) for address in self._setup.listeners)

    def apply(self, value: dict[str, object]) -> None:
        """Serves what a setup says; one that cannot be read leaves everything as it was, with a line in the log."""
        try:
            setup = decode_names_setup(value)
        except msgspec.ValidationError as error:
            logger.error("names not applied", extra={"reason": str(error)})
            return
        moved = setup.port != self._setup.port
        self._setup, self._names = setup, Names(setup.view)
        servers = [server for text in setup.forward if (server := address_and_port(text, DNS_PORT)) is not None]
        self._server.forwarder = Forwarder(servers, self._ids)
        for address in [each for each in self._served if moved or each not in setup.listeners]:
            self._served.pop(address).close()
        self._reasons = {address: why for address, why in self._reasons.items() if address in setup.listeners}
        self._listen()

    def close(self) -> None:
        """Ends the service."""
        self._cancel_retry()
        self._served.clear()
        self._server.close()

    def _listen(self) -> None:
        self._cancel_retry()
        for address in self._setup.listeners:
            if address not in self._served:
                self._listen_at(address)
        if len(self._served) < len(set(self._setup.listeners)):
            self._retry = self._loop.call_later(RETRY_SECONDS, self._listen_again)

    def _listen_at(self, address: str) -> None:
        opened = name_sockets(self._places.of(address), self._setup.port)
        if isinstance(opened, str):
            if self._reasons.get(address) != opened:
                logger.warning("names not served", extra={"address": address, "reason": opened})
            self._reasons[address] = opened
            return
        self._reasons.pop(address, None)
        self._served[address] = self._server.serve(*opened, lambda: self._names)

    def _listen_again(self) -> None:
        before = self.statuses
        self._listen()
        if self.statuses != before:
            self._changed()

    def _status(self, address: str) -> EndpointStatus:
        listening = address in self._served
        ports = (self._setup.port,) if listening else ()
        return EndpointStatus(address=address, listening=listening, ports=ports, reason=self._reasons.get(address, ""))

    def _cancel_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
