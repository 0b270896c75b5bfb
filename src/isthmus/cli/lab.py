"""`lab up|status|matrix|cut|mend|down`: a plant and its hub in network namespaces of this machine."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from isthmus.base.clock import SystemClock
from isthmus.base.ids import RandomIds
from isthmus.cli.command import Group
from isthmus.cli.errors import CommandError
from isthmus.cli.output import FORMATS, Readable, show

if TYPE_CHECKING:
    from isthmus.lab.lab import Lab


class LabCommand(click.Command):
    """A command about the lab of a file."""

    def __init__(self, *arguments: Any, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.params = [
            click.Argument(["file"], type=click.Path(path_type=Path)),
            *self.params,
            click.Option(["name", "--name", "-n"], default="", help="Takes the place of the file's name."),
            click.Option(["output", "--output", "-o"], type=click.Choice(FORMATS), help="Default: prose."),
            click.Option(["query", "--query"], metavar="JMESPATH", help="Shows only what this JMESPath selects."),
        ]

    def invoke(self, ctx: click.Context) -> Any:
        from isthmus.lab.errors import LabError
        from isthmus.lab.lab import Lab

        output, query = ctx.params.pop("output") or "", ctx.params.pop("query") or ""
        assert self.callback is not None
        try:
            lab = Lab(ctx.params.pop("file"), ctx.params.pop("name"), SystemClock(), RandomIds(), _say)
            result, code = ctx.invoke(self.callback, lab, **ctx.params)
        except LabError as error:
            raise CommandError(str(error)) from error
        show(result, output=output, query=query)
        sys.exit(code)


lab = Group("lab", help="A plant, its networks and a hub in network namespaces of this machine. Root only.")


@lab.command("up", cls=LabCommand)
def up(lab: "Lab") -> tuple[Any, int]:
    """Builds what the file says, starts the hub in it, and closes the hub's public side."""
    lab.up()
    return _status(lab)


@lab.command("status", cls=LabCommand)
def status(lab: "Lab") -> tuple[Any, int]:
    """Shows what runs; exits with 1 when something is missing."""
    return _status(lab)


@lab.command("matrix", cls=LabCommand)
@click.option("--host", "hosts", multiple=True, metavar="HOST", help="Only from this host; repeatable.")
def matrix(lab: "Lab", hosts: tuple[str, ...]) -> tuple[Any, int]:
    """Tries every address from every host on every plane; exits with 1 when one is not as expected."""
    from isthmus.lab.matrix import holds, render

    cells = lab.matrix(hosts)
    return Readable(render(cells), [cell.facts() for cell in cells]), 0 if holds(cells) else 1


@lab.command("cut", cls=LabCommand)
@click.argument("link")
def cut(lab: "Lab", link: str) -> tuple[Any, int]:
    """Breaks a link: SITE/vpn, SITE/line, NETWORK/NETWORK, NETWORK/connector or a host."""
    lab.cut(link)
    return None, 0


@lab.command("mend", cls=LabCommand)
@click.argument("link")
def mend(lab: "Lab", link: str) -> tuple[Any, int]:
    """Joins a link again that was cut."""
    lab.mend(link)
    return None, 0


@lab.command("down", cls=LabCommand)
def down(lab: "Lab") -> tuple[Any, int]:
    """Takes the lab away with everything in it, also one that was not built to the end."""
    lab.down()
    return None, 0


def _status(lab: "Lab") -> tuple[Any, int]:
    from isthmus.lab.status import render_status

    facts = lab.status()
    return Readable(render_status(facts), facts), 0 if facts["ok"] else 1


def _say(line: str) -> None:
    click.echo(line, err=True)
