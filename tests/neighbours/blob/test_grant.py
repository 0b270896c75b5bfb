"""Who may do what with an account: each operation, by each role and SAS; a difference is meant or it is a hole."""

import os
from pathlib import Path

import pytest

from isthmus.access.principal import Principal, PrincipalKind
from isthmus.access.role_assignments import RoleAssignment
from isthmus.access.role_definitions import find_role
from isthmus.neighbours.blob.errors import StorageCode
from isthmus.neighbours.blob.grant import Grant, scope_of
from isthmus.neighbours.blob.names import Target
from isthmus.neighbours.blob.routes import NEEDS, Operation, Scope
from isthmus.neighbours.blob.sas import SasKind, StorageSas
from neighbours.blob.blobs import refused_as

GOLDEN = Path(__file__).parents[2] / "golden" / "blob_operations.txt"
WRITE_VARIABLE = "ISTHMUS_WRITE_GOLDEN"
ACCOUNT = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/acct"
BLOB = Target("box", "x")
ROLES = ("Storage Blob Data Reader", "Storage Blob Data Contributor", "Storage Blob Data Owner", "Reader", "Owner")


def identity(role: str, scope: str = ACCOUNT) -> Principal:
    found = find_role(role)
    assert found is not None
    held = RoleAssignment("n", "oid", found.guid, scope)
    return Principal(PrincipalKind.IDENTITY, "oid", frozenset(), "hub", "jwt", assignments=(held,), resource_id=ACCOUNT)


HOLDER = Principal(PrincipalKind.ACCOUNT, "key1", frozenset(), "account", "sas", resource_id=ACCOUNT)


def by_sas(letters: str, kind: SasKind = SasKind.ACCOUNT, **fields: str) -> Grant:
    said = {"ss": "b", "srt": "sco"} if kind is SasKind.ACCOUNT else {"sr": "b"}
    sas = StorageSas(kind, {**said, "sp": letters, **fields}, b"")
    return Grant(HOLDER, sas, signed=Target() if kind is SasKind.ACCOUNT else BLOB)


def target(operation: Operation) -> Target:
    wanted = {Scope.SERVICE: Target(), Scope.CONTAINER: Target("box"), Scope.OBJECT: BLOB}
    return wanted[NEEDS[operation].scope]


def mark(grant: Grant, operation: Operation) -> str:
    if refused_as(lambda: grant.allow(operation, target(operation))) is not None:
        return "-"
    return "yes" if grant.allow(operation, target(operation)) else "new"


def test_the_matrix_is_what_it_was() -> None:
    columns = {"key": Grant(HOLDER), **{role: Grant(identity(role), by_roles=True) for role in ROLES}}
    columns |= {f"sp={letter}": by_sas(letter) for letter in "rwdlac"}
    columns |= {f"sr=c {letters}": by_sas(letters, SasKind.SERVICE, sr="c") for letters in ("rwdlac",)}
    columns |= {f"sr=b {letters}": by_sas(letters, SasKind.SERVICE) for letters in ("rwdlac",)}
    width = max(len(operation.name) for operation in Operation)
    rows = ["  ".join((" " * width, *columns)).rstrip()]
    for operation in Operation:
        marks = (mark(grant, operation).ljust(len(name)) for name, grant in columns.items())
        rows.append("  ".join((operation.name.lower().ljust(width), *marks)).rstrip())
    matrix = "\n".join(rows) + "\n"
    if os.environ.get(WRITE_VARIABLE):
        GOLDEN.write_text(matrix)
    assert matrix == GOLDEN.read_text(), f"is that meant? then write it anew with {WRITE_VARIABLE}=1"


def test_every_operation_says_what_it_needs() -> None:
    assert set(NEEDS) == set(Operation)


def test_a_role_at_another_container_is_none() -> None:
    grant = Grant(identity(ROLES[1], scope_of(ACCOUNT, Target("box"))), by_roles=True)
    assert grant.allow(Operation.PUT_BLOCK_BLOB, BLOB)
    assert (
        refused_as(lambda: grant.allow(Operation.PUT_BLOCK_BLOB, Target("other", "x")))
        is StorageCode.PERMISSION_MISMATCH
    )
    assert refused_as(lambda: grant.allow(Operation.LIST_CONTAINERS, Target())) is StorageCode.PERMISSION_MISMATCH


@pytest.mark.parametrize(
    ("kind", "sr", "asked", "expected"),
    [
        (SasKind.SERVICE, "b", Target("box", "other"), StorageCode.AUTHORIZATION_FAILURE),
        (SasKind.SERVICE, "c", Target("other", "x"), StorageCode.AUTHORIZATION_FAILURE),
        (SasKind.SERVICE, "c", Target("box", "other"), None),
        (SasKind.ACCOUNT, "", Target("other", "x"), None),
    ],
)
def test_a_sas_reaches_what_it_was_signed_for(
    kind: SasKind, sr: str, asked: Target, expected: StorageCode | None
) -> None:
    assert refused_as(lambda: by_sas("r", kind, sr=sr).allow(Operation.GET_BLOB, asked)) is expected


def test_a_user_delegation_sas_gives_no_more_than_the_roles() -> None:
    sas = StorageSas(SasKind.DELEGATION, {"sr": "b", "sp": "rw"}, b"")
    reader = Grant(identity(ROLES[0]), sas, by_roles=True, signed=BLOB)
    assert refused_as(lambda: reader.allow(Operation.GET_BLOB, BLOB)) is None
    assert refused_as(lambda: reader.allow(Operation.PUT_BLOCK_BLOB, BLOB)) is StorageCode.PERMISSION_MISMATCH
    writer = Grant(identity(ROLES[1]), sas, by_roles=True, signed=BLOB)
    assert writer.allow(Operation.PUT_BLOCK_BLOB, BLOB)
    assert refused_as(lambda: writer.allow(Operation.DELETE_BLOB, BLOB)) is StorageCode.PERMISSION_MISMATCH
