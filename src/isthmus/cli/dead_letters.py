"""`dead-letter`: records that an endpoint was not to get, with the reason, and the way to send them once more."""

from typing import Any
from urllib.parse import quote

import click

from isthmus.cli.command import Group
from isthmus.cli.hubs import API
from isthmus.cli.target import Target

dead_letter = Group("dead-letter", help="Records that an endpoint was not to get, and why.")

_endpoint = click.option("--endpoint-name", "--en", "endpoint", required=True, help="The endpoint.")
_until = click.option("--until", type=int, metavar="NUMBER", help="Only those up to this number. [all]")


@dead_letter.command("list", remote=False)
@click.option("--endpoint-name", "--en", "endpoint", help="Only those of this endpoint.")
@click.option("--first", type=int, metavar="NUMBER", help="From this number on.")
@click.option("--top", type=int, help="At most so many. [100]")
def list_dead_letters(target: Target, endpoint: str | None, first: int | None, top: int | None) -> Any:
    """Lists dead letters with their reasons, each endpoint's the oldest first."""
    bounds = {"first": first, "top": top}
    query = API | {name: str(value) for name, value in bounds.items() if value is not None}
    return target.manage("GET", _path(target, endpoint), query=query)["value"]


@dead_letter.command("show", remote=False)
@_endpoint
@click.option("--number", type=int, required=True, help="The dead letter's number, as the list has it.")
def show_dead_letter(target: Target, endpoint: str, number: int) -> Any:
    """Shows a dead letter with its properties, and its body in base64."""
    return target.manage("POST", f"{_path(target, endpoint)}/letters/{number}/show", query=API)


@dead_letter.command("bury", remote=False)
@_endpoint
def bury_waiting(target: Target, endpoint: str) -> Any:
    """Gives up on what waits for an endpoint now: it becomes dead letters, which can be sent once more."""
    return target.manage("POST", f"{_path(target, endpoint)}/bury", {}, query=API)


@dead_letter.command("redrive", remote=False)
@_endpoint
@_until
def redrive_dead_letters(target: Target, endpoint: str, until: int | None) -> Any:
    """Sends dead letters to their endpoint once more, in order; they are no dead letters any more then."""
    return target.manage("POST", f"{_path(target, endpoint)}/redrive", _upto(until), query=API)


@dead_letter.command("purge", remote=False)
@_endpoint
@_until
def purge_dead_letters(target: Target, endpoint: str, until: int | None) -> Any:
    """Removes dead letters for ever."""
    return target.manage("POST", f"{_path(target, endpoint)}/purge", _upto(until), query=API)


def _path(target: Target, endpoint: str | None) -> str:
    below = f"/{quote(endpoint, safe='')}" if endpoint else ""
    return f"{target.hub_id()}/deadLetters{below}"


def _upto(until: int | None) -> dict[str, int]:
    return {} if until is None else {"until": until}
