"""The connector beside a hub: connected, set up, renewed, refused, and back again."""

import asyncio
import datetime
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from connector.conftest import Running, device, free_port, receive
from connector.fake_hub import NAME, FakeHub, eventually, fake_hub
from isthmus.base.errors import ConfigurationError
from isthmus.connector import listening
from isthmus.connector.control import FOR_GOOD
from isthmus.connector.folder import held
from isthmus.connector.listening import Places
from isthmus.connector.stopping import CannotGoOn
from isthmus.wire.link.messages import Drain, EndpointSetup, Hello, RefusalCode, Refused, Result, Setup, Status

Run = Callable[..., Awaitable[Running]]


@pytest.fixture
def address(loopback_addresses: Callable[[], str]) -> str:
    """A private address."""
    return loopback_addresses()


async def test_the_hub_is_greeted_and_told_what_became_of_its_setup(hub: FakeHub, run: Run, address: str) -> None:
    port = free_port(address)
    hub.setup = _setup(1, address, port)
    await run(hub)
    control = await hub.control()
    hello = control.said[0]
    assert isinstance(hello, Hello)
    assert (hello.version, hello.name, hello.hostname) == (1, NAME, "plant-pc")
    await eventually(lambda: len(control.said) == 2)
    status = control.said[1]
    assert isinstance(status, Status)
    assert [(each.address, each.listening, each.ports) for each in status.endpoints] == [(address, True, (port,))]


async def test_a_change_leaves_other_endpoints_alone(
    hub: FakeHub, run: Run, loopback_addresses: Callable[[], str]
) -> None:
    kept, gone, added = loopback_addresses(), loopback_addresses(), loopback_addresses()
    port = free_port(kept)
    hub.setup = Setup(generation=1, endpoints=(_endpoint(kept, port), _endpoint(gone, port)), spares=2)
    running = await run(hub)
    control = await hub.control()
    await running.set_up()
    async with device(kept, port) as staying, device(gone, port) as leaving:
        for opened in (staying, leaving):
            await _say(opened, b"x")
            await (await hub.end()).read(1)
        control.say(Setup(generation=2, endpoints=(_endpoint(kept, port), _endpoint(added, port)), spares=2))
        await running.set_up()
        with pytest.raises(ConnectionResetError):
            await receive(leaving, 1)
        with pytest.raises(ConnectionRefusedError):
            async with device(gone, port):
                pass
        await _say(staying, b"y")
        async with device(added, port) as fresh:
            await _say(fresh, b"z")
            assert await (await hub.end()).read(1) == b"z"
        assert running.connector.listening.connections >= 1


async def test_an_address_that_is_not_here_is_reported_and_tried_again(
    hub: FakeHub, run: Run, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "RETRY_SECONDS", 0.05)
    port = free_port(address)
    blocking = await asyncio.start_server(lambda _reader, _writer: None, address, port)
    hub.setup = Setup(generation=1, endpoints=(_endpoint("203.0.113.7", port), _endpoint(address, port)))
    await run(hub)
    control = await hub.control()
    await eventually(lambda: len(control.said) == 2)
    first = control.said[1]
    assert isinstance(first, Status)
    assert [(each.listening, each.reason) for each in first.endpoints] == [
        (False, "203.0.113.7 is not an address of this machine"),
        (False, f"port {port} is in use"),
    ]
    blocking.close()
    await blocking.wait_closed()
    await eventually(lambda: len(control.said) == 3)
    second = control.said[2]
    assert isinstance(second, Status)
    assert [each.listening for each in second.endpoints] == [False, True]


async def test_an_endpoint_may_be_listened_for_elsewhere(hub: FakeHub, run: Run, address: str) -> None:
    """As in a pod, where the endpoint's address is the service's."""
    port = free_port(address)
    hub.setup = _setup(1, "10.96.0.5", port)
    running = await run(hub, places=Places({}, address))
    await running.set_up()
    async with device(address, port) as opened:
        await _say(opened, b"x")
        assert (await hub.end()).header.destination_address == "10.96.0.5"


async def test_no_more_connections_than_the_machine_can_hold(hub: FakeHub, run: Run, address: str) -> None:
    port = free_port(address)
    hub.setup = _setup(1, address, port)
    running = await run(hub, most=1)
    await running.set_up()
    async with device(address, port) as first:
        await _say(first, b"x")
        end = await hub.end()
        end.write(b"answered")
        assert await receive(first, 8) == b"answered"
        with pytest.raises(ConnectionResetError):
            async with device(address, port) as second:
                await receive(second, 1)
    end.close()
    await eventually(lambda: running.connector.listening.connections == 0)
    async with device(address, port) as third:
        await _say(third, b"y")
        assert await (await hub.end()).read(1) == b"y"


