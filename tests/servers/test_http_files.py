"""What devices ask about files by HTTPS: every form that clients have, and every refusal in its code."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from commands.storage import storage_body
from devices.fakes import HUB
from isthmus.base.ids import DeviceRef
from isthmus.commands.upload_storage import StorageFault
from isthmus.resources.arm_patch import apply_patch
from servers.device_http_world import DeviceHttpWorld
from servers.http_world import HOST, Answer

DEVICE = DeviceRef(HUB, "dev1")
FILES = "/devices/dev1/files"
ENDED = {"isSuccess": True, "statusCode": 200, "statusDescription": "ok"}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[DeviceHttpWorld]:
    async with DeviceHttpWorld(tmp_path / "log") as opened:
        opened.hub = await opened.hubs.change("hub", lambda hub: apply_patch(hub, storage_body()))
        yield opened


@pytest.fixture
async def token(world: DeviceHttpWorld) -> str:
    return await world.device_token("dev1")


async def open_file(world: DeviceHttpWorld, token: str, name: str = "a.txt", path: str = FILES) -> Any:
    answer = await world.ask("POST", path, {"blobName": name}, token=token)
    assert answer.status == 200, answer.text
    return answer.json


async def told(world: DeviceHttpWorld) -> list[str]:
    found = await world.file_notifications.receive(HUB, 100)
    return [json.loads(message.body)["blobName"] for message in found]


@pytest.mark.parametrize("path", [FILES, f"{FILES}/", "/devices/dev1/FILES"])
async def test_a_device_is_told_where_its_file_goes(world: DeviceHttpWorld, token: str, path: str) -> None:
    answer = await open_file(world, token, path=path)
    assert set(answer) == {"correlationId", "hostName", "containerName", "blobName", "sasToken"}
    assert (answer["hostName"], answer["containerName"]) == ("plant.blob.example.test", "uploads")
    assert answer["blobName"] == "dev1/a.txt"
    assert answer["sasToken"].startswith("?sr=b&sp=rw")
    assert base64.b64decode(answer["correlationId"]).decode().endswith("_ver2.0")


async def test_with_relay_the_hub_sends_the_device_to_the_name_it_was_called_by(
    world: DeviceHttpWorld, token: str
) -> None:
    await world.hubs.change("hub", lambda hub: apply_patch(hub, storage_body(relay=True)))
    answer = await open_file(world, token)
    assert (answer["hostName"], answer["containerName"]) == (HOST, "isthmus-uploads")
    assert "sig=" in answer["sasToken"]


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("slash", ["", "/"])
async def test_an_upload_ends_in_the_new_form_and_in_the_old(
    world: DeviceHttpWorld, token: str, old: bool, slash: str
) -> None:
    opened = await open_file(world, token)
    world.storage.blobs["dev1/a.txt"] = b"x"
    correlation = opened["correlationId"]
    path = f"{FILES}/notifications/{quote(correlation, safe='')}{slash}" if old else f"{FILES}/notifications{slash}"
    answer = await world.ask("POST", path, ENDED if old else {"correlationId": correlation, **ENDED}, token=token)
    assert (answer.status, answer.text) == (204, "")
    assert await told(world) == ["dev1/a.txt"]


@pytest.mark.parametrize(
    "said", [{"isSuccess": False}, {"isSuccess": False, "statusCode": -1, "statusDescription": None}]
)
async def test_little_need_be_said_of_a_failure(world: DeviceHttpWorld, token: str, said: dict[str, object]) -> None:
    opened = await open_file(world, token)
    body = {"correlationId": opened["correlationId"], **said}
    assert (await world.ask("POST", f"{FILES}/notifications", body, token=token)).status == 204
    assert await told(world) == []


@pytest.mark.parametrize(
    ("body", "expected", "rule"),
    [
        (b"", (400, "DeserializationError"), "contract.file-upload"),
        (b"{", (400, "DeserializationError"), "contract.file-upload"),
        ({"name": "a"}, (400, "DeserializationError"), "contract.file-upload"),
        ({"blobName": 1}, (400, "DeserializationError"), "contract.file-upload"),
        ({"blobName": ""}, (400, "ArgumentInvalid"), "contract.blob-name"),
        ({"blobName": "../dev2/a"}, (400, "ArgumentInvalid"), "contract.blob-name"),
    ],
)
async def test_a_bad_question_is_refused(
    world: DeviceHttpWorld, token: str, body: object, expected: tuple[int, str], rule: str
) -> None:
    assert refused(await world.ask("POST", FILES, body, token=token)) == expected
    assert (await world.refusals())[0].rule == rule


@pytest.mark.parametrize(
    ("body", "expected", "rule"),
    [
        ({}, (400, "InvalidFileUploadCompletionStatus"), "contract.file-upload"),
        ({"isSuccess": "yes"}, (400, "InvalidFileUploadCompletionStatus"), "contract.file-upload"),
        (b"[]", (400, "InvalidFileUploadCompletionStatus"), "contract.file-upload"),
        (ENDED, (400, "InvalidFileUploadCorrelationId"), "contract.correlation-id"),
        ({"correlationId": "bm8=", **ENDED}, (400, "InvalidFileUploadCorrelationId"), "contract.correlation-id"),
    ],
)
async def test_a_bad_end_is_refused(
    world: DeviceHttpWorld, token: str, body: object, expected: tuple[int, str], rule: str
) -> None:
    assert refused(await world.ask("POST", f"{FILES}/notifications", body, token=token)) == expected
    assert (await world.refusals())[0].rule == rule


async def test_the_eleventh_upload_is_refused_in_the_services_words(world: DeviceHttpWorld, token: str) -> None:
    for number in range(10):
        await open_file(world, token, f"{number}")
    answer = await world.ask("POST", FILES, {"blobName": "one more"}, token=token)
    assert refused(answer) == (403, "DeviceMaximumActiveFileUploadLimitExceeded")
    assert "Number of active file upload requests cannot exceed 10" in answer.text
    assert (await world.refusals())[0].rule == "limit.file-uploads"


async def test_an_expired_upload_says_so(world: DeviceHttpWorld, token: str) -> None:
    await world.hubs.change("hub", lambda hub: apply_patch(hub, storage_body(minutes=1)))
    opened = await open_file(world, token)
    world.clock.now_ms += 60_000
    body = {"correlationId": opened["correlationId"], **ENDED}
    answer = await world.ask("POST", f"{FILES}/notifications", body, token=token)
    assert refused(answer) == (400, "ExpiredFileUploadCorrelationId")


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (StorageFault.NETWORK, (400, "InvalidStorageEndpoint")),
        (StorageFault.ROLE, (400, "InvalidStorageEndpoint")),
        (StorageFault.TRANSIENT, (503, "ServiceUnavailable")),
    ],
)
async def test_storage_that_refuses_is_explained_to_the_owner_only(
    world: DeviceHttpWorld, token: str, fault: StorageFault, expected: tuple[int, str]
) -> None:
    world.storage.fault = fault
    answer = await world.ask("POST", FILES, {"blobName": "a"}, token=token)
    assert refused(answer) == expected
    assert "authorized" not in answer.text
    said = (await world.refusals())[0]
    assert (said.rule, said.value) == (f"egress.{fault.value}", "This request is not authorized.")


async def test_without_a_container_there_is_no_upload(world: DeviceHttpWorld, token: str) -> None:
    await world.hubs.change(
        "hub",
        lambda hub: apply_patch(
            hub, {"properties": {"enableFileUploadNotifications": False, "storageEndpoints": None}}
        ),
    )
    answer = await world.ask("POST", FILES, {"blobName": "a"}, token=token)
    assert refused(answer) == (400, "DefaultStorageEndpointNotConfigured")


async def test_only_the_device_itself_asks_for_its_files(world: DeviceHttpWorld, token: str) -> None:
    await world.device_token("dev2")
    assert refused(await world.ask("POST", "/devices/dev2/files", {"blobName": "a"}, token=token))[0] == 401
    assert (await world.ask("POST", FILES, {"blobName": "a"})).status == 200, "a policy with DeviceConnect may, too"
    assert refused(await world.ask("POST", FILES, {"blobName": "a"}, token=world.token("service")))[0] == 401


def refused(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.code
