"""The stock management clients against a hub's management port, over TLS with the hub's own CA."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError
from azure.mgmt.iothub import IotHubClient
from azure.mgmt.network import NetworkManagementClient

from support.server import RunningHub

GROUP = "isthmus"
SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
PORT = 8444
MANAGEMENT_OPTIONS = ("--management-port", str(PORT))


class Bearer:
    """A credential that shows one token of the hub's."""

    def __init__(self, token: str) -> None:
        self._token = token

    def get_token(self, *_scopes: str, **_options: object) -> AccessToken:
        return AccessToken(self._token, int(time.time()) + 3600)


@dataclass(frozen=True)
class Managing:
    """The two clients, and the hub's name in their paths."""

    iothub: IotHubClient
    network: NetworkManagementClient
    hub_name: str
    hub_id: str


def make_token(hub: RunningHub, name: str, role: str = "Owner", *more: str) -> str:
    """A new token of that name."""
    return str(hub.json("token", "create", "--name", name, "--role", role, *more)["token"])


def connecting(hub: RunningHub) -> dict[str, Any]:
    """What leads any client to the hub's management port; it does not try again."""
    return {
        "base_url": f"https://{hub.address}:{PORT}",
        "connection_verify": str(hub.ca),
        "credential_scopes": ["https://management.isthmus/.default"],
        "retry_total": 0,
    }


@contextmanager
def managing(hub: RunningHub, token: str) -> Iterator[Managing]:
    """Clients that show the token; they do not try again, and are closed afterwards."""
    options = connecting(hub)
    shown = hub.json("iot", "hub", "list")[0]
    with ExitStack() as stack:
        iothub = stack.enter_context(IotHubClient(Bearer(token), SUBSCRIPTION, **options))
        network = stack.enter_context(NetworkManagementClient(Bearer(token), SUBSCRIPTION, **options))
        yield Managing(iothub, network, shown["name"], shown["id"])


def told(error: HttpResponseError) -> tuple[int | None, str]:
    """Status and ARM's code of a refusal."""
    return error.status_code, str(error.error.code) if error.error is not None else ""
