"""Under which key the secrets of a data folder are sealed, and where that key comes from.

The key is looked for, in this order, in: the file that the configuration names; the variable `ISTHMUS_SEALING_KEY`; the
file that `ISTHMUS_SEALING_KEY_FILE` names; the systemd credential `isthmus.sealing-key`; the file where it was found at
the last start; `sealing.key` in the folder itself, which is made where the folder was never sealed. So a first start
needs nothing, and whoever wants the key elsewhere puts it there.

A folder that a backup was restored to has no key of its own, for none is in a backup; where the folder that it was made
of is at hand, its key is copied from there. So what is restored on the same machine opens as it is.

`sealing.json` records the key's id and what else is still sealed by: other keys, or nothing ("plain"). It is written
before anything is resealed, and again when all is, so that a crash in between never leaves a folder whose keys are not
known. A start with a key of another id reseals, provided that the older key is found too; otherwise it is refused and
has written nothing.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from isthmus.access.files import reseal_file, write_atomically
from isthmus.base.errors import ConfigurationError
from isthmus.base.ids import random_bytes
from isthmus.base.places import CONFIDENTIAL, SEALING_KEY, SEALING_RECORD
from isthmus.base.sealing import KEY_BYTES, Sealer, SealingKey, key_id_of

KEY_VARIABLE = "ISTHMUS_SEALING_KEY"
FILE_VARIABLE = "ISTHMUS_SEALING_KEY_FILE"
PREVIOUS_FILE_VARIABLE = "ISTHMUS_PREVIOUS_SEALING_KEY_FILE"
CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
CREDENTIAL = "isthmus.sealing-key"
PREVIOUS_CREDENTIAL = "isthmus.previous-sealing-key"

PLAIN = "plain"
"""Stands among key ids for what was never sealed."""


@dataclass(frozen=True, slots=True)
class KeySources:
    """Where keys may be: files that somebody named, and the environment of the process."""

    key_file: str = ""
    previous_key_file: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


class SealingRecord(msgspec.Struct, frozen=True, rename="camel"):
    """What `sealing.json` says: the key that seals, and what older secrets open by.

    The key is in `key_file`, or in the folder itself, which was `folder` when this was written.
    """

    key_id: str
    key_file: str = ""
    folder: str = ""
    opens: tuple[str, ...] = ()
    version: int = 1


@dataclass(frozen=True, slots=True)
class SealedFolder:
    """A data folder's sealer, and what is known of its key: `place` is for people, and never the key itself."""

    folder: Path
    sealer: Sealer
    record: SealingRecord
    place: str

    @property
    def must_reseal(self) -> bool:
        """True until everything is sealed by the key that seals now."""
        return bool(self.record.opens)

    def finish(self) -> None:
        """Records that everything is; raises `ConfigurationError`."""
        if self.must_reseal:
            _write_record(self.folder, msgspec.structs.replace(self.record, opens=()))

    def reseal_files(self) -> int:
        """Seals the files with private keys, and returns how many had to be; raises `ConfigurationError`."""
        return sum(reseal_file(path, self.sealer) for path in confidential_files(self.folder))


@dataclass(frozen=True, slots=True)
class _Found:
    key: SealingKey
    place: str
    file: str = ""
    adopted: bool = False


def open_sealed_folder(folder: Path, sources: KeySources, *, reading: bool = False) -> SealedFolder:
    """Finds the keys of a data folder that is there, and makes one where it was never sealed.

    With `reading` nothing is made or written. Raises `ConfigurationError`, and has then written nothing either.
    """
    record = read_record(folder) or _told_by_files(folder)
    found = _current(folder, sources, record)
    if found is None:
        if record is not None:
            raise ConfigurationError(_missing(folder, record))
        if reading:
            return SealedFolder(folder, Sealer(opens_plain=True), SealingRecord("", opens=(PLAIN,)), "nowhere")
        found = _make(folder / SEALING_KEY)
    before = (PLAIN,) if record is None else (*record.opens, record.key_id)
    opens = tuple(dict.fromkeys(each for each in before if each != found.key.key_id))
    older = _older(folder, sources, record, found, [each for each in opens if each != PLAIN])
    now = SealingRecord(found.key.key_id, found.file, str(folder.absolute()), opens)
    if not reading and found.adopted:
        write_key(folder / SEALING_KEY, found.key)
    if not reading and now != record:
        _write_record(folder, now)
    return SealedFolder(folder, Sealer((found.key, *older), opens_plain=PLAIN in opens), now, found.place)


def new_key() -> SealingKey:
    """A key from the operating system's random source."""
    return SealingKey(random_bytes(KEY_BYTES))


def write_key(path: Path, key: SealingKey) -> None:
    """Writes a key file (0600); raises `ConfigurationError`, also where there is a file."""
    if path.exists():
        raise ConfigurationError(f"{path} is there already: a sealing key is never overwritten, choose another name.")
    write_atomically(path, base64.b64encode(key.secret) + b"\n", 0o600)