async def test_whoever_the_hub_did_not_answer_makes_room(hub: FakeHub, run: Run, address: str) -> None:
    """Sockets that say nothing keep nobody out, and nobody who was answered is sent away for them."""
    port = free_port(address)
    hub.setup = _setup(1, address, port)
    running = await run(hub, most=3)
    await running.set_up()
    async with device(address, port) as answered, device(address, port) as silent, device(address, port) as other:
        await _say(answered, b"x")
        ends = [await hub.end() for _ in range(3)]
        speaking = next(end for end in ends if end.header.source_port == answered.getsockname()[1])
        speaking.write(b"!")
        assert await receive(answered, 1) == b"!"
        async with device(address, port) as fresh:
            await _say(fresh, b"y")
            assert await (await hub.end()).read(1) == b"y"
            with pytest.raises(ConnectionResetError):
                await receive(silent, 1)
            speaking.write(b"?")
            assert await receive(answered, 1) == b"?"
        assert other.fileno() >= 0


async def test_an_endpoint_may_have_an_ipv6_address(hub: FakeHub, run: Run) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as probing:
        port = probing.getsockname()[1]
    hub.setup = _setup(1, "::1", port)
    await (await run(hub)).set_up()
    reader, writer = await asyncio.open_connection("::1", port)
    writer.write(b"x")
    end = await hub.end()
    assert (end.header.source_address, end.header.destination_address) == ("::1", "::1")
    end.write(b"y")
    assert await reader.readexactly(1) == b"y"
    writer.close()


async def test_it_comes_back_when_its_hub_does(hub: FakeHub, run: Run, address: str) -> None:
    port = free_port(address)
    hub.setup = _setup(1, address, port)
    running = await run(hub)
    await running.set_up()
    await hub.stop()
    async with device(address, port) as early:
        # It waits for a line while the hub is away, and gets one.
        await _say(early, b"early")
        await hub.start()
        assert await (await hub.end()).read(5) == b"early"


async def test_a_device_does_not_wait_for_ever(
    hub: FakeHub, run: Run, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "LINE_SECONDS", 0.1)
    port = free_port(address)
    hub.setup = _setup(1, address, port)
    running = await run(hub)
    await running.set_up()
    await hub.stop()
    async with device(address, port) as opened:
        with pytest.raises(ConnectionResetError):
            await receive(opened, 1)


async def test_a_cut_control_connection_cuts_no_device(hub: FakeHub, run: Run, address: str) -> None:
    port = free_port(address)
    hub.setup = _setup(1, address, port)
    running = await run(hub)
    await running.set_up()
    control = await hub.control()
    async with device(address, port) as opened:
        await _say(opened, b"x")
        end = await hub.end()
        control.cut()
        await hub.control()
        await running.set_up()
        await _say(opened, b"y")
        assert await end.read(2) == b"xy"


async def test_a_hub_that_drains_is_left_for_another(
    hub: FakeHub, run: Run, tmp_path: Path, loopback_addresses: Callable[[], str]
) -> None:
    other = FakeHub(tmp_path / "other", loopback_addresses())
    other.adopt(hub)
    await other.start()
    try:
        running = await run(hub, hubs=(hub.hub, other.hub))
        await running.set_up()
        (await hub.control()).say(Drain())
        await other.control()
        await running.set_up()
    finally:
        await other.stop()


@pytest.mark.parametrize("code", sorted(FOR_GOOD))
async def test_a_refusal_for_good_ends_it_with_a_remedy(hub: FakeHub, run: Run, code: str) -> None:
    hub.first_word = Refused(code=code, message="No.")
    running = await run(hub)
    with pytest.raises(CannotGoOn, match=r"The hub refuses this connector: No; .+\."):
        await _over(running)


async def test_a_refusal_for_now_is_followed_by_another_try(hub: FakeHub, run: Run) -> None:
    hub.first_word = Refused(code=RefusalCode.BUSY, message="Later.")
    running = await run(hub)
    await hub.control()
    hub.first_word = None
    await hub.control()
    await running.set_up()


async def test_a_revocation_while_it_runs_ends_it(hub: FakeHub, run: Run) -> None:
    running = await run(hub)
    (await hub.control()).say(Refused(code=RefusalCode.REVOKED, message="Revoked by the owner."))
    with pytest.raises(CannotGoOn, match="Revoked by the owner; enrol it anew"):
        await _over(running)


async def test_a_hub_of_another_authority_ends_it(
    hub: FakeHub, run: Run, tmp_path: Path, loopback_addresses: Callable[[], str]
) -> None:
    async with fake_hub(tmp_path / "other", loopback_addresses()) as other:
        running = await run(hub, hubs=("nowhere.invalid:9443", other.hub))
        with pytest.raises(CannotGoOn, match="What answers is not this connector's hub"):
            await _over(running)


async def test_a_hub_that_does_not_know_the_connectors_authority_ends_it(
    hub: FakeHub, run: Run, tmp_path: Path, loopback_addresses: Callable[[], str]
) -> None:
    other = FakeHub(tmp_path / "other", loopback_addresses())
    other.adopt(hub, connectors=False)
    await other.start()
    try:
        running = await run(hub, hubs=(other.hub,))
        with pytest.raises(CannotGoOn, match="the hub does not know who issued the connector's certificate"):
            await _over(running)
    finally:
        await other.stop()


