"""Which shared access keys a resource takes now: the switches of local authentication, and what a change takes away.

A switch says no to keys as such: a token that is signed with a good one is refused all the same, with a rule of its own
for the journal and the answer of a wrong key for the stranger. Certificates and bearer tokens are not concerned. Pure.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from shlex import quote

from isthmus.access.principal import Principal, PrincipalKind, Right, SharedAccessPolicy
from isthmus.access.x509 import fingerprint
from isthmus.base.errors import Hop, Refusal

HUB_GROUP = "iot hub"
"""The group of commands for hubs."""

SAS = "sas"
"""`Principal.type` of whoever proved himself with a key."""


@dataclass(frozen=True, slots=True)
class LocalAuth:
    """Whose keys are taken, each by its switch.

    Microsoft.Devices/IotHubs has the switches the other way round: `disableLocalAuth` for shared access policies,
    `disableDeviceSAS` for devices, edge devices among them, and `disableModuleSAS` for modules.
    """

    policies: bool = True
    devices: bool = True
    modules: bool = True

    def takes(self, kind: PrincipalKind) -> bool:
        """True when keys of such principals are taken."""
        taken = {
            PrincipalKind.POLICY: self.policies,
            PrincipalKind.DEVICE: self.devices,
            PrincipalKind.MODULE: self.modules,
        }
        return taken.get(kind, True)


ALL_KEYS = LocalAuth()
"""What holds where nobody has said anything."""


def switched_off(local_auth: LocalAuth, kind: PrincipalKind, name: str, group: str = HUB_GROUP) -> Refusal | None:
    """Why a good key is not taken, rule `auth.local-auth`, `auth.device-sas` or `auth.module-sas`; None when it is.

    `group` is the command line's group of commands for the resource.
    """
    if local_auth.takes(kind):
        return None
    rule, switch, instead = _SWITCHES[kind]
    device, _, module = name.partition("/")
    flags = f"-d {quote(device)}" + (f" -m {quote(module)}" if module else "")
    back = f"isthmus {group} update --set properties.{switch}=false"
    value = f"{switch} is true, {kind.value}:{name} came with a key"
    return Refusal(Hop.AUTHENTICATION, rule, value, f"{instead.format(flags=flags)}; or {back}")


def key_lost(
    principal: Principal, policies: Iterable[SharedAccessPolicy], local_auth: LocalAuth, group: str = HUB_GROUP
) -> Refusal | None:
    """Why somebody who came by a key may not go on, as policies and switches are now; None when he may.

    `group` is as in `switched_off`.
    A policy must be there, have the key that was used and every right that came of it. The key of a device or module
    is judged where its identity changes.
    """
    if principal.type != SAS:
        return None
    if principal.kind is PrincipalKind.POLICY:
        refusal = _policy_lost(principal, policies)
        if refusal is not None:
            return refusal
    return switched_off(local_auth, principal.kind, principal.name, group)


def _policy_lost(principal: Principal, policies: Iterable[SharedAccessPolicy]) -> Refusal | None:
    known = {policy.name: policy for policy in policies}
    policy = known.get(principal.name)
    if policy is None:
        return policy_gone(principal.name, known)
    if principal.key_fingerprint not in {fingerprint(key) for key in policy.keys if key}:
        return key_replaced(policy.name)
    lost = [right for right in Right if right in principal.rights - policy.rights]
    return right_lost(policy.name, lost[0]) if lost else None


def key_replaced(name: str) -> Refusal:
    """The key of the policy of that name is another one now."""
    remedy = f"use the present key: isthmus connection-string --policy {quote(name)}"
    return Refusal(Hop.AUTHENTICATION, "auth.signature", f"the key of {name} was replaced", remedy)


def policy_gone(name: str, known: Iterable[str]) -> Refusal:
    """The policy of that name is not there any more."""
    there = ", ".join(sorted(known)) or "none"
    remedy = f"use one of the policies {there}, or make one of that name"
    return Refusal(Hop.AUTHENTICATION, "auth.unknown-policy", f"the policy {name} was deleted", remedy)


def right_lost(name: str, right: Right) -> Refusal:
    """The policy of that name has not the right any more."""
    value = f"{right.value} was taken from policy:{name}"
    return Refusal(Hop.AUTHORIZATION, "auth.right", value, f"use a policy that has {right.value}")


_SWITCHES = {
    PrincipalKind.POLICY: (
        "auth.local-auth",
        "disableLocalAuth",
        "come with a bearer token of an identity that has a role: isthmus role assignment create",
    ),
    PrincipalKind.DEVICE: (
        "auth.device-sas",
        "disableDeviceSAS",
        "use a client certificate: isthmus device-identity update {flags} --auth-method x509_thumbprint",
    ),
    PrincipalKind.MODULE: (
        "auth.module-sas",
        "disableModuleSAS",
        "use a client certificate: isthmus module-identity update {flags} --set authentication.type=selfSigned",
    ),
}
