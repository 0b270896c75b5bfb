"""The official clients as a hub uses them: whose certificates count, and where names and addresses lead."""

import pytest
from azure.core.exceptions import AzureError, HttpResponseError

from isthmus.routing.sink import FailureKind, SinkFailure
from isthmus.sinks.clients import (
    HubCredential,
    blob_service_by_identity,
    blob_service_by_key,
    container_by_address,
)
from sinks.egress import HUB, LaidEgress
from support.azurite import ACCOUNT, PORT, Azurite

CONTAINER = "clients"


@pytest.fixture
async def container(azurite: Azurite, egress: LaidEgress) -> str:
    async with blob_service_by_key(egress.way, azurite.connection_string) as service:
        if not await service.get_container_client(CONTAINER).exists():
            await service.create_container(CONTAINER)
    return f"{azurite.url}/{CONTAINER}"


async def test_an_identity_shows_its_token(azurite: Azurite, egress: LaidEgress, container: str) -> None:
    async with blob_service_by_identity(egress.way, azurite.url, "") as service:
        assert CONTAINER in [each.name async for each in service.list_containers()]
    async with container_by_address(egress.way, container, "") as client:
        assert await client.exists()
        await client.get_blob_client("b").upload_blob(b"x", overwrite=True)
    assert set(egress.scopes) == {"https://storage.azure.com/.default"}


async def test_an_address_without_a_signature_shows_nothing(egress: LaidEgress, container: str) -> None:
    async with container_by_address(egress.way, container) as client:
        with pytest.raises(HttpResponseError):
            await client.get_container_properties()
    assert not egress.scopes


async def test_a_certificate_for_another_name_is_refused(azurite: Azurite, egress: LaidEgress) -> None:
    other = f"{ACCOUNT}.blob.elsewhere.test"
    egress.names[other] = egress.names[azurite.host]
    async with blob_service_by_identity(egress.way, f"https://{other}:{PORT}", "") as service:
        with pytest.raises(AzureError, match="certificate"):
            await service.get_service_properties()


async def test_names_are_asked_for_again_for_each_connection(azurite: Azurite, egress: LaidEgress) -> None:
    """What a rule forbids from now on must not go on by an answer of earlier."""
    async with blob_service_by_key(egress.way, azurite.connection_string) as service:
        await service.get_service_properties()
    del egress.names[azurite.host]
    async with blob_service_by_key(egress.way, azurite.connection_string) as service:
        with pytest.raises(SinkFailure) as caught:
            await service.get_service_properties()
    assert caught.value.kind is FailureKind.NAME


async def test_a_hub_without_an_identity_says_so(egress: LaidEgress) -> None:
    egress.has_identity = False
    async with HubCredential(HUB.number, "", egress) as credential:
        with pytest.raises(SinkFailure) as caught:
            await credential.get_token("https://storage.azure.com/.default")
    assert caught.value.kind is FailureKind.IDENTITY
