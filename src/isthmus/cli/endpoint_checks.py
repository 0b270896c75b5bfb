"""`check endpoint`: the four switches, and every step of a delivery to a routing endpoint, a trial write included."""

import re
from typing import Any
from urllib.parse import quote

import click

from isthmus.cli.command import HubCommand
from isthmus.cli.output import Readable, as_table
from isthmus.cli.target import Target

BROKEN = 1
NAMES = {
    "identity": "identity on the hub",
    "authenticationType": "identity-based endpoint",
    "trustedServices": "trusted services at the target",
    "role": "role at the target",
}
"""What the four switches are called in a table."""

_GROUP = re.compile(r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.[A-Za-z]+/")


@click.command("endpoint", cls=HubCommand, remote=False)
@click.argument("endpoint")
def check_endpoint(target: Target, endpoint: str) -> Any:
    """Proves that the hub can write to a routing endpoint, and names the switch that is off when it cannot.

    Tells the identity, the audience of its token, the role and the scope at which it is held, the rule by which the
    target's network lets the hub in, and where its name leads; then the process that delivers opens a sender's link, or
    writes a blob and deletes it again. Four switches let a hub write to a closed target; each is shown, and what sets
    it right. Exits with 1 when the endpoint does not work.
    """
    path = f"/check/endpoint/{quote(target.named_hub.name, safe='')}/{quote(endpoint, safe='')}"
    found: dict[str, Any] = target.manage("POST", path)
    return Readable(_text(found), found, 0 if found["works"] else BROKEN)


def _text(found: dict[str, Any]) -> str:
    switches = [
        {"switch": NAMES[each["switch"]], "state": each["state"], "value": _short(each["value"])}
        for each in found["switches"]
    ]
    steps = [
        {"step": each["step"], "outcome": each["outcome"], "value": _short(each["value"])} for each in found["steps"]
    ]
    lines = [
        f"{found['endpoint']}, {found['type']}: {found['target']}",
        "",
        as_table(switches, everything=True),
        as_table(steps, everything=True),
        f"{found['verdict']}.",
    ]
    return "\n".join([*lines, *_remedies(found)])


def _short(text: str) -> str:
    """Ids of resources without what they all have in common."""
    return _GROUP.sub(".../", text)


def _remedies(found: dict[str, Any]) -> list[str]:
    """What sets right what is off; for what is no switch, the remedy of the step that failed."""
    if found["works"]:
        return []
    off = [each["remedy"] for each in found["switches"] if each["state"] == "off" and each["remedy"]]
    failed = [each["remedy"] for each in found["steps"] if each["outcome"] == "failed" and each["remedy"]]
    return [f"  {remedy}" for remedy in dict.fromkeys(off or failed)]
