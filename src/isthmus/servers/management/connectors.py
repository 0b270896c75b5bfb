"""The management calls about connectors.

`GET /connectors`, `GET /connectors/{name}`, `POST /connectors/enrol` with `{"name", "network", "expiresInSeconds"}`, of
which one of the first two may be left out, and `POST /connectors/{name}/revoke`. They are the local owner's.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from isthmus.access.explain import change_texts
from isthmus.access.journal import Journal
from isthmus.base.clock import Clock, iso_utc
from isthmus.base.errors import NOT_JSON, Code, ConfigurationError, HubError
from isthmus.resources.connector import TOKEN_SECONDS, Connector, connector_to_json
from isthmus.resources.connectors import Connectors
from isthmus.servers.management.arm import change_of
from isthmus.servers.management.request import Call, Reply
from isthmus.wire.link.token import EnrolmentToken, encode_token


class Invitation(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What an enrolment token is asked for with."""

    name: str = ""
    network: str = ""
    expires_in_seconds: int = TOKEN_SECONDS


@dataclass(frozen=True, slots=True)
class LinkFace:
    """The link door as the owner's calls see it.

    `open` listens, or raises `ConfigurationError`; `shown` tells what a connector has open now. `hubs`, `tls_name` and
    `ca_sha256` are what a token says about it.
    """

    open: Callable[[], None]
    shown: Callable[[str], dict[str, object]]
    hubs: tuple[str, ...]
    tls_name: str
    ca_sha256: str


@dataclass(frozen=True, slots=True)
class ConnectorCalls:
    """Answers calls about connectors; on the event loop only. `link` is None where no server runs."""

    connectors: Connectors
    journal: Journal
    clock: Clock
    link: LinkFace | None = None

    async def answer(self, call: Call) -> Reply:
        """The reply to a call below `/connectors`; raises HubError."""
        match call.method, call.path:
            case "GET", ("connectors",):
                return Reply(value=[self._shown(each) for each in self.connectors.all()])
            case "GET", ("connectors", name):
                return Reply(value=self._shown(self.connectors.require(name)))
            case "POST", ("connectors", "enrol"):
                return await self._invite(call)
            case "POST", ("connectors", name, "revoke"):
                return await self._revoke(call, name)
            case _:
                raise HubError(Code.NOT_FOUND, f"There is nothing at {call.method} /{'/'.join(call.path)}")

    async def _invite(self, call: Call) -> Reply:
        link = self._running()
        try:
            asked = msgspec.json.decode(call.body or b"{}", type=Invitation)
        except NOT_JSON as error:
            raise HubError(Code.ARGUMENT_INVALID, f"The body is not valid: {error}") from error
        # Both may refuse, and then no token shall wait.
        self.connectors.network_for(asked.name, asked.network)
        try:
            link.open()
        except ConfigurationError as error:
            raise HubError(Code.INVALID_OPERATION, f"No connector can dial in. {error}") from error
        connector, secret, expires_ms = await self.connectors.invite(
            asked.name, asked.network, asked.expires_in_seconds
        )
        self._changed(call, f"enrolment token of connector {connector.name} made", None, connector)
        token = EnrolmentToken(
            secret=secret,
            name=connector.name,
            network=connector.network,
            hubs=link.hubs,
            tls_name=link.tls_name,
            ca_sha256=link.ca_sha256,
            expires=expires_ms // 1_000,
        )
        said = {"name": connector.name, "network": connector.network, "expiryTime": iso_utc(expires_ms)}
        return Reply(201, {**said, "hubs": list(link.hubs), "tlsName": link.tls_name, "token": encode_token(token)})

    async def _revoke(self, call: Call, name: str) -> Reply:
        before = self.connectors.require(name)
        after = await self.connectors.revoke(name)
        if after.revision != before.revision:
            self._changed(call, f"connector {name} revoked", before, after)
        return Reply(value=self._shown(after))

    def _shown(self, connector: Connector) -> dict[str, object]:
        shown = connector_to_json(connector, self.clock.utc_ms())
        return shown | (self.link.shown(connector.name) if self.link is not None else {})

    def _changed(self, call: Call, what: str, before: Connector | None, after: Connector) -> None:
        now_ms = self.clock.utc_ms()
        was = connector_to_json(before, now_ms) if before is not None else None
        old, new = change_texts(was, connector_to_json(after, now_ms))
        self.journal.write(replace(change_of(call, "", what), before=old, after=new))

    def _running(self) -> LinkFace:
        if self.link is None:
            raise HubError(Code.INVALID_OPERATION, "A connector is enrolled at a server that runs: isthmus up")
        return self.link
