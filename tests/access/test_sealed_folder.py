"""The sealing keys of a data folder: where they are found, how one replaces another, and what is refused."""

import base64
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from isthmus.access.files import read_sealed, write_sealed
from isthmus.access.sealed_folder import (
    CREDENTIAL,
    CREDENTIALS_VARIABLE,
    FILE_VARIABLE,
    KEY_VARIABLE,
    PREVIOUS_CREDENTIAL,
    PREVIOUS_FILE_VARIABLE,
    KeySources,
    SealedFolder,
    confidential_files,
    new_key,
    open_sealed_folder,
    read_record,
    write_key,
)
from isthmus.base.errors import ConfigurationError
from isthmus.base.sealing import Sealer, SealingKey, is_sealed

KEY, OTHER = new_key(), new_key()
NOTHING = KeySources()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    return data


def test_a_first_start_makes_a_key_for_its_owner_alone(folder: Path) -> None:
    opened = open_sealed_folder(folder, NOTHING)

    key = folder / "sealing.key"
    assert len(base64.b64decode(key.read_bytes())) == 32
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert opened.place == str(key)
    assert key.read_text().strip() not in (folder / "sealing.json").read_text()


def test_a_folder_that_was_moved_finds_the_key_in_it(folder: Path) -> None:
    opened = sealed(folder, NOTHING)

    moved = folder.rename(folder.with_name("elsewhere"))

    assert open_sealed_folder(moved, NOTHING).record.key_id == opened.record.key_id
    assert not open_sealed_folder(moved, NOTHING).must_reseal


def test_what_was_restored_from_a_backup_takes_over_the_key_of_the_folder_beside_it(folder: Path) -> None:
    key_id = sealed(folder, NOTHING).record.key_id
    restored = folder.with_name("restored")
    restored.mkdir()
    (restored / "sealing.json").write_bytes((folder / "sealing.json").read_bytes())

    assert open_sealed_folder(restored, NOTHING, reading=True).record.key_id == key_id
    assert not (restored / "sealing.key").exists()
    assert open_sealed_folder(restored, NOTHING).record.key_id == key_id
    (folder / "sealing.key").unlink()
    assert open_sealed_folder(restored, NOTHING).record.key_id == key_id


def test_a_lost_record_is_no_reason_to_make_another_key(folder: Path) -> None:
    key_id = sealed(folder, NOTHING).record.key_id
    write_sealed(private_file(folder), b"private", open_sealed_folder(folder, NOTHING).sealer)
    (folder / "sealing.json").unlink()
    kept = (folder / "sealing.key").rename(folder.with_name("kept"))

    with pytest.raises(ConfigurationError, match=key_id):
        open_sealed_folder(folder, NOTHING)
    kept.rename(folder / "sealing.key")

    assert open_sealed_folder(folder, NOTHING).record.key_id == key_id


SOURCES: dict[str, Callable[[Path], KeySources]] = {
    "a file": lambda base: KeySources(str(written(base / "key", KEY))),
    "the variable": lambda base: environment({KEY_VARIABLE: base64.b64encode(KEY.secret).decode()}),
    "a file by a variable": lambda base: environment({FILE_VARIABLE: str(written(base / "key", KEY))}),
    "a credential": lambda base: environment({CREDENTIALS_VARIABLE: str(written(base / CREDENTIAL, KEY).parent)}),
    "raw bytes": lambda base: KeySources(str(raw(base / "key", KEY.secret))),
}


@pytest.mark.parametrize("source", SOURCES)
def test_a_key_may_come_from(folder: Path, source: str) -> None:
    opened = open_sealed_folder(folder, SOURCES[source](folder.parent))

    assert opened.record.key_id == KEY.key_id
    assert not (folder / "sealing.key").exists()


def test_a_key_file_is_found_again_by_who_does_not_know_the_configuration(folder: Path) -> None:
    sealed(folder, KeySources(str(written(folder.parent / "key", KEY))))

    assert open_sealed_folder(folder, NOTHING, reading=True).record.key_id == KEY.key_id


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 31, b"not base64 at all!!", base64.b64encode(b"x" * 31)])
def test_a_file_without_a_key_is_refused(folder: Path, content: bytes) -> None:
    with pytest.raises(ConfigurationError, match="holds no sealing key"):
        open_sealed_folder(folder, KeySources(str(raw(folder.parent / "key", content))))
    assert list(folder.iterdir()) == []


def test_a_missing_key_is_said_and_nothing_written(folder: Path) -> None:
    key = written(folder.parent / "key", KEY)
    sealed(folder, KeySources(str(key)))
    before = contents(folder)
    key.unlink()

    with pytest.raises(ConfigurationError, match=rf"sealed by the key {KEY.key_id}, which was not found"):
        open_sealed_folder(folder, NOTHING)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        open_sealed_folder(folder, KeySources(str(key)))
    assert contents(folder) == before


def test_a_wrong_key_is_said_and_nothing_written(folder: Path) -> None:
    sealed(folder, environment({KEY_VARIABLE: base64.b64encode(KEY.secret).decode()}))
    before = contents(folder)

    with pytest.raises(ConfigurationError, match=rf"sealed by the key {KEY.key_id}, and .* has the key {OTHER.key_id}"):
        open_sealed_folder(folder, environment({KEY_VARIABLE: base64.b64encode(OTHER.secret).decode()}))
    assert contents(folder) == before


