"""Management over TLS: the stations of a request, and what becomes of a connection when its token goes."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import ClientSession, TCPConnector, web

from devices.fakes import CountedIds
from isthmus.access.journal import Verdict
from isthmus.base.clock import SystemClock
from isthmus.base.errors import Code, HubError
from isthmus.base.state import JournalFilter
from isthmus.network.door import MANAGEMENT_DOOR, Door, DoorKind
from isthmus.servers.gateway.gate import Gate
from isthmus.servers.gateway.listener import Plane
from isthmus.servers.management.metrics import Metrics
from isthmus.servers.management.remote import RemoteManagement
from isthmus.servers.management.request import Call, Reply
from isthmus.servers.management.server import BODY_BYTES_MAX
from servers.front_door import WAIT_SECONDS, client_context, front_door
from servers.management_world import HUB, HUBS, ManagementWorld

VERSION = {"api-version": "2023-06-30"}


@dataclass
class SlowActor:
    """Carries a call out when told to."""

    world: ManagementWorld
    slow: bool = False
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    calls: list[Call] = field(default_factory=list)

    async def act(self, call: Call) -> Reply:
        self.calls.append(call)
        if self.slow:
            self.entered.set()
            await asyncio.Event().wait()
        return await self.world.api.act(call)


@dataclass
class Elsewhere:
    """A hub's world with its management door, and a client that shows what it is told to."""

    world: ManagementWorld
    actor: SlowActor
    metrics: Metrics
    client: ClientSession
    url: str

    async def token(self, name: str = "ops", **body: object) -> dict[str, str]:
        """The header that shows a new token."""
        _, shown = await self.world.domain.tokens.create(name, {"role": "Owner", **body}, "")
        return {"Authorization": f"Bearer {shown}"}

    async def ask(self, method: str, target: str, headers: dict[str, str], **more: object) -> tuple[int, str]:
        """Status and code of an answer."""
        async with self.client.request(method, self.url + target, headers=headers, **more) as answer:  # type: ignore[arg-type]
            body = await answer.json() if await answer.read() else {}
            return answer.status, body.get("error", {}).get("code", "") if isinstance(body, dict) else ""


@asynccontextmanager
async def elsewhere(
    folder: Path,
    address: str,
    *,
    owners: dict[str, Door] | None = None,
    allow: tuple[str, ...] = (),
    sockets_max: int = 1_000,
) -> AsyncIterator[Elsewhere]:
    world = await ManagementWorld().start()
    domain, metrics, actor = world.domain, Metrics(), SlowActor(world)
    gate = Gate(domain.directory, domain.registry, domain.journal, metrics, SystemClock(), CountedIds())
    remote = RemoteManagement(actor, domain.tokens, gate, domain.journal, CountedIds(), allow)
    server = web.Server(remote.handle, access_log=None, handler_cancellation=True)
    async with front_door(folder, owners=owners, sockets_max=sockets_max) as front:
        bound = front.listeners.open(
            address,
            0,
            door=MANAGEMENT_DOOR,
            plane=Plane.MANAGEMENT,
            contexts=front.contexts,
            make_handler=lambda: remote.handler(server),
        )
        async with ClientSession(connector=TCPConnector(ssl=client_context(), limit=1)) as client:
            yield Elsewhere(world, actor, metrics, client, f"https://{address}:{bound.port}")
        await server.shutdown(0)


@pytest.fixture
async def far(tmp_path: Path, loopback_address: str) -> AsyncIterator[Elsewhere]:
    async with elsewhere(tmp_path, loopback_address) as opened:
        yield opened


async def test_a_call_carries_who_asks_by_which_door_and_from_where(far: Elsewhere) -> None:
    headers = {**await far.token(), "If-Match": "x"}
    assert (await far.ask("PATCH", HUB, headers, params=VERSION, json={"tags": {}}))[0] == 412

    (call,) = far.actor.calls
    assert (call.who, call.door, call.address, call.if_match) == ("token:ops", "management", "127.0.0.1", "x")
    refused, entered = await far.world.domain.journal.read(_all())
    assert (entered.verdict, entered.principal, entered.rule) == (Verdict.ALLOWED, "token:ops", "auth.token")
    assert (refused.verdict, refused.principal, refused.hub) == (Verdict.REFUSED, "token:ops", "hub")


@pytest.mark.parametrize("shown", ["", "Bearer", "Bearer x", "Basic eDp5", "bearer isthmus-management-1.AAAA"])
async def test_a_wrong_guess_costs_its_connection(far: Elsewhere, shown: str) -> None:
    headers = {"Authorization": shown} if shown else {}
    async with far.client.get(far.url + HUB, headers=headers, params=VERSION) as answer:
        told = await answer.json()
        assert (answer.status, told["error"]["code"]) == (401, "InvalidAuthenticationToken")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
        assert answer.headers["Connection"] == "close"
        (refused,) = await far.world.domain.journal.read(_all())
        assert refused.tracking_id.startswith(answer.headers["x-ms-request-id"])
    assert (refused.plane, refused.rule) == ("management", "auth.unknown-token" if shown else "auth.missing")
    assert not far.actor.calls


