"""Uploads through the hub's own address: a device needs to reach nothing else, and the hub passes on what it sends.

Theory of operation. The hub has one container for devices, whose blobs are the uploads that it opened and has not seen
completed. A request passes the stations of any device's: name, network, the proof (here the signature in its address),
door policies; and it is a session that ends when the device is disabled or deleted, when the door is closed, or when
the key is gone by which the device asked. Only then is it read.

Bytes go on as they come: the hub holds what is between two sockets, and reads no faster than the storage takes. A Put
Blob becomes one block and its commit, so that the blob appears whole or not at all; a Put Block becomes a block, under
a digest of the client's id (`relay_contract.stored_id`). What breaks off on the way leaves no block. Nothing is kept
here: a client whose request failed sends it again, as clients of storage do.

There are `RELAYS_MAX` requests under way at most; the next one is told that the server is busy, and comes again.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from aiohttp import web

from isthmus.access.authenticate import DeviceSecrets
from isthmus.access.local_auth import SAS, key_lost
from isthmus.access.principal import Principal, PrincipalKind, Right
from isthmus.access.refusals import denied, unauthorized
from isthmus.base.clock import Clock
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.ids import DeviceRef, Ids
from isthmus.base.state import StateClosed
from isthmus.commands.file_upload import Upload
from isthmus.commands.file_uploads import refused_by_storage
from isthmus.commands.relay_signature import VERSION, opens
from isthmus.commands.upload_storage import Block, BlockList, StorageRefused, UploadStorage, UploadTarget
from isthmus.resources.hub import Hub
from isthmus.servers.gateway.gate import Admitted, Gate, device_name
from isthmus.servers.gateway.http_app import SERVER, HttpPeer, HttpSession, JournaledOnce, raw_path
from isthmus.servers.gateway.http_body import expect_body
from isthmus.servers.gateway.plane import Plane
from isthmus.servers.gateway.ports import SessionIndex
from isthmus.servers.gateway.relay_contract import (
    NOT_AUTHENTICATED,
    XML_TYPE,
    Operation,
    RelayError,
    RelayRequest,
    blob_in,
    block_list,
    busy,
    check_length,
    error_body,
    http_date,
    of_storage,
    property_headers,
    read_request,
    takes,
    too_large,
    written_headers,
)

RELAYS_MAX = 128
"""Requests under way; each holds some hundred kilobytes between two sockets."""

IDLE_SECONDS_MAX = 60.0
"""A client that sends nothing for so long has gone, whatever its connection says."""

CREATED = 201
VERSION_HEADER = "x-ms-version"

logger = logging.getLogger(__name__)


class RelayedUploads(Protocol):
    """Uploads that are under way; `commands.file_uploads.FileUploads` has them."""

    @property
    def storage(self) -> UploadStorage:
        """Where they go."""

    async def under_way(self, ref: DeviceRef, upload_id: str) -> Upload | None:
        """The upload of that id while it is neither completed nor over."""


class RelayFront:
    """Answers requests to the container that a hub has for devices."""

    def __init__(self, gate: Gate, sessions: SessionIndex, uploads: RelayedUploads, clock: Clock, ids: Ids) -> None:
        self._gate = gate
        self._sessions = sessions
        self._uploads = uploads
        self._clock = clock
        self._ids = ids
        self._arrivals = JournaledOnce(gate, clock)
        self._under_way = 0
        self._handlers: Mapping[Operation, Callable[[web.BaseRequest, UploadTarget, RelayRequest], Awaitable[_Answer]]]
        self._handlers = {
            Operation.PUT_BLOB: self._put_blob,
            Operation.PUT_BLOCK: self._put_block,
            Operation.PUT_BLOCK_LIST: self._put_block_list,
            Operation.GET_PROPERTIES: self._get_properties,
        }

    def takes(self, request: web.BaseRequest) -> bool:
        """True for requests to the container."""
        return takes(raw_path(request))

    async def handle(self, request: web.BaseRequest, connection: HttpPeer, hub: Hub) -> web.StreamResponse:
        """Answers a request; never raises but for cancellation, which follows when the peer has gone."""
        visit = _Visit(connection, hub, blob_in(raw_path(request)))
        if self._under_way >= RELAYS_MAX:
            return self._denied(visit, busy(), _too_many())
        self._under_way += 1
        try:
            return await self._answered(request, visit)
        finally:
            self._under_way -= 1
            if visit.session is not None:
                self._sessions.remove(visit.session)

    async def _answered(self, request: web.BaseRequest, visit: "_Visit") -> web.StreamResponse:
        try:
            admitted, upload = await self._admitted(request, visit)
            visit.session = _session(admitted, visit.connection)
            self._sessions.add(visit.session)
            return await self._operated(request, admitted.hub, upload)
        except HubError as error:
            return self._denied(visit, RelayError(*NOT_AUTHENTICATED), error)
        except asyncio.CancelledError:
            if visit.session is None or visit.session.lost is None:
                raise
            visit.session.outlive_cut()
            return self._denied(visit, RelayError(*NOT_AUTHENTICATED), visit.session.lost)
        except RelayError as error:
            return self._denied(visit, error, _not_an_upload(error))
        except StorageRefused as refused:
            return self._denied(visit, of_storage(refused), refused_by_storage(refused, Code.INVALID_STORAGE_OR_BLOB))
        except StateClosed:
            return self._refused(busy(), self._ids.uuid())
        except Exception:
            extra = {"hub": visit.hub.name, "connection_id": visit.connection.connection_id}
            logger.exception("relay failed", extra=extra)
            return self._refused(RelayError(500, "InternalError", "Internal error."), self._ids.uuid())

    async def _admitted(self, request: web.BaseRequest, visit: "_Visit") -> tuple[Admitted, Upload]:
        ref = DeviceRef(visit.hub.number, visit.device)
        upload = await self._uploads.under_way(ref, request.query.get("si", ""))
        prove = partial(_proved, upload, visit.blob, dict(request.query))
        admitted = await self._gate.upload(visit.connection, visit.hub, ref, prove)
        assert upload is not None, "nobody proves that he has an address of no upload"
        self._arrivals.note(visit.connection, admitted)
        return admitted, upload

    async def _operated(self, request: web.BaseRequest, hub: Hub, upload: Upload) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = read_request(request.method, request.query, headers)
        target = UploadTarget(hub.number, hub.file_upload.storage, upload.blob)
        answer = await self._handlers[asked.operation](request, target, asked)
        return self._response(answer.status, answer.headers, self._ids.uuid())

    async def _put_blob(self, request: web.BaseRequest, target: UploadTarget, asked: RelayRequest) -> "_Answer":
        length = check_length(request.content_length, asked.operation)
        block_id = hashlib.sha256(self._ids.uuid().encode()).hexdigest()
        if length:
            await self._pass_on(request, target, block_id, length, asked.md5)
        blocks = BlockList([block_id] if length else [], asked.description, asked.if_absent)
        return _Answer(CREATED, written_headers(await self._uploads.storage.commit_blocks(target, blocks)))

    async def _put_block(self, request: web.BaseRequest, target: UploadTarget, asked: RelayRequest) -> "_Answer":
        length = check_length(request.content_length, asked.operation)
        if not length:
            message = "The value for one of the HTTP headers is not in the correct format: Content-Length."
            raise RelayError(400, "InvalidHeaderValue", message)
        await self._pass_on(request, target, asked.block_id, length, asked.md5)
        return _Answer(CREATED, {"x-ms-request-server-encrypted": "true"})

    async def _put_block_list(self, request: web.BaseRequest, target: UploadTarget, asked: RelayRequest) -> "_Answer":
        check_length(request.content_length, asked.operation)
        await expect_body(request)
        body = bytearray()
        async for piece in _pieces(request):
            body += piece
            if len(body) > (request.content_length or 0):
                raise too_large(asked.operation)
        if asked.md5 and hashlib.md5(body, usedforsecurity=False).digest() != asked.md5:
            message = "The MD5 value specified in the request did not match the MD5 value calculated by the server."
            raise RelayError(400, "Md5Mismatch", message)
        blocks = BlockList(block_list(bytes(body)), asked.description, asked.if_absent)
        return _Answer(CREATED, written_headers(await self._uploads.storage.commit_blocks(target, blocks)))

    async def _get_properties(self, request: web.BaseRequest, target: UploadTarget, asked: RelayRequest) -> "_Answer":
        facts = await self._uploads.storage.find(target)
        if facts is None:
            return _Answer(404, {"x-ms-error-code": "BlobNotFound"})
        return _Answer(200, property_headers(facts))

    async def _pass_on(
        self, request: web.BaseRequest, target: UploadTarget, block_id: str, length: int, md5: bytes
    ) -> None:
        await expect_body(request)
        await self._uploads.storage.put_block(target, Block(block_id, length, _pieces(request), md5))

    def _denied(self, visit: "_Visit", answer: RelayError, error: HubError) -> web.StreamResponse:
        """Journals a refusal; its owner finds the reason by the answer's request id."""
        principal = "" if visit.session is None else visit.session.principal.label
        tracking_id = self._gate.refused(
            visit.connection, Plane.HTTPS, visit.hub.name, visit.device, error, principal=principal
        )
        return self._refused(answer, tracking_id)

    def _refused(self, error: RelayError, tracking_id: str) -> web.StreamResponse:
        body = error_body(error, tracking_id, self._clock.utc_ms())
        response = self._response(error.status, {"x-ms-error-code": error.code}, tracking_id, body)
        response.force_close()  # what is left of the body is not waited for
        return response

    def _response(
        self, status: int, headers: Mapping[str, str], request_id: str, body: bytes = b""
    ) -> web.StreamResponse:
        common = {
            "Server": SERVER,
            "Date": http_date(self._clock.utc_ms()),
            "x-ms-request-id": request_id,
            VERSION_HEADER: VERSION,
            **({"Content-Type": XML_TYPE} if body else {}),
        }
        return web.Response(status=status, body=body or None, headers={**common, **headers})


