"""What the commands package needs from outside: the settings of a hub."""

from collections.abc import Callable
from typing import Protocol

from isthmus.base.ids import HubId


class ServiceboundSettings(Protocol):
    """What holds for a kind of message to a hub's services."""

    @property
    def ttl_ms(self) -> int:
        """How long a message waits for a reader."""

    @property
    def lock_ms(self) -> int:
        """How long a reader may take to settle it."""

    @property
    def max_delivery_count(self) -> int:
        """After so many failed deliveries it is dropped."""


class CloudToDeviceSettings(Protocol):
    """What holds for a hub's cloud-to-device messages."""

    @property
    def default_ttl_ms(self) -> int:
        """How long a message waits when its sender gave no expiry."""

    @property
    def max_delivery_count(self) -> int:
        """After so many failed deliveries it is dead-lettered."""

    @property
    def feedback(self) -> ServiceboundSettings:
        """The settings of its feedback."""


class FileUploadSettings(Protocol):
    """What holds for a hub's file uploads, as far as its services are told of them."""

    @property
    def notifications(self) -> ServiceboundSettings:
        """The settings of file notifications."""


class HubSettings(Protocol):
    """The part of a hub that commands look at."""

    @property
    def number(self) -> HubId:
        """The hub's number."""

    @property
    def name(self) -> str:
        """The hub's name, which signs feedback messages."""

    @property
    def cloud_to_device(self) -> CloudToDeviceSettings:
        """Its settings for cloud-to-device messages."""

    @property
    def file_upload(self) -> FileUploadSettings:
        """Its settings for file uploads."""


HubOf = Callable[[HubId], HubSettings | None]
"""The hub of that number as it is now, or None when there is no such hub."""
