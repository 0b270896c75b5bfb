"""The hands: state and log, opened on a data folder, and what goes wrong there in a sentence."""

import logging
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from isthmus.access.sealed_folder import SealedFolder, open_sealed_folder
from isthmus.app.sealing import server_sources
from isthmus.backends import data_folder
from isthmus.backends.blobs import FileBlobStore
from isthmus.backends.memory import MemoryState
from isthmus.backends.sqlite import SqliteState
from isthmus.base.clock import Clock, SystemClock
from isthmus.base.errors import ConfigurationError, HubError
from isthmus.base.ids import Ids, RandomIds
from isthmus.base.state import Damaged, JournalLimit, StateClosed
from isthmus.config import Config
from isthmus.servers.management.api import Part
from isthmus.telemetry.damage import Damage
from isthmus.telemetry.log import LogConfig, SegmentLog
from isthmus.telemetry.segment import segment_bases

STATE_FILE = "state.db"
LOG_FOLDER = "log"
DEAD_LETTERS_FOLDER = "dead-letters"
BLOBS_FOLDER = "blobs"

DEAD_LETTERS_CACHE_BYTES = 1024**2
"""Of dead letters in memory: they are read seldom, and from disk."""

logger = logging.getLogger(__name__)

AnyState = MemoryState | SqliteState


@dataclass(frozen=True, slots=True)
class Stores:
    """The hands: state, log and blobs, what seals their secrets, and what they are told apart by."""

    sealed: SealedFolder
    state: AnyState
    log: SegmentLog
    log_folder: Path
    dead_letters: SegmentLog
    blobs: FileBlobStore
    clock: Clock
    ids: Ids

    def health(self) -> list[Part]:
        """How the logs are doing; `StoreWatch` tells of the others."""
        log, dead = self.log.health, self.dead_letters.health
        return [Part("log", log.ok, log.reason), Part("dead-letters", dead.ok, dead.reason)]


@asynccontextmanager
async def open_stores(config: Config) -> AsyncIterator[Stores]:
    """Opens state and log; an ephemeral server keeps its log in a folder that goes with it."""
    clock, ids, data = SystemClock(), RandomIds(), config.data_folder
    async with AsyncExitStack() as stack:
        with in_a_sentence():
            stack.enter_context(data_folder.held(data))
            sealed = open_sealed_folder(data, server_sources(config.sealing))
            folder = data
            if config.ephemeral:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="isthmus-")))
            limit = JournalLimit(config.audit.entries_max, config.audit.when_full)
            path = folder / STATE_FILE
            _require_state_of(folder)
            sealed.reseal_files()
            if config.ephemeral and not (data / STATE_FILE).exists():
                sealed.finish()
            state = MemoryState(journal=limit) if config.ephemeral else await _sqlite(path, limit, sealed)
            stack.push_async_callback(state.close)
            log = SegmentLog.open(folder / LOG_FOLDER, clock, config=log_config(config), on_damage=_log_damage)
            stack.push_async_callback(log.close)
            dead = SegmentLog.open(
                folder / DEAD_LETTERS_FOLDER, clock, config=dead_letters_config(config), on_damage=_log_damage
            )
            stack.push_async_callback(dead.close)
            blobs = await FileBlobStore.open(folder / BLOBS_FOLDER, clock, ids)
            stack.push_async_callback(blobs.close)
        _report_recovery(log)
        yield Stores(sealed, state, log, folder / LOG_FOLDER, dead, blobs, clock, ids)


async def _sqlite(path: Path, limit: JournalLimit, sealed: SealedFolder) -> SqliteState:
    """Opens the state, and seals first what is not yet sealed by the key that seals now."""
    state = await SqliteState.open(path, journal=limit, sealer=sealed.sealer, resealing=sealed.must_reseal)
    if state.resealed:
        told = {"key": sealed.record.key_id, "place": sealed.place, "documents": state.resealed}
        logger.info("secrets sealed", extra=told)
    sealed.finish()
    return state


def _require_state_of(folder: Path) -> None:
    """A folder whose log has messages had a state once: to begin with an empty one would lose every device."""
    path, log = folder / STATE_FILE, folder / LOG_FOLDER
    if (path.exists() and path.stat().st_size) or not log.exists() or not segment_bases(os.listdir(log)):
        return
    what = "is empty" if path.exists() else "is not there"
    raise ConfigurationError(
        f"The server cannot start: {path} {what}, though {log} holds messages; restore the data folder from a backup,"
        " or choose another one."
    )


def log_config(config: Config) -> LogConfig:
    """The log's settings of a configuration."""
    return LogConfig(
        retention_ms=int(config.log.retention_days * 86_400_000),
        retention_bytes=int(config.log.retention_gib * 2**30),
    )


def dead_letters_config(config: Config) -> LogConfig:
    """The settings of the dead-letter log."""
    return LogConfig(
        retention_ms=int(config.egress.dead_letter_days * 86_400_000),
        retention_bytes=int(config.egress.dead_letter_gib * 2**30),
        tail_cache_bytes=DEAD_LETTERS_CACHE_BYTES,
    )


@contextmanager
def in_a_sentence() -> Iterator[None]:
    """Makes a `ConfigurationError` of whatever a machine or a data folder can do to a start."""
    try:
        yield
    except HubError as error:
        raise ConfigurationError(f"The server cannot start: {error.message.rstrip('.')}.") from error
    except Damaged as error:
        raise ConfigurationError(f"The server cannot start: {error}; restore the data folder from a backup.") from error
    except (StateClosed, msgspec.ValidationError, msgspec.DecodeError) as error:
        raise ConfigurationError(f"The server cannot start: the state cannot be used ({error}).") from error
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        raise ConfigurationError(f"The server cannot start: {error.strerror or error}{place}.") from error


def _report_recovery(log: SegmentLog) -> None:
    report = log.recovery
    if not report.is_clean:
        logger.warning("log repaired", extra={"torn_bytes": report.torn_bytes, "rebuilt": list(report.rebuilt)})


def _log_damage(damage: Damage) -> None:
    logger.error("log damaged", extra=damage_to_json(damage))


def damage_to_json(damage: Damage) -> dict[str, object]:
    """A damaged stretch, for logs and for people."""
    return {
        "start": damage.start,
        "end": damage.end,
        "acknowledged": damage.acknowledged,
        "lost": [
            {
                "stream": lost.partition.stream,
                "partition": lost.partition.number,
                "first": lost.first_sequence,
                "last": lost.last_sequence,
            }
            for lost in damage.lost
        ],
    }