async def test_an_expired_certificate_ends_it(hub: FakeHub, run: Run) -> None:
    running = await run(hub, life=datetime.timedelta(seconds=-1))
    with pytest.raises(CannotGoOn, match="certificate expired"):
        await _over(running)


async def test_a_certificate_is_renewed_while_devices_are_connected(
    hub: FakeHub, run: Run, address: str, tmp_path: Path
) -> None:
    port = free_port(address)
    hub.setup = _setup(1, address, port)
    running = await run(hub, life=datetime.timedelta(seconds=4))
    await running.set_up()
    before = running.connector.certificate_expires_ms
    async with device(address, port) as opened:
        await _say(opened, b"x")
        end = await hub.end()
        await eventually(lambda: running.connector.certificate_expires_ms > before)
        await _say(opened, b"y")
        assert await end.read(2) == b"xy"
        async with device(address, port) as fresh:
            await _say(fresh, b"z")
            assert await (await hub.end()).read(1) == b"z"
    assert not running.task.done()
    text = (tmp_path / "connector0" / "identity.pem").read_text()
    assert text.count("BEGIN CERTIFICATE") == 1


async def test_a_hub_that_does_not_renew_is_asked_again_until_the_certificate_expires(hub: FakeHub, run: Run) -> None:
    hub.renews = False
    running = await run(hub, life=datetime.timedelta(seconds=3))
    with pytest.raises(CannotGoOn, match="before the hub could renew it"):
        await _over(running)


async def test_checks_are_performed_and_answered(hub: FakeHub, run: Run) -> None:
    async def perform(request: dict[str, object]) -> dict[str, object]:
        if request["what"] == "bad":
            raise ValueError("inside")
        return {"seen": request["what"]}

    await run(hub, perform=perform)
    control = await hub.control()
    for what in ("good", "bad"):
        assert control.link.check({"what": what}) is not None
        control.stream.wake()
    await eventually(lambda: len(control.said) == 4)
    results = [each for each in control.said if isinstance(each, Result)]
    assert sorted((each.ok, sorted(each.body)) for each in results) == [(False, ["error"]), (True, ["seen"])]


async def test_a_check_that_nobody_performs_is_refused(hub: FakeHub, run: Run) -> None:
    await run(hub)
    control = await hub.control()
    control.link.check({"what": "any"})
    control.stream.wake()
    await eventually(lambda: len(control.said) == 3)
    result = control.said[2]
    assert isinstance(result, Result)
    assert not result.ok


async def test_descriptors_do_not_grow(hub: FakeHub, run: Run, address: str) -> None:
    port = free_port(address)
    hub.setup = _setup(1, address, port)
    running = await run(hub)
    await running.set_up()

    async def carry(count: int) -> None:
        for number in range(count):
            async with device(address, port) as opened:
                await _say(opened, b"x")
                end = await hub.end()
                if number % 3 == 0:
                    end.cut()
                elif number % 3 == 1:
                    end.close()
            end.close()
        await eventually(lambda: running.connector.listening.connections == 0)

    await carry(6)
    await hub.forget_ended()
    before = len(os.listdir("/proc/self/fd"))
    await carry(60)
    await hub.forget_ended()
    assert len(os.listdir("/proc/self/fd")) <= before + 4


async def test_draining_lets_what_is_carried_end(hub: FakeHub, run: Run, address: str) -> None:
    port = free_port(address)
    hub.setup = _setup(1, address, port)
    running = await run(hub)
    await running.set_up()
    async with device(address, port) as opened:
        await _say(opened, b"x")
        end = await hub.end()
        running.task.cancel()
        draining = asyncio.create_task(running.connector.drain(10.0))
        await asyncio.sleep(0)
        with pytest.raises(ConnectionRefusedError):
            async with device(address, port):
                pass
        await _say(opened, b"y")
        assert await end.read(2) == b"xy"
        opened.close()
        end.close()
        await asyncio.wait_for(draining, 5.0)


async def test_what_does_not_end_is_cut_off(hub: FakeHub, run: Run, address: str) -> None:
    port = free_port(address)
    hub.setup = _setup(1, address, port)
    running = await run(hub)
    await running.set_up()
    async with device(address, port) as opened:
        await _say(opened, b"x")
        await hub.end()
        running.task.cancel()
        await running.connector.drain(0.05)
        with pytest.raises(ConnectionResetError):
            await receive(opened, 1)


def test_one_process_at_a_time_uses_a_folder(tmp_path: Path) -> None:
    with held(tmp_path / "c"), pytest.raises(ConfigurationError, match="already: stop it first"), held(tmp_path / "c"):
        pass
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o700


def _endpoint(address: str, port: int) -> EndpointSetup:
    return EndpointSetup(address=address, ports=(port,), name="pe")


def _setup(generation: int, address: str, port: int) -> Setup:
    return Setup(generation=generation, endpoints=(_endpoint(address, port),), spares=2)


async def _say(opened: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(opened, data)


async def _over(running: Running) -> None:
    async with asyncio.timeout(15.0):
        await running.task
