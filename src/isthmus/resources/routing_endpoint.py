"""Routing endpoints of a hub's own: targets beside the built-in endpoint, as they are kept.

An endpoint has two names for itself: `name`, by which routes call it, and `number`, by which the log does. A number is
given once in the life of a hub, so that records of a deleted endpoint never become those of another.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import SplitResult, urlsplit

from isthmus.base.hosts import normal_host

ENDPOINTS_MAX = 10
"""Custom endpoints of a hub ("IoT Hub quotas and throttling")."""

BUILT_IN_NUMBER = 1
"""The number of the built-in endpoint; those of others follow."""


class EndpointKind(StrEnum):
    """Kinds of targets, called as the lists they stand in (Microsoft.Devices/IotHubs, `RoutingEndpoints`)."""

    EVENT_HUB = "eventHubs"
    QUEUE = "serviceBusQueues"
    TOPIC = "serviceBusTopics"
    STORAGE = "storageContainers"


class EndpointAuthentication(StrEnum):
    """How the hub proves itself to a target."""

    KEY = "keyBased"
    IDENTITY = "identityBased"


class BlobEncoding(StrEnum):
    """Formats of blobs."""

    AVRO = "Avro"
    AVRO_DEFLATE = "AvroDeflate"
    JSON = "JSON"


FILE_NAME_FORMAT = "{iothub}/{partition}/{YYYY}/{MM}/{DD}/{HH}/{mm}"
"""How blobs are called unless said otherwise; every part must be in any other format, too."""


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """What holds for blobs in one container."""

    container: str
    file_name_format: str = FILE_NAME_FORMAT
    batch_seconds: int = 300
    chunk_bytes: int = 314_572_800
    encoding: BlobEncoding = BlobEncoding.AVRO


@dataclass(frozen=True, slots=True)
class RoutingEndpoint:
    """One target. `guid` is the id that management shows.

    With keys `connection_string` says where and how; with an identity `endpoint_uri` says where, and `identity` is the
    ARM id of the attached identity, empty for the hub's own. `storage` is there for storage containers only.
    """

    number: int
    guid: str
    name: str
    kind: EndpointKind
    authentication: EndpointAuthentication
    connection_string: str = field(default="", repr=False)
    endpoint_uri: str = ""
    entity_path: str = ""
    identity: str = ""
    storage: StorageSettings | None = None
    subscription_id: str = ""
    resource_group: str = ""

    @property
    def entity(self) -> str:
        """The event hub, queue, topic or container."""
        if self.storage is not None:
            return self.storage.container
        return self.entity_path or self.connection_part("EntityPath")

    @property
    def host(self) -> str:
        """The target's host name in normal form, or its address; empty when a connection string names none."""
        return normal_host(_split(self._address()).hostname or "")

    @property
    def scheme(self) -> str:
        """How the target's address begins, in small letters."""
        return _split(self._address()).scheme

    def connection_part(self, name: str) -> str:
        """The value of a part of the connection string, whose name is compared without case; empty without it."""
        for part in self.connection_string.split(";"):
            key, _, value = part.partition("=")
            if key.strip().lower() == name.lower():
                return value.strip()
        return ""

    def _address(self) -> str:
        if self.authentication is EndpointAuthentication.IDENTITY:
            return self.endpoint_uri
        if self.kind is not EndpointKind.STORAGE:
            return self.connection_part("Endpoint")
        suffix = self.connection_part("EndpointSuffix") or "core.windows.net"
        return self.connection_part("BlobEndpoint") or f"https://{self.connection_part('AccountName')}.blob.{suffix}"


def _split(address: str) -> SplitResult:
    """The parts of an address; none for what is no address."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")
