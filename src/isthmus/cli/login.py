"""Connection strings: read those given to `--login`, write those people hand to SDKs; and logins to management."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from isthmus.cli.errors import CommandError

HTTPS_PORT = 443


@dataclass(frozen=True, slots=True)
class Login:
    """A policy's connection string, taken apart; `host` may carry a port."""

    host: str
    policy: str
    key: str = field(repr=False)

    @property
    def host_name(self) -> str:
        """The host without its port, as tokens and other connection strings name it."""
        return self.host.partition(":")[0]


@dataclass(frozen=True, slots=True)
class ManagementLogin:
    """Where a server is managed over TLS, and the token that opens it."""

    host: str
    port: int
    token: str = field(repr=False)


def read_login(given: str) -> Login:
    """Reads a connection string, `@FILE` that holds one, or the name of an environment variable that does.

    The last two keep keys out of the process list. Raises CommandError for what is none of them.
    """
    fields = _fields(given)
    names = ("HostName", "SharedAccessKeyName", "SharedAccessKey")
    missing = [name for name in names if not fields.get(name)]
    if missing:
        raise CommandError(f"--login takes the connection string of a policy; this one has no {missing[0]}.")
    return Login(host=fields[names[0]], policy=fields[names[1]], key=fields[names[2]])


def read_management_login(given: str) -> ManagementLogin:
    """Reads `Management=https://HOST:PORT;Token=TOKEN`, or where it is, as `read_login` does."""
    fields = {name.lower(): value for name, value in _fields(given).items()}
    if "sharedaccesskey" in fields:
        message = "--login takes Management=https://HOST:PORT;Token=TOKEN here; a policy's key opens devices alone."
        raise CommandError(message)
    address, token = urlsplit(fields.get("management", "")), fields.get("token", "")
    try:
        port = address.port or HTTPS_PORT
    except ValueError:
        port = 0
    if address.scheme != "https" or not address.hostname or not port or address.path.strip("/") or not token:
        raise CommandError("--login takes Management=https://HOST:PORT;Token=TOKEN here, and this is not one.")
    return ManagementLogin(address.hostname, port, token)


def policy_string(host: str, policy: str, key: str) -> str:
    """For service SDKs; `host` carries a port where HTTPS has another than 443."""
    return f"HostName={host};SharedAccessKeyName={policy};SharedAccessKey={key}"


def events_string(host_name: str, policy: str, key: str, entity: str) -> str:
    """For Event Hubs SDKs reading the built-in endpoint."""
    return f"Endpoint=sb://{host_name}/;SharedAccessKeyName={policy};SharedAccessKey={key};EntityPath={entity}"


def identity_string(host_name: str, device_id: str, module_id: str, credential: str) -> str:
    """For the SDK of a device or module; `credential` is `SharedAccessKey=…` or `x509=true`."""
    module = f"ModuleId={module_id};" if module_id else ""
    return f"HostName={host_name};DeviceId={device_id};{module}{credential}"


def _fields(given: str) -> dict[str, str]:
    """The fields of a login, of the file or of the environment variable that holds it."""
    text = given
    if given.startswith("@"):
        text = _from_file(given[1:])
    elif "=" not in given:
        text = os.environ.get(given, "")
        if not text:
            raise CommandError(f"--login names the environment variable {given}, which is not set.")
    return dict(part.partition("=")[::2] for part in text.strip().split(";") if part)


def _from_file(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError as error:
        raise CommandError(f"--login names the file {path}, which cannot be read: {error.strerror}.") from error
