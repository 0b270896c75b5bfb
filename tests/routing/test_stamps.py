"""Enrichments as they are stamped, at ingest and into the stored form of an envelope."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from isthmus.base.ids import DeviceRef
from isthmus.resources.enrichments import Enrichment
from isthmus.resources.hub import Hub, Route, RouteSource
from isthmus.resources.routing_endpoint import EndpointAuthentication, EndpointKind, RoutingEndpoint
from isthmus.routing.accept import Accept
from isthmus.routing.stamps import KEPT_MAX, Stamps
from isthmus.telemetry.log import SegmentLog
from isthmus.telemetry.message import Envelope, decode_envelope, encode_envelope, encode_stamped, enriched
from isthmus.telemetry.reader import LogReader
from routing.fakes import HUB, FakeTwins, twin_change
from telemetry.fakes import START_MS, SetClock, Waiter

STORE = RoutingEndpoint(2, "g", "store", EndpointKind.STORAGE, EndpointAuthentication.KEY)
TWIN = {"tags": {"site": "Oslo", "floor": 3, "lit": True}, "properties": {"desired": {"mode": {"eco": 1}}}}


def enriched_hub(*enrichments: Enrichment) -> Hub:
    return replace(HUB, endpoints=(STORE,), last_endpoint=2, enrichments=enrichments)


def stamp(value: str, *endpoints: str) -> Enrichment:
    return Enrichment("key", value, endpoints or ("store",))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("fixed", "fixed"),
        ("$iothubname", "plant"),
        ("$twin.tags.site", "Oslo"),
        ("$twin.tags.floor", "3"),
        ("$twin.tags.lit", "true"),
        ("$twin.properties.desired.mode", '{"eco":1}'),
        ("$twin.properties.desired.mode.eco", "1"),
        ("$twin.tags.nowhere", "$twin.tags.nowhere"),
        ("$twin.tags.site.deeper", "$twin.tags.site.deeper"),
    ],
)
def test_what_a_value_says(value: str, said: str) -> None:
    assert Stamps(enriched_hub(stamp(value))).resolved((2,), TWIN) == {2: {"key": said}}


def test_a_device_without_a_twin_at_hand_gets_the_place_as_it_is_written() -> None:
    assert Stamps(enriched_hub(stamp("$twin.tags.site"))).resolved((2,), None) == {2: {"key": "$twin.tags.site"}}


def test_each_endpoint_has_its_own() -> None:
    stamps = Stamps(enriched_hub(stamp("a", "store"), stamp("b", "events")))
    assert stamps.resolved((1, 2), None) == {1: {"key": "b"}, 2: {"key": "a"}}
    assert stamps.encoded((7,), None) == b""


def test_what_was_encoded_is_kept_within_a_bound() -> None:
    stamps = Stamps(enriched_hub(stamp("a")))
    for other in range(KEPT_MAX + 10):
        assert stamps.encoded((2, 100 + other), None)
    assert stamps.encoded((2,), None) is stamps.encoded((2,), None)


def test_an_envelope_is_enriched_without_encoding_it_again() -> None:
    envelope = Envelope("pump", properties={"a": "b"})
    stored = enriched(encode_envelope(envelope), encode_stamped({1: {"site": "Oslo"}, 2: {"site": "Bergen"}}))
    read = decode_envelope(stored)
    assert read.enrichments == {"site": "Oslo"}
    assert read.stamped == {2: {"site": "Bergen"}}
    assert replace_enrichments(read) == envelope


def replace_enrichments(envelope: Envelope) -> Envelope:
    return Envelope(envelope.device_id, properties=envelope.properties)


def test_records_of_older_releases_have_none() -> None:
    encoded = encode_envelope(Envelope("pump"))
    older = bytes([encoded[0] - 1]) + encoded[1:-1]
    assert decode_envelope(older) == Envelope("pump")


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SegmentLog]:
    log = SegmentLog.open(tmp_path, SetClock())
    yield log
    await log.close()


async def test_telemetry_is_stamped_by_the_twin_of_its_moment(log: SegmentLog, tmp_path: Path) -> None:
    route = Route("all", RouteSource.DEVICE_MESSAGES, ("store",))
    hub = replace(enriched_hub(stamp("$twin.tags.site")), routes=(route,))
    twins, waiter, ref = FakeTwins(), Waiter(), DeviceRef(hub.number, "pump")
    accept = Accept(log, twins)
    await accept.attend(hub, ref)
    assert twins.held == {ref}
    envelope = Envelope("pump")
    for place, site in enumerate(("Oslo", "Bergen")):
        twins.twins[ref] = {"tags": {"site": site}}
        accept.telemetry(hub, envelope, encode_envelope(envelope), b"x", START_MS, waiter, place)
    await waiter.heard(2)
    records, _ = LogReader(tmp_path).read_all(0, 10)
    assert [decode_envelope(each.envelope).stamped for each in records] == [
        {2: {"key": "Oslo"}},
        {2: {"key": "Bergen"}},
    ]
    assert [each.endpoints for each in records] == [(2,), (2,)]


async def test_events_are_stamped_as_well(log: SegmentLog, tmp_path: Path) -> None:
    route = Route("twins", RouteSource.TWIN_CHANGES, ("store",))
    hub = replace(enriched_hub(stamp("$twin.tags.site")), routes=(route,))
    twins, waiter = FakeTwins(), Waiter()
    twins.twins[DeviceRef(hub.number, "pump")] = TWIN
    assert await Accept(log, twins).state_event(hub, twin_change(1), 7, START_MS, waiter, 0)
    await waiter.heard(1)
    [record], _ = LogReader(tmp_path).read_all(0, 10)
    assert decode_envelope(record.envelope).stamped == {2: {"key": "Oslo"}}
