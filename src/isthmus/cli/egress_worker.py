"""`egress-worker`: what a hub starts to deliver to routing endpoints. Nobody calls it by hand."""

from pathlib import Path

import click


@click.command("egress-worker", hidden=True)
@click.option("--socket", "descriptor", type=int, required=True, help="The open socket to the hub.")
@click.option("--log", "log_folder", required=True, metavar="DIR", help="The folder of the hub's log.")
def egress_worker(descriptor: int, log_folder: str) -> None:
    """Reads the log and delivers by the sinks, until its hub has gone."""
    from isthmus.egress.process import CLIENTS_MISSING
    from isthmus.egress.worker import run_worker

    try:
        from isthmus.egress.sinks_of import sinks_by
    except ModuleNotFoundError:
        click.get_current_context().exit(CLIENTS_MISSING)
    click.get_current_context().exit(run_worker(descriptor, Path(log_folder), sinks_by))
