"""Fuzz targets of documents that people and administration clients write: Atom entries, configuration, seeds, ARM.

Invariant: a description, a configuration or a resource comes out, or one sentence that says what is wrong; what was
read is stored, read again as the same, and told again.
"""

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from devices.fakes import NOW_MS
from fuzz.credentials_target import header_text
from fuzz.target import Check, Target, pure
from isthmus.base.errors import Code, ConfigurationError, HubError
from isthmus.base.ids import HubId
from isthmus.config import load_config
from isthmus.neighbours.bus_arm import apply_members, rule_to_arm
from isthmus.neighbours.bus_entity import Entity, EntityKind, decode_entity, encode_entity, new_entity, put_rule
from isthmus.queues import Counts
from isthmus.seed import load_seed
from isthmus.servers.gateway import bus_atom
from isthmus.servers.management.request import call_of
from servers.management_world import ManagementWorld

BLANK = b"\r\n\r\n"


def check_atom(data: bytes) -> None:
    """An entry of the administration client, for each kind of entity and for a rule."""
    for kind in EntityKind:
        entity = new_entity(HubId(1), kind, "e", topic="t" if kind is EntityKind.SUBSCRIPTION else "", now_ms=NOW_MS)
        with suppress(HubError):
            description = bus_atom.description_of(data)
            _check_told(apply_members(entity, bus_atom.entity_members(description)))
        with suppress(HubError):
            rule = bus_atom.rule_of_entry("r", bus_atom.description_of(data), NOW_MS)
            _check_told(put_rule(entity, rule))
        with suppress(HubError):
            first = bus_atom.default_rule_of(bus_atom.description_of(data), NOW_MS)
            if first is not None:
                _check_told(put_rule(entity, first))


def _check_told(entity: Entity) -> None:
    stored = decode_entity(encode_entity(entity), entity.revision)
    assert stored == entity, "an entity is another after it was stored"
    bus_atom.entity_entry("host.test", bus_atom.Told(stored, Counts(), Counts()))
    for rule in stored.rules:
        bus_atom.rule_entry("host.test", stored, rule)
        msgspec.json.encode(rule_to_arm(rule, "/id", "line 3"))


@contextmanager
def reading_files() -> Iterator[Check]:
    """Files of an owner, written where they are read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.toml"

        def check(data: bytes) -> None:
            path.write_bytes(data)
            for read in (lambda: load_config(str(path), {}), lambda: load_seed(str(path))):
                with suppress(ConfigurationError):
                    read()

        yield check


@contextmanager
def managing() -> Iterator[Check]:
    """The management API over a world in memory, with some things in it that can be changed."""
    with asyncio.Runner() as runner:
        world = runner.run(_managed())

        def check(data: bytes) -> None:
            head, _, body = data.partition(BLANK)
            line, *headers = header_text(head).split("\r\n")
            method, _, target = line.partition(" ")
            if not method.isascii():
                return  # the HTTP library takes tokens only (RFC 9110 §9.1)
            if_match = headers[0] if headers else None
            runner.run(_check_call(world, method, target, body, if_match))

        yield check


async def _managed() -> ManagementWorld:
    world = await ManagementWorld().start()
    await world.put_endpoint()
    return world


async def _check_call(world: ManagementWorld, method: str, target: str, body: bytes, if_match: str | None) -> None:
    with suppress(HubError):
        call = call_of(method, target, body=body, if_match=if_match, who="owner:uid:1000")
        reply = await world.api.answer(call)
        if reply.value is not None:
            told = reply.value
            assert not _failed(told), f"the server failed: {told}"
        assert reply.body or reply.value is None
        for decision in await world.noted():
            assert len(decision.detail) <= 256


def _failed(told: object) -> bool:
    error = told.get("error") if isinstance(told, dict) else None
    return isinstance(error, dict) and error.get("code") == Code.SERVER_ERROR.wire_name


TARGETS = (pure("atom", check_atom), Target("files", reading_files), Target("management", managing))
