"""What each import mode does to identities and twins that are there, and to those that are not."""

from collections.abc import Sequence

import pytest

from devices.fakes import HUB, KEY, OTHER_KEY, FakeDevice
from isthmus.base.errors import Code
from isthmus.base.ids import DeviceRef
from isthmus.devices.identity import Identity
from isthmus.jobs.importing import Importer, carry_out
from isthmus.jobs.line import Line, LineError, read_line
from isthmus.telemetry.message import MessageSource
from jobs.fakes import World, text_of

D = DeviceRef(HUB, "d")


class Imports(World):
    """Lines carried out as one group."""

    async def carry_out(self, *lines: object) -> list[LineError]:
        read: Sequence[Line | LineError] = [read_line(line) for line in text_of(*lines).splitlines()]
        importer = Importer(HUB, self.state, self.registry, self.twins, self.clock)
        errors, _ = await carry_out(importer, read, lambda _: ())
        return errors


@pytest.mark.parametrize(
    ("mode", "there", "absent"),
    [
        ("createOrUpdate", "written", "written"),
        ("create", Code.DEVICE_ALREADY_EXISTS, "written"),
        ("update", "written", Code.DEVICE_NOT_FOUND),
        ("updateIfMatchETag", Code.PRECONDITION_FAILED, Code.DEVICE_NOT_FOUND),
        ("createOrUpdateIfMatchETag", Code.PRECONDITION_FAILED, "written"),
        ("delete", "gone", Code.DEVICE_NOT_FOUND),
        ("deleteIfMatchETag", Code.PRECONDITION_FAILED, Code.DEVICE_NOT_FOUND),
        ("updateTwin", "twin", Code.DEVICE_NOT_FOUND),
        ("updateTwinIfMatchETag", Code.PRECONDITION_FAILED, Code.DEVICE_NOT_FOUND),
    ],
)
@pytest.mark.parametrize("is_there", [True, False])
async def test_a_mode_with_etags_that_do_not_match(
    mode: str, there: str | Code, absent: str | Code, is_there: bool
) -> None:
    world = Imports()
    if is_there:
        await world.add("d")
    line = {"id": "d", "importMode": mode, "eTag": "x", "twinETag": "y", "status": "disabled", "tags": {"a": 1}}
    errors = await world.carry_out(line)
    wanted = there if is_there else absent
    identity = await world.registry.get(D)
    tags = {} if identity is None else (await world.twins.get(D)).twin.tags
    match wanted:
        case Code():
            assert [error.code for error in errors] == [wanted]
            assert tags == {}
        case "gone":
            assert (identity, errors) == (None, [])
        case "twin":
            assert identity is not None
            assert (identity.enabled, tags, errors) == (True, {"a": 1}, [])
        case _:
            assert identity is not None
            # The twin's etag is looked at by itself, and there is none to match before there is a twin.
            assert [error.code for error in errors] == ([Code.PRECONDITION_FAILED] if is_there else [])
            assert (identity.enabled, tags) == (False, {} if is_there else {"a": 1})


@pytest.mark.parametrize("mode", ["updateIfMatchETag", "createOrUpdateIfMatchETag", "deleteIfMatchETag"])
async def test_the_right_etag_and_the_star_match_and_none_is_an_error(mode: str) -> None:
    for etag in ("*", None, ""):
        world = Imports()
        await world.add("d")
        line = {"id": "d", "importMode": mode, "eTag": etag}
        assert [error.code for error in await world.carry_out(line)] == ([] if etag else [Code.ARGUMENT_NULL])
    world = Imports()
    await world.add("d")
    present = await world.registry.require(D)
    assert await world.carry_out({"id": "d", "importMode": mode, "eTag": present.etag}) == []


async def test_a_twin_alone_is_written_under_its_own_etag() -> None:
    world = Imports()
    await world.add("d")
    etag = (await world.twins.get(D)).twin.etag
    line = {"id": "d", "importMode": "updateTwinIfMatchETag", "properties": {"desired": {"x": 1}}}
    assert [error.code for error in await world.carry_out(line)] == [Code.ARGUMENT_NULL]
    assert await world.carry_out({**line, "twinETag": etag}) == []
    assert [error.code for error in await world.carry_out({**line, "twinETag": etag})] == [Code.PRECONDITION_FAILED]
    assert (await world.twins.get(D)).twin.desired_version == 2


