"""Every verdict of a walk, station by station."""

import asyncio
from pathlib import Path

import pytest

from isthmus.base.clock import SystemClock
from isthmus.base.ids import RandomIds
from isthmus.paths import steps
from isthmus.paths.errand import (
    Errand,
    Station,
    Verdict,
    Walk,
    Way,
    decode_errand,
    decode_walk,
    encode_errand,
    encode_walk,
    no_walk,
)
from isthmus.paths.walk import walk
from paths.grounds import ADDRESS, HOST, PUBLIC, SERVER, Ground, Talking, errand, hub_like


async def go(asked: Errand, ground: Ground) -> Walk:
    return await walk(asked, ground, SystemClock(), RandomIds())


def told(walked: Walk) -> list[tuple[str, str]]:
    return [(step.station.value, step.verdict.value) for step in walked.steps]


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes what comes and says nothing."""
    while await reader.read(65_536):
        pass


def saying(data: bytes) -> Talking:
    """Answers the first words with these, and then waits."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(data)
        await writer.drain()
        await reader.read(65_536)

    return say


async def test_nobody_listens(unused_port: int) -> None:
    walked = await go(errand(""), Ground(unused_port))
    assert told(walked) == [("name", "skipped"), ("tcp", "failed")]
    assert walked.steps[-1].detail == "nobody listens there"
    assert not walked.works


@pytest.mark.parametrize(
    ("addresses", "verdict", "detail"),
    [
        ((ADDRESS,), Verdict.OK, f"{HOST} is {ADDRESS}, says {ADDRESS}"),
        ((PUBLIC,), Verdict.FAILED, f"resolved the public address: {ADDRESS} says that {HOST} is {PUBLIC}"),
        (("10.20.0.9",), Verdict.SKIPPED, f"{ADDRESS} sends clients to 10.20.0.9 instead"),
        ((), Verdict.FAILED, f"{ADDRESS} answers NOERROR for {HOST}, and no address"),
    ],
)
async def test_what_the_name_service_says(
    addresses: tuple[str, ...], verdict: Verdict, detail: str, unused_port: int
) -> None:
    asked = errand("", name_servers=(SERVER,), public=(PUBLIC,))
    walked = await go(asked, Ground(unused_port, {SERVER: addresses}))
    assert (walked.steps[0].station, walked.steps[0].verdict) == (Station.NAME, verdict)
    assert walked.steps[0].detail.startswith(detail)
    assert (len(walked.steps) == 1) is (verdict is Verdict.FAILED)


async def test_a_name_service_that_is_not_there_breaks_no_path(unused_port: int) -> None:
    walked = await go(errand("", name_servers=(SERVER,)), Ground(unused_port))
    assert walked.steps[0].verdict is Verdict.SKIPPED
    assert walked.steps[0].detail.startswith(f"no name service answers at {ADDRESS}")


@pytest.mark.parametrize(
    ("name", "days", "reason"),
    [("other.isthmus.test", 1, "Hostname mismatch"), (HOST, -1, "certificate has expired")],
)
async def test_a_certificate_that_is_not_accepted(tmp_path: Path, name: str, days: int, reason: str) -> None:
    async with hub_like(tmp_path, silent, name=name, days=days) as (port, authorities):
        walked = await go(errand(authorities), Ground(port))
    assert told(walked)[-1] == ("tls", "failed")
    assert walked.steps[-1].detail.startswith(f"the certificate is not accepted: {reason}")


async def test_a_certificate_of_another_ca(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    async with hub_like(tmp_path, silent) as (port, _), hub_like(tmp_path / "other", silent) as (_, authorities):
        walked = await go(errand(authorities), Ground(port))
    assert told(walked)[-1] == ("tls", "failed")
    assert "certificate" in walked.steps[-1].detail


@pytest.mark.parametrize(
    ("way", "answer", "end"),
    [
        (Way.MQTT, b"HTTP/1.1 400 Bad Request\r\n\r\n", ("protocol", "failed")),
        (Way.MQTT, b"\x20\x02\x00\x05", ("authentication", "failed")),
        (Way.HTTPS, b"\x20\x02\x00\x05\r\n", ("protocol", "failed")),
        (Way.HTTPS, b"HTTP/1.1 401 Unauthorized\r\n\r\n", ("authentication", "failed")),
        (Way.HTTPS, b"HTTP/1.1 503 Service Unavailable\r\n\r\n", ("message", "failed")),
        (Way.HTTPS, b"HTTP/1.1 204 No Content\r\n\r\n", ("message", "ok")),
        (Way.AMQP, b"HTTP/1.1 400 Bad Request\r\n\r\n", ("protocol", "failed")),
        (Way.EVENTS, b"", ("protocol", "failed")),
    ],
)
async def test_where_a_conversation_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Way, answer: bytes, end: tuple[str, str]
) -> None:
    monkeypatch.setattr(steps, "STATION_SECONDS_MAX", 1.0)
    async with hub_like(tmp_path, saying(answer)) as (port, authorities):
        walked = await go(errand(authorities, way), Ground(port))
    assert told(walked)[-1] == end
    assert walked.works is (end == ("message", "ok"))


async def test_silence_ends_a_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "STATION_SECONDS_MAX", 0.2)
    async with hub_like(tmp_path, silent) as (port, authorities):
        walked = await go(errand(authorities), Ground(port))
    assert told(walked)[-1] == ("protocol", "failed")
    assert walked.steps[-1].detail == "no answer in 0.2 s"


def test_errands_and_walks_travel_as_json() -> None:
    asked = errand("a CA", name_servers=(SERVER,), public=(PUBLIC,))
    assert decode_errand(encode_errand(asked)) == asked
    assert decode_walk(encode_walk(no_walk("nobody is there"))) == no_walk("nobody is there")
    assert "a token" not in repr(asked)
