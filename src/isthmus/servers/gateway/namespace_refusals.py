"""What hosted namespaces of both kinds say when they refuse: the texts of the real services, which say more than a hub.

A refusal by the network, a missing right or role, and a credential that proves nobody have one code and three texts, as
Event Hubs and Service Bus have them ("Troubleshoot connectivity issues", "Unauthorized access"). The rule behind it is
the owner's to read in the journal, as always.
"""

from dataclasses import replace
from typing import Final

from isthmus.access.principal import Right
from isthmus.access.refusals import denied
from isthmus.base.errors import HubError
from isthmus.resources.guarded import Guarded

IP_PREVENTED: Final = "Ip has been prevented to connect to the endpoint."

IP_PREVENTED_LONG: Final = (
    f"{IP_PREVENTED} For more information see: Virtual Network service endpoints: "
    "Event Hubs: https://go.microsoft.com/fwlink/?linkid=2044192 "
    "Service Bus: https://go.microsoft.com/fwlink/?linkid=2044235 IP Filters: "
    "Event Hubs: https://go.microsoft.com/fwlink/?linkid=2044428 "
    "Service Bus: https://go.microsoft.com/fwlink/?linkid=2044183"
)
"""The same as HTTPS has it."""

UNAUTHORIZED: Final = "Unauthorized"
"""What a hub says, whatever the reason."""

TOKEN_INVALID: Final = "InvalidSignature: The token has an invalid signature."
TOKEN_EXPIRED: Final = "ExpiredToken: The token is expired. Generate a new token and try again."
TOKEN_UNKNOWN: Final = "Unauthorized access. The claim is empty or token is invalid."


def token_refused(error: HubError) -> HubError:
    """The refusal of a credential or of the network in the words of the real services; any other stays as it is."""
    rule = error.refusal.rule if error.refusal is not None else ""
    if error.message != UNAUTHORIZED or not rule.startswith(("network.", "auth.")):
        return error
    return _said(error, IP_PREVENTED if rule.startswith("network.") else _TOKENS.get(rule, TOKEN_UNKNOWN))


def key_refused(error: HubError, namespace: Guarded) -> HubError:
    """A refused key, with the remedy that helps at a namespace."""
    name, command = namespace.name, f"isthmus {namespace.kind.command}"
    remedies = {
        "auth.signature": f"use the key in: isthmus connection-string --namespace {name}",
        "auth.unknown-policy": f"use a rule that there is: {command} authorization-rule list --namespace-name {name}",
        "auth.local-auth": (
            "come with a bearer token of an identity that has a role: isthmus role assignment create; "
            f"or {command} update -n {name} --disable-local-auth false"
        ),
    }
    if error.refusal is None or error.refusal.rule not in remedies:
        return error
    return denied(replace(error.refusal, remedy=remedies[error.refusal.rule]))


def link_refused(error: HubError, right: Right, resource: str) -> HubError:
    """The refusal of a link that asks for a right at a resource, `sb://{host}/{entity}`."""
    rule = error.refusal.rule if error.refusal is not None else ""
    if rule.startswith("network."):
        return _said(error, IP_PREVENTED)
    if not rule.startswith("auth."):
        return error
    claims = f"'{right.value}' claim(s) are required to perform this operation"
    return _said(error, f"Unauthorized access. {claims}. Resource: '{resource}'.")


def _said(error: HubError, message: str) -> HubError:
    return HubError(error.code, message, error.refusal)


_TOKENS: Final = {
    "auth.signature": TOKEN_INVALID,
    "auth.bearer-signature": TOKEN_INVALID,
    "auth.expired": TOKEN_EXPIRED,
    "auth.bearer-expired": TOKEN_EXPIRED,
}
