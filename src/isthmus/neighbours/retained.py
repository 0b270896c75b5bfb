"""What of a log's partition an event hub still shows: the log keeps all streams alike, an event hub its own time."""

from dataclasses import replace

from isthmus.telemetry.ports import Log, Partition, PartitionInfo


def retained_cursor(log: Log, partition: Partition, cursor: int, since_ms: int) -> int:
    """The cursor, or that of the first event that was enqueued at or after a moment, when it comes later."""
    return max(cursor, log.seek_time(partition, since_ms))


def retained_info(log: Log, partition: Partition, since_ms: int) -> PartitionInfo:
    """First and last event of those that were enqueued at or after a moment; the numbers go on from the log's."""
    info = log.info(partition)
    if info.is_empty:
        return info
    first, _ = log.read(partition, log.seek_time(partition, since_ms), 1, 1)
    return replace(info, begin_sequence=first[0].sequence if first else info.last_sequence + 1)
