"""File upload of a hub: which container devices put files into, and how services hear of it.

Defaults and ranges are those of the IoT Hub developer guide, "Upload files with IoT Hub", "File upload settings".
"""

from dataclasses import dataclass, field

from isthmus.resources.routing_endpoint import EndpointAuthentication
from isthmus.resources.storage_account import StorageAccount, read_account

SAS_TTL_MS_MIN = 60_000
SAS_TTL_MS_MAX = 86_400_000
"""How long a device may take for a file."""

NOTIFICATION_TTL_MS_MIN = 60_000
NOTIFICATION_TTL_MS_MAX = 172_800_000
"""Life of a file notification."""

NOTIFICATION_LOCK_MS_MIN = 5_000
NOTIFICATION_LOCK_MS_MAX = 300_000
"""Lock of a file notification."""

RELAY_CONTAINER = "isthmus-uploads"
"""The container that a hub itself has for devices when it relays what they upload; a hub has no other one."""


@dataclass(frozen=True, slots=True)
class StorageEndpoint:
    """The container that files go to; without a connection string there is none.

    With an identity the string has no key, and `identity` is the ARM id of an attached one, empty for the hub's own.
    `relay`: devices are sent to the hub's own address, which passes on what they upload.
    """

    connection_string: str = field(default="", repr=False)
    container: str = ""
    authentication: EndpointAuthentication = EndpointAuthentication.KEY
    identity: str = ""
    sas_ttl_ms: int = 3_600_000
    relay: bool = False

    @property
    def configured(self) -> bool:
        return bool(self.connection_string)

    @property
    def account(self) -> StorageAccount:
        """The account; of an endpoint that is configured."""
        return read_account(self.connection_string, "connectionString")


@dataclass(frozen=True, slots=True)
class NotificationSettings:
    """What holds for file notifications."""

    ttl_ms: int = 3_600_000
    lock_ms: int = 60_000
    max_delivery_count: int = 100


@dataclass(frozen=True, slots=True)
class FileUploadSettings:
    """What holds for file upload; `notify`: services are told of each file."""

    storage: StorageEndpoint = StorageEndpoint()
    notify: bool = False
    notifications: NotificationSettings = NotificationSettings()


NO_UPLOADS = FileUploadSettings()
"""What a new hub has: no container."""
