"""Uploads through the hub's own address: what is passed on, who may, and what a client of storage hears."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web

from commands.storage import storage_body
from devices.fakes import HUB
from isthmus.base.errors import Code, Hop, Refusal
from isthmus.base.ids import DeviceRef
from isthmus.commands.upload_storage import Block, StorageFault, UploadTarget
from isthmus.resources.arm_patch import apply_patch
from isthmus.servers.gateway import relay as relay_module
from isthmus.servers.gateway.relay import RelayFront
from servers.device_http_world import DeviceHttpWorld
from servers.http_world import HOST, Answer

DEVICE = DeviceRef(HUB, "dev1")
BLOCK_BLOB = {"x-ms-blob-type": "BlockBlob"}
LIST = '<?xml version="1.0"?><BlockList><Latest>{}</Latest><Latest>{}</Latest></BlockList>'


class RelayWorld(DeviceHttpWorld):
    """A hub that relays; `info` is what `dev1` was told about `a b.txt`."""

    info: Mapping[str, str]
    relay: RelayFront
    device: str

    async def open(self, token: str, name: str = "a b.txt") -> None:
        answer: Any = (await self.ask("POST", "/devices/dev1/files", {"blobName": name}, token=token)).json
        self.info = answer

    def target(self, more: str = "", *, blob: str = "", query: str = "") -> str:
        path = quote(blob or self.info["blobName"], safe="/")
        return f"/{self.info['containerName']}/{path}{query or self.info['sasToken']}{more}"

    async def put(
        self,
        body: bytes,
        more: str = "",
        headers: Mapping[str, str] | None = None,
        *,
        blob: str = "",
        query: str = "",
    ) -> Answer:
        target, sent = self.target(more, blob=blob, query=query), {**BLOCK_BLOB, **(headers or {})}
        return await self.ask("PUT", target, body, version=None, token="", headers=sent)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if self.relay.takes(request):
            return await self.relay.handle(request, self.peer, self.hubs.require("hub"))
        return await super()._handle(request)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[RelayWorld]:
    async with RelayWorld(tmp_path / "log") as opened:
        opened.relay = RelayFront(opened.gate, opened.sessions, opened.uploads, opened.clock, opened.ids)
        await opened.hubs.change("hub", lambda hub: apply_patch(hub, storage_body(relay=True)))
        opened.device = await opened.device_token("dev1")
        await opened.open(opened.device)
        yield opened


async def test_a_blob_in_one_piece_appears_whole_with_what_was_said_of_it(world: RelayWorld) -> None:
    headers = {"x-ms-blob-content-type": "text/plain", "x-ms-meta-Plant": "north", "x-ms-version": "2025-11-05"}
    answer = await world.put(b"hello", headers=headers)
    assert answer.status == 201
    assert answer.headers["etag"] == '"etag"'
    assert {"last-modified", "date", "x-ms-request-id", "x-ms-version"} <= set(answer.headers)
    assert world.storage.blobs == {"dev1/a b.txt": b"hello"}
    described = world.storage.described["dev1/a b.txt"]
    assert (described.headers["Content-Type"], described.metadata) == ("text/plain", {"plant": "north"})


async def test_an_empty_blob_is_a_blob(world: RelayWorld) -> None:
    assert (await world.put(b"")).status == 201
    assert world.storage.blobs == {"dev1/a b.txt": b""}


async def test_blocks_of_any_id_become_a_blob_in_the_lists_order(world: RelayWorld) -> None:
    first, second = (base64.b64encode(bytes([number, 0xFF] * 24)).decode() for number in (1, 2))
    for block_id, body in ((second, b"world"), (first, b"hello ")):
        assert (await world.put(body, f"&comp=block&blockid={quote(block_id, safe='')}")).status == 201
    answer = await world.put(LIST.format(first, second).encode(), "&comp=blocklist")
    assert answer.status == 201
    assert world.storage.blobs == {"dev1/a b.txt": b"hello world"}
    assert len({len(block_id) for _, block_id in world.storage.blocks}) == 1


async def test_what_is_there_already_can_be_spared(world: RelayWorld) -> None:
    spare = {"If-None-Match": "*"}
    assert (await world.put(b"1", headers=spare)).status == 201
    assert failed(await world.put(b"2", headers=spare)) == (409, "BlobAlreadyExists")
    assert (await world.put(b"3")).status == 201


async def test_properties_tell_what_is_there(world: RelayWorld) -> None:
    assert (await world.ask("HEAD", world.target(), version=None, token="")).status == 404
    await world.put(b"12345")
    answer = await world.ask("HEAD", world.target(), version=None, token="")
    assert (answer.status, answer.headers["content-length"]) == (200, "5")
    assert answer.headers["x-ms-blob-type"] == "BlockBlob"


async def test_a_client_that_waits_to_send_is_told_to(world: RelayWorld) -> None:
    assert (await world.put(b"x", headers={"Expect": "100-continue"})).status == 201


@pytest.mark.parametrize(
    ("more", "headers", "expected"),
    [
        ("&comp=appendblock", {}, (501, "NotImplemented")),
        ("&comp=metadata", {}, (501, "NotImplemented")),
        ("", {"x-ms-blob-type": "AppendBlob"}, (501, "NotImplemented")),
        ("", {"x-ms-copy-source": "https://elsewhere.test/x"}, (400, "UnsupportedHeader")),
        ("", {"x-ms-encryption-key": "a"}, (400, "UnsupportedHeader")),
        ("", {"If-Match": '"etag"'}, (400, "UnsupportedHeader")),
        ("", {"If-None-Match": '"etag"'}, (400, "UnsupportedHeader")),
        ("", {"Content-MD5": "AAAA"}, (400, "InvalidMd5")),
        ("", {f"x-ms-meta-{name}": "x" * 4_096 for name in "ab"}, (400, "MetadataTooLarge")),
        ("&comp=block&blockid=", {}, (400, "InvalidQueryParameterValue")),
        ("&comp=block&blockid=!", {}, (400, "InvalidQueryParameterValue")),
        ("&comp=block&blockid=" + base64.b64encode(b"x" * 65).decode(), {}, (400, "InvalidQueryParameterValue")),
        ("&comp=blocklist", {}, (400, "InvalidXmlDocument")),
    ],
)
async def test_what_is_no_part_of_an_upload_is_refused_in_storages_words(
    world: RelayWorld, more: str, headers: Mapping[str, str], expected: tuple[int, str]
) -> None:
    answer = await world.put(b"x", more, headers)
    assert failed(answer) == expected
    told = (await world.refusals())[0]
    assert (told.rule, told.tracking_id) == ("contract.upload-request", answer.headers["x-ms-request-id"])
    assert f"<Code>{expected[1]}</Code>" in answer.text
    assert world.storage.blobs == {}


@pytest.mark.parametrize(
    "body",
    [
        "<Other/>",
        "<BlockList><Latest>!</Latest></BlockList>",
        "<BlockList><First>AA==</First></BlockList>",
        '<!DOCTYPE x [<!ENTITY a "b">]><BlockList><Latest>&a;</Latest></BlockList>',
        "<BlockList><Latest>AA==</Latest></BlockList>",
    ],
)
async def test_a_list_of_no_blocks_makes_no_blob(world: RelayWorld, body: str) -> None:
    assert (await world.put(body.encode(), "&comp=blocklist")).status == 400
    assert world.storage.blobs == {}


@pytest.mark.parametrize(
    ("blob", "query"),
    [
        ("dev1/other.txt", ""),
        ("dev2/a b.txt", ""),
        ("dev1/../dev1/a b.txt", ""),
        ("dev1", ""),
        ("", "?sig=AAAA"),
        ("", "?sv=2021-12-02&sr=b&sp=rw&se=2030-01-01T00:00:00Z"),
    ],
)
async def test_an_address_that_was_not_given_opens_nothing(world: RelayWorld, blob: str, query: str) -> None:
    assert failed(await world.put(b"x", blob=blob, query=query)) == (403, "AuthenticationFailed")
    assert (await world.refusals())[0].rule in ("auth.upload", "auth.upload-signature")
    assert world.storage.blobs == {}


@pytest.mark.parametrize(
    ("name", "value"), [("sp", "rwd"), ("se", "2031-01-01T00:00:00Z"), ("sr", "c"), ("sig", "A" * 44)]
)
async def test_nothing_of_an_address_can_be_changed(world: RelayWorld, name: str, value: str) -> None:
    parts = [part.split("=", 1) for part in world.info["sasToken"].removeprefix("?").split("&")]
    forged = "?" + "&".join(f"{key}={value if key == name else text}" for key, text in parts)
    assert failed(await world.put(b"x", query=forged)) == (403, "AuthenticationFailed")
    assert (await world.refusals())[0].rule == "auth.upload-signature"


async def test_an_address_ends_with_its_upload_and_with_its_time(world: RelayWorld) -> None:
    token = world.device
    await world.put(b"x")
    body = {"correlationId": world.info["correlationId"], "isSuccess": True}
    assert (await world.ask("POST", "/devices/dev1/files/notifications", body, token=token)).status == 204
    assert failed(await world.put(b"y")) == (403, "AuthenticationFailed")
    await world.open(token, "b.txt")
    world.clock.now_ms += 3_600_000
    assert failed(await world.put(b"z")) == (403, "AuthenticationFailed")
    assert world.storage.blobs == {"dev1/a b.txt": b"x"}


async def test_an_address_ends_with_its_device(world: RelayWorld) -> None:
    identity = await world.registry.require(DEVICE)
    body = {"deviceId": "dev1", "status": "disabled"}
    await world.registry.put(DEVICE, body, identity.etag)
    assert failed(await world.put(b"x")) == (403, "AuthenticationFailed")
    assert (await world.refusals())[0].rule == "auth.disabled"
    await world.registry.delete(DEVICE, None)
    assert failed(await world.put(b"x")) == (403, "AuthenticationFailed")


async def test_an_address_ends_with_the_key_by_which_it_was_asked_for(world: RelayWorld) -> None:
    identity = await world.registry.require(DEVICE)
    keys = {
        "symmetricKey": {"primaryKey": base64.b64encode(b"n" * 32).decode(), "secondaryKey": identity.secondary_key}
    }
    await world.registry.put(DEVICE, {"deviceId": "dev1", "authentication": keys}, identity.etag)
    assert failed(await world.put(b"x")) == (403, "AuthenticationFailed")
    assert (await world.refusals())[0].rule == "auth.signature"


async def test_a_hub_that_relays_no_more_says_so(world: RelayWorld) -> None:
    await world.hubs.change("hub", lambda hub: apply_patch(hub, storage_body()))
    assert failed(await world.put(b"x")) == (403, "AuthenticationFailed")


async def test_a_closed_door_looks_like_a_wrong_signature(world: RelayWorld) -> None:
    closed = {"properties": {"publicNetworkAccess": "Disabled"}}
    await world.hubs.change("hub", lambda hub: apply_patch(hub, closed))
    assert failed(await world.put(b"x")) == (403, "AuthenticationFailed")
    assert (await world.refusals())[0].rule == "network.public-access"


async def test_a_door_that_closes_meanwhile_ends_what_is_under_way(world: RelayWorld) -> None:
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def stuck(target: UploadTarget, block: Block) -> None:
        arrived.set()
        await gone.wait()

    world.storage.put_block = stuck  # type: ignore[method-assign]
    asking = asyncio.create_task(world.put(b"x"))
    await arrived.wait()
    (session,) = world.sessions.live
    assert (session.device, session.principal.label) == ("dev1", "device:dev1")
    session.cut(Refusal(Hop.NETWORK, "network.public-access", "closed", "open it"), Code.UNAUTHORIZED_ACCESS)
    assert failed(await asking) == (403, "AuthenticationFailed")
    assert world.sessions.live == []
    assert (await world.refusals())[0].rule == "network.public-access"


@pytest.mark.parametrize("fault", [StorageFault.NETWORK, StorageFault.ROLE, StorageFault.TRANSIENT])
async def test_the_hubs_own_affairs_are_no_clients_business(world: RelayWorld, fault: StorageFault) -> None:
    world.storage.fault = fault
    answer = await world.put(b"x")
    assert failed(answer) == (503, "ServerBusy")
    assert "authorized" not in answer.text
    told = (await world.refusals())[0]
    assert (told.rule, told.principal) == (f"egress.{fault.value}", "device:dev1")


async def test_there_are_so_many_at_a_time(world: RelayWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "RELAYS_MAX", 0)
    assert failed(await world.put(b"x")) == (503, "ServerBusy")


async def test_a_block_list_is_compared_with_its_digest(world: RelayWorld) -> None:
    digest = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    body = LIST.format("AA==", "AQ==").encode()
    assert failed(await world.put(body, "&comp=blocklist", {"Content-MD5": digest})) == (400, "Md5Mismatch")


async def test_bodies_have_a_length_and_a_limit(world: RelayWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isthmus.servers.gateway.relay_contract.BODY_BYTES_MAX", 3)
    assert failed(await world.put(b"1234")) == (413, "RequestBodyTooLarge")
    assert (await world.put(b"123")).status == 201


def failed(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.headers.get("x-ms-error-code", "")


async def test_a_client_that_goes_away_leaves_nothing_behind(world: RelayWorld) -> None:
    _, writer = await asyncio.open_connection(*world.authority.split(":"))
    head = f"PUT {world.target()} HTTP/1.1\r\nHost: {HOST}\r\nx-ms-blob-type: BlockBlob\r\nContent-Length: 100\r\n\r\n"
    world.sessions.added.clear()
    world.sessions.removed.clear()
    writer.write(head.encode() + b"half of it")
    async with asyncio.timeout(10):
        await world.sessions.added.wait()
        writer.close()
        await writer.wait_closed()
        await world.sessions.removed.wait()
    assert world.sessions.live == []
    assert not world.storage.blobs
    assert not world.storage.blocks