def read_record(folder: Path) -> SealingRecord | None:
    """What `sealing.json` says, None where there is none; raises `ConfigurationError`."""
    path = folder / SEALING_RECORD
    try:
        return msgspec.json.decode(path.read_bytes(), type=SealingRecord)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read ({error}): restore it from a backup.") from error


def confidential_files(folder: Path) -> list[Path]:
    """The files of a data folder that hold private keys."""
    return sorted(path for pattern in CONFIDENTIAL for path in folder.glob(pattern) if path.is_file())


def _told_by_files(folder: Path) -> SealingRecord | None:
    """What sealed files tell where the record was lost: a new key would open none of them."""
    ids = (key_id_of(path.read_bytes()) for path in confidential_files(folder))
    key_id = next(filter(None, ids), "")
    return SealingRecord(key_id, opens=(PLAIN,)) if key_id else None


def _write_record(folder: Path, record: SealingRecord) -> None:
    write_atomically(folder / SEALING_RECORD, msgspec.json.format(msgspec.json.encode(record)) + b"\n", 0o600)


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _current(folder: Path, sources: KeySources, record: SealingRecord | None) -> _Found | None:
    environment = sources.environment
    if sources.key_file:
        return _in_file(Path(sources.key_file))
    if text := environment.get(KEY_VARIABLE):
        return _Found(_key(text.encode(), KEY_VARIABLE), f"the variable {KEY_VARIABLE}")
    if name := environment.get(FILE_VARIABLE):
        return _in_file(Path(name))
    if (credential := _credential(environment, CREDENTIAL)) is not None:
        return replace(_in_file(credential), file="")
    told, own = _told(record), folder / SEALING_KEY
    if told is not None and told.exists():
        return _in_file(told)
    # What lies in the folder itself is found again wherever that is moved.
    if own.exists():
        return replace(_in_file(own), file="")
    origin = _origin(record)
    return replace(_in_file(origin), file="", adopted=True) if origin is not None and origin.exists() else None


def _older(
    folder: Path, sources: KeySources, record: SealingRecord | None, current: _Found, wanted: list[str]
) -> list[SealingKey]:
    """The keys of these ids; raises `ConfigurationError` when one is not found."""
    found: dict[str, SealingKey] = {}
    for path in _older_places(folder, sources, record) if wanted else ():
        key = _in_file(path).key
        found[key.key_id] = key
    for key_id in wanted:
        if key_id not in found:
            raise ConfigurationError(_wrong(folder, key_id, current))
    return [found[key_id] for key_id in wanted]


def _older_places(folder: Path, sources: KeySources, record: SealingRecord | None) -> Iterator[Path]:
    if sources.previous_key_file:
        yield Path(sources.previous_key_file)
    if name := sources.environment.get(PREVIOUS_FILE_VARIABLE):
        yield Path(name)
    if (credential := _credential(sources.environment, PREVIOUS_CREDENTIAL)) is not None:
        yield credential
    yield from (path for path in (_told(record), folder / SEALING_KEY) if path is not None and path.exists())


def _told(record: SealingRecord | None) -> Path | None:
    """Where the key was found at the last start, unless it was the environment or the folder itself."""
    return Path(record.key_file) if record is not None and record.key_file else None


def _origin(record: SealingRecord | None) -> Path | None:
    """Where the key of the folder was that this one is a copy of."""
    return Path(record.folder) / SEALING_KEY if record is not None and record.folder else None


def _credential(environment: Mapping[str, str], name: str) -> Path | None:
    folder = environment.get(CREDENTIALS_VARIABLE)
    path = Path(folder) / name if folder else None
    return path if path is not None and path.exists() else None


def _in_file(path: Path) -> _Found:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"The sealing key {path} cannot be read: {error.strerror}.") from error
    return _Found(_key(content, str(path)), str(path), str(path.absolute()))


def _key(content: bytes, place: str) -> SealingKey:
    """32 bytes, or their base64."""
    try:
        if len(content) != KEY_BYTES:
            content = base64.b64decode(content.strip(), validate=True)
        return SealingKey(content)
    except (ValueError, binascii.Error) as error:
        raise ConfigurationError(
            f"{place} holds no sealing key: 32 bytes in base64, as `openssl rand -base64 32` makes them."
        ) from error


def _make(path: Path) -> _Found:
    key = new_key()
    write_key(path, key)
    return _Found(key, str(path))


def _missing(folder: Path, record: SealingRecord) -> str:
    return (
        f"{folder} is sealed by the key {record.key_id}, which was not found: put it there as {SEALING_KEY}, or"
        f" give it with --sealing-key-file, by {KEY_VARIABLE}, or as the credential {CREDENTIAL}."
    )


def _wrong(folder: Path, key_id: str, given: _Found) -> str:
    return (
        f"{folder} is sealed by the key {key_id}, and {given.place} has the key {given.key.key_id}: give the right one,"
        " or the older one as well with --previous-sealing-key-file to go over to the new one."
    )
