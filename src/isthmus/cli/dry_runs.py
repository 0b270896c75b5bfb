"""`--dry-run`: who would be cut off by a change, told by the server, which changes nothing."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from isthmus.base.clock import SystemClock, iso_utc, parse_iso_ms
from isthmus.cli.durations import read_duration
from isthmus.cli.errors import CommandError

CHANGES = frozenset(("PUT", "PATCH", "DELETE"))
SINCE_DEFAULT = "7d"
DRY_RUN_SECONDS_MAX = 300.0
"""A journal of a million decisions is read in some ten seconds of a processor that has nothing else to do."""
_AGO = re.compile(r"[0-9]+[smhd]")


class Rehearsed(Exception):  # noqa: N818 - no fault, but the end of the command
    """The server has told what the first change of a command would do; the rest of the command does not happen."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        super().__init__("the change was rehearsed")
        self.affected: list[dict[str, Any]] = answer["affected"]
        self.answer = answer

    @property
    def summary(self) -> str:
        """What was looked at, in a line or two."""
        answer, shown = self.answer, len(self.affected)
        who = _who(answer["affectedTotal"], f"{str(answer['since'])[:16]}Z")
        lines = [f"Dry run, nothing was changed. {who} would be cut off."]
        others = f"{answer['admitted']} would still be admitted"
        if answer["refusedAlready"]:
            others += f"; refused already, or not there any more: {answer['refusedAlready']}"
        lines.append(f"{others}.")
        if shown < answer["affectedTotal"]:
            lines.append(f"Only {shown} of them are listed.")
        if not answer["complete"]:
            lines.append("There were more than can be looked at: the oldest of them were left out.")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a change is sent with so that it is only rehearsed."""

    since: str

    @property
    def query(self) -> dict[str, str]:
        """Parameters of the call."""
        return {"dryRun": "true", "since": self.since}


def dry_run_options() -> list[click.Parameter]:
    """`--dry-run` and how far it looks back."""
    return [
        click.Option(
            ["dry_run", "--dry-run"],
            is_flag=True,
            help="Changes nothing: lists who would be cut off, and why.",
        ),
        click.Option(
            ["since", "--since"],
            default=SINCE_DEFAULT,
            show_default=True,
            metavar="TIME|AGO",
            help="How far a dry run looks back: ISO 8601, or 12h, 7d ago.",
        ),
    ]


def dry_run_of(wanted: object, since: object) -> DryRun | None:
    """What the options say; raises CommandError for a time that is none."""
    if not wanted:
        return None
    text = str(since or SINCE_DEFAULT)
    if _AGO.fullmatch(text):
        return DryRun(iso_utc(SystemClock().utc_ms() - read_duration(text, "--since") * 1_000))
    moment = parse_iso_ms(text)
    if moment is None:
        raise CommandError(f"--since takes a time such as 2026-01-31T14:02:00Z, or 7d; {text!r} is neither.")
    return DryRun(iso_utc(moment))


def _who(count: int, since: str) -> str:
    if count == 0:
        return f"Nobody who is connected now or came since {since}"
    if count == 1:
        return f"1 connection that is open now or came since {since}"
    return f"{count} connections that are open now or came since {since}"
