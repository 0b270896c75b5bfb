"""Words for sockets that somebody else makes for us."""

from enum import StrEnum

from isthmus.base.errors import ConfigurationError


class SocketKind(StrEnum):
    """A listening TCP socket, or a bound UDP one."""

    STREAM = "stream"
    DATAGRAM = "datagram"


class Unattended(ConfigurationError):  # noqa: N818 - a case of ConfigurationError, named by what happened
    """Nobody makes sockets in other places now; those that were made live on."""


METADATA_ADDRESS = "169.254.169.254"
METADATA_PORT = 80
"""Where clients look for Azure's metadata service; no packet for it leaves the machine (RFC 3927 §2.7)."""
