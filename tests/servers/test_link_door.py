"""The link door: who gets in and as what, what is carried and how it ends, and what everybody else meets."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from isthmus.access.journal import Verdict
from isthmus.base.clock import SystemClock
from isthmus.base.errors import HubError
from isthmus.network.door import DoorKind
from isthmus.servers.gateway import links
from isthmus.servers.gateway.link_door import CONTROLS_MAX
from isthmus.servers.gateway.plane import Plane
from isthmus.wire.link.framing import encode_message
from isthmus.wire.link.messages import (
    Certificate,
    Check,
    Drain,
    EndpointStatus,
    RefusalCode,
    Refused,
    Setup,
    Status,
)
from isthmus.wire.proxy_protocol import LOCAL_HEADER, ProxyHeader, encode_header, link_tlv
from servers.front_door import WAIT_SECONDS
from servers.link_world import CLIENT, ENDPOINT, HEADER, PORT, Carried, LinkWorld, Outer, link_world, new_request, until
from support.certificates import issue, write_pem

MEBIBYTE = 1024 * 1024


@pytest.fixture
async def world(tmp_path: Path, loopback_address: str) -> AsyncIterator[LinkWorld]:
    async with link_world(tmp_path, loopback_address) as found:
        yield found


# ── carrying ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_carried_connection_is_the_devices_own(world: LinkWorld) -> None:
    carried = await world.carry(await world.identity())
    pump = await world.pump()
    carried.send(b"hello")

    assert await carried.receive(5) == b"hello"
    connection = pump.connection
    assert (connection.peer_address, connection.peer_port) == CLIENT
    assert connection.local_address == ENDPOINT
    assert connection.door.kind is DoorKind.PRIVATE
    assert connection.door.network == "plant"
    assert connection.server_name == "hub.example.test"
    assert connection.tls_version == "TLSv1.3"
    assert (world.door.links.carried, world.door.links.spares) == (1, 0)
    await carried.outer.end()
    await asyncio.wait_for(pump.is_closed.wait(), WAIT_SECONDS)


@pytest.mark.parametrize("pieces", ["with everything at a time", "byte by byte"])
async def test_the_header_may_come_in_any_pieces(world: LinkWorld, pieces: str) -> None:
    outer = await world.dial(await world.identity())
    carried = Carried(outer)
    data = encode_header(HEADER) + carried.inner.outgoing()
    for piece in [data] if pieces.startswith("with") else [data[at : at + 1] for at in range(len(data))]:
        outer.writer.write(piece)
        await outer.writer.drain()
    await carried.shake_hands()
    carried.send(b"hello")

    assert await carried.receive(5) == b"hello"


async def test_the_certificates_own_link_id_is_taken(world: LinkWorld) -> None:
    certificate = await world.identity()
    link_id = world.domain.connectors.require("plant-a").link_id
    carried = await world.carry(certificate, replace(HEADER, tlvs=(link_tlv(link_id),)))
    carried.send(b"x")

    assert await carried.receive(1) == b"x"


async def test_a_spare_connection_waits_and_is_used(world: LinkWorld) -> None:
    certificate = await world.identity()
    outer = await world.dial(certificate)
    await until(lambda: world.door.links.spares == 1)
    assert world.listeners.connections == 1

    outer.writer.write(encode_header(HEADER))
    await until(lambda: world.door.links.spares == 0)
    await outer.end()


async def test_megabytes_go_both_ways_and_a_side_that_does_not_read_stops_the_other(world: LinkWorld) -> None:
    carried = await world.carry(await world.identity())
    pump = await world.pump()
    size = 4 * MEBIBYTE
    sent = bytes(range(256)) * (size // 256)
    pump.connection.pause_reading()
    for start in range(0, size, 65_536):
        carried.send(sent[start : start + 65_536])
    assert carried.outer.writer.transport.get_write_buffer_size() > 0, "the sender feels that nobody reads"
    pump.connection.resume_reading()

    assert await carried.receive(size) == sent
    assert bytes(pump.bytes_received) == sent


async def test_the_devices_goodbye_ends_both_layers_in_order(world: LinkWorld) -> None:
    carried = await world.carry(await world.identity())
    pump = await world.pump()
    carried.finish()

    await asyncio.wait_for(pump.is_closed.wait(), WAIT_SECONDS)
    assert pump.reasons == ["closed by peer"]
    carried.inner.receive(await carried.outer.until_end())
    assert carried.inner.ended


async def test_the_hubs_goodbye_comes_behind_its_last_words(world: LinkWorld) -> None:
    carried = await world.carry(await world.identity())
    pump = await world.pump()
    pump.connection.write(b"last words")
    pump.connection.close()

    assert carried.inner.receive(await carried.outer.until_end()) == b"last words"
    assert carried.inner.ended


async def test_a_reset_goes_through(world: LinkWorld) -> None:
    carried = await world.carry(await world.identity())
    pump = await world.pump()
    pump.connection.abort()

    with pytest.raises(ConnectionResetError):
        await carried.receive(1)


async def test_a_devices_broken_tls_is_refused_at_the_endpoints_door(world: LinkWorld) -> None:
    outer = await world.dial(await world.identity())
    outer.writer.write(encode_header(HEADER) + b"GET / HTTP/1.1\r\n\r\n")
    await outer.until_end()

    ((door, plane, address, refusal),) = world.refusals
    assert (door.kind, plane, address) == (DoorKind.PRIVATE, Plane.MQTT, CLIENT[0])
    assert refusal.rule == "tls.handshake"


# ── who is not let in ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_health_check_ends_quietly(world: LinkWorld) -> None:
    outer = await world.dial(await world.identity())
    outer.writer.write(LOCAL_HEADER)

    await outer.until_end()
    assert world.rules == []


@pytest.mark.parametrize(
    ("header", "rule", "address"),
    [
        (replace(HEADER, tlvs=(link_tlv(7),)), "link.id", ""),
        (replace(HEADER, destination_address="10.1.0.9"), "link.destination", CLIENT[0]),
        (replace(HEADER, destination_port=22), "link.destination", CLIENT[0]),
    ],
)
async def test_a_forged_header_ends_the_connection(
    world: LinkWorld, header: ProxyHeader, rule: str, address: str
) -> None:
    outer = await world.dial(await world.identity())
    outer.writer.write(encode_header(header))
    await outer.until_end()

    ((door, plane, shown, refusal),) = world.refusals
    assert (door.label, plane, refusal.rule) == ("link:plant-a", Plane.LINK, rule)
    assert shown == (address or "127.0.0.1")
    assert refusal.remedy
    assert world.pumps.empty()


async def test_one_connector_does_not_reach_the_others_endpoint(world: LinkWorld) -> None:
    """Both networks have the same ranges: the place decides, and it is the certificate's."""
    carried = await world.carry(await world.identity("plant-b"))
    pump = await world.pump()

    assert pump.connection.door.network == "other"
    await carried.outer.end()


