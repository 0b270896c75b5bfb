"""Delivers to a storage container: append blobs of JSON lines or Avro.

Theory of operation. For each partition there is one blob at a time. A batch is cut into pieces of whole messages, and
each piece is one append, which storage does wholly or not at all and answers when it is durable: a crash of the hub, of
its worker or of the account leaves blobs of whole messages, and nothing that was reported delivered is missing. A blob
is followed by another when it is of its size or age, counted from its first message; names that are taken already get a
counter. After anything but a clear yes the blob is left as it is, because nobody knows what it ends with, and the next
batch begins another; what is sent again may then stand in both. Each append says where it expects the blob to end, so
that a repetition below the client, by its HTTP library, is refused and never doubles.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from azure.core import MatchConditions
from azure.core.exceptions import AzureError, ResourceExistsError
from azure.storage.blob import ContentSettings
from azure.storage.blob.aio import BlobClient, BlobServiceClient

from isthmus.base.clock import Clock
from isthmus.base.ids import Ids
from isthmus.resources.routing_endpoint import BlobEncoding, EndpointAuthentication, RoutingEndpoint, StorageSettings
from isthmus.routing.sink import Delivery, FailureKind, HubName, SinkFailure, Unacceptable
from isthmus.sinks.clients import WayOut, blob_service_by_identity, blob_service_by_key
from isthmus.sinks.failures import failure_of, storage_code
from isthmus.sinks.storage_format import BlobFormat, Piece, blob_format, blob_name, pieces

APPEND_BYTES_MAX: Final = 1024 * 1024
"""One append; storage takes four times as much, the HTTP client holds the event loop with more than this."""

OVERHEAD_BYTES_MAX: Final = 64 * 1024
"""What a format adds to a piece: a header, counts, a marker, line ends, deflate that does not."""

PIECE_BYTES_MAX: Final = APPEND_BYTES_MAX - OVERHEAD_BYTES_MAX
APPENDS_MAX: Final = 49_000
"""Appends to one blob, a little below what it takes ("Append Block": 50,000)."""

CLASHES_MAX: Final = 1_000
"""Names tried for one blob; a minute has seldom more than one."""

_CONTENT_TYPES: Final = {
    BlobEncoding.JSON: "application/json",
    BlobEncoding.AVRO: "avro/binary",
    BlobEncoding.AVRO_DEFLATE: "avro/binary",
}


@dataclass(slots=True)
class _OpenBlob:
    """The blob that takes the next piece."""

    client: BlobClient
    form: BlobFormat
    begun: float
    size: int = 0
    appends: int = 0


class StorageSink:
    """Delivers to one container; makes no connection before it is asked to deliver. On one event loop."""

    def __init__(self, hub: HubName, endpoint: RoutingEndpoint, way: WayOut, clock: Clock, ids: Ids) -> None:
        assert endpoint.storage is not None, "an endpoint of this kind has its settings"
        self._hub = hub
        self._endpoint = endpoint
        self._settings: StorageSettings = endpoint.storage
        self._way = way
        self._clock = clock
        self._ids = ids
        self._service: BlobServiceClient | None = None
        self._open: dict[int, _OpenBlob] = {}

    async def deliver(self, partition: int, batch: Sequence[Delivery]) -> None:
        """As `Sink.deliver`."""
        encode = blob_format(self._settings.encoding, self._marker()).encode
        messages = [encode(delivery) for delivery in batch]
        acceptable = next((at for at, each in enumerate(messages) if len(each) > PIECE_BYTES_MAX), len(messages))
        delivered = 0
        for piece in pieces(messages[:acceptable], PIECE_BYTES_MAX):
            try:
                await self._append(partition, piece)
            except (AzureError, SinkFailure, OSError, ValueError) as error:
                raise failure_of(error, delivered) from error
            delivered += len(piece.messages)
        if acceptable < len(messages):
            raise Unacceptable(acceptable, f"The message has {len(messages[acceptable])} bytes in the blob's format")

    async def probe(self) -> None:
        """As `Sink.probe`: makes a blob of no bytes and deletes it."""
        try:
            blob = self._blob(f"{self._hub.name}/probe-{self._ids.uuid()}")
            await blob.create_append_blob()
            await blob.delete_blob()
        except (AzureError, SinkFailure, OSError, ValueError) as error:
            raise failure_of(error) from error

    async def close(self) -> None:
        """As `Sink.close`."""
        service, self._service = self._service, None
        self._open.clear()
        if service is not None:
            await service.close()

    async def _append(self, partition: int, piece: Piece) -> None:
        blob = self._open.pop(partition, None)
        if blob is None or self._is_full(blob, piece):
            blob = await self._begin(partition)
        data = blob.form.block(piece.messages)
        if not blob.appends:
            data = blob.form.header + data
        await blob.client.append_block(data, length=len(data), appendpos_condition=blob.size)
        blob.size += len(data)
        blob.appends += 1
        self._open[partition] = blob

    def _is_full(self, blob: _OpenBlob, piece: Piece) -> bool:
        return (
            blob.size + piece.size > self._settings.chunk_bytes
            or blob.appends >= APPENDS_MAX
            or self._clock.monotonic() - blob.begun >= self._settings.batch_seconds
        )

    async def _begin(self, partition: int) -> _OpenBlob:
        form = blob_format(self._settings.encoding, self._marker())
        content = ContentSettings(content_type=_CONTENT_TYPES[self._settings.encoding])
        now_ms = self._clock.utc_ms()
        for clash in range(CLASHES_MAX):
            name = blob_name(self._settings, self._hub.name, partition=partition, utc_ms=now_ms, clash=clash)
            client = self._blob(name)
            try:
                await client.create_append_blob(content_settings=content, match_condition=MatchConditions.IfMissing)
            except ResourceExistsError as error:
                if storage_code(error) != "BlobAlreadyExists":
                    raise
            else:
                return _OpenBlob(client, form, self._clock.monotonic())
        raise SinkFailure(FailureKind.TRANSIENT, f"{CLASHES_MAX} blobs of that minute exist", "BlobAlreadyExists")

    def _blob(self, name: str) -> BlobClient:
        if self._service is None:
            self._service = _service(self._way, self._endpoint)
        return self._service.get_blob_client(self._settings.container, name)

    def _marker(self) -> bytes:
        return bytes.fromhex(self._ids.uuid().replace("-", ""))


def _service(way: WayOut, endpoint: RoutingEndpoint) -> BlobServiceClient:
    if endpoint.authentication is EndpointAuthentication.KEY:
        return blob_service_by_key(way, endpoint.connection_string)
    return blob_service_by_identity(way, endpoint.endpoint_uri, endpoint.identity)
