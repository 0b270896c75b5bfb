"""What a device's message says about its sender, and how large it may be: the same for every protocol; pure."""

import json

from isthmus.access.principal import Principal
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.ids import DeviceRef
from isthmus.base.limits import TELEMETRY_BYTES_MAX
from isthmus.servers.gateway.gate import Admitted
from isthmus.telemetry.message import Envelope


def base_envelope(ref: DeviceRef, admitted: Admitted, model_id: str = "") -> Envelope:
    """What the admission, never the message, says about who sends."""
    return Envelope(
        device_id=ref.device_id,
        module_id=ref.module_id,
        auth_method=auth_method(admitted.principal),
        generation_id=admitted.identity.generation_id if admitted.identity is not None else "",
        door=admitted.door.label,
        principal=admitted.principal.label,
        model_id=model_id,
    )


def auth_method(principal: Principal) -> str:
    """The JSON text of `iothub-connection-auth-method` ("Create and read IoT Hub messages")."""
    words = {"scope": principal.scope, "type": principal.type, "issuer": "iothub", "acceptingIpFilterRule": None}
    return json.dumps(words, separators=(",", ":"))


def check_size(size: int) -> None:
    """Raises `HubError` with the refusal `limit.message-size` when a device-to-cloud message is too large."""
    if size > TELEMETRY_BYTES_MAX:
        remedy = f"Send at most {TELEMETRY_BYTES_MAX} bytes, properties included; split what is larger."
        refusal = Refusal(Hop.LIMIT, "limit.message-size", str(size), remedy)
        raise HubError(Code.MESSAGE_TOO_LARGE, "The message is too large", refusal)
