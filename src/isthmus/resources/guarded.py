"""What the front door and private endpoints need of a resource, whatever it is: a hub, or a neighbour beside it."""

from enum import Enum
from typing import Protocol

from isthmus.access.local_auth import LocalAuth
from isthmus.access.principal import SharedAccessPolicy
from isthmus.base.ids import HubId
from isthmus.network.admission import GuardedResource
from isthmus.network.door_policies import DoorPolicy


class ResourceKind(Enum):
    """Kinds of resources that have doors; the value is the ARM type."""

    HUB = "Microsoft.Devices/IotHubs"
    EVENT_HUBS = "Microsoft.EventHub/namespaces"
    SERVICE_BUS = "Microsoft.ServiceBus/namespaces"
    STORAGE = "Microsoft.Storage/storageAccounts"

    @property
    def group_id(self) -> str:
        """The only thing of it that a private endpoint can lead to ("Private link resource")."""
        return _GROUPS[self.value]

    @property
    def connection_type(self) -> str:
        """The ARM type of its private endpoint connections."""
        name = "PrivateEndpointConnections" if self is ResourceKind.HUB else "privateEndpointConnections"
        return f"{self.value}/{name}"

    @property
    def word(self) -> str:
        """What people call it."""
        return _WORDS[self.value]

    @property
    def command(self) -> str:
        """The command line's group of commands for it."""
        return _COMMANDS[self.value]

    @property
    def trust_command(self) -> str:
        """The command that lets trusted services past the firewall of the one called `{name}`."""
        return _TRUST_COMMANDS[self.value]


_GROUPS = {
    "Microsoft.Devices/IotHubs": "iotHub",
    "Microsoft.EventHub/namespaces": "namespace",
    "Microsoft.ServiceBus/namespaces": "namespace",
    "Microsoft.Storage/storageAccounts": "blob",
}

_WORDS = {
    "Microsoft.Devices/IotHubs": "the hub",
    "Microsoft.EventHub/namespaces": "the Event Hubs namespace",
    "Microsoft.ServiceBus/namespaces": "the Service Bus namespace",
    "Microsoft.Storage/storageAccounts": "the storage account",
}

_COMMANDS = {
    "Microsoft.Devices/IotHubs": "iot hub",
    "Microsoft.EventHub/namespaces": "eventhubs namespace",
    "Microsoft.ServiceBus/namespaces": "servicebus namespace",
    "Microsoft.Storage/storageAccounts": "storage account",
}


_TRUST_COMMANDS = {
    "Microsoft.Devices/IotHubs": "",
    "Microsoft.EventHub/namespaces": "eventhubs namespace network-rule-set update --namespace-name {name} "
    "--enable-trusted-service-access true",
    "Microsoft.ServiceBus/namespaces": "servicebus namespace network-rule-set update --namespace-name {name} "
    "--enable-trusted-service-access true",
    "Microsoft.Storage/storageAccounts": "storage account update -n {name} --bypass AzureServices",
}


class Guarded(GuardedResource, Protocol):
    """A resource with its three guards: network rules, keys, roles; a snapshot that never changes.

    `number` is its own among all resources for ever. `hosts` are its names in normal form, `host_name` the first.
    """

    @property
    def kind(self) -> ResourceKind: ...
    @property
    def number(self) -> HubId: ...
    @property
    def host_name(self) -> str: ...
    @property
    def hosts(self) -> tuple[str, ...]: ...
    @property
    def policies(self) -> tuple[SharedAccessPolicy, ...]: ...
    @property
    def local_auth(self) -> LocalAuth: ...
    @property
    def door_policies(self) -> tuple[DoorPolicy, ...]: ...

    def trusts(self, acts_for: str) -> bool:
        """True when its firewall lets in a hub of that ARM id by its identity alone."""
