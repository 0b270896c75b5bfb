"""The tree of commands. The words `iot hub` may be given or left out for the hub's own commands.

Only two mean something else there: `iot hub policy` are the shared access policies, as `az` has it, `policy` the door
policies; `iot hub identity` are the identities of a hub, `identity` those that a hub can be given, both as in `az`.
"""

import os
import sys

import click

from isthmus import CORE, __version__
from isthmus.cli.audit import audit
from isthmus.cli.authority import authority
from isthmus.cli.backups import backup, restore
from isthmus.cli.checks import check
from isthmus.cli.command import Group
from isthmus.cli.configurations import configuration, edge
from isthmus.cli.connection_strings import connection_string, generate_sas_token
from isthmus.cli.connectors import connector
from isthmus.cli.consumer_groups import consumer_group
from isthmus.cli.dead_letters import dead_letter
from isthmus.cli.digital_twins import digital_twin
from isthmus.cli.door_policies import door_policy
from isthmus.cli.egress_worker import egress_worker
from isthmus.cli.endpoint_checks import check_endpoint
from isthmus.cli.errors import CommandError
from isthmus.cli.event_hubs import eventhubs
from isthmus.cli.explanations import explain
from isthmus.cli.hub_certificates import certificate
from isthmus.cli.hub_policies import policy
from isthmus.cli.hubs import (
    create_hub,
    delete_hub,
    list_hubs,
    list_skus,
    show_hub,
    show_quota_metrics,
    show_stats,
    update_hub,
)
from isthmus.cli.identities import device_identity, module_identity
from isthmus.cli.jobs import export_devices, import_devices, job
from isthmus.cli.lab import lab
from isthmus.cli.logs import log
from isthmus.cli.managed_identities import hub_identity, identity, role
from isthmus.cli.message_endpoints import message_endpoint
from isthmus.cli.message_enrichments import message_enrichment
from isthmus.cli.message_routes import message_route
from isthmus.cli.messages import c2d_message, monitor_events
from isthmus.cli.methods import invoke_device_method, invoke_module_method
from isthmus.cli.namespace_helper import namespace_helper
from isthmus.cli.private_network import network
from isthmus.cli.queries import query
from isthmus.cli.routing_endpoints import routing, routing_endpoint
from isthmus.cli.sealing_keys import sealing_key
from isthmus.cli.server import ca, demo, env, health, metrics, up
from isthmus.cli.service_bus import servicebus
from isthmus.cli.storage import storage
from isthmus.cli.tokens import token
from isthmus.cli.traces import trace
from isthmus.cli.twins import device_twin, module_twin

HUB_COMMANDS: tuple[click.Command, ...] = (
    *(create_hub, show_hub, list_hubs, update_hub, delete_hub, connection_string, generate_sas_token),
    *(device_identity, module_identity, device_twin, module_twin, query),
    *(invoke_device_method, invoke_module_method, monitor_events, consumer_group, message_route),
    *(message_endpoint, message_enrichment, routing_endpoint, routing),
    *(show_stats, show_quota_metrics, list_skus, job, certificate, configuration, digital_twin),
)
HUB_COMING = (
    *("distributed-tracing", "monitor-feedback", "state"),
    "devicestream",
    *("route", "manual-failover"),
    "show-connection-string",
)
TOP_COMING = (
    *("resource", "group", "account", "ad"),
    *("login", "logout", "cloud", "monitor"),
)
ENDED_BY_CTRL_C = 130


def _tell_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"isthmus {__version__} ({CORE})")
        ctx.exit()


hub = Group("hub", help="Hubs, their devices and their keys.", coming=HUB_COMING)
device = Group("device", help="What devices are sent.", coming=("simulate", "send-d2c-message", "upload-file"))
iot = Group("iot", help="The commands of `az iot`.", coming=("dps", "central", "adr", "ops", "du"))
root = Group(
    "isthmus",
    params=[
        click.Option(
            ["--version"], is_flag=True, expose_value=False, callback=_tell_version, is_eager=True, help="What this is."
        )
    ],
    help="An IoT hub for your own network. Commands, flags and output are those of `az iot hub`.",
    coming=(*HUB_COMING, *TOP_COMING),
)
for command in HUB_COMMANDS:
    hub.add_command(command)
    root.add_command(command)
device_identity.add_command(export_devices)
device_identity.add_command(import_devices)
hub.add_command(policy)
check.add_command(check_endpoint)
hub.add_command(hub_identity)
for own in (up, demo, ca, env, explain, trace, audit, log, check, health, metrics, namespace_helper, egress_worker):
    root.add_command(own)
for own in (backup, restore, network, token, sealing_key, lab, connector, iot, c2d_message):
    root.add_command(own)
for own in (door_policy, identity, role, authority, dead_letter, storage, eventhubs, servicebus):
    root.add_command(own)
device.add_command(c2d_message)
iot.add_command(hub)
iot.add_command(device)
iot.add_command(edge)


def main() -> None:
    """Runs the command in `sys.argv`; exit code 1 for what cannot be done, 2 for what was not understood."""
    try:
        root(prog_name="isthmus")
    except CommandError as error:
        _end(str(error), error.code)
    except BrokenPipeError:
        # Whoever read the output has left: nothing more may be written, at exit neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(ENDED_BY_CTRL_C)


def _end(sentence: str, code: int) -> None:
    click.echo(f"isthmus: {sentence}", err=True)
    sys.exit(code)
