"""What somebody who has proved himself may do with an account's blobs: by its key, by a SAS, by his roles, or by both.

Pure. A user delegation SAS gives what its letters say and the roles of whose key it is both allow, no more.
"""

from dataclasses import dataclass

from isthmus.access.principal import Principal
from isthmus.access.role_assignments import Verdict, judge, refusal_of
from isthmus.base.errors import Hop, Refusal
from isthmus.neighbours.blob.errors import StorageCode, StorageError
from isthmus.neighbours.blob.names import Target
from isthmus.neighbours.blob.routes import BLOBS, CREATE_ONLY, NEEDS, Need, Operation, Scope
from isthmus.neighbours.blob.sas import SasKind, StorageSas, failed

ACCOUNT = Target()
"""What an account's signature is for: everything."""


@dataclass(frozen=True, slots=True)
class Grant:
    """By what a request is authorized: a SAS, roles, both, or neither for who has the account's key.

    `signed` is what the SAS is for.
    """

    principal: Principal
    sas: StorageSas | None = None
    by_roles: bool = False
    signed: Target = ACCOUNT

    def allow(self, operation: Operation, target: Target) -> bool:
        """Raises StorageError when the operation is not granted; True when it may overwrite what is there."""
        need = NEEDS[operation]
        if operation is Operation.GET_USER_DELEGATION_KEY and not self.by_roles:
            raise failed("Only authentication scheme Bearer is supported", "auth.missing")
        may_overwrite = True
        if self.sas is not None:
            if not self.sas.reaches(target, self.signed):
                value = f"the SAS is for {self.signed.container}/{self.signed.blob}"
                raise _refused(StorageCode.AUTHORIZATION_FAILURE, "storage.sas-scope", value)
            may_overwrite = _by_sas(self.sas, need) or operation not in CREATE_ONLY
        if self.by_roles:
            may_overwrite &= self._by_roles(need, target) or operation not in CREATE_ONLY
        return may_overwrite

    def _by_roles(self, need: Need, target: Target) -> bool:
        if not need.actions:
            raise StorageError(StorageCode.PERMISSION_MISMATCH)
        scope = scope_of(self.principal.resource_id, target)
        verdicts = {action: self._judged(action, scope) for action in need.actions}
        allowed = next((action for action, verdict in verdicts.items() if verdict.allowed), "")
        if not allowed:
            action, label = need.actions[0], self.principal.label
            refusal = refusal_of(verdicts[action], label, action, scope, is_data=_is_data(action))
            raise StorageError(StorageCode.PERMISSION_MISMATCH, refusal=refusal)
        return not allowed.endswith("/add/action")

    def _judged(self, action: str, scope: str) -> Verdict:
        return judge(self.principal.assignments, self.principal.name, action, scope, is_data=_is_data(action))


def _is_data(action: str) -> bool:
    """True for actions on blobs; those on containers and the account are no data actions."""
    return action.startswith(f"{BLOBS}/")


def scope_of(resource_id: str, target: Target) -> str:
    """The ARM path at which roles are judged: the container's, or the account's."""
    return f"{resource_id}/blobServices/default/containers/{target.container}" if target.container else resource_id


def _by_sas(sas: StorageSas, need: Need) -> bool:
    """Raises StorageError when the SAS does not allow it; True when it lets its holder write what is there already."""
    if sas.kind is SasKind.ACCOUNT:
        if "b" not in sas.said("ss"):
            raise _refused(StorageCode.SERVICE_MISMATCH, "storage.sas-scope", f"ss={sas.said('ss')} has no b")
        if need.scope.value not in sas.said("srt"):
            value = f"srt={sas.said('srt')} has no {need.scope.value}"
            raise _refused(StorageCode.RESOURCE_TYPE_MISMATCH, "storage.sas-scope", value)
    elif not need.by_service_sas or (sas.said("sr") == "b" and need.scope is Scope.CONTAINER):
        value = f"a {sas.kind.value} SAS with sr={sas.said('sr')} does not reach so far"
        raise _refused(StorageCode.AUTHORIZATION_FAILURE, "storage.sas-scope", value)
    granted = set(sas.permission)
    if not need.letters or not granted & set(need.letters):
        value = f"sp={sas.permission or '-'}; one of {need.letters or 'none'} is needed"
        raise _refused(StorageCode.PERMISSION_MISMATCH, "storage.sas-permission", value)
    return "w" in granted


def _refused(code: StorageCode, rule: str, value: str) -> StorageError:
    return StorageError(code, refusal=Refusal(Hop.AUTHORIZATION, rule, value, "ask for a SAS that grants it"))
