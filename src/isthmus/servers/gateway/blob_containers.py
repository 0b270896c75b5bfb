"""Operations of the Blob service on the account and on containers ("Operations on containers")."""

from collections.abc import Awaitable, Callable, Mapping

from isthmus.base.ids import Ids
from isthmus.base.places import TENANT
from isthmus.neighbours.blob import rules
from isthmus.neighbours.blob.blob import Container, Metadata, Stamp, StoredPolicy
from isthmus.neighbours.blob.errors import StorageCode, StorageError, header_error
from isthmus.neighbours.blob.forms import (
    FORM_BYTES_MAX,
    key_document,
    parse_key_info,
    parse_policies,
    policies_document,
    properties_document,
)
from isthmus.neighbours.blob.headers import container_headers, metadata_of, written_headers
from isthmus.neighbours.blob.listing import blobs_document, containers_document, page_of
from isthmus.neighbours.blob.ports import BlobStore
from isthmus.neighbours.blob.routes import Operation
from isthmus.neighbours.blob.rules import require_container
from isthmus.neighbours.blob.sas import DelegationKey
from isthmus.servers.gateway.blob_message import BlobCall, BlobReply, xml_reply

Handlers = Mapping[Operation, Callable[[BlobCall], Awaitable[BlobReply]]]


class ContainerOperations:
    """Answers what is asked of accounts and containers."""

    def __init__(self, store: BlobStore, ids: Ids) -> None:
        self._store = store
        self._ids = ids
        self.handlers: Handlers = {
            Operation.LIST_CONTAINERS: self._list_containers,
            Operation.GET_SERVICE_PROPERTIES: self._get_service_properties,
            Operation.GET_ACCOUNT_INFORMATION: self._get_account_information,
            Operation.GET_USER_DELEGATION_KEY: self._get_user_delegation_key,
            Operation.CREATE_CONTAINER: self._create,
            Operation.DELETE_CONTAINER: self._delete,
            Operation.GET_CONTAINER: self._get,
            Operation.SET_CONTAINER_METADATA: self._set_metadata,
            Operation.GET_CONTAINER_ACL: self._get_acl,
            Operation.SET_CONTAINER_ACL: self._set_acl,
            Operation.LIST_BLOBS: self._list_blobs,
        }

    async def _list_containers(self, call: BlobCall) -> BlobReply:
        page = page_of(call.query)
        found = await self._store.containers(call.let.account.number, page)
        return xml_reply(containers_document(call.endpoint, page, found))

    async def _get_service_properties(self, call: BlobCall) -> BlobReply:
        return xml_reply(properties_document())

    async def _get_account_information(self, call: BlobCall) -> BlobReply:
        headers = {"x-ms-sku-name": "Standard_LRS", "x-ms-account-kind": "StorageV2", "x-ms-is-hns-enabled": "false"}
        return BlobReply(200, headers)

    async def _get_user_delegation_key(self, call: BlobCall) -> BlobReply:
        body = await call.body.document(FORM_BYTES_MAX)
        start, expiry, delegated = parse_key_info(body, call.utc_ms)
        principal = call.let.grant.principal
        key = DelegationKey(principal.name, TENANT, start, expiry, "b", call.version, delegated)
        secret = await self._store.secret(call.let.account.number)
        return xml_reply(key_document(key, key.value(secret)))

    async def _create(self, call: BlobCall) -> BlobReply:
        if call.headers.get("x-ms-blob-public-access"):
            raise StorageError(StorageCode.PUBLIC_ACCESS)
        account, name, metadata = call.let.account.number, call.let.target.container, metadata_of(call.said)

        def rule(present: Container | None, stamp: Stamp) -> Container:
            draft = Container(stamp.number, account, name, stamp.etag, stamp.utc_ms, metadata)
            return rules.create_container(present, draft)

        made = require_container(await self._store.change_container(account, name, rule))
        return BlobReply(201, dict(written_headers(made)))

    async def _delete(self, call: BlobCall) -> BlobReply:
        _require_no_lease(call)

        def rule(present: Container | None, stamp: Stamp) -> None:
            rules.delete_container(present, call.conditions)

        await self._store.change_container(call.let.account.number, call.let.target.container, rule)
        return BlobReply(202)

    async def _get(self, call: BlobCall) -> BlobReply:
        _require_no_lease(call)
        return BlobReply(200, dict(container_headers(await self._container(call))))

    async def _set_metadata(self, call: BlobCall) -> BlobReply:
        return await self._described(call, metadata=metadata_of(call.said))

    async def _get_acl(self, call: BlobCall) -> BlobReply:
        container = await self._container(call)
        return xml_reply(policies_document(container.policies), dict(written_headers(container)))

    async def _set_acl(self, call: BlobCall) -> BlobReply:
        if call.headers.get("x-ms-blob-public-access"):
            raise StorageError(StorageCode.PUBLIC_ACCESS)
        policies = parse_policies(await call.body.document(FORM_BYTES_MAX))
        return await self._described(call, policies=policies)

    async def _list_blobs(self, call: BlobCall) -> BlobReply:
        page = page_of(call.query)
        name = call.let.target.container
        found = await self._store.blobs(call.let.account.number, name, page)
        return xml_reply(blobs_document(call.endpoint, name, page, found))

    async def _described(
        self, call: BlobCall, *, metadata: Metadata | None = None, policies: tuple[StoredPolicy, ...] | None = None
    ) -> BlobReply:
        _require_no_lease(call)

        def rule(present: Container | None, stamp: Stamp) -> Container:
            return rules.describe_container(present, stamp, call.conditions, metadata=metadata, policies=policies)

        account, name = call.let.account.number, call.let.target.container
        changed = require_container(await self._store.change_container(account, name, rule))
        return BlobReply(200, dict(written_headers(changed)))

    async def _container(self, call: BlobCall) -> Container:
        return require_container(await self._store.container(call.let.account.number, call.let.target.container))


def _require_no_lease(call: BlobCall) -> None:
    """There are no leases here: who shows one is told that it is not there."""
    lease = call.headers.get("x-ms-lease-id", "")
    if lease and len(lease) > 64:
        raise header_error("x-ms-lease-id", lease)
    if lease:
        raise StorageError(StorageCode.LEASE_NOT_PRESENT_CONTAINER)
