"""`isthmus connector run` as a process: how it starts, what it says, how it ends."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from connector.conftest import device, free_port, receive
from connector.fake_hub import SECRET, FakeHub, eventually
from isthmus.base.errors import ConfigurationError
from isthmus.connector.listening import Places
from isthmus.connector.run import Options, parse_places
from isthmus.wire.link.messages import EndpointSetup, RefusalCode, Refused, Setup
from isthmus.wire.link.token import encode_token
from support.server import ISTHMUS

START_SECONDS_MAX = 30.0
END_SECONDS_MAX = 15.0
PROXY_VARIABLES = ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "ISTHMUS_ENROLMENT_TOKEN")

Process = asyncio.subprocess.Process
Start = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts connector processes on one data folder; kills what still runs."""
    started: list[Process] = []

    async def run(*options: str, **environment: str) -> Process:
        clean = {name: value for name, value in os.environ.items() if name not in PROXY_VARIABLES}
        process = await asyncio.create_subprocess_exec(
            ISTHMUS,
            *("connector", "run", "--data", str(tmp_path / "data"), "--ready-file", str(tmp_path / "ready")),
            *options,
            env=clean | environment,
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined]


async def test_it_enrols_by_its_token_and_needs_none_afterwards(hub: FakeHub, start: Start, tmp_path: Path) -> None:
    first = await start("--token", encode_token(hub.token()))
    await _ready(tmp_path)
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    code, said = await _ended(first, signal.SIGTERM)
    assert code == 0
    assert SECRET not in said
    second = await start()
    await _ready(tmp_path)
    assert len(hub.enrolments) == 1
    assert (await _ended(second, signal.SIGTERM))[0] == 0


@pytest.mark.parametrize("way", ["file", "variable"])
async def test_the_token_comes_by_file_or_environment(hub: FakeHub, start: Start, tmp_path: Path, way: str) -> None:
    text = encode_token(hub.token())
    if way == "file":
        (tmp_path / "token").write_text(f"{text}\n")
        await start("--token", f"@{tmp_path / 'token'}")
    else:
        await start(ISTHMUS_ENROLMENT_TOKEN=text)
    await _ready(tmp_path)
    assert len(hub.enrolments) == 1


async def test_the_ready_file_tells_what_is_listened_for(
    hub: FakeHub, start: Start, tmp_path: Path, loopback_addresses: Callable[[], str]
) -> None:
    address = loopback_addresses()
    port = free_port(address)
    hub.setup = Setup(generation=1, endpoints=(EndpointSetup(address=address, ports=(port,), name="pe"),))
    process = await start("--token", encode_token(hub.token()))
    ready = await _ready(tmp_path)
    assert ready == {"pid": process.pid, "endpoints": [{"name": "pe", "address": address, "ports": [port]}]}
    async with device(address, port) as opened:
        await asyncio.get_running_loop().sock_sendall(opened, b"x")
        end = await hub.end()
        end.write(b"y")
        assert await receive(opened, 1) == b"y"


async def test_without_a_token_it_says_what_is_missing(start: Start) -> None:
    code, said = await _ended(await start())
    assert code == 1
    assert said.splitlines()[-1].startswith("isthmus: There is no certificate in ")
    assert "isthmus connector enrol" in said


async def test_a_used_token_ends_it_with_one_sentence(hub: FakeHub, start: Start) -> None:
    hub.refuse_enrolment = Refused(code=RefusalCode.TOKEN, message="The token is not known, was used, or has run out.")
    code, said = await _ended(await start("--token", encode_token(hub.token())))
    assert code == 1
    assert said.splitlines()[-1] == (
        "isthmus: The hub refuses the enrolment: The token is not known, was used, or has run out."
    )
    assert SECRET not in said


async def test_a_cut_token_is_not_repeated(hub: FakeHub, start: Start) -> None:
    text = encode_token(hub.token())[:-20]
    code, said = await _ended(await start("--token", text))
    assert code == 1
    assert "cut or changed" in said
    assert text not in said


async def test_a_revoked_connector_ends_with_one_sentence(hub: FakeHub, start: Start, tmp_path: Path) -> None:
    process = await start("--token", encode_token(hub.token()))
    await _ready(tmp_path)
    (await hub.control()).say(Refused(code=RefusalCode.REVOKED, message="Revoked."))
    code, said = await _ended(process)
    assert code == 1
    assert said.splitlines()[-1].startswith("isthmus: The hub refuses this connector: Revoked; ")
    assert "Traceback" not in said


async def test_it_lets_connections_end_before_it_does(
    hub: FakeHub, start: Start, tmp_path: Path, loopback_addresses: Callable[[], str]
) -> None:
    address = loopback_addresses()
    port = free_port(address)
    hub.setup = Setup(generation=1, endpoints=(EndpointSetup(address=address, ports=(port,), name="pe"),))
    process = await start("--token", encode_token(hub.token()))
    await _ready(tmp_path)
    loop = asyncio.get_running_loop()
    async with device(address, port) as opened:
        await loop.sock_sendall(opened, b"x")
        end = await hub.end()
        process.send_signal(signal.SIGTERM)
        await eventually(lambda: hub.controls_open == 0)
        await loop.sock_sendall(opened, b"y")
        assert await end.read(2) == b"xy"
    end.close()
    assert await asyncio.wait_for(process.wait(), 5.0) == 0


async def test_two_on_one_folder_are_one_too_many(hub: FakeHub, start: Start, tmp_path: Path) -> None:
    await start("--token", encode_token(hub.token()))
    await _ready(tmp_path)
    code, said = await _ended(await start())
    assert code == 1
    assert "runs on" in said.splitlines()[-1]


def test_places_are_addresses() -> None:
    assert parse_places(["10.0.0.5=0.0.0.0", "::"]) == Places({"10.0.0.5": "0.0.0.0"}, "::")
    for word in ("pod", "10.0.0.5=pod", "=0.0.0.0", "pod=0.0.0.0"):
        with pytest.raises(ConfigurationError, match="--listen takes"):
            parse_places([word])


def test_options_do_not_show_the_token() -> None:
    assert SECRET not in repr(Options(Path("x"), SECRET))


async def _ready(folder: Path) -> dict[str, object]:
    path = folder / "ready"
    loop = asyncio.get_running_loop()
    deadline = loop.time() + START_SECONDS_MAX
    while not path.exists():
        assert loop.time() < deadline, "it was not ready in time"
        await asyncio.sleep(0.02)
    found: dict[str, object] = json.loads(path.read_bytes())
    path.unlink()
    return found


async def _ended(process: Process, number: signal.Signals | None = None) -> tuple[int, str]:
    """Its exit code and what it said; told to end by a signal where one is given."""
    if number is not None:
        process.send_signal(number)
    assert process.stderr is not None
    async with asyncio.timeout(START_SECONDS_MAX + END_SECONDS_MAX):
        said = (await process.stderr.read()).decode()
        return await process.wait(), said
