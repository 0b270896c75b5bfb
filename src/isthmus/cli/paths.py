"""`check path`, and the proof that comes before the public side is closed."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import click

from isthmus.cli.checks import check
from isthmus.cli.command import Words
from isthmus.cli.errors import CommandError
from isthmus.cli.output import Readable, as_table
from isthmus.cli.target import Target

PLANES = ("mqtt", "amqp", "https", "events")
BROKEN = 1

Paths = list[dict[str, Any]]


@check.command("path", remote=False)
@click.option("--private-endpoint", "endpoint", default="", metavar="NAME", help="To this private endpoint.")
@click.option("--vnet-name", "network", default="", metavar="NAME", help="To the private endpoints of this network.")
@click.option("--public", is_flag=True, help="To the public door, from the hub's machine.")
@click.option("--plane", "planes", cls=Words, metavar="PLANE...", help=f"Only these of {', '.join(PLANES)}.")
def check_path(target: Target, endpoint: str, network: str, public: bool, planes: Sequence[tuple[str, ...]]) -> Any:
    """Walks the paths to a hub as clients do, and tells hop by hop what is met.

    Resolves the name, connects, checks the certificate, speaks the protocol, proves itself as a probe that nobody else
    sees, and sends a message there and back; from inside the endpoint's network, by its connector or in its namespace.
    Without an endpoint or network all private endpoints are walked to. Exits with 1 when a path does not work.
    """
    if public and (endpoint or network):
        raise CommandError("--public is the way from outside; leave --private-endpoint and --vnet-name out.")
    named = [word for group in planes for word in group]
    wrong = next((word for word in named if word not in PLANES), None)
    if wrong is not None:
        raise CommandError(f"--plane takes {', '.join(PLANES)}, and {wrong!r} is none of them.")
    asked = {"privateEndpoint": endpoint, "vnetName": network, "public": public, "planes": named}
    paths = walked(target, asked)
    works = bool(paths) and all(path["works"] for path in paths)
    return Readable(_text(paths), paths, 0 if works else BROKEN)


def prove_private(target: Target) -> str:
    """Proves that a private path to the hub works, and says in a line what was proved; raises CommandError if none."""
    paths = walked(target, {"approvedOnly": True})
    working = [path for path in paths if path["works"]]
    if not paths:
        raise CommandError(
            f"Nothing was changed: {target.named_hub.name} has no private endpoint that is approved, so nobody could "
            "reach it with its public side closed. Approve one (isthmus network private-endpoint-connection approve), "
            "or say --force."
        )
    if not working:
        told = "\n".join(_line(path) for path in paths)
        raise CommandError(f"Nothing was changed: no private path works. Mend one, or say --force.\n{told}")
    broken = [_name(path) for path in paths if not path["works"]]
    rest = f"; not by {', '.join(broken)}" if broken else ""
    return f"Proved: messages go there and back by {', '.join(_name(path) for path in working)}{rest}."


def walked(target: Target, asked: dict[str, Any]) -> Paths:
    """The paths, walked by the server."""
    found: Paths = target.manage("POST", f"/check/path/{quote(target.named_hub.name, safe='')}", asked)
    return found


def _text(paths: Paths) -> str:
    """A table of hops for each path, and what to do about those that do not work."""
    if not paths:
        return "There is no such path: the hub has no private endpoint (isthmus network private-endpoint create)."
    blocks = [_block(path) for path in paths]
    works = sum(path["works"] for path in paths)
    return "\n".join([*blocks, f"{works} of {len(paths)} paths work."])


def _block(path: dict[str, Any]) -> str:
    hops = [{**hop, "milliseconds": f"{hop['milliseconds']:.1f}"} for hop in path["hops"]]
    lines = [f"{_line(path)}", as_table(hops, everything=True)]
    lines += [f"  {name:8}{path[name]}\n" for name in ("rule", "value", "remedy") if path[name]]
    return "\n".join(lines[:2]) + "".join(lines[2:])


def _line(path: dict[str, Any]) -> str:
    where = f"{path['address']}:{path['port']}, from {path['from']}"
    if path["works"]:
        return f"{_name(path)} at {where}: works"
    last = path["hops"][-1]
    rule = f" ({path['rule']})" if path["rule"] else ""
    return f"{_name(path)} at {where}: {last['hop']} {last['verdict']}, {last['detail']}{rule}"


def _name(path: dict[str, Any]) -> str:
    return f"{path['endpoint']}/{path['plane']}"
