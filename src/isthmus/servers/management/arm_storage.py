"""Storage accounts, their keys and their containers in ARM's paths (Microsoft.Storage/storageAccounts 2023-05-01)."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

from isthmus.access.explain import change_texts
from isthmus.access.journal import Journal, Verdict
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import Ids
from isthmus.neighbours.account_keys import KEY_NAMES, key_fingerprints
from isthmus.neighbours.blob import rules
from isthmus.neighbours.blob.blob import Container, Stamp
from isthmus.neighbours.blob.conditions import NO_CONDITIONS
from isthmus.neighbours.blob.errors import StorageCode, StorageError
from isthmus.neighbours.blob.headers import METADATA_PREFIX, metadata_of
from isthmus.neighbours.blob.listing import Page
from isthmus.neighbours.blob.names import checked_container
from isthmus.neighbours.blob.ports import BlobStore
from isthmus.neighbours.neighbour import Neighbour, check_name, neighbour_host
from isthmus.neighbours.neighbours import Neighbours
from isthmus.neighbours.storage_arm import (
    account_to_arm,
    apply_account,
    container_to_arm,
    keys_to_arm,
    new_account,
    renew_account_key,
)
from isthmus.resources.guarded import ResourceKind
from isthmus.resources.members import Json, mapping, text
from isthmus.resources.private_endpoints import PrivateEndpoints
from isthmus.servers.management.arm import CREATED, NO_CONTENT, Routes, change_of
from isthmus.servers.management.arm_connections import ArmConnections
from isthmus.servers.management.request import Call, Reply

HTTPS_PORT = 443


@dataclass(frozen=True, slots=True)
class StorageServer:
    """Where accounts are served: what makes ready for a host name, the first hub's host name, and the HTTPS port."""

    prepare: Callable[[str], Awaitable[None]]
    hub_host: Callable[[], str]
    https_port: Callable[[], int]

    def endpoint(self, account: Neighbour) -> str:
        """The address of an account's blobs."""
        port = self.https_port()
        return f"https://{account.host_name}{'' if port == HTTPS_PORT else f':{port}'}/"