@dataclass(slots=True)
class _Visit:
    """A request, for the journal and the index of sessions; the blob may be whatever a stranger wrote."""

    connection: HttpPeer
    hub: Hub
    blob: str
    session: HttpSession | None = None

    @property
    def device(self) -> str:
        """Whose upload it is, by its path."""
        return self.blob.partition("/")[0]


@dataclass(frozen=True, slots=True)
class _Answer:
    """What an operation came to."""

    status: int
    headers: Mapping[str, str]


def _too_many() -> HubError:
    value, remedy = f"{RELAYS_MAX} requests are under way", "let devices reach the account by its own private endpoint"
    return HubError(Code.SERVER_BUSY, "The hub is busy", Refusal(Hop.LIMIT, "limit.relays", value, remedy))


def _not_an_upload(error: RelayError) -> HubError:
    remedy = "Send Put Blob of a block blob, Put Block, Put Block List or Get Blob Properties, as clients' uploads do."
    refusal = Refusal(Hop.CONTRACT, "contract.upload-request", f"{error.code}: {error.message}"[:200], remedy)
    return HubError(Code.GENERIC_BAD_REQUEST, error.message, refusal)


def _session(admitted: Admitted, connection: HttpPeer) -> HttpSession:
    device = "" if admitted.identity is None else device_name(admitted.identity)
    return HttpSession(admitted.hub.number, admitted.principal, connection, device)


