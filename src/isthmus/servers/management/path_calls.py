"""The management call that walks paths: `POST /check/path/{hub}`.

The body is `{"privateEndpoint", "vnetName", "public", "approvedOnly", "planes"}`, of which every member may be
left out: then every private endpoint of the hub is walked to, on every plane. The answer is a list of paths, each
with its hops. Nothing that anybody can see is changed.
"""

from dataclasses import dataclass
from typing import Annotated

import msgspec

from isthmus.base.errors import NOT_JSON, Code, HubError
from isthmus.paths.errand import Way
from isthmus.resources.hub import Hub
from isthmus.resources.hubs import Hubs
from isthmus.resources.private_endpoint import PrivateEndpoint
from isthmus.servers.gateway.proving import ENDPOINTS_PER_ROUND, Prover, Target, target_of
from isthmus.servers.management.request import Call, Reply


class PathsAsked(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Which paths are to be walked; empty members leave the choice open."""

    private_endpoint: str = ""
    vnet_name: str = ""
    public: bool = False
    approved_only: bool = False
    planes: Annotated[tuple[Way, ...], msgspec.Meta(max_length=16)] = ()


@dataclass(frozen=True, slots=True)
class PathCalls:
    """Answers calls about paths; on the event loop only. `prover` is None where no server runs."""

    hubs: Hubs
    prover: Prover | None = None

    async def answer(self, call: Call) -> Reply:
        """The paths, walked; raises HubError."""
        if call.path[:2] != ("check", "path") or len(call.path) != 3 or call.method != "POST":
            raise HubError(Code.NOT_FOUND, f"There is nothing at {call.method} /{'/'.join(call.path)}")
        if self.prover is None:
            raise HubError(Code.INVALID_OPERATION, "Paths lead to a server that runs: isthmus up")
        try:
            asked = msgspec.json.decode(call.body or b"{}", type=PathsAsked)
        except NOT_JSON as error:
            raise HubError(Code.ARGUMENT_INVALID, f"The body is not valid: {error}") from error
        hub = self.hubs.require(call.path[2])
        targets = _targets(self.prover, hub, asked)
        if len(targets) > ENDPOINTS_PER_ROUND:
            message = f"{len(targets)} endpoints are more than are walked to at once: name one, or a network"
            raise HubError(Code.ARGUMENT_INVALID, message)
        ways = tuple(dict.fromkeys(asked.planes)) or tuple(Way)
        return Reply(value=[each.to_json() for each in await self.prover.prove(hub, targets, ways)])


def _targets(prover: Prover, hub: Hub, asked: PathsAsked) -> list[Target]:
    if asked.public:
        return prover.public()
    known = prover.private(hub)
    found = [each for each in known if _is_asked(each, asked)]
    if not found and asked.private_endpoint:
        raise HubError(Code.NOT_FOUND, f"No private endpoint {asked.private_endpoint} leads to {hub.name}")
    if not found and asked.vnet_name:
        raise HubError(Code.NOT_FOUND, f"No private endpoint of {hub.name} is in the network {asked.vnet_name}")
    return [target_of(each) for each in found if prover.is_approved(each) or not asked.approved_only]


def _is_asked(endpoint: PrivateEndpoint, asked: PathsAsked) -> bool:
    named, network = asked.private_endpoint.lower(), asked.vnet_name.lower()
    return named in ("", endpoint.name.lower()) and network in ("", endpoint.door.network.lower())
