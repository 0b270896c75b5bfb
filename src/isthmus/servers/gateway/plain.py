"""User names of SASL PLAIN, `{policy}@sas.root.{hub}` and `{device}[/{module}]@sas.{hub}` (IoT Hub AMQP guide).

`{hub}` is the first label of the hub's host name; some clients write the whole host name.
"""

from dataclasses import dataclass, replace

from isthmus.access.refusals import unauthorized
from isthmus.access.sas import SasToken

_POLICY = "sas.root."
_DEVICE = "sas."


@dataclass(frozen=True, slots=True)
class PlainUser:
    """Whom a PLAIN user name means: a policy, or a device or module; `hub` is a hub's name or host name."""

    hub: str
    policy: str = ""
    device_id: str = ""
    module_id: str = ""


def parse_plain_user(text: str) -> PlainUser | None:
    """The user of a PLAIN user name; None when it has neither form. Ids may hold an `@` themselves."""
    name, separator, place = text.rpartition("@")
    kind = _POLICY if place.startswith(_POLICY) else _DEVICE
    hub = place.removeprefix(kind)
    if not separator or not name or not hub or hub == place:
        return None
    if kind == _POLICY:
        return PlainUser(hub, policy=name)
    device_id, _, module_id = name.partition("/")
    return PlainUser(hub, device_id=device_id, module_id=module_id)


def of_policy(token: SasToken, policy: str) -> SasToken:
    """The token as one of the policy that the user name means; it may leave that out, but not name another one.

    Raises HubError IotHubUnauthorizedAccess.
    """
    if token.policy not in ("", policy):
        raise unauthorized(
            "auth.unknown-policy", f"{policy} with a token of {token.policy}", "use the policy of the token"
        )
    return replace(token, policy=policy)
