"""The keys of a storage account: what they are called, and whether somebody who came by one may go on. Pure."""

from isthmus.access.principal import Principal, PrincipalKind
from isthmus.access.x509 import fingerprint
from isthmus.base.errors import Hop, Refusal
from isthmus.neighbours.neighbour import Neighbour

KEY_NAMES = ("key1", "key2")
"""What an account's keys are called ("Storage Accounts - List Keys")."""


def key_fingerprints(account: Neighbour) -> dict[str, object]:
    """What the journal may know of an account's keys."""
    return {name: fingerprint(key) for name, key in zip(KEY_NAMES, account.account_keys, strict=True)}


def keys_switched_off(account: Neighbour, principal: Principal) -> Refusal | None:
    """Why no key is taken; None when keys are."""
    if account.local_auth.policies:
        return None
    remedy = f"isthmus storage account update -n {account.name} --allow-shared-key-access true"
    value = f"allowSharedKeyAccess is false, {principal.label} of {account.name} came with a key"
    return Refusal(Hop.AUTHENTICATION, "auth.local-auth", value, f"come with a bearer token; or {remedy}")


def account_key_lost(account: Neighbour, principal: Principal) -> Refusal | None:
    """Why somebody who came by a key of the account, or by what it signed, may not go on; None when he may."""
    if principal.kind is not PrincipalKind.ACCOUNT:
        return None
    if principal.key_fingerprint not in {fingerprint(key) for key in account.account_keys}:
        remedy = f"use the present key: isthmus storage account keys list -n {account.name}"
        return Refusal(Hop.AUTHENTICATION, "auth.signature", f"{principal.name} of {account.name} was renewed", remedy)
    return keys_switched_off(account, principal)
