"""Delivery to a container of Azurite, read back by the stock client's download and by fastavro."""

import asyncio
import io
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import fastavro
import pytest
from azure.core.exceptions import HttpResponseError

from isthmus.base.ids import RandomIds
from isthmus.resources.routing_endpoint import (
    BlobEncoding,
    EndpointAuthentication,
    EndpointKind,
    RoutingEndpoint,
    StorageSettings,
)
from isthmus.routing.sink import Delivery, FailureKind, SinkFailure, Unacceptable
from isthmus.sinks import storage
from isthmus.sinks.clients import blob_service_by_key
from isthmus.sinks.storage import APPEND_BYTES_MAX, StorageSink
from sinks.deliveries import delivery
from sinks.egress import HUB, LaidEgress
from support.azurite import PORT, Azurite

MOMENT_MS = 1_793_538_305_000
"""2026-11-01T13:05:05Z."""
FIRST = "plant/00/2026/11/01/13/05"


@dataclass
class MovedClock:
    """Stands where a test puts it."""

    now_ms: int = MOMENT_MS
    seconds: float = 0.0

    def utc_ms(self) -> int:
        return self.now_ms

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
async def container(azurite: Azurite, egress: LaidEgress) -> str:
    """A container of the test's own."""
    name = f"c{uuid.uuid4().hex}"
    async with blob_service_by_key(egress.way, azurite.connection_string) as service:
        await service.create_container(name)
    return name


@pytest.fixture
def endpoint(azurite: Azurite, container: str) -> Callable[..., RoutingEndpoint]:
    """An endpoint of that container, with identity unless a connection string is given."""

    def make(
        encoding: BlobEncoding = BlobEncoding.JSON, connection_string: str = "", **settings: Any
    ) -> RoutingEndpoint:
        return RoutingEndpoint(
            number=2,
            guid="0",
            name="archive",
            kind=EndpointKind.STORAGE,
            authentication=EndpointAuthentication.KEY if connection_string else EndpointAuthentication.IDENTITY,
            connection_string=connection_string,
            endpoint_uri="" if connection_string else azurite.url,
            storage=StorageSettings(container, encoding=encoding, **settings),
        )

    return make


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def open_sink(egress: LaidEgress, clock: MovedClock) -> Callable[[RoutingEndpoint], StorageSink]:
    return lambda endpoint: StorageSink(HUB, endpoint, egress.way, clock, RandomIds())


async def test_messages_are_read_back_as_json_lines(
    azurite: Azurite,
    egress: LaidEgress,
    endpoint: Callable[..., RoutingEndpoint],
    open_sink: Callable[..., StorageSink],
) -> None:
    await deliver_and_close(open_sink(endpoint()), [messages(3), messages(2, start=3)])
    blobs = await read_blobs(azurite, egress, endpoint())
    assert list(blobs) == [f"{FIRST}.json"], "both batches are of one window"
    assert [json.loads(line)["Properties"]["n"] for line in blobs[f"{FIRST}.json"].splitlines()] == list("01234")
    assert egress.scopes[0] == "https://storage.azure.com/.default"


@pytest.mark.parametrize("encoding", [BlobEncoding.AVRO, BlobEncoding.AVRO_DEFLATE])
async def test_messages_are_read_back_as_avro_with_a_key(
    azurite: Azurite,
    egress: LaidEgress,
    endpoint: Callable[..., RoutingEndpoint],
    open_sink: Callable[..., StorageSink],
    encoding: BlobEncoding,
) -> None:
    there = endpoint(encoding, azurite.connection_string)
    await deliver_and_close(open_sink(there), [messages(3), messages(2, start=3)])
    blobs = await read_blobs(azurite, egress, there)
    assert list(blobs) == [f"{FIRST}.avro"]
    assert [record["Body"] for record in read_avro(blobs[f"{FIRST}.avro"])] == [b"body %d" % n for n in range(5)]
    assert not egress.scopes, "keys need no token"


async def test_a_bare_address_is_judged_too(
    azurite: Azurite,
    egress: LaidEgress,
    endpoint: Callable[..., RoutingEndpoint],
    open_sink: Callable[..., StorageSink],
) -> None:
    by_address = azurite.connection_string.replace(azurite.url, f"https://{azurite.address}:{PORT}/devstoreaccount1")
    await deliver_and_close(open_sink(endpoint(BlobEncoding.JSON, by_address)), [messages(1)])
    assert (azurite.address, PORT) in egress.asked
    del egress.names[azurite.address]
    with pytest.raises(SinkFailure) as caught:
        await deliver_and_close(open_sink(endpoint(BlobEncoding.JSON, by_address)), [messages(1)])
    assert caught.value.kind is FailureKind.NAME


