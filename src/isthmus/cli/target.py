"""The hub a command is about, and the requests that are made of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from isthmus.cli.dry_runs import CHANGES, DRY_RUN_SECONDS_MAX, DryRun, Rehearsed
from isthmus.cli.errors import CommandError
from isthmus.cli.login import HTTPS_PORT, Login, read_login, read_management_login
from isthmus.cli.transport import (
    ANSWER_SECONDS_MAX,
    Answer,
    LocalServer,
    RemoteHub,
    RemoteServer,
    Request,
    Transport,
)

SERVICE_API = "2021-04-12"
DEVICES_API = "2023-06-30"
NETWORK_API = "2024-05-01"
PRIVATE_DNS_API = "2024-06-01"
DEVICES_PROVIDER = "Microsoft.Devices"
NETWORK_PROVIDER = "Microsoft.Network"


@dataclass(frozen=True, slots=True)
class NamedHub:
    """A hub by its names; `https_port` is what service SDKs have to be told."""

    name: str
    host_name: str
    https_port: int = HTTPS_PORT

    @property
    def service_host(self) -> str:
        """The host name, with the port where it is not HTTPS's own."""
        return self.host_name if self.https_port == HTTPS_PORT else f"{self.host_name}:{self.https_port}"


@dataclass(frozen=True)
class Target:
    """Where a command goes; what it was not told is found out when needed, once."""

    data: Path
    login: str = ""
    management: str = ""
    hub: str = ""
    subscription: str = ""
    resource_group: str = ""
    dry_run: DryRun | None = None

    @cached_property
    def named_hub(self) -> NamedHub:
        """The hub the command is about: the one named, or the only one. Raises CommandError when that says nothing."""
        if self.signed_in is not None:
            host, _, port = self.signed_in.host.partition(":")
            return NamedHub(host.partition(".")[0], host, int(port or HTTPS_PORT))
        hubs = self._hubs()
        wanted = self.hub.lower()
        found = [hub for hub in hubs if wanted in {"", hub.name.lower(), hub.host_name.lower()}]
        if len(found) == 1:
            return found[0]
        names = ", ".join(hub.name for hub in hubs) or "none"
        said = f"There is no hub {self.hub}" if self.hub else "There is more than one hub; name it with --hub-name"
        raise CommandError(f"{said if hubs else 'There is no hub'} (hubs here: {names}).")

    def service(
        self,
        method: str,
        path: str,
        body: object | None = None,
        *,
        etag: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = ANSWER_SECONDS_MAX,
    ) -> Answer:
        """Calls the service API of the hub; `etag` becomes If-Match, an empty one `*`."""
        condition = {} if etag is None else {"If-Match": f'"{etag or "*"}"'}
        request = Request(method, self._service_path(path), body, {**(headers or {}), **condition}, timeout)
        return self._transport.send(request)

    def manage(
        self,
        method: str,
        path: str,
        body: object | None = None,
        *,
        etag: str = "",
        only_new: bool = False,
        query: Mapping[str, str] | None = None,
    ) -> Any:
        """Calls the management API of the server and returns the answer's JSON.

        Raises Rehearsed for a change that is asked for as a dry run.
        """
        headers = {"If-Match": f'"{etag}"'} if etag else {}
        if only_new:
            headers["If-None-Match"] = "*"
        version = {"api-version": DEVICES_API} if path.startswith("/subscriptions/") else {}
        asked = {**version, **(query or {})}
        if self.dry_run is not None and method in CHANGES:
            rehearsed = _with_query(path, asked | self.dry_run.query)
            raise Rehearsed(self._server.send(Request(method, rehearsed, body, headers, DRY_RUN_SECONDS_MAX)).json())
        return self._server.send(Request(method, _with_query(path, asked), body, headers)).json()

    def backup(self, destination: Path) -> Any:
        """Has the server of the data folder copy it, or copies that of a stopped one, however long that takes."""
        request = Request("POST", "/backup", {"destination": str(destination)}, timeout=None)
        return LocalServer(self.data).send(request).json()

    def ask(self, path: str) -> Answer:
        """What a management path answers, whatever it is."""
        return self._server.send(Request("GET", path))

    def events(self, query: Mapping[str, str], timeout: float | None) -> Iterator[bytes]:
        """Messages of the built-in endpoint, a JSON line each."""
        path = f"/hubs/{quote(self.named_hub.name, safe='')}/events"
        return self._transport.lines(Request("GET", _with_query(path, query), timeout=timeout))

    @cached_property
    def signed_in(self) -> Login | None:
        """The policy the command was given, None for the local owner."""
        return read_login(self.login) if self.login else None

    def hub_id(self) -> str:
        """The resource id of the hub."""
        return self.resource_id(DEVICES_PROVIDER, "IotHubs", self.named_hub.name)

    def resource_id(self, provider: str, kind: str, name: str = "") -> str:
        """The id of a resource in the group, or of all of a kind."""
        group = f"/subscriptions/{self.subscription}/resourceGroups/{quote(self.resource_group, safe='')}"
        return f"{group}/providers/{provider}/{kind}" + (f"/{quote(name, safe='')}" if name else "")

    @cached_property
    def _server(self) -> Transport:
        """Where management is answered."""
        if self.signed_in is not None:
            raise CommandError("This is the local owner's; leave --login out and name the folder with --data.")
        return RemoteServer(read_management_login(self.management)) if self.management else LocalServer(self.data)

    @property
    def _transport(self) -> Transport:
        """Where the service API is answered."""
        return RemoteHub(self.signed_in) if self.signed_in is not None else self._server

    def _hubs(self) -> list[NamedHub]:
        return [
            NamedHub(hub["name"], hub["hostName"], int(hub.get("httpsPort", HTTPS_PORT)))
            for hub in self._server.send(Request("GET", "/hubs")).json()
        ]

    def _service_path(self, path: str) -> str:
        separator = "&" if "?" in path else "?"
        base = "" if self.signed_in else f"/hubs/{quote(self.named_hub.name, safe='')}"
        return f"{base}{path}{separator}api-version={SERVICE_API}"


def _with_query(path: str, query: Mapping[str, str]) -> str:
    given = urlencode({name: value for name, value in query.items() if value})
    if not given:
        return path
    return f"{path}{'&' if '?' in path else '?'}{given}"


def identity_path(device_id: str, module_id: str = "") -> str:
    """`/devices/{id}[/modules/{id}]`, encoded."""
    return f"/devices/{_below(device_id, module_id)}"


def twin_path(device_id: str, module_id: str = "") -> str:
    """`/twins/{id}[/modules/{id}]`, encoded."""
    return f"/twins/{_below(device_id, module_id)}"


def _below(device_id: str, module_id: str) -> str:
    device = quote(device_id, safe="")
    return f"{device}/modules/{quote(module_id, safe='')}" if module_id else device