class ArmStorage:
    """Answers ARM calls about storage accounts; used on the event loop only."""

    def __init__(
        self,
        accounts: Neighbours,
        blobs: BlobStore,
        endpoints: PrivateEndpoints,
        journal: Journal,
        ids: Ids,
        server: StorageServer,
    ) -> None:
        self._accounts = accounts
        self._blobs = blobs
        self._journal = journal
        self._ids = ids
        self._server = server
        base = ResourceKind.STORAGE.value.lower()
        container = f"{base}/*/blobservices/*/containers"
        self.routes: Routes = {
            ("GET", base): self._list,
            ("GET", f"{base}/*"): self._show,
            ("PUT", f"{base}/*"): self._put,
            ("PATCH", f"{base}/*"): self._patch,
            ("DELETE", f"{base}/*"): self._delete,
            ("POST", f"{base.partition('/')[0]}/checknameavailability"): self._check_name,
            ("POST", f"{base}/*/listkeys"): self._list_keys,
            ("POST", f"{base}/*/regeneratekey"): self._renew_key,
            ("GET", container): self._list_containers,
            ("GET", f"{container}/*"): self._show_container,
            ("PUT", f"{container}/*"): self._put_container,
            ("DELETE", f"{container}/*"): self._delete_container,
            **ArmConnections(base, self._find, endpoints, journal).routes,
        }
        """Handlers by method and path pattern; see `arm.Routes`."""

    async def _list(self, call: Call, names: tuple[str, ...]) -> Reply:
        return Reply(value={"value": [self._shown(each) for each in self._accounts.all()]})

    async def _show(self, call: Call, names: tuple[str, ...]) -> Reply:
        return Reply(value=self._shown(self._find(names[0])))

    async def _put(self, call: Call, names: tuple[str, ...]) -> Reply:
        if self._accounts.by_name(names[0]) is not None:
            return await self._patch(call, names)
        body = call.json()
        check_name(ResourceKind.STORAGE, names[0])
        await self._server.prepare(neighbour_host(ResourceKind.STORAGE, names[0], self._server.hub_host()))
        made = await self._accounts.create(
            ResourceKind.STORAGE,
            names[0],
            location=str(body.get("location") or ""),
            rule=lambda draft: new_account(draft, body),
        )
        self._changed(call, made.name, "created", None, self._shown(made))
        return Reply(CREATED, self._shown(made))

    async def _patch(self, call: Call, names: tuple[str, ...]) -> Reply:
        body, present = call.json(), self._find(names[0])
        changed = await self._accounts.change(present.name, lambda now: apply_account(now, body), call.if_match)
        self._changed(call, present.name, "updated", self._shown(present), self._shown(changed))
        return Reply(value=self._shown(changed))

    async def _delete(self, call: Call, names: tuple[str, ...]) -> Reply:
        present = self._accounts.by_name(names[0])
        if present is None:
            return Reply(NO_CONTENT)
        await self._accounts.delete(present.name, call.if_match)
        self._changed(call, present.name, "deleted", self._shown(present), None)
        return Reply()

    async def _check_name(self, call: Call, names: tuple[str, ...]) -> Reply:
        name = text(call.json().get("name"), "name")
        try:
            check_name(ResourceKind.STORAGE, name)
        except HubError as error:
            return _unavailable("AccountNameInvalid", error.message)
        if self._accounts.by_name(name) is not None:
            return _unavailable("AlreadyExists", f"The storage account named {name} is already taken.")
        return Reply(value={"nameAvailable": True})

    async def _list_keys(self, call: Call, names: tuple[str, ...]) -> Reply:
        account = self._find(names[0])
        read = change_of(call, account.name, f"keys of storage account {account.name} read")
        self._journal.write(replace(read, verdict=Verdict.READ))
        return Reply(value=keys_to_arm(account))

    async def _renew_key(self, call: Call, names: tuple[str, ...]) -> Reply:
        body, present = call.json(), self._find(names[0])
        changed = await self._accounts.change(present.name, lambda now: renew_account_key(now, body, self._ids))
        which = next(name for name in KEY_NAMES if name == str(body["keyName"]).lower())
        self._changed(call, present.name, f"{which} renewed", key_fingerprints(present), key_fingerprints(changed))
        return Reply(value=keys_to_arm(changed))

    async def _list_containers(self, call: Call, names: tuple[str, ...]) -> Reply:
        account, page = self._find(names[0]), Page()
        shown: list[dict[str, object]] = []
        while True:
            found = await self._blobs.containers(account.number, page)
            shown += [container_to_arm(account, each) for each in found.entries]
            if not found.next_name:
                return Reply(value={"value": shown})
            page = replace(page, marker=found.next_name)

    async def _show_container(self, call: Call, names: tuple[str, ...]) -> Reply:
        account = self._find(names[0])
        return Reply(value=container_to_arm(account, await self._container(account, names[2])))

    async def _put_container(self, call: Call, names: tuple[str, ...]) -> Reply:
        account, present = self._find(names[0]), await self._blobs.container(self._find(names[0]).number, names[2])
        metadata = _metadata(call.json())
        if present is not None and metadata is None:
            return Reply(value=container_to_arm(account, present))

        def rule(now: Container | None, stamp: Stamp) -> Container:
            if now is not None:
                return rules.describe_container(now, stamp, NO_CONDITIONS, metadata=metadata)
            name = checked_container(names[2])
            return Container(stamp.number, account.number, name, stamp.etag, stamp.utc_ms, metadata or ())

        made = await _in_arm(partial(self._blobs.change_container, account.number, names[2], rule))
        assert made is not None, "the rule makes one"
        shown = container_to_arm(account, made)
        self._changed(call, account.name, f"container {made.name} {'updated' if present else 'created'}", None, shown)
        return Reply(200 if present else CREATED, shown)

    async def _delete_container(self, call: Call, names: tuple[str, ...]) -> Reply:
        account = self._find(names[0])
        present = await self._blobs.container(account.number, names[2])
        if present is None:
            return Reply(NO_CONTENT)
        await self._blobs.change_container(account.number, names[2], lambda now, stamp: None)
        before = container_to_arm(account, present)
        self._changed(call, account.name, f"container {present.name} deleted", before, None)
        return Reply()

    async def _container(self, account: Neighbour, name: str) -> Container:
        found = await self._blobs.container(account.number, name)
        if found is None:
            raise HubError(Code.NOT_FOUND, f"There is no container {name} in {account.name}")
        return found

    def _find(self, name: str) -> Neighbour:
        return self._accounts.find(ResourceKind.STORAGE, name)

    def _shown(self, account: Neighbour) -> dict[str, object]:
        return account_to_arm(account, self._server.endpoint(account))

    def _changed(self, call: Call, account: str, done: str, before: object, after: object) -> None:
        was, now = change_texts(before, after)
        detail = f"storage account {account}: {done}"
        self._journal.write(replace(change_of(call, account, detail), before=was, after=now))


async def _in_arm(change: Callable[[], Awaitable[Container | None]]) -> Container | None:
    """What the store refuses, as ARM says it."""
    try:
        return await change()
    except StorageError as error:
        code = Code.ARGUMENT_INVALID if error.storage_code is StorageCode.INVALID_RESOURCE_NAME else error.code
        raise HubError(code, error.message) from error


def _metadata(body: Json) -> tuple[tuple[str, str], ...] | None:
    properties = mapping(body.get("properties") or {}, "properties")
    if properties.get("metadata") is None:
        return None
    said = mapping(properties["metadata"], "properties.metadata")
    try:
        return metadata_of({f"{METADATA_PREFIX}{name}": text(each, f"metadata.{name}") for name, each in said.items()})
    except StorageError as error:
        raise HubError(Code.ARGUMENT_INVALID, error.message) from error


def _unavailable(reason: str, message: str) -> Reply:
    return Reply(value={"nameAvailable": False, "reason": reason, "message": message})
