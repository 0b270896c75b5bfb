"""Storage accounts as connection strings name them (Azure Storage documentation, "Configure connection strings")."""

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from isthmus.base.errors import Code, HubError
from isthmus.base.hosts import is_address
from isthmus.base.sas_token import decode_key

CONTAINER_NAME = re.compile(r"(?=.{3,63}$)[a-z0-9]+(?:-[a-z0-9]+)*")
"""Names of containers ("Naming and referencing containers, blobs, and metadata")."""

ACCOUNT_NAME = re.compile(r"[a-z0-9]{3,24}")
"""Names of storage accounts ("Storage account overview")."""

PUBLIC_SUFFIX = "core.windows.net"
KEY_PART = "AccountKey"
MASK = "****"
"""Stands for a key in what is shown."""


@dataclass(frozen=True, slots=True)
class StorageAccount:
    """An account: its name, the base64 key if it is known, and the address of its blobs, without a slash at the end."""

    name: str
    key: str = field(repr=False)
    blob_url: str

    @property
    def place(self) -> str:
        """Host, port where one is said, and the path of addresses that have the account in it: all but the scheme."""
        return self.blob_url.partition("://")[2]


def read_account(connection_string: str, path: str) -> StorageAccount:
    """The account of a connection string; raises HubError ArgumentInvalid naming `path`."""
    parts = _parts(connection_string)
    scheme = parts.get("defaultendpointsprotocol", "https")
    suffix = parts.get("endpointsuffix", PUBLIC_SUFFIX)
    name = parts.get("accountname", "")
    url = parts.get("blobendpoint", f"{scheme}://{name}.blob.{suffix}" if name else "").rstrip("/")
    try:
        split = urlsplit(url)
    except ValueError as error:
        raise HubError(Code.ARGUMENT_INVALID, f"{path}: BlobEndpoint is not an address") from error
    if not url.isprintable() or split.scheme not in ("http", "https") or not split.hostname or split.query:
        raise HubError(Code.ARGUMENT_INVALID, f"{path} has neither AccountName nor BlobEndpoint")
    name = name or _named(split.hostname, split.path)
    if not ACCOUNT_NAME.fullmatch(name):
        raise HubError(Code.ARGUMENT_INVALID, f"{path}: {name!r} is not the name of a storage account")
    key = parts.get("accountkey", "")
    if key and key != MASK and decode_key(key) is None:
        raise HubError(Code.ARGUMENT_INVALID, f"{path}: AccountKey is not base64")
    return StorageAccount(name, key, url)


def masked(connection_string: str) -> str:
    """The string with a mask for its key."""
    return _mapped(connection_string, f"{KEY_PART}={MASK}")


def without_key(connection_string: str) -> str:
    """The string without its key."""
    return _mapped(connection_string, "")


def _mapped(connection_string: str, key_part: str) -> str:
    parts = [key_part if _is_key(part) else part for part in connection_string.split(";")]
    return ";".join(part for part in parts if part)


def _is_key(part: str) -> bool:
    return part.strip().lower().startswith(f"{KEY_PART.lower()}=")


def _parts(connection_string: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in connection_string.split(";") if part.strip())
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _named(host: str, path: str) -> str:
    """The account in an address: its first label, or the first segment of the path where the host is an address."""
    return path.strip("/").partition("/")[0] if is_address(host) else host.partition(".")[0]
