"""The check that the hub asks a connector for: a path, walked from where the connector is.

A hub does not look around in a network: the walk goes to addresses of private endpoints that the setup names, and asks
the name services that it names, and nobody else.
"""

from collections.abc import Callable, Collection

import msgspec

from isthmus.base.clock import Clock
from isthmus.base.ids import Ids
from isthmus.paths.errand import decode_errand, encode_walk, no_walk
from isthmus.paths.ground import ThisMachine
from isthmus.paths.walk import walk


class PathChecks:
    """Walks paths; used on one loop only."""

    def __init__(self, at: Callable[[str], str], known: Callable[[], Collection[str]], clock: Clock, ids: Ids) -> None:
        """`known` gives the addresses of the setup, `at` tells at which address of this machine each is listened at."""
        self._ground = ThisMachine(at, inside=True)
        self._known = known
        self._clock = clock
        self._ids = ids

    async def perform(self, request: dict[str, object]) -> dict[str, object]:
        """Walks the path in a request; raises `msgspec.ValidationError` for what is none."""
        errand = decode_errand(msgspec.convert(request.get("path"), dict[str, object]))
        known = self._known()
        if errand.address not in known:
            return encode_walk(no_walk(f"the connector has no private endpoint at {errand.address}"))
        servers = tuple(server for server in errand.name_servers if server[0] in known)
        errand = msgspec.structs.replace(errand, name_servers=servers, own_resolver=False)
        return encode_walk(await walk(errand, self._ground, self._clock, self._ids))
