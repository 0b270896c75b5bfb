"""`query`: the query language over devices, twins and modules."""

from typing import Any

import click

from isthmus.cli.command import HubCommand
from isthmus.cli.target import Target

PAGE_ITEMS = 100
"""Items asked for at a time; the hub may give fewer."""


@click.command("query", cls=HubCommand)
@click.option("--query-command", "-q", required=True, metavar="TEXT", help="Such as `select * from devices`.")
@click.option("--top", type=int, default=-1, help="How many; all unless given.")
def query(target: Target, query_command: str, top: int) -> Any:
    """Asks the hub with its query language."""
    return run_query(target, query_command, top)


def run_query(target: Target, text: str, top: int) -> list[Any]:
    """All results up to `top` (-1 for all), page after page."""
    found: list[Any] = []
    continuation = ""
    while top < 0 or len(found) < top:
        wanted = PAGE_ITEMS if top < 0 else min(PAGE_ITEMS, top - len(found))
        headers = {"x-ms-max-item-count": str(wanted)}
        if continuation:
            headers["x-ms-continuation"] = continuation
        answer = target.service("POST", "/devices/query", {"query": text}, headers=headers)
        found += answer.json()
        continuation = answer.headers.get("x-ms-continuation", "")
        if not continuation:
            break
    return found
