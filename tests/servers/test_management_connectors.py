"""The management calls about connectors: what a token says, what is shown, and what the journal keeps of it."""

import msgspec
import pytest

from access.test_connector_authority import request
from isthmus.access.connector_authority import ConnectorIdentity, IssuedCertificate
from isthmus.access.journal import Verdict
from isthmus.app.domain import management_api
from isthmus.base.errors import ConfigurationError
from isthmus.servers.management.connectors import LinkFace
from isthmus.servers.management.request import call_of
from isthmus.wire.link.token import parse_token
from resources.world import network_body
from servers.management_world import OWNER, Answer, ManagementWorld

HUBS = ("hub.example.test:9443", "10.0.0.1:9443")


class World(ManagementWorld):
    """With a link door that counts how often it was opened, and opens while `trouble` is empty."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.opened = 0
        self.trouble = ""
        face = LinkFace(self._open, lambda name: {"connected": False}, HUBS, "hub.example.test", "ab" * 32)
        self.api = management_api(self.domain, lambda: self.parts, lambda: 8443, self._prepare, face)

    async def with_network(self) -> "World":
        body = network_body("10.1.0.0/16")
        body["properties"]["presence"] = "connector:plant-a"
        await self.domain.networks.put_network("plant", body)
        return self

    async def enrolled(self) -> "World":
        token = parse_token((await self.ask("POST", "/connectors/enrol", {"name": "plant-a"})).json["token"])
        await self.domain.connectors.enrol(token.secret, request(), _issue)
        return self

    def _open(self) -> None:
        if self.trouble:
            raise ConfigurationError(self.trouble)
        self.opened += 1


def _issue(csr: str, name: str, link_id: int) -> IssuedCertificate:
    return IssuedCertificate("PEM", ConnectorIdentity(name, link_id, "1f", 2_000_000_000_000))


@pytest.fixture
async def world() -> World:
    return await World().with_network()


async def test_a_token_says_all_that_a_connector_needs(world: World) -> None:
    made = await world.ask("POST", "/connectors/enrol", {"name": "plant-a"})

    assert made.status == 201
    token = parse_token(made.json["token"])
    assert (token.name, token.network, token.hubs, token.tls_name) == ("plant-a", "plant", HUBS, "hub.example.test")
    assert token.ca_sha256 == "ab" * 32
    assert token.expires == world.clock.utc_ms() // 1_000 + 900
    assert {name: made.json[name] for name in ("name", "network", "hubs")} == {
        "name": "plant-a",
        "network": "plant",
        "hubs": list(HUBS),
    }
    assert world.opened == 1


async def test_its_secret_is_nowhere_but_in_the_answer(world: World) -> None:
    token = parse_token((await world.ask("POST", "/connectors/enrol", {"network": "plant"})).json["token"])

    noted = await world.noted()
    assert [(each.verdict, each.principal, each.detail) for each in noted if each.verdict is Verdict.CHANGED] == [
        (Verdict.CHANGED, OWNER, "enrolment token of connector plant-a made")
    ]
    shown = await world.ask("GET", "/connectors/plant-a")
    for text in (*map(str, noted), str(shown.json), str(token)):
        assert token.secret not in text


async def test_connectors_are_shown_and_listed(world: World) -> None:
    await world.enrolled()
    shown = (await world.ask("GET", "/connectors/plant-a")).json

    assert (shown["state"], shown["network"], shown["connected"], shown["openTokens"]) == (
        "Enrolled",
        "plant",
        False,
        0,
    )
    assert shown["certificateSerial"] == "1f"
    assert (await world.ask("GET", "/connectors")).json == [shown]


async def test_revoking_is_noted_with_before_and_after_and_once(world: World) -> None:
    await world.enrolled()
    for _ in range(2):
        answer = await world.ask("POST", "/connectors/plant-a/revoke")
        assert answer.json["state"] == "Revoked"

    revoked = [each for each in await world.noted() if each.detail == "connector plant-a revoked"]
    assert len(revoked) == 1
    assert msgspec.json.decode(revoked[0].before)["state"] == "Enrolled"
    assert msgspec.json.decode(revoked[0].after)["state"] == "Revoked"


async def test_where_the_door_cannot_be_opened_no_token_is_made(world: World) -> None:
    world.trouble = "Port 9443 at 10.0.0.1 is in use: stop what listens there, or choose another."
    refused = await world.ask("POST", "/connectors/enrol", {"name": "plant-a"})

    assert refused.code == "InvalidOperation"
    assert "in use" in refused.message
    assert (await world.ask("GET", "/connectors")).json == []


async def test_a_network_without_the_presence_opens_no_door(world: World) -> None:
    await world.domain.networks.put_network("here", network_body("10.2.0.0/16"))
    refused = await world.ask("POST", "/connectors/enrol", {"name": "gateway", "network": "here"})

    assert refused.code == "ArgumentInvalid"
    assert "isthmus network vnet update -n here --presence connector:gateway" in refused.message
    assert world.opened == 0


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("GET", "/connectors/ghost", None, "GenericNotFound"),
        ("POST", "/connectors/ghost/revoke", None, "GenericNotFound"),
        ("DELETE", "/connectors/plant-a", None, "GenericNotFound"),
        ("POST", "/connectors/enrol", {"name": "plant-a", "expiresInSeconds": 0}, "ArgumentInvalid"),
        ("POST", "/connectors/enrol", {"name": "plant-a", "for": "ever"}, "ArgumentInvalid"),
        ("POST", "/connectors/enrol", {}, "ArgumentInvalid"),
    ],
)
async def test_what_cannot_be_is_refused(world: World, method: str, path: str, body: object, code: str) -> None:
    assert (await world.ask(method, path, body)).code == code


async def test_a_stopped_servers_folder_shows_and_enrols_nobody(world: World) -> None:
    await world.enrolled()
    offline = management_api(world.domain, list, lambda: 8443, world._prepare)
    shown = await offline.answer(call_of("GET", "/connectors", who=OWNER))
    refused = await offline.answer(call_of("POST", "/connectors/enrol", body=b"{}", who=OWNER))

    assert Answer(shown.status, msgspec.json.decode(shown.body)).json[0]["name"] == "plant-a"
    assert Answer(refused.status, msgspec.json.decode(refused.body)).message.endswith("isthmus up")
