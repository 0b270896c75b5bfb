"""`log`: the telemetry log, read as a whole."""

from typing import Any

from isthmus.base.errors import ConfigurationError
from isthmus.cli.command import Group
from isthmus.cli.errors import NotJudged
from isthmus.cli.output import Readable
from isthmus.cli.target import Target

DAMAGED = 1
"""Exit code where records are lost; 0 for a whole log, 2 for one that could not be judged."""

log = Group("log", help="The durable log of everything that devices sent.")


@log.command("verify", remote=False)
def verify(target: Target) -> Any:
    """Reads every record and says which are lost: of which hub, which partition, which sequence numbers.

    Exits with 0 when the log is whole, 1 when it is not, 2 when it cannot be judged.
    Reads the data folder, whether a server runs on it or not, and changes nothing.
    """
    from isthmus.app import log_report

    try:
        told = log_report(target.data)
    except ConfigurationError as error:
        raise NotJudged(str(error)) from error
    return Readable(_words(told), told, 0 if told["whole"] else DAMAGED)


def _words(told: dict[str, Any]) -> str:
    """The report in words."""
    lines = [f"segments: {told['segments']}, records: {told['records']}, positions {told['begin']} to {told['end']}"]
    for damage in told["damages"]:
        lines.append(f"damaged: positions {damage['start']} to {damage['end']}")
        lines += [
            f"  lost: stream {lost['stream']}, partition {lost['partition']}, "
            f"sequence numbers {lost['first']} to {lost['last']}"
            for lost in damage["lost"]
        ]
    lines += [f"index {name} will be made anew at the next start" for name in told["badIndexes"]]
    return "\n".join([*lines, "The log is whole." if told["whole"] else "The log is NOT whole."])
