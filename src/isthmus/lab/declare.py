"""What the hub is told of the lab, by the command line, as an owner would tell it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from isthmus.lab.errors import LabError
from isthmus.lab.layout import namespace_of
from isthmus.lab.plan import NetworkPlan, Plan, Presence
from isthmus.lab.processes import PYTHON, ended
from isthmus.lab.record import Record

COMMAND_SECONDS_MAX = 60.0
SUBNET = "lan"
GROUP = "iotHub"
HUB_TYPE = "Microsoft.Devices/IotHubs"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class CommandLine:
    """The command `isthmus` on the lab's hub."""

    record: Record

    def run(self, *arguments: str) -> Any:
        """What a command printed, parsed; None when it printed nothing. Raises LabError with its words."""
        command = [*PYTHON, "isthmus", *arguments, "--data", str(self.record.hub_data), "--output", "json"]
        done = ended(command, COMMAND_SECONDS_MAX)
        if done.returncode != 0:
            raise LabError(f"`isthmus {' '.join(arguments)}` failed: {done.stderr.strip()}")
        return json.loads(done.stdout) if done.stdout.strip() else None


class Declaration:
    """Tells a running hub about one lab's networks and endpoints."""

    def __init__(self, plan: Plan, commands: CommandLine, say: Say) -> None:
        self._plan = plan
        self._run = commands.run
        self._say = say

    @cached_property
    def _hubs(self) -> dict[str, str]:
        """Each hub's resource id."""
        return {hub["name"]: hub["id"] for hub in self._run("iot", "hub", "list")}

    def networks(self) -> None:
        """Declares virtual networks, peerings, and the sites behind gateways."""
        for name, network in self._plan.networks.items():
            self._run(
                *("network", "vnet", "create", "-n", name, "--address-prefixes", network.range),
                *("--subnet-name", SUBNET, "--subnet-prefixes", network.lan),
                *("--presence", presence_of(self._plan, name)),
            )
        for peering in self._plan.peerings:
            for near, far in (peering.between, peering.between[::-1]):
                self._run(
                    *("network", "vnet", "peering", "create", "--vnet-name", near, "-n", f"to-{far}"),
                    *("--remote-vnet", far, "--allow-vnet-access", "true"),
                )
        for name, site in self._plan.sites.items():
            self._run(
                *("network", "local-gateway", "create", "-n", name, "--vnet-name", site.gateway),
                *("--local-address-prefixes", site.range),
            )

    def endpoint(self, name: str) -> None:
        """Asks for a network's private endpoint and, as the hub's owner, approves it."""
        network = self._plan.networks[name]
        hub = self._hubs[network.hub or self._plan.hub.first]
        self._run(
            *("network", "private-endpoint", "create", "-n", name, "--connection-name", name),
            *("--private-connection-resource-id", hub, "--group-id", GROUP),
            *("--vnet-name", name, "--subnet", SUBNET, "--manual-request", "true"),
            *("--ip-config", f"name={name}", f"group-id={GROUP}", f"member-name={GROUP}"),
            f"private-ip-address={network.endpoint}",
        )
        for connection in self._pending(hub):
            self._run(
                *("network", "private-endpoint-connection", "approve", "--id", connection["id"]),
                *("--description", "the lab"),
            )
        self._say(
            f"private endpoint {network.endpoint} in {name} leads to {network.hub or self._plan.hub.first}, approved"
        )

    def name_servers(self) -> dict[str, list[str]]:
        """The name servers that the hub says each network's clients have, as a DHCP server would hand them out."""
        return {shown["name"]: shown["dhcpOptions"]["dnsServers"] for shown in self._run("network", "vnet", "list")}

    def close_public(self) -> None:
        """Closes the public side of every hub."""
        for hub in (self._plan.hub.first, *self._plan.hub.others):
            self._run("iot", "hub", "update", "-n", hub, "--set", "properties.publicNetworkAccess=Disabled", "--force")

    def _pending(self, hub_id: str) -> list[dict[str, Any]]:
        listed = self._run("network", "private-endpoint-connection", "list", "--id", hub_id, "--type", HUB_TYPE)
        return [
            connection
            for connection in listed
            if connection["properties"]["privateLinkServiceConnectionState"]["status"] == "Pending"
        ]


def presence_of(plan: Plan, name: str) -> str:
    """How a network's presence is told to the hub; one without an endpoint has none, which is bind."""
    network: NetworkPlan = plan.networks[name]
    match network.presence:
        case Presence.NETNS:
            return f"netns:{namespace_of(plan.name, name)}"
        case Presence.CONNECTOR:
            return f"connector:{name}"
        case _:
            return Presence.BIND.value
