"""SAS tokens made as the documentation tells users to make them, for clients that have no SDK."""

import base64
import hashlib
import hmac
import time
from urllib.parse import quote, quote_plus


def sas_token(resource: str, key: str, policy: str = "", seconds: int = 3600) -> str:
    """A token for `{host}/devices/{id}` by a device's key, or for `{host}` by a policy's."""
    expiry = int(time.time()) + seconds
    encoded = quote_plus(resource)
    digest = hmac.new(base64.b64decode(key), f"{encoded}\n{expiry}".encode(), hashlib.sha256).digest()
    token = f"SharedAccessSignature sr={encoded}&sig={quote(base64.b64encode(digest), safe='')}&se={expiry}"
    return f"{token}&skn={policy}" if policy else token