async def test_a_blob_ends_with_its_window(
    azurite: Azurite,
    egress: LaidEgress,
    endpoint: Callable[..., RoutingEndpoint],
    open_sink: Callable[..., StorageSink],
    clock: MovedClock,
) -> None:
    sink = open_sink(endpoint(batch_seconds=60))
    for seconds in (0.0, 59.0, 60.0):
        clock.seconds, clock.now_ms = seconds, MOMENT_MS + int(seconds * 1000)
        await sink.deliver(0, messages(1))
    await sink.close()
    blobs = await read_blobs(azurite, egress, endpoint())
    assert {name: len(blob.splitlines()) for name, blob in blobs.items()} == {
        f"{FIRST}.json": 2,
        "plant/00/2026/11/01/13/06.json": 1,
    }


async def test_a_blob_ends_with_its_size_and_the_next_has_a_counter(
    azurite: Azurite,
    egress: LaidEgress,
    endpoint: Callable[..., RoutingEndpoint],
    open_sink: Callable[..., StorageSink],
) -> None:
    there = endpoint(BlobEncoding.AVRO, chunk_bytes=10_000)
    batches = [[delivery(b"x" * 4_000, number=n)] for n in range(5)]
    await deliver_and_close(open_sink(there), batches)
    blobs = await read_blobs(azurite, egress, there)
    assert {name: len(read_avro(blob)) for name, blob in blobs.items()} == {
        f"{FIRST}.avro": 2,
        f"{FIRST}_001.avro": 2,
        f"{FIRST}_002.avro": 1,
    }
    assert all(len(blob) <= 10_000 for blob in blobs.values())


async def test_a_worker_that_starts_anew_leaves_old_blobs_alone(
    azurite: Azurite,
    egress: LaidEgress,
    endpoint: Callable[..., RoutingEndpoint],
    open_sink: Callable[..., StorageSink],
) -> None:
    for _ in range(2):
        await deliver_and_close(open_sink(endpoint(BlobEncoding.AVRO)), [messages(2)])
    blobs = await read_blobs(azurite, egress, endpoint())
    assert {name: len(read_avro(blob)) for name, blob in blobs.items()} == {f"{FIRST}.avro": 2, f"{FIRST}_001.avro": 2}


async def test_partitions_have_blobs_of_their_own(
    azurite: Azurite,
    egress: LaidEgress,
    endpoint: Callable[..., RoutingEndpoint],
    open_sink: Callable[..., StorageSink],
) -> None:
    sink = open_sink(endpoint())
    await asyncio.gather(*(sink.deliver(partition, messages(1)) for partition in range(4)))
    await sink.close()
    blobs = await read_blobs(azurite, egress, endpoint())
    assert sorted(blobs) == [f"plant/0{partition}/2026/11/01/13/05.json" for partition in range(4)]


async def test_a_large_batch_is_several_appends(
    azurite: Azurite,
    egress: LaidEgress,
    endpoint: Callable[..., RoutingEndpoint],
    open_sink: Callable[..., StorageSink],
) -> None:
    batch = [delivery(b"x" * 200_000, number=n) for n in range(40)]
    await deliver_and_close(open_sink(endpoint(BlobEncoding.AVRO)), [batch])
    [blob] = (await read_blobs(azurite, egress, endpoint())).values()
    assert len(blob) > APPEND_BYTES_MAX
    assert [len(record["Body"]) for record in read_avro(blob)] == [200_000] * 40


async def test_a_message_larger_than_an_append_is_unacceptable_and_those_before_it_are_kept(
    azurite: Azurite,
    egress: LaidEgress,
    endpoint: Callable[..., RoutingEndpoint],
    open_sink: Callable[..., StorageSink],
) -> None:
    batch = [*messages(2), delivery(b"x" * APPEND_BYTES_MAX), *messages(1)]
    with pytest.raises(Unacceptable) as caught:
        await deliver_and_close(open_sink(endpoint(BlobEncoding.AVRO)), [batch])
    assert caught.value.index == 2
    [blob] = (await read_blobs(azurite, egress, endpoint())).values()
    assert len(read_avro(blob)) == 2


async def test_a_blob_that_somebody_else_appended_to_is_left(
    azurite: Azurite,
    egress: LaidEgress,
    endpoint: Callable[..., RoutingEndpoint],
    open_sink: Callable[..., StorageSink],
) -> None:
    """An append that was repeated below the client must not stand twice: where a blob ends is compared each time."""
    sink, there = open_sink(endpoint()), endpoint()
    await sink.deliver(0, messages(1))
    async with blob_service_by_key(egress.way, azurite.connection_string) as service:
        await service.get_blob_client(there.entity, f"{FIRST}.json").append_block(b"{}\n")
    with pytest.raises(SinkFailure) as caught:
        await sink.deliver(0, messages(1))
    assert (caught.value.kind, caught.value.code) == (FailureKind.TRANSIENT, "AppendPositionConditionNotMet")
    await sink.deliver(0, messages(1))
    await sink.close()
    assert sorted(await read_blobs(azurite, egress, there)) == [f"{FIRST}.json", f"{FIRST}_001.json"]


