"""A second process that reads a log: asked by lines on standard input, it answers with lines of JSON.

`read PARTITION` answers with payloads of all events that were committed since the last such question; `all` with those
of all records since the last such question.
"""

import json
import sys
from pathlib import Path

from isthmus.telemetry.ports import Partition, Record
from isthmus.telemetry.reader import LogReader


def main() -> None:
    reader = LogReader(Path(sys.argv[1]))
    cursors: dict[str, int] = {}
    for line in sys.stdin:
        question = line.strip()
        records, cursors[question] = _read(reader, question, cursors.get(question, 0))
        sys.stdout.write(json.dumps([[record.sequence, record.payload.decode()] for record in records]) + "\n")
        sys.stdout.flush()
    reader.close()


def _read(reader: LogReader, question: str, cursor: int) -> tuple[list[Record], int]:
    records: list[Record] = []
    while True:
        if question == "all":
            some, cursor = reader.read_all(cursor, 7)
        else:
            some, cursor = reader.read(Partition(1, int(question.split()[1])), cursor, 7, 10_000)
        if not some:
            return records, cursor
        records += some


if __name__ == "__main__":
    main()