async def test_guesses_and_silent_sockets_do_not_cost_an_operator_his_connection(
    tmp_path: Path, loopback_address: str
) -> None:
    async with elsewhere(tmp_path, loopback_address, sockets_max=8) as far:
        headers = await far.token()
        assert (await far.ask("GET", HUB, headers, params=VERSION))[0] == 200
        port = int(far.url.rpartition(":")[2])
        silent = [await asyncio.open_connection(loopback_address, port) for _ in range(32)]
        async with ClientSession(connector=TCPConnector(ssl=client_context(), force_close=True)) as stranger:
            for guess in range(16):
                shown = {"Authorization": f"Bearer {guess}"}
                async with stranger.get(far.url + HUB, headers=shown, params=VERSION) as answer:
                    assert answer.status == 401
        assert (await far.ask("GET", HUB, headers, params=VERSION))[0] == 200
        entered = [each for each in await far.world.domain.journal.read(_all()) if each.rule == "auth.token"]
        for _, writer in silent:
            writer.transport.abort()
    assert len(entered) == 1


async def test_a_body_is_not_read_before_the_token_is_good(far: Elsewhere) -> None:
    endless = _endless()
    status, code = await far.ask("PUT", HUB, {}, params=VERSION, data=endless)
    assert (status, code) == (401, "InvalidAuthenticationToken")


async def test_a_body_that_is_too_large_is_refused(far: Elsewhere) -> None:
    big = io.BytesIO(b"x" * (BODY_BYTES_MAX + 1))
    assert (await far.ask("PUT", HUB, await far.token(), params=VERSION, data=big))[0] == 413


async def test_the_address_of_a_private_endpoint_is_no_management_door(tmp_path: Path, loopback_address: str) -> None:
    owners = {loopback_address: Door(DoorKind.PRIVATE, HUB, "plant")}
    async with elsewhere(tmp_path, loopback_address, owners=owners) as far:
        answer = await far.ask("GET", HUB, await far.token(), params=VERSION)
        (refused,) = await far.world.domain.journal.read(_all())

    assert answer == (401, "InvalidAuthenticationToken")
    assert (refused.rule, refused.door) == ("name.wrong-door", "private:plant")


@pytest.mark.parametrize(("allow", "status"), [(("10.0.0.0/8",), 401), (("10.0.0.0/8", "127.0.0.1/32"), 200)])
async def test_callers_come_from_where_they_may(
    tmp_path: Path, loopback_address: str, allow: tuple[str, ...], status: int
) -> None:
    async with elsewhere(tmp_path, loopback_address, allow=allow) as far:
        assert (await far.ask("GET", HUB, await far.token(), params=VERSION))[0] == status
        rules = {decision.rule for decision in await far.world.domain.journal.read(_all())}
    assert rules == ({"network.management-allow"} if status == 401 else {"auth.token"})


async def test_a_request_under_way_ends_with_its_token(far: Elsewhere) -> None:
    far.actor.slow = True
    asking = asyncio.create_task(far.ask("GET", HUB, await far.token(), params=VERSION))
    await asyncio.wait_for(far.actor.entered.wait(), WAIT_SECONDS)
    await far.world.domain.tokens.delete("ops")

    assert await asyncio.wait_for(asking, WAIT_SECONDS) == (401, "InvalidAuthenticationToken")


async def test_another_token_on_the_connection_gets_its_answer_first(far: Elsewhere) -> None:
    old, new = await far.token("old"), await far.token("new")
    assert (await far.ask("GET", HUB, old, params=VERSION))[0] == 200
    async with far.client.delete(f"{far.url}/tokens/old", headers=new) as answer:
        assert (answer.status, answer.headers["Connection"]) == (204, "close")
    assert (await far.ask("GET", HUB, new, params=VERSION))[0] == 200


async def test_deleting_twice_is_as_good_as_once(far: Elsewhere) -> None:
    assert (await far.ask("DELETE", f"{HUBS}/none", await far.token(), params=VERSION))[0] == 204


async def test_what_fails_inside_is_told_without_its_words(far: Elsewhere, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_call: Call) -> Reply:
        raise HubError(Code.SERVICE_UNAVAILABLE, "Nothing can be stored now")

    monkeypatch.setattr(far.actor, "act", broken)
    async with far.client.get(far.url + HUB, headers=await far.token(), params=VERSION) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


async def _endless() -> AsyncIterator[bytes]:
    """More than anybody reads; whoever waits for its end waits for ever."""
    yield b"{"
    await asyncio.Event().wait()


def _all() -> JournalFilter:
    return JournalFilter()