async def test_what_was_appended_before_a_failure_is_told(
    endpoint: Callable[..., RoutingEndpoint],
    open_sink: Callable[..., StorageSink],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sink = open_sink(endpoint())
    appends = 0
    append = StorageSink._append

    async def third_fails(self: StorageSink, partition: int, piece: Any) -> None:
        nonlocal appends
        appends += 1
        if appends == 3:
            raise HttpResponseError("The server is busy.")
        await append(self, partition, piece)

    monkeypatch.setattr(StorageSink, "_append", third_fails)
    monkeypatch.setattr(storage, "PIECE_BYTES_MAX", 2_000)
    with pytest.raises(SinkFailure) as caught:
        await sink.deliver(0, [delivery(b"x" * 800) for _ in range(4)])
    await sink.close()
    assert (caught.value.kind, caught.value.delivered) == (FailureKind.TRANSIENT, 2)


async def test_a_probe_leaves_nothing(
    azurite: Azurite,
    egress: LaidEgress,
    endpoint: Callable[..., RoutingEndpoint],
    open_sink: Callable[..., StorageSink],
) -> None:
    sink = open_sink(endpoint())
    await sink.probe()
    await sink.close()
    assert await read_blobs(azurite, egress, endpoint()) == {}


async def test_a_container_that_is_not_there_is_not_found(
    endpoint: Callable[..., RoutingEndpoint], open_sink: Callable[..., StorageSink]
) -> None:
    there = endpoint()
    assert there.storage is not None
    failure = await failure_at(open_sink(replace(there, storage=replace(there.storage, container="absent"))))
    assert (failure.kind, failure.code) == (FailureKind.NOT_FOUND, "ContainerNotFound")


async def test_a_wrong_key_is_no_authentication(
    azurite: Azurite, endpoint: Callable[..., RoutingEndpoint], open_sink: Callable[..., StorageSink]
) -> None:
    wrong = azurite.connection_string.replace("AccountKey=Eby8", "AccountKey=AAAA")
    failure = await failure_at(open_sink(endpoint(BlobEncoding.JSON, wrong)))
    assert failure.kind is FailureKind.AUTHENTICATION
    assert failure.code in {"AuthenticationFailed", "InvalidAuthenticationInfo"}, "Azurite says the second"


async def test_without_an_identity_nothing_is_asked(
    egress: LaidEgress, endpoint: Callable[..., RoutingEndpoint], open_sink: Callable[..., StorageSink]
) -> None:
    egress.has_identity = False
    failure = await failure_at(open_sink(endpoint()))
    assert (failure.kind, failure.code) == (FailureKind.IDENTITY, "InvalidOperation")


async def test_a_name_that_does_not_resolve_is_told(
    egress: LaidEgress, endpoint: Callable[..., RoutingEndpoint], open_sink: Callable[..., StorageSink]
) -> None:
    egress.names.clear()
    failure = await failure_at(open_sink(endpoint()))
    assert (failure.kind, failure.code) == (FailureKind.NAME, "NXDOMAIN")


async def test_an_account_that_does_not_answer_is_transient(
    azurite: Azurite,
    egress: LaidEgress,
    endpoint: Callable[..., RoutingEndpoint],
    open_sink: Callable[..., StorageSink],
) -> None:
    egress.names[azurite.host] = [egress.names[azurite.host][0]._replace(port=1)]
    failure = await failure_at(open_sink(endpoint()))
    assert failure.kind is FailureKind.TRANSIENT


async def failure_at(sink: StorageSink) -> SinkFailure:
    with pytest.raises(SinkFailure) as caught:
        await deliver_and_close(sink, [messages(1)])
    return caught.value


async def deliver_and_close(sink: StorageSink, batches: Sequence[Sequence[Delivery]]) -> None:
    try:
        for batch in batches:
            await sink.deliver(0, batch)
    finally:
        await sink.close()


async def read_blobs(azurite: Azurite, egress: LaidEgress, endpoint: RoutingEndpoint) -> dict[str, bytes]:
    async with blob_service_by_key(egress.way, azurite.connection_string) as service:
        container = service.get_container_client(endpoint.entity)
        names = [blob.name async for blob in container.list_blobs()]
        return {name: await (await container.download_blob(name)).readall() for name in names}


def messages(count: int, start: int = 0) -> list[Delivery]:
    numbers = range(start, start + count)
    return [delivery(b"body %d" % n, number=n, properties={"n": str(n)}) for n in numbers]


def read_avro(blob: bytes) -> list[Any]:
    return list(fastavro.reader(io.BytesIO(blob)))
