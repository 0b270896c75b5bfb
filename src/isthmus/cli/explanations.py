"""`explain`: why something was refused, in the owner's words."""

import json
from itertools import chain
from operator import itemgetter
from typing import Any

import click

from isthmus.cli.command import HubCommand
from isthmus.cli.moments import moment_of
from isthmus.cli.output import Readable
from isthmus.cli.target import Target

TOP_DEFAULT = 20
DETAILS = ("value", "remedy", "detail", "principal", "trackingId")
"""What follows the headline of an explanation, where there is something to tell."""
DEEDS = {"changed": "changed", "read": "read keys of", "pruned": "pruned the journal of", "lost": "lost decisions of"}
"""Verdicts about something that was done, not about somebody who asked."""
AGAINST = ("refused", "delayed")
"""Verdicts that somebody asks about who wonders why it does not work."""
NOTHING = "Nothing of that kind was refused."


@click.command("explain", cls=HubCommand, remote=False)
@click.argument("tracking_id", nargs=-1)
@click.option("--device-id", "-d", default="", help="Of this device, or `DEVICE/MODULE`.")
@click.option("--address", default="", help="From this address.")
@click.option("--since", default="", metavar="TIME|AGO", help="Since then: ISO 8601, or 30s, 15m, 2h, 1d ago.")
@click.option("--top", type=click.IntRange(min=1), default=TOP_DEFAULT, show_default=True, help="How many, the newest.")
@click.option("--all", "everything", is_flag=True, help="What was allowed or changed, too.")
def explain(target: Target, tracking_id: tuple[str, ...], everything: bool, since: str, top: int, **given: str) -> Any:
    """Says why a connection or request was refused or delayed, and the smallest change that would let it pass.

    Works without a running server.
    """
    wanted = {
        "trackingId": " ".join(tracking_id),
        "deviceId": given["device_id"],
        "address": given["address"],
        "hub": target.hub,
        "since": moment_of("--since", since),
        "top": str(top),
    }
    verdicts = ("",) if everything or tracking_id else AGAINST
    found = [target.manage("GET", "/explain", query={**wanted, "verdict": verdict}) for verdict in verdicts]
    decisions = sorted(chain(*found), key=itemgetter("time"), reverse=True)[:top]
    return Readable("\n".join(_told(decision) for decision in decisions) or NOTHING, decisions)


def _told(decision: dict[str, Any]) -> str:
    if decision["verdict"] in DEEDS:
        who = decision["principal"] or "somebody"
        return f"{_time(decision)} {who} {DEEDS[decision['verdict']]} {_changed(decision)}"
    who = f"device {decision['device']}" if decision["device"] else decision["principal"] or "somebody"
    source = f" from {decision['address']}" if decision["address"] else ""
    plane = f" by {decision['plane']}" if decision["plane"] else ""
    door = f" at the {decision['door']} door" if decision["door"] else ""
    station = f"{decision['hop']}: " if decision["hop"] else ""
    why = f", {station}{decision['rule']}" if decision["rule"] else ""
    times = f", {decision['count']} times" if decision["count"] > 1 else ""
    head = f"{_time(decision)} {who}{source}{plane}{door} was {decision['verdict']}{why}{times}"
    return "\n".join([head, *(f"    {name:11} {decision[name]}" for name in DETAILS if decision[name])])


def _changed(decision: dict[str, Any]) -> str:
    after = f": {json.dumps(decision['after'])}" if decision["after"] is not None else ""
    return f"{decision['hub'] or 'the server'} ({decision['detail']}){after}"


def _time(decision: dict[str, Any]) -> str:
    return f"{decision['time'][:23]}Z"
