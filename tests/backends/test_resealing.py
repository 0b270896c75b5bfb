"""Secrets in the state file: sealed when they are written, sealed in place when they are older, and gone in plain."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from isthmus.backends.sqlite import SqliteState
from isthmus.backends.sqlite.documents import OPEN_KINDS, checksum
from isthmus.backends.sqlite.resealing import reseal
from isthmus.base.filters import equals
from isthmus.base.ids import HubId
from isthmus.base.sealing import KEY_BYTES, Sealer, SealingKey, key_id_of
from isthmus.base.state import Damaged, Delete, Key, Put

HUB = HubId(1)
KEY, OTHER = SealingKey(b"k" * KEY_BYTES), SealingKey(b"o" * KEY_BYTES)
CANARY = b"canary-of-the-state-file"
SECRET = b'{"deviceId": "press", "key": "' + CANARY + b'"}'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


async def test_a_secret_is_written_sealed_and_read_plain(path: Path) -> None:
    state = await SqliteState.open(path, sealer=Sealer((KEY,)))
    await state.commit([Put(Key("identity", HUB, "press"), SECRET), Put(Key("twin", HUB, "press"), b'{"tags": {}}')])

    found = await state.get(Key("identity", HUB, "press"))
    asked = await state.query_devices(HUB, equals(("deviceId",), "press"), modules=False, after="", limit=10)
    raw = everything(path)
    await state.close()

    assert found is not None
    assert found.body == SECRET
    assert [identity.body for identity, _, _ in asked] == [SECRET]
    assert CANARY not in raw
    assert b'{"tags": {}}' in raw


async def test_what_is_open_says_nothing_of_keys() -> None:
    """A kind is sealed unless it stands there: these change with messages, and hold what devices and services say."""
    assert {"twin", "presence", "session", "queue", "meta", "delivery", "dead-letter", "device-job"} == OPEN_KINDS


async def test_an_older_file_is_sealed_in_place_and_nothing_plain_remains(path: Path) -> None:
    """Neither in rows nor in free pages nor in the write-ahead log, of documents that were deleted either."""
    state = await SqliteState.open(path)
    for first in range(0, 3_000, 500):
        await state.commit([Put(Key("identity", HUB, f"d{first + each}"), SECRET) for each in range(500)])
    await state.commit([Delete(Key("identity", HUB, f"d{number}")) for number in range(0, 3_000, 3)])
    await state.close()
    assert CANARY in everything(path)

    sealer = Sealer((KEY,), opens_plain=True)
    again = await SqliteState.open(path, sealer=sealer, resealing=True)
    found = await again.scan("identity", HUB, limit=5_000)
    await again.close()

    assert len(found) == 2_000
    assert {stored.body for stored in found} == {SECRET}
    assert CANARY not in everything(path)
    strict = await SqliteState.open(path, sealer=Sealer((KEY,)))
    assert await strict.get(Key("identity", HUB, "d7")) is not None
    await strict.close()


async def test_a_new_key_takes_over(path: Path) -> None:
    await written(path, Sealer((KEY,)), ["a", "b"])

    assert reseal(path, Sealer((OTHER, KEY))) == 2
    assert reseal(path, Sealer((OTHER, KEY))) == 0

    assert set(seals(path)) == {OTHER.key_id}
    state = await SqliteState.open(path, sealer=Sealer((OTHER,)))
    assert await state.get(Key("identity", HUB, "a")) is not None
    await state.close()


async def test_cut_off_halfway_it_is_carried_on(path: Path) -> None:
    """Some documents are of the new key, some of the old one: both open, and the rest is done."""
    await written(path, Sealer((KEY,)), ["a"])
    await written(path, Sealer((OTHER, KEY)), ["b"])

    assert reseal(path, Sealer((OTHER, KEY))) == 1
    assert set(seals(path)) == {OTHER.key_id}


async def test_a_damaged_document_stops_nobody_and_is_still_found(path: Path) -> None:
    await written(path, Sealer((KEY,)), ["a", "b"])
    with sqlite3.connect(path) as rows:
        rows.execute("UPDATE documents SET checksum = checksum + 1 WHERE name = 'a'")
    rows.close()

    assert reseal(path, Sealer((OTHER, KEY))) == 1

    state = await SqliteState.open(path, sealer=Sealer((OTHER,)))
    with pytest.raises(Damaged, match="checksum"):
        await state.get(Key("identity", HUB, "a"))
    await state.close()


@pytest.mark.parametrize("forged", [b"plain", b"moved"])
async def test_who_can_write_the_file_cannot_plant_a_secret(path: Path, forged: bytes) -> None:
    """Not in plain, and not by copying another identity's row with a checksum that fits."""
    await written(path, Sealer((KEY,)), ["mine", "theirs"])
    plant(path, SECRET if forged == b"plain" else None)

    state = await SqliteState.open(path, sealer=Sealer((KEY,)))
    with pytest.raises(Damaged, match="cannot be opened"):
        await state.get(Key("identity", HUB, "theirs"))
    with pytest.raises(Damaged, match="cannot be opened"):
        await state.scan("identity", HUB)
    await state.close()


async def written(path: Path, sealer: Sealer, names: Sequence[str]) -> None:
    state = await SqliteState.open(path, sealer=sealer)
    await state.commit([Put(Key("identity", HUB, name), SECRET) for name in names])
    await state.close()


def seals(path: Path) -> list[str]:
    """The ids of the keys that sealed the documents."""
    with sqlite3.connect(path) as rows:
        found = [key_id_of(body) for (body,) in rows.execute("SELECT body FROM documents")]
    rows.close()
    return found


def plant(path: Path, body: bytes | None) -> None:
    """Puts a body, or that of `mine`, in the place of `theirs`, with a good checksum."""
    with sqlite3.connect(path) as rows:
        [(mine,)] = rows.execute("SELECT body FROM documents WHERE name = 'mine'").fetchall()
        forged = body or mine
        check = checksum(Key("identity", HUB, "theirs"), 1, forged)
        rows.execute("UPDATE documents SET body = ?, checksum = ? WHERE name = 'theirs'", (forged, check))
    rows.close()


def everything(path: Path) -> bytes:
    """The state file and what stands beside it, as bytes."""
    return b"".join(each.read_bytes() for each in sorted(path.parent.iterdir()) if each.is_file())