async def test_an_endpoint_of_another_network_in_the_same_place_is_refused(world: LinkWorld) -> None:
    certificate = await world.identity()
    await world.domain.connectors.revoke("plant-a")
    networks = world.domain.networks
    await networks.put_network(
        "third",
        {"properties": {"addressSpace": {"addressPrefixes": ["10.9.0.0/16"]}, "presence": "connector:plant-a"}},
    )
    key, csr = new_request()
    secret = (await world.domain.connectors.invite("plant-a", "third", 900))[1]
    answer = await world.enrol(secret, csr)
    assert isinstance(answer, Certificate)
    certificate.write_text(key + answer.pem)
    outer = await world.dial(certificate)
    outer.writer.write(encode_header(HEADER))
    await outer.until_end()

    assert world.rules == ["link.network"]


@pytest.mark.parametrize("sent", [b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"])
async def test_what_is_no_header_ends_the_connection(world: LinkWorld, sent: bytes) -> None:
    outer = await world.dial(await world.identity())
    outer.writer.write(sent)
    await outer.until_end()

    assert world.rules == ["link.header"]


async def test_without_a_certificate_the_handshake_fails(world: LinkWorld) -> None:
    outer = await world.dial()
    outer.writer.write(encode_header(HEADER))
    await outer.until_end()

    assert world.rules == ["link.certificate"]
    assert world.refusals[0][0].label == "link"


@pytest.mark.parametrize("other", ["self-signed", "another connector CA"])
async def test_anothers_certificate_fails_the_handshake(world: LinkWorld, tmp_path: Path, other: str) -> None:
    authority = issue("Isthmus connector CA", authority=True)
    issued = issue("plant-a", None if other == "self-signed" else authority)
    outer = await world.dial(write_pem(tmp_path / "other.pem", issued))
    await outer.until_end()

    assert world.rules == ["link.certificate"]


async def test_a_certificate_that_has_run_out_fails_the_handshake(world: LinkWorld) -> None:
    world.hours[0] = -0.5
    outer = await world.dial(await world.identity())
    await outer.until_end()

    assert world.rules == ["link.certificate"]
    assert "expired" in world.refusals[0][3].value


async def test_the_hubs_own_certificate_is_no_connectors(world: LinkWorld) -> None:
    outer = await world.dial(world.folder / "link.pem")
    await outer.until_end()

    assert world.rules == ["link.certificate"]


async def test_tls_12_is_refused(world: LinkWorld) -> None:
    with pytest.raises(ssl.SSLError):
        await world.dial(await world.identity(), version=ssl.TLSVersion.TLSv1_2)

    assert world.rules == ["link.handshake"]


async def test_plain_bytes_are_refused(world: LinkWorld) -> None:
    reader, writer = await asyncio.open_connection(world.address, world.port)
    writer.write(encode_header(HEADER))
    await world.keep(Outer(reader, writer)).until_end()

    assert world.rules == ["link.handshake"]
    assert world.refusals[0][3].value == "a PROXY header ahead of TLS"


async def test_the_name_of_the_enrolment_opens_nothing_else(world: LinkWorld) -> None:
    certificate = await world.identity()
    for control in (False, True):
        outer = await world.dial(certificate, control=control, server_name="enrol.isthmus.internal")
        outer.writer.write(encode_header(HEADER))
        await outer.until_end()

    assert world.rules == ["link.protocol", "link.protocol"]
    assert world.pumps.empty()


async def test_own_address_rules_close_before_anything_is_read(tmp_path: Path, loopback_address: str) -> None:
    async with link_world(tmp_path, loopback_address, allow=("10.0.0.0/8",)) as world:
        with pytest.raises(OSError):
            await world.dial()
        assert world.rules == ["link.address"]
        assert world.listeners.connections == 0


async def test_a_flood_of_half_open_sockets_does_not_hurt_others(tmp_path: Path, loopback_address: str) -> None:
    async with link_world(tmp_path, loopback_address, sockets_max=50) as world:
        carried = await world.carry(await world.identity())
        spare = await world.dial(await world.identity())
        for _ in range(300):
            world.keep(Outer(*await asyncio.open_connection(world.address, world.port)))
        again = await world.carry(await world.identity())
        for connection in (carried, again):
            connection.send(b"still here")
            assert await connection.receive(10) == b"still here"
        spare.writer.write(encode_header(HEADER))
        await until(lambda: world.door.links.spares == 0)
        assert "socket.evicted" in world.rules


async def test_devices_that_say_nothing_are_evicted_although_they_are_carried(
    tmp_path: Path, loopback_address: str
) -> None:
    async with link_world(tmp_path, loopback_address, sockets_max=20) as world:
        certificate = await world.identity()
        for number in range(40):
            outer = await world.dial(certificate)
            outer.writer.write(encode_header(replace(HEADER, source_port=number + 1)))
            await until(lambda: world.door.links.spares == 0)
        assert world.listeners.connections <= 20
        assert {(door.kind, refusal.rule) for door, _, _, refusal in world.refusals} == {
            (DoorKind.PRIVATE, "socket.evicted")
        }


async def test_too_many_spare_connections_cost_the_oldest(world: LinkWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "WAITING_MAX", 3)
    certificate = await world.identity()
    spares = [await world.dial(certificate) for _ in range(4)]

    assert await spares[0].until_end() == b""
    assert world.door.links.spares == 3
    assert world.rules == []


# ── enrolment ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_token_is_used_once(world: LinkWorld) -> None:
    secret = await world.invited()
    first, second = await world.enrol(secret, new_request()[1]), await world.enrol(secret, new_request()[1])

    assert isinstance(first, Certificate)
    assert first.ca_pem == "the hub's CA"
    assert isinstance(second, Refused)
    assert second.code == RefusalCode.TOKEN
    assert world.rules == ["link.token-used"]
    assert world.door.certifying.enrolments == 1
    assert [each.detail for each in await world.noted() if each.verdict is Verdict.CHANGED] == [
        f"connector plant-a enrolled as link {world.domain.connectors.require('plant-a').link_id}"
    ]


@pytest.mark.parametrize("secret", ["", "x" * 43])
async def test_a_guessed_token_is_refused_in_the_same_words(world: LinkWorld, secret: str) -> None:
    used = await world.invited()
    await world.enrol(used, new_request()[1])

    assert await world.enrol(secret, new_request()[1]) == await world.enrol(used, new_request()[1])
    assert world.rules == ["link.token-unknown", "link.token-used"]


async def test_a_request_that_cannot_be_granted_leaves_the_token(world: LinkWorld) -> None:
    secret = await world.invited()
    refused = await world.enrol(secret, "nonsense")
    assert isinstance(refused, Refused)
    assert refused.code == RefusalCode.REQUEST

    assert isinstance(await world.enrol(secret, new_request()[1]), Certificate)


@pytest.mark.parametrize("sent", [b"\x00\x00\x00\x02{}", b"\xff\xff\xff\xff", b"\x00\x00\x00\x10"])
async def test_a_garbled_enrolment_is_refused(world: LinkWorld, sent: bytes) -> None:
    outer = await world.dial(server_name="enrol.isthmus.internal")
    outer.writer.write(sent)
    if sent == b"\x00\x00\x00\x10":
        # It waits for the rest, and for the deadline of whoever proves nothing.
        await outer.end()
    else:
        assert b'"protocol"' in await outer.until_end()
        assert world.rules == ["link.protocol"]


# ── control ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_connector_is_set_up_and_again_with_every_change(world: LinkWorld) -> None:
    control = await world.control(await world.identity())
    setup = await control.hear()
    assert isinstance(setup, Setup)
    (endpoint,) = setup.endpoints
    assert (endpoint.address, endpoint.ports, endpoint.name) == (ENDPOINT, (PORT,), "pe-plant")

    deleting = asyncio.create_task(world.domain.endpoints.delete("pe-plant"))
    later = await control.hear()
    assert isinstance(later, Setup)
    assert (later.generation, later.endpoints) == (2, ())
    assert not deleting.done(), "the change waits for the connector to have carried it out"
    control.engine.report(Status(generation=2))
    control.flush()
    await asyncio.wait_for(deleting, WAIT_SECONDS)


async def test_what_a_connector_reports_is_shown(world: LinkWorld) -> None:
    control = await world.control(await world.identity())
    await control.hear()
    trouble = EndpointStatus(address=ENDPOINT, listening=False, reason="it is in use")
    control.engine.report(Status(generation=1, endpoints=(trouble,)))
    control.flush()
    await until(lambda: "it is in use" in str(world.door.shown("plant-a")))

    shown = world.door.shown("plant-a")
    assert shown["connected"] is True
    assert "gateway" in str(shown["processes"])
    assert [each.detail for each in await world.noted() if each.verdict is Verdict.ALLOWED] == [
        "connector plant-a is connected: process one at gateway"
    ]


async def test_deleting_an_endpoint_closes_what_is_carried_there(world: LinkWorld) -> None:
    certificate = await world.identity()
    carried, other = await world.carry(certificate), await world.carry(await world.identity("plant-b"))
    door = world.domain.endpoints.require("pe-plant").door
    await world.domain.endpoints.delete("pe-plant")
    world.listeners.release(door, ENDPOINT, "connector:plant-a")

    carried.inner.receive(await carried.outer.until_end())
    assert carried.inner.ended
    other.send(b"x")
    assert await other.receive(1) == b"x"


async def test_a_certificate_is_renewed_and_links_live_on(world: LinkWorld) -> None:
    world.hours[0] = 1.0
    certificate = await world.identity()
    carried = await world.carry(certificate)
    control = await world.control(certificate)
    await control.hear()
    key, csr = new_request()
    world.hours[0] = 24.0
    control.engine.renew(csr)
    control.flush()
    renewed = await control.hear()

    assert isinstance(renewed, Certificate)
    certificate.write_text(key + renewed.pem)
    again = await world.carry(certificate)
    for connection in (carried, again):
        connection.send(b"x")
        assert await connection.receive(1) == b"x"


async def test_a_renewal_that_cannot_be_granted_keeps_the_connection(world: LinkWorld) -> None:
    control = await world.control(await world.identity())
    await control.hear()
    control.engine.renew("nonsense")
    control.flush()
    refused = await control.hear()
    assert isinstance(refused, Refused)
    assert refused.code == RefusalCode.REQUEST

    control.engine.renew(new_request()[1])
    control.flush()
    assert isinstance(await control.hear(), Certificate)


async def test_a_connector_does_not_renew_again_and_again(world: LinkWorld) -> None:
    control = await world.control(await world.identity())
    await control.hear()
    answers = []
    for _ in range(3):
        control.engine.renew(new_request()[1])
        control.flush()
        answers.append(await control.hear())

    assert [type(answer).__name__ for answer in answers] == ["Certificate", "Refused", "Refused"]
    assert isinstance(answers[1], Refused)
    assert answers[1].code == RefusalCode.BUSY


async def test_a_certificate_that_runs_out_ends_its_control_connection(world: LinkWorld) -> None:
    world.hours[0] = 1.2 / 3_600
    control = await world.control(await world.identity())
    await control.hear()
    refused = await control.hear()

    assert isinstance(refused, Refused)
    assert refused.code == RefusalCode.REVOKED
    assert "run out" in refused.message


async def test_revoking_cuts_everything_within_a_second(world: LinkWorld) -> None:
    certificate = await world.identity()
    carried, spare = await world.carry(certificate), await world.dial(certificate)
    other = await world.carry(await world.identity("plant-b"))
    control = await world.control(certificate)
    await control.hear()
    pump = await world.pump()
    began = SystemClock().monotonic()
    await world.domain.connectors.revoke("plant-a")

    refused = await control.hear()
    assert isinstance(refused, Refused)
    assert refused.code == RefusalCode.REVOKED
    for outer in (carried.outer, spare, control.outer):
        await outer.until_end()
    await asyncio.wait_for(pump.is_closed.wait(), WAIT_SECONDS)
    assert SystemClock().monotonic() - began < 1.0
    other.send(b"x")
    assert await other.receive(1) == b"x"


async def test_a_revoked_connector_hears_it_when_it_comes_again(world: LinkWorld) -> None:
    certificate = await world.identity()
    await world.domain.connectors.revoke("plant-a")
    control = await world.control(certificate)
    refused = await control.refusal()

    assert refused.code == RefusalCode.REVOKED
    carried = await world.dial(certificate)
    await carried.until_end()
    assert world.rules == ["link.revoked", "link.revoked"]
    assert world.refusals[0][0].label == "link:plant-a"


async def test_a_link_of_the_time_before_a_revocation_stays_out(world: LinkWorld) -> None:
    old = await world.identity()
    await world.domain.connectors.revoke("plant-a")
    new = await world.identity()
    outer = await world.dial(old)
    await outer.until_end()

    assert world.rules == ["link.revoked"]
    carried = await world.carry(new)
    carried.send(b"x")
    assert await carried.receive(1) == b"x"


async def test_a_newer_connection_of_a_process_replaces_the_older(world: LinkWorld) -> None:
    certificate = await world.identity()
    first = await world.control(certificate)
    await first.hear()
    second = await world.control(certificate)
    await second.hear()

    assert await first.outer.until_end() == b""
    assert len(world.door.links.of("plant-a").controls) == 1


async def test_too_many_processes_of_a_connector_are_refused(world: LinkWorld) -> None:
    certificate = await world.identity()
    controls = [await world.control(certificate, instance=str(number)) for number in range(CONTROLS_MAX)]
    for control in controls:
        await control.hear()
    late = await world.control(certificate, instance="late")
    refused = await late.refusal()

    assert refused.code == RefusalCode.BUSY
    assert world.rules == ["link.connections"]


@pytest.mark.parametrize("name", ["plant-b", ""])
async def test_another_name_than_the_certificates_is_refused(world: LinkWorld, name: str) -> None:
    control = await world.control(await world.identity(), name=name)

    assert (await control.refusal()).code == RefusalCode.NAME
    assert world.rules == ["link.protocol"]


async def test_a_connector_that_breaks_the_protocol_hears_it_and_is_closed(world: LinkWorld) -> None:
    control = await world.control(await world.identity())
    await control.hear()
    control.outer.writer.write(encode_message(Drain()))
    refused = await control.hear()

    assert isinstance(refused, Refused)
    assert refused.code == RefusalCode.PROTOCOL
    await control.outer.until_end()
    assert world.rules == ["link.protocol"]


async def test_a_hub_that_stops_says_so_and_takes_nobody_more(world: LinkWorld) -> None:
    certificate = await world.identity()
    control = await world.control(certificate)
    await control.hear()
    world.door.drain()

    assert isinstance(await control.hear(), Drain)
    late = await world.control(certificate, instance="late")
    assert (await late.refusal()).code == RefusalCode.BUSY


async def test_a_check_is_carried_out_by_the_connector(world: LinkWorld) -> None:
    control = await world.control(await world.identity())
    await control.hear()
    asking = asyncio.create_task(world.door.check("plant-a", {"plane": "mqtt"}))
    asked = await control.hear()
    assert isinstance(asked, Check)
    control.engine.answer(asked.id, ok=True, body={"hops": []})
    control.flush()

    assert (await asking).body == {"hops": []}


async def test_a_check_ends_with_its_connector(world: LinkWorld) -> None:
    control = await world.control(await world.identity())
    await control.hear()
    asking = asyncio.create_task(world.door.check("plant-a", {}))
    await control.hear()
    await control.outer.end()

    with pytest.raises(HubError, match="went away"):
        await asking
    with pytest.raises(HubError, match="not connected"):
        await world.door.check("plant-a", {})


async def test_a_socket_at_a_private_endpoints_address_is_the_link_doors_all_the_same(
    world: LinkWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wildcard listener has that address, too."""
    endpoint = world.domain.endpoints.require("pe-plant")
    monkeypatch.setattr(world.listeners._accepted, "_owner_of", lambda address, place: endpoint.door)
    outer = await world.dial()
    await outer.until_end()

    assert [door.label for door, _, _, _ in world.refusals] == ["link"]
