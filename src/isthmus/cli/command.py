"""What all commands share: the options `az` accepts everywhere, its options of several words, its way to answer.

A command is a function of a `Target` and its own options that returns what is to be printed, as JSON.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from isthmus.base.places import RESOURCE_GROUP, SUBSCRIPTION
from isthmus.cli.dry_runs import DryRun, Rehearsed, dry_run_of, dry_run_options
from isthmus.cli.errors import NotThereYet
from isthmus.cli.output import FORMATS, code_of, show
from isthmus.cli.target import Target

DATA_DEFAULT = "./isthmus-data"
DATA_VARIABLE = "ISTHMUS_DATA"
LOGIN_VARIABLE = "ISTHMUS_LOGIN"
MANAGEMENT_VARIABLE = "ISTHMUS_MANAGEMENT_LOGIN"
HUB_FLAGS = ("--hub-name", "-n")
_SEPARATOR = "\x1f"
"""Between the words of one option; no shell lets it into a word by accident."""


class Words(click.Option):
    """An option that takes all words up to the next option: `--set a=1 b=2`. May be given several times."""

    def __init__(self, names: Sequence[str], **attributes: Any) -> None:
        super().__init__(names, multiple=True, callback=_split, **attributes)


class HubCommand(click.Command):
    """A command that asks a hub or its server and prints the answer in the wanted format.

    `hub_flags` are the flags that name the hub, where `-n` names something else. `remote` is False for what is asked of
    the management API: --login is then one of management. With `local` only the local owner may ask, and it is missing.
    `dry_run` for a change that can cut somebody off: it can be asked for as a dry run, and what is printed then is who
    that would be.
    """

    def __init__(
        self,
        *arguments: Any,
        hub_flags: Sequence[str] = HUB_FLAGS,
        remote: bool = True,
        local: bool = False,
        dry_run: bool = False,
        **attributes: Any,
    ) -> None:
        super().__init__(*arguments, **attributes)
        self.params += dry_run_options() if dry_run else []
        self._rehearses = dry_run
        own = {flag for param in self.params for flag in param.opts}
        logins = () if local else (_policy_login(),) if remote else (_management_login(),)
        common = [data_option(), *logins, *_common_options(hub_flags)]
        self.params += [option for option in common if not own & set(option.opts)]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        flags = {flag for param in self.params if isinstance(param, Words) for flag in param.opts}
        return super().parse_args(ctx, list(_joined(args, flags)))

    def invoke(self, ctx: click.Context) -> Any:
        common = {name: ctx.params.pop(name, "") for name in _COMMON}
        target = Target(
            data=Path(ctx.params.pop("data_folder", "") or default_data()),
            login=common["login"] or "",
            management=common["management"] or "",
            hub=common["hub"] or "",
            subscription=common["subscription"] or SUBSCRIPTION,
            resource_group=common["resource_group"] or RESOURCE_GROUP,
            dry_run=self._dry_run(ctx),
        )
        assert self.callback is not None
        try:
            result = ctx.invoke(self.callback, target, **ctx.params)
        except Rehearsed as rehearsed:
            click.echo(rehearsed.summary, err=True)
            result = rehearsed.affected
        show(result, output=common["output"] or "", query=common["query"] or "")
        if code := code_of(result):
            ctx.exit(code)
        return result

    def _dry_run(self, ctx: click.Context) -> DryRun | None:
        if not self._rehearses:
            return None
        return dry_run_of(ctx.params.pop("dry_run"), ctx.params.pop("since"))


class Group(click.Group):
    """A group that knows which of `az`'s commands are still to come: they say so, and end with code 2."""

    command_class = HubCommand

    def __init__(self, *arguments: Any, coming: Iterable[str] = (), **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.coming = frozenset(coming)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = super().get_command(ctx, cmd_name)
        if found is None and cmd_name in self.coming:
            path = f"{ctx.command_path} {cmd_name}".partition(" ")[2]
            path = f"{ctx.command_path} {cmd_name}".partition(" ")[2]
            raise NotThereYet(f"`{path}` is not there yet.")
        return found


def default_data() -> str:
    """The data folder when nobody names one."""
    return os.environ.get(DATA_VARIABLE) or DATA_DEFAULT


def data_option(*flags: str) -> click.Option:
    """The option that names the data folder."""
    return click.Option(
        ["data_folder", *(flags or ("--data",))],
        metavar="DIR",
        help=f"Folder of the local server. Default: ${DATA_VARIABLE}, or {DATA_DEFAULT}.",
    )


def three_state(*flags: str, help: str) -> Callable[[Any], Any]:  # noqa: A002 - click's own word
    """A flag that may stand alone or be followed by true or false, as those of `az`."""
    return click.option(*flags, type=click.BOOL, is_flag=False, flag_value="true", help=help)


def device_option(function: Any) -> Any:
    """`--device-id -d`, required."""
    return click.option("--device-id", "-d", required=True, help="The device.")(function)


def module_option(function: Any) -> Any:
    """`--module-id -m`, required."""
    return click.option("--module-id", "-m", required=True, help="The module.")(function)


def etag_option(function: Any) -> Any:
    """`--etag -e`."""
    return click.option("--etag", "-e", default="", help="Only if the entity still has this etag.")(function)


_COMMON = ("login", "management", "hub", "resource_group", "subscription", "output", "query")


def _policy_login() -> click.Option:
    return click.Option(
        ["login", "--login", "-l"],
        envvar=LOGIN_VARIABLE,
        show_envvar=True,
        metavar="STRING|@FILE|VARIABLE",
        help="A policy's connection string, to reach a hub over HTTPS instead of the local server.",
    )


def _management_login() -> click.Option:
    return click.Option(
        ["management", "--login"],
        envvar=MANAGEMENT_VARIABLE,
        show_envvar=True,
        metavar="Management=https://HOST:PORT;Token=TOKEN|@FILE|VARIABLE",
        help="To manage a server elsewhere instead of the local one.",
    )


def _common_options(hub_flags: Sequence[str]) -> list[click.Option]:
    return [
        click.Option(["hub", *hub_flags], metavar="HUB", help="Name or host name of the hub. Default: the only one."),
        click.Option(["resource_group", "--resource-group", "-g"], metavar="GROUP", help="Default: isthmus."),
        click.Option(["subscription", "--subscription"], metavar="ID", help="Default: all zeros."),
        click.Option(["output", "--output", "-o"], type=click.Choice(FORMATS), help="Default: json."),
        click.Option(["query", "--query"], metavar="JMESPATH", help="Shows only what this JMESPath selects."),
    ]


def _joined(args: Sequence[str], flags: set[str]) -> Iterable[str]:
    """Makes one word of those that follow a flag of several words."""
    rest = list(args)
    while rest:
        word = rest.pop(0)
        yield word
        if word in flags:
            until = next((place for place, other in enumerate(rest) if other.startswith("-")), len(rest))
            if until:
                yield _SEPARATOR.join(rest[:until])
                del rest[:until]


def _split(ctx: click.Context, param: click.Parameter, value: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(group.split(_SEPARATOR)) for group in value)
