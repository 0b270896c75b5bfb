"""ARM calls about CA certificates: statuses, conditions, the journal, and who comes in by what they leave."""

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from devices.fakes import HUB as HUB_NUMBER
from devices.fakes import CountedIds
from isthmus.base.clock import SystemClock
from isthmus.base.errors import HubError
from isthmus.base.ids import DeviceRef
from isthmus.servers.gateway.gate import Admitted, Gate
from isthmus.servers.gateway.plane import Plane
from servers.gate_world import FakeCounters, FakePeer
from servers.management_world import HUB, Answer, ManagementWorld
from support.certificates import Issued, issue

ROOT = issue("Plant CA", authority=True)
RENEWED = issue("Plant CA 2", authority=True)
PLANT = f"{HUB}/certificates/plant"
DEVICE = DeviceRef(HUB_NUMBER, "dev1")


class World:
    """The management API, a device whose certificate a CA signs, and the gate that it comes through."""

    def __init__(self) -> None:
        self.management = ManagementWorld()
        self.management.clock.now_ms = SystemClock().utc_ms()
        domain = self.management.domain
        self.gate = Gate(
            *(domain.directory, domain.registry, domain.journal, FakeCounters(), self.management.clock, CountedIds())
        )

    async def start(self) -> "World":
        await self.management.start()
        body = {"deviceId": "dev1", "authentication": {"type": "certificateAuthority"}}
        await self.management.domain.registry.put(DEVICE, body, None)
        return self

    async def put(self, issued: Issued = ROOT, path: str = PLANT, **more: object) -> Answer:
        return await self.management.ask("PUT", path, {"properties": {"certificate": issued.pem, **more}})

    async def come(self, *chain: Issued) -> Admitted:
        hub = self.management.domain.hubs.require("hub")
        peer = FakePeer(peer_chain=tuple(each.der for each in chain))
        admitted = await self.gate.device(peer, Plane.MQTT, hub, DEVICE, None)
        self.gate.admitted(peer, Plane.MQTT, admitted)
        return admitted

    async def refused_by(self, *chain: Issued) -> str:
        with pytest.raises(HubError) as caught:
            await self.come(*chain)
        assert caught.value.refusal is not None
        return caught.value.refusal.rule


@pytest.fixture
async def world() -> World:
    return await World().start()


async def test_a_certificate_is_made_changed_listed_and_deleted(world: World) -> None:
    ask = world.management.ask
    made = await world.put()
    assert (made.status, made.json["properties"]["isVerified"]) == (201, False)
    assert (await ask("GET", PLANT)).json == made.json
    changed = await world.put(isVerified=True)
    assert (changed.status, changed.json["properties"]["isVerified"]) == (200, True)
    assert changed.json["etag"] != made.json["etag"]
    assert (await ask("GET", f"{HUB}/Certificates")).json == {"value": [changed.json]}
    assert (await ask("DELETE", PLANT)).code == "PreconditionFailed"
    assert (await ask("DELETE", PLANT, if_match=made.json["etag"])).status == 412
    assert (await ask("DELETE", PLANT, if_match=changed.json["etag"])).status == 200
    gone = await ask("GET", PLANT)
    assert (gone.status, gone.code) == (404, "CertificateNotFound")
    noted = [(each.detail, bool(each.before), bool(each.after)) for each in await world.management.noted()]
    assert [each for each in noted if each[0].startswith("certificate")] == [
        ("certificate plant created", False, True),
        ("certificate plant updated", True, True),
        ("certificate plant deleted", True, False),
    ]


async def test_possession_is_proved_in_two_steps_and_the_journal_has_no_code(world: World) -> None:
    ask = world.management.ask
    etag = (await world.put()).json["etag"]
    first = await ask("POST", f"{PLANT}/generateVerificationCode", if_match=etag)
    asked = await ask("POST", f"{PLANT}/generateVerificationCode", if_match=first.json["etag"])
    code = asked.json["properties"]["verificationCode"]
    assert asked.json["properties"]["certificate"] == ROOT.pem
    for name, etag, status in (
        (first.json["properties"]["verificationCode"], asked.json["etag"], 400),
        (code, first.json["etag"], 412),
        (code, asked.json["etag"], 200),
    ):
        answer = await ask("POST", f"{PLANT}/verify", {"certificate": issue(name, ROOT).pem}, if_match=etag)
        assert answer.status == status, name
    assert answer.json["properties"]["isVerified"] is True
    assert code not in repr(await world.management.noted())


async def test_a_device_comes_in_by_a_verified_certificate_only(world: World) -> None:
    device = issue("dev1", ROOT)
    assert await world.refused_by(device) == "auth.ca-unknown"
    await world.put()
    assert await world.refused_by(device) == "auth.ca-unverified"
    await world.put(isVerified=True)
    assert (await world.come(device)).principal.by_authority
    assert await world.refused_by(issue("dev2", ROOT)) == "auth.certificate-name"
    await world.put(RENEWED, isVerified=True)
    assert await world.refused_by(device) == "auth.ca-unknown"


async def test_a_second_certificate_renews_a_first_one(world: World) -> None:
    old, new = issue("dev1", ROOT), issue("dev1", RENEWED)
    await world.put(isVerified=True)
    await world.put(RENEWED, f"{HUB}/certificates/next", isVerified=True)
    for device in (old, new):
        await world.come(device)
    await world.management.ask("DELETE", PLANT, if_match="*")
    await world.come(new)
    assert await world.refused_by(old) == "auth.ca-unknown"


@pytest.mark.parametrize(
    "change",
    [
        lambda ask: ask("DELETE", f"{PLANT}?dryRun=true", if_match="*"),
        lambda ask: ask("PUT", f"{PLANT}?dryRun=true", {"properties": {"certificate": RENEWED.pem}}),
        lambda ask: ask("PUT", f"{PLANT}?dryRun=true", {"properties": {"certificate": ROOT.pem, "isVerified": False}}),
    ],
    ids=["deleted", "replaced", "no longer verified"],
)
async def test_a_dry_run_tells_who_hangs_on_a_certificate(
    world: World, change: Callable[[Any], Coroutine[Any, Any, Answer]]
) -> None:
    await world.put(isVerified=True)
    await world.come(issue("dev1", ROOT))
    rehearsed = (await change(world.management.ask)).json
    (affected,) = rehearsed["affected"]
    assert (affected["device"], affected["rule"]) == ("dev1", "auth.ca-unknown")
    await world.come(issue("dev1", ROOT))
    unconcerned = await world.management.ask(
        *("PUT", f"{HUB}/certificates/next?dryRun=true", {"properties": {"certificate": RENEWED.pem}})
    )
    assert unconcerned.json["affected"] == []


async def test_certificates_go_with_their_hub(world: World) -> None:
    domain = world.management.domain
    await domain.hubs.create("second", host_name="second.example.test", partitions=1)
    second = PLANT.replace("/hub/", "/second/")
    assert (await world.put(path=second)).status == 201
    await domain.hubs.delete("second")
    await domain.hubs.create("second", host_name="second.example.test", partitions=1)
    assert (await world.management.ask("GET", second)).code == "CertificateNotFound"
    assert (await world.management.ask("GET", PLANT.replace("/hub/", "/none/"))).status == 404
