"""The way out as tests of sinks lay it: names that lead to loopback, tokens that Azurite takes."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from isthmus.base.clock import SystemClock
from isthmus.base.ids import HubId
from isthmus.routing.sink import Destination, FailureKind, HubName, SinkFailure
from isthmus.sinks.clients import WayOut

HUB = HubName(HubId(1), "plant")
OBJECT_ID = "11111111-2222-3333-4444-555555555555"
TENANT = "00000000-0000-0000-0000-000000000000"
TOKEN_SECONDS = 3_600


@dataclass
class LaidEgress:
    """`names` says where hosts lead; what is not there does not resolve. `asked` has every question."""

    ca_file: Path
    names: dict[str, Sequence[Destination]] = field(default_factory=dict)
    has_identity: bool = True
    asked: list[tuple[str, int]] = field(default_factory=list)
    scopes: list[str] = field(default_factory=list)

    async def token(self, hub: HubId, identity: str, scope: str) -> tuple[str, int]:
        self.scopes.append(scope)
        if not self.has_identity:
            raise SinkFailure(FailureKind.IDENTITY, "The hub has no identity of its own", "InvalidOperation")
        now_s = SystemClock().utc_ms() // 1000
        expires_s = now_s + TOKEN_SECONDS
        claims = {
            "aud": scope.removesuffix("/.default"),
            "iss": f"https://sts.windows.net/{TENANT}/",
            "iat": now_s,
            "nbf": now_s - 60,
            "exp": expires_s,
            "oid": OBJECT_ID,
            "tid": TENANT,
        }
        return ".".join((_part({"alg": "RS256", "typ": "JWT"}), _part(claims), "c2lnbmF0dXJl")), expires_s

    async def resolve(self, hub: HubId, host: str, port: int) -> Sequence[Destination]:
        self.asked.append((host, port))
        if host not in self.names:
            raise SinkFailure(FailureKind.NAME, f"{host} does not resolve", "NXDOMAIN")
        return self.names[host]

    @property
    def way(self) -> WayOut:
        return WayOut(HUB.number, self)


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