async def test_lines_of_one_group_see_each_other_in_their_order() -> None:
    world = Imports()
    errors = await world.carry_out(
        {"id": "d", "importMode": "create"},
        {"id": "d", "moduleId": "m", "importMode": "create", "managedBy": "me"},
        {"id": "d", "importMode": "create"},
        {"id": "d", "importMode": "update", "status": "disabled", "tags": {"a": 1}},
        {"id": "e", "moduleId": "m", "importMode": "create"},
        {"id": "f", "importMode": "create"},
        {"id": "f", "importMode": "delete"},
    )
    assert [(error.code, error.device_id, error.module_id) for error in errors] == [
        (Code.DEVICE_ALREADY_EXISTS, "d", ""),
        (Code.DEVICE_NOT_FOUND, "e", "m"),
    ]
    assert not (await world.registry.require(D)).enabled
    assert (await world.registry.require(D._replace(module_id="m"))).managed_by == "me"
    assert await world.registry.get(DeviceRef(HUB, "f")) is None


async def test_keys_are_kept_given_or_made() -> None:
    world = Imports()
    await world.add("d")
    kept = (await world.registry.require(D)).primary_key
    nulls = {"type": "sas", "symmetricKey": {"primaryKey": None, "secondaryKey": None}}
    assert await world.carry_out({"id": "d", "authentication": nulls}, {"id": "new", "authentication": nulls}) == []
    assert (await world.registry.require(D)).primary_key == kept
    assert (await world.registry.require(DeviceRef(HUB, "new"))).primary_key
    keys = {"type": "sas", "symmetricKey": {"primaryKey": KEY, "secondaryKey": OTHER_KEY}}
    assert await world.carry_out({"id": "d", "authentication": keys}) == []
    assert (await world.registry.require(D)).primary_key == KEY


async def test_everybody_hears_of_what_was_committed() -> None:
    world = Imports()
    await world.add("d")
    await world.add("old")
    told: list[tuple[str, Identity | None]] = []
    world.registry.on_change(lambda ref, _, new: told.append((ref.name, new)))
    tags: list[object] = []
    world.twins.on_tags(lambda ref, present: tags.append((ref.name, present)))
    device = world.connected.devices[D] = FakeDevice()
    await world.carry_out(
        {"id": "d", "importMode": "updateTwin", "tags": {"a": 1}, "properties": {"desired": {"x": 1}}},
        {"id": "old", "importMode": "delete"},
        {"id": "new"},
    )
    assert [(name, new is not None) for name, new in told] == [("old", False), ("new", True)]
    assert tags == [("d", {"a": 1})]
    assert device.desired == [({"x": 1, "$version": 2}, 2)]
    events = [(event.source, event.op_type, event.device_id) for event in await world.events()][2:]
    assert events == [
        (MessageSource.TWIN_CHANGES, "replaceTwin", "d"),
        (MessageSource.DEVICE_LIFECYCLE, "deleteDeviceIdentity", "old"),
        (MessageSource.DEVICE_LIFECYCLE, "createDeviceIdentity", "new"),
    ]


async def test_the_modules_of_an_edge_device_come_with_it_and_their_lines_are_about_their_twins() -> None:
    world = Imports()
    agent = {"id": "edge", "moduleId": "$edgeAgent", "properties": {"desired": {"x": 1}}}
    errors = await world.carry_out({"id": "edge", "capabilities": {"iotEdge": True}}, agent)
    assert errors == []
    twin = (await world.twins.get(DeviceRef(HUB, "edge", "$edgeAgent"))).twin
    assert twin.properties.desired == {"x": 1}
    assert [error.code for error in await world.carry_out({**agent, "importMode": "delete"})] == [Code.SYSTEM_MODULE]


async def test_a_group_that_somebody_else_was_faster_than_is_judged_again() -> None:
    world = Imports()
    await world.add("d")
    read = [
        read_line(line) for line in text_of({"id": "d", "importMode": "updateIfMatchETag", "eTag": "*"}).splitlines()
    ]
    importer = Importer(HUB, world.state, world.registry, world.twins, world.clock)
    await importer.judge(read)
    await world.registry.put(D, {"status": "disabled"}, "*")
    errors, _ = await carry_out(importer, read, lambda _: ())
    assert errors == []
    assert (await world.registry.require(D)).enabled