def _proved(
    upload: Upload | None, blob: str, query: Mapping[str, str], hub: Hub, secrets: DeviceSecrets | None
) -> Principal:
    """Who shows an upload's address; raises HubError IotHubUnauthorizedAccess."""
    if upload is None or secrets is None or not hub.file_upload.storage.relay:
        raise unauthorized("auth.upload", ascii(blob[:200]), "let the device ask the hub again where to put the file")
    if not opens(query, upload, blob):
        raise unauthorized("auth.upload-signature", ascii(blob[:200]), "use the address as the hub gave it")
    device = blob.partition("/")[0]
    if not secrets.enabled:
        raise unauthorized("auth.disabled", device, f"isthmus device-identity update -d {device} --set status=enabled")
    principal = _asker(upload, device)
    refusal = key_lost(principal, hub.policies, hub.local_auth)
    if refusal is not None:
        raise denied(refusal)
    if not upload.policy and upload.key_fingerprint not in secrets.fingerprints():
        raise unauthorized("auth.signature", f"the key of {device} was replaced", "let the device ask again")
    return principal


def _asker(upload: Upload, device: str) -> Principal:
    """Who asked for the upload: its address stands for his credential."""
    by_policy = bool(upload.policy)
    return Principal(
        kind=PrincipalKind.POLICY if by_policy else PrincipalKind.DEVICE,
        name=upload.policy or device,
        rights=frozenset({Right.DEVICE_CONNECT}),
        scope="hub" if by_policy else "device",
        type=SAS if by_policy else "upload",
        key_fingerprint=upload.key_fingerprint,
        expires_s=upload.expires_ms // 1000,
    )


async def _pieces(request: web.BaseRequest) -> AsyncIterator[bytes]:
    """The body as it comes; raises TimeoutError after a long silence."""
    while True:
        async with asyncio.timeout(IDLE_SECONDS_MAX):
            piece = await request.content.readany()
        if not piece:
            return
        yield piece
