"""Zones and views: one for all that is asked of them, whatever they are made of."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.base.errors import HubError
from isthmus.names.zone import (
    ZONES_MAX,
    Names,
    RecordSet,
    RecordType,
    View,
    Zone,
    checked_dns_name,
    decode_view,
    encode_view,
    host_zones,
    merged,
    private_name,
    suffixes,
)
from names.asking import PLANT, ask, told

LABELS = st.sampled_from(["a", "b", "hub", "privatelink", "x1"])
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(lambda labels: ".".join([*labels, "test"]))
ADDRESSES = st.integers(1, 250).map(lambda number: f"10.0.0.{number}")


@st.composite
def zones(draw: st.DrawFn) -> Zone:
    """A zone of addresses, each name with one set."""
    name = draw(NAMES)
    below = draw(st.lists(st.lists(LABELS, max_size=2), max_size=5, unique_by=tuple))
    owners = [".".join([*labels, name]) for labels in below]
    records = [RecordSet(owner, RecordType.A, (draw(ADDRESSES),)) for owner in owners]
    return Zone(name, tuple(records), open=draw(st.booleans()))


@given(st.lists(zones(), max_size=4), NAMES)
def test_a_name_has_what_its_nearest_zone_says(several: list[Zone], name: str) -> None:
    view = merged(several)
    nearest = next((zone for above in suffixes(name) for zone in view.zones if zone.name == above), None)
    wanted = {value for each in nearest.records if each.name == name for value in each.values} if nearest else set()

    found = told(ask(Names(view), name))

    assert {line.rpartition(" ")[2] for line in found} == wanted


@given(st.lists(zones(), max_size=4))
def test_a_merged_view_has_each_zone_once_and_the_first_answer(several: list[Zone]) -> None:
    view = merged(several)

    assert [zone.name for zone in view.zones] == sorted({zone.name for zone in several})
    for zone in view.zones:
        first = next(each for each in several if each.name == zone.name)
        assert zone.records[: len(first.records)] == first.records
        assert len({(each.name, each.type) for each in zone.records}) == len(zone.records)


@given(st.lists(zones(), max_size=4))
def test_a_view_comes_back_from_json(several: list[Zone]) -> None:
    view = merged(several)

    assert decode_view(msgspec.json.decode(msgspec.json.encode(encode_view(view)))) == view


def test_an_alias_takes_a_name_for_itself() -> None:
    alias = Zone("a.test", (RecordSet("x.a.test", RecordType.CNAME, ("y.test",)),))
    address = Zone("a.test", (RecordSet("x.a.test", RecordType.A, ("10.0.0.1",)),))

    for first, second in ((alias, address), (address, alias)):
        assert merged((first, second)).zones[0].records == first.records


def test_hosts_lead_to_their_private_names() -> None:
    assert merged(host_zones({"hub.isthmus.test": ("10.1.0.5",)})) == PLANT
    (alone,) = host_zones({"hub": ("10.1.0.5", "fd00::5")})
    assert (alone.name, [each.type for each in alone.records]) == ("hub", [RecordType.A, RecordType.AAAA])
    assert (private_name("hub.plant.test"), private_name("hub")) == ("hub.privatelink.plant.test", "")


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"zones": [{"name": 1}]},
        {"zones": [{"name": "x", "records": [{"name": "x", "type": "MX", "values": []}]}]},
    ],
)
def test_what_is_no_view_is_refused(value: object) -> None:
    if value == {}:
        assert decode_view(value) == View()
        return
    with pytest.raises(msgspec.ValidationError):
        decode_view(value)


def test_a_view_has_its_limits() -> None:
    with pytest.raises(msgspec.ValidationError, match="at most"):
        decode_view({"zones": [{"name": f"z{number}"} for number in range(ZONES_MAX + 1)]})


@pytest.mark.parametrize(
    "name", ["", "a..b", "-a.test", "a-.test", "a b.test", "x" * 64, ".".join(["x" * 63] * 5), "*.a"]
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(HubError):
        checked_dns_name(name, "It")


@pytest.mark.parametrize(("text", "name"), [("Plant.Test.", "plant.test"), ("_mqtt._tcp.a", "_mqtt._tcp.a")])
def test_a_name_is_kept_in_one_form(text: str, name: str) -> None:
    assert checked_dns_name(text, "It") == name


def test_a_wildcard_is_a_name_where_it_may_be() -> None:
    assert checked_dns_name("*.line.test", "It", wildcard=True) == "*.line.test"
