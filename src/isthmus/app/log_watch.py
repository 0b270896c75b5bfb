"""What an owner is told of his logs: that they cannot be written, what in them is lost, and how that is looked for."""

import logging
from collections.abc import Callable, Iterator

from isthmus.access.journal import Journal
from isthmus.app.disk_notes import not_written, written_again
from isthmus.app.stores import Stores
from isthmus.config import Config
from isthmus.servers.management.api import Part
from isthmus.servers.management.metrics import Reading
from isthmus.telemetry.log import Health, SegmentLog
from isthmus.telemetry.scrub import Scrub

PLANE = "log"
"""How the journal calls the log where a plane stands."""

logger = logging.getLogger(__name__)


class LogWatch:
    """Both logs, of messages and of dead letters."""

    def __init__(self, config: Config, stores: Stores, journal: Journal) -> None:
        self._journal = journal
        self._logs = {"log": stores.log, "dead-letters": stores.dead_letters}
        rate = config.log.scrub_mib_per_second * 2**20
        self.rate = rate
        self.scrub = Scrub(list(self._logs.values()), stores.clock, rate) if rate else None
        for name, log in self._logs.items():
            log.on_health(self._heard(name))

    def parts(self) -> Iterator[Part]:
        """Whether what was durable is still there."""
        for name, log in self._logs.items():
            yield Part(f"{name}-intact", not log.damages, _damaged(log))

    def readings(self) -> Iterator[Reading]:
        """What a scrape reads."""
        named = [({"log": name}, log) for name, log in self._logs.items()]
        for labels, log in named:
            yield Reading("log_ok", "1 while what comes can be stored", log.health.ok, labels=labels)
        for labels, log in named:
            yield Reading("log_damaged_stretches", "Places of a log that are damaged", len(log.damages), labels=labels)
        for labels, log in named:
            yield Reading("log_lost_events", "Events known to be lost", log.damages.lost_events, labels=labels)
        for labels, log in named:
            yield Reading("log_pinned_bytes", "Kept beyond retention, to be delivered", log.pinned_bytes, labels=labels)
        for labels, log in named:
            retired = log.counters.retired_segments
            yield Reading("log_retired_segments", "Segments that retention took", retired, total=True, labels=labels)
        for labels, log in named:
            retried = log.counters.retried
            yield Reading("log_retried", "Batches written a second time", retried, total=True, labels=labels)
        yield Reading("log_scrub_bytes_per_second_max", "How fast damage is looked for at most", self.rate)
        scrub = self.scrub
        yield Reading("log_scrubbed_bytes", "Bytes read to find damage", scrub.bytes if scrub else 0, total=True)
        yield Reading("log_scrub_passes", "Times all was read", scrub.passes if scrub else 0, total=True)

    def _heard(self, name: str) -> Callable[[Health], None]:
        def changed(health: Health) -> None:
            if health.ok:
                logger.warning("log can be written again", extra={"log": name})
                self._journal.write(written_again(PLANE, name))
                return
            logger.error("log cannot be written", extra={"log": name, "reason": health.reason})
            detail = "what devices send is not acknowledged until it can be stored"
            self._journal.write(not_written(PLANE, health.reason, detail))

        return changed


def _damaged(log: SegmentLog) -> str:
    count, lost = len(log.damages), log.damages.lost_events
    if not count:
        return ""
    return f"{count} damaged stretch{'es' if count > 1 else ''}, {lost} events lost: `isthmus log verify` says which"