PREVIOUS: dict[str, Callable[[Path, str], KeySources]] = {
    "a file": lambda old, new: KeySources(new, str(old)),
    "a file by a variable": lambda old, new: environment({FILE_VARIABLE: new, PREVIOUS_FILE_VARIABLE: str(old)}),
    "a credential": lambda old, new: environment({FILE_VARIABLE: new, CREDENTIALS_VARIABLE: str(old.parent)}),
}


@pytest.mark.parametrize("source", PREVIOUS)
def test_a_new_key_takes_over_from_the_one_before_which_is_in(folder: Path, source: str) -> None:
    sealed(folder, environment({KEY_VARIABLE: base64.b64encode(KEY.secret).decode()}))
    write_sealed(private_file(folder), b"private", Sealer((KEY,)))
    new, old = written(folder.parent / "new", OTHER), written(folder.parent / PREVIOUS_CREDENTIAL, KEY)

    opened = open_sealed_folder(folder, PREVIOUS[source](old, str(new)))

    assert opened.record.opens == (KEY.key_id,)
    assert opened.reseal_files() == 1
    opened.finish()
    assert read_sealed(private_file(folder), Sealer((OTHER,))) == b"private"
    alone = open_sealed_folder(folder, KeySources(str(new)))
    assert not alone.must_reseal


def test_the_key_of_the_folder_opens_for_one_from_elsewhere(folder: Path) -> None:
    first = sealed(folder, NOTHING)

    opened = open_sealed_folder(folder, KeySources(str(written(folder.parent / "key", KEY))))

    assert opened.record.opens == (first.record.key_id,)


def test_a_change_of_keys_that_was_cut_off_is_carried_on(folder: Path) -> None:
    """As `kill -9` leaves the folder: the new key is recorded, and the old one still seals what was not reached."""
    sealed(folder, environment({KEY_VARIABLE: base64.b64encode(KEY.secret).decode()}))
    new, old = written(folder.parent / "new", OTHER), written(folder.parent / "old", KEY)
    open_sealed_folder(folder, KeySources(str(new), str(old)))

    with pytest.raises(ConfigurationError, match=KEY.key_id):
        open_sealed_folder(folder, KeySources(str(new)))
    again = open_sealed_folder(folder, KeySources(str(new), str(old)))

    assert again.record.opens == (KEY.key_id,)
    assert again.sealer.open(b"place", Sealer((KEY,)).seal(b"place", b"body")) == b"body"


def test_who_only_reads_writes_nothing(folder: Path) -> None:
    private_file(folder).write_bytes(b"private")

    opened = open_sealed_folder(folder, NOTHING, reading=True)

    assert opened.sealer.open(b"place", b"{}") == b"{}"
    assert contents(folder) == {"signing-key.pem": b"private"}


def test_files_with_private_keys_are_sealed_and_others_are_not(folder: Path) -> None:
    (folder / "tls").mkdir()
    for name in ("tls/root.pem", "tls/authority.pem", "tls/server-hub.test.pem", "tls/ca.pem", "tls/connector-ca.pem"):
        (folder / name).write_bytes(b"-----BEGIN")
    private_file(folder).write_bytes(b"-----BEGIN")

    opened = open_sealed_folder(folder, NOTHING)

    assert opened.reseal_files() == 4
    plain = {path.name for path in folder.rglob("*.pem") if not is_sealed(path.read_bytes())}
    assert plain == {"ca.pem", "connector-ca.pem"}
    assert [path.name for path in confidential_files(folder)] == [
        "signing-key.pem",
        "authority.pem",
        "root.pem",
        "server-hub.test.pem",
    ]
    assert opened.reseal_files() == 0


def test_a_file_in_anothers_place_is_refused(folder: Path) -> None:
    sealer = Sealer((KEY,))
    write_sealed(folder / "one.pem", b"one", sealer)
    (folder / "one.pem").rename(folder / "two.pem")

    with pytest.raises(ConfigurationError, match=r"two\.pem cannot be opened"):
        read_sealed(folder / "two.pem", sealer)


def test_a_key_file_is_never_overwritten(folder: Path) -> None:
    path = written(folder / "key", KEY)

    with pytest.raises(ConfigurationError, match="there already"):
        write_key(path, OTHER)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"keyId": 1}'])
def test_a_damaged_record_is_named(folder: Path, content: bytes) -> None:
    (folder / "sealing.json").write_bytes(content)

    with pytest.raises(ConfigurationError, match=r"sealing\.json cannot be read"):
        read_record(folder)


def sealed(folder: Path, sources: KeySources) -> SealedFolder:
    """A folder on which a server has started."""
    opened = open_sealed_folder(folder, sources)
    opened.finish()
    return open_sealed_folder(folder, sources)


def environment(values: dict[str, str]) -> KeySources:
    return KeySources(environment=values)


def written(path: Path, key: SealingKey) -> Path:
    write_key(path, key)
    return path


def raw(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def private_file(folder: Path) -> Path:
    (folder / "audit").mkdir(exist_ok=True)
    return folder / "audit" / "signing-key.pem"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
