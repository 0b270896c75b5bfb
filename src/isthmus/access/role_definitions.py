"""Built-in roles of the data plane: what an identity may do with a hub's or a neighbour's data.

Names, GUIDs and actions are Azure's ("Azure built-in roles"), so that scripts which assign them work unchanged.
`data_actions` are judged here; `actions` are told to clients, and judged for tokens of management only, which have
roles of their own (`roles`). Owner, Contributor and Reader have no data actions: they let nobody read or write data.
What `not_data_actions` names is taken away from the same role, not from another.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from isthmus.access.actions import matches

DEFINITIONS_PATH = "/providers/Microsoft.Authorization/roleDefinitions/"
"""Ends in the role's GUID; a subscription may stand before it."""

_CONTAINERS = "Microsoft.Storage/storageAccounts/blobServices/containers"
_BLOBS = f"{_CONTAINERS}/blobs"
_DELEGATION = "Microsoft.Storage/storageAccounts/blobServices/generateUserDelegationKey/action"
_EVENT_HUBS = "Microsoft.EventHub"
_SERVICE_BUS = "Microsoft.ServiceBus"
_HUBS = "Microsoft.Devices/IotHubs"
_SERVICE_BUS_READS = tuple(f"{_SERVICE_BUS}/*/{entity}/read" for entity in ("queues", "topics", "topics/subscriptions"))


@dataclass(frozen=True, slots=True)
class DataRole:
    """A built-in role; `guid` is the last part of its definition's id."""

    name: str
    guid: str
    data_actions: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    not_actions: tuple[str, ...] = ()
    not_data_actions: tuple[str, ...] = ()

    def allows(self, data_action: str) -> bool:
        """True when the role allows the data action."""
        return matches(self.data_actions, data_action) and not matches(self.not_data_actions, data_action)

    def allows_action(self, action: str) -> bool:
        """True when the role allows an action that is no data action, as containers and delegation keys ask for."""
        return matches(self.actions, action) and not matches(self.not_actions, action)


DATA_ROLES: tuple[DataRole, ...] = (
    DataRole("Owner", "8e3af657-a8ff-443c-a75c-2fe8c4bcb635", actions=("*",)),
    DataRole(
        "Contributor",
        "b24988ac-6180-42a0-ab88-20f7382dd24c",
        actions=("*",),
        not_actions=(
            "Microsoft.Authorization/*/Delete",
            "Microsoft.Authorization/*/Write",
            "Microsoft.Authorization/elevateAccess/Action",
        ),
    ),
    DataRole("Reader", "acdd72a7-3385-48ef-bd42-f606fba81ae7", actions=("*/read",)),
    DataRole("IoT Hub Data Contributor", "4fc6c259-987e-4a07-842e-c321cc9d413f", (f"{_HUBS}/*",)),
    DataRole(
        "IoT Hub Data Reader",
        "b447c946-2db7-41ec-983d-d8bf3b1c77e3",
        (f"{_HUBS}/*/read", f"{_HUBS}/fileUpload/notifications/action"),
    ),
    DataRole("IoT Hub Registry Contributor", "4ea46cd5-c1b2-4a8e-910b-273211f9ce47", (f"{_HUBS}/devices/*",)),
    DataRole("IoT Hub Twin Contributor", "494bdba2-168f-4f31-a0a1-191d2f7c028c", (f"{_HUBS}/twins/*",)),
    DataRole(
        "Storage Blob Data Owner",
        "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
        (f"{_BLOBS}/*",),
        (f"{_CONTAINERS}/*", _DELEGATION),
    ),
    DataRole(
        "Storage Blob Data Contributor",
        "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
        tuple(f"{_BLOBS}/{verb}" for verb in ("read", "write", "delete", "add/action", "move/action")),
        (*(f"{_CONTAINERS}/{verb}" for verb in ("read", "write", "delete")), _DELEGATION),
    ),
    DataRole(
        "Storage Blob Data Reader",
        "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1",
        (f"{_BLOBS}/read",),
        (f"{_CONTAINERS}/read", _DELEGATION),
    ),
    DataRole(
        "Azure Event Hubs Data Owner",
        "f526a384-b230-433a-b45c-95f59c4a2dec",
        (f"{_EVENT_HUBS}/*",),
        (f"{_EVENT_HUBS}/*",),
    ),
    DataRole(
        "Azure Event Hubs Data Sender",
        "2b629674-e913-4c01-ae53-ef4638d8f975",
        (f"{_EVENT_HUBS}/*/send/action",),
        (f"{_EVENT_HUBS}/*/eventhubs/read",),
    ),
    DataRole(
        "Azure Event Hubs Data Receiver",
        "a638d3c7-ab3a-418d-83e6-5f17a39d4fde",
        (f"{_EVENT_HUBS}/*/receive/action",),
        (f"{_EVENT_HUBS}/*/eventhubs/consumergroups/read",),
    ),
    DataRole(
        "Azure Service Bus Data Owner",
        "090c5cfd-751d-490a-894a-3ce6f1109419",
        (f"{_SERVICE_BUS}/*",),
        (f"{_SERVICE_BUS}/*",),
    ),
    DataRole(
        "Azure Service Bus Data Sender",
        "69a216fc-b8fb-44d8-bc22-1f3c2cd27a39",
        (f"{_SERVICE_BUS}/*/send/action",),
        _SERVICE_BUS_READS,
    ),
    DataRole(
        "Azure Service Bus Data Receiver",
        "4f6d3b9b-027b-4f4c-9142-0e5a2a2247e0",
        (f"{_SERVICE_BUS}/*/receive/action",),
        _SERVICE_BUS_READS,
    ),
)

DATA_ROLE_OF: Mapping[str, DataRole] = MappingProxyType({role.guid: role for role in DATA_ROLES})
"""The roles by GUID."""


def find_role(said: str) -> DataRole | None:
    """The role of a name (compared without case), a GUID, or the id of a definition; None when there is none."""
    wanted = said.strip().lower()
    guid = wanted.rpartition("/")[2] if DEFINITIONS_PATH.lower() in wanted else wanted
    return next((role for role in DATA_ROLES if wanted == role.name.lower() or guid == role.guid), None)


def roles_that_allow(data_action: str) -> Iterator[DataRole]:
    """The roles that allow a data action, in the order of `DATA_ROLES`."""
    return (role for role in DATA_ROLES if role.allows(data_action))


def roles_that_allow_action(action: str) -> Iterator[DataRole]:
    """As `roles_that_allow`, of an action that is no data action; roles that have no data actions come last."""
    allowing = [role for role in DATA_ROLES if role.allows_action(action)]
    return iter(sorted(allowing, key=lambda role: not role.data_actions))
