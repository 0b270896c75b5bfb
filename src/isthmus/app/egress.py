"""The way out: what holds for everything that leaves the hubs of this server, in its own process and in workers."""

from collections.abc import Callable, Mapping

from isthmus.app.domain import Domain
from isthmus.base.errors import HubError
from isthmus.base.ids import HubId
from isthmus.base.places import CA_CERTIFICATE
from isthmus.config import Config
from isthmus.egress.judged import JudgedEgress, system_lookup
from isthmus.egress.messages import Settings
from isthmus.routing.egress_policy import Hosted, OutboundRules, Reachable
from isthmus.routing.sink import FailureKind, SinkFailure
from isthmus.servers.gateway.doors import HTTPS_PORT
from isthmus.servers.gateway.plane import Plane

AMQP_PORT = 5671
"""Where clients of namespaces connect (IANA, `amqps`)."""

LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where a server that is bound to every address reaches itself."""

Ports = Callable[[], Mapping[Plane, int]]


def hub_egress(config: Config, domain: Domain, ports: Ports) -> JudgedEgress:
    """What this process' own clients of targets use."""

    async def token(hub: HubId, identity: str, scope: str) -> tuple[str, int]:
        try:
            return await domain.authority.token(hub, identity, scope)
        except HubError as error:
            raise SinkFailure(FailureKind.IDENTITY, error.message, error.code.wire_name) from error

    def rules_of(number: HubId) -> OutboundRules:
        hub = domain.hubs.by_number(number)
        return OutboundRules() if hub is None else OutboundRules(hub.restrict_outbound, hub.allowed_fqdns)

    return JudgedEgress(lambda: egress_settings(config, domain, ports), rules_of, token, system_lookup)


def egress_settings(config: Config, domain: Domain, ports: Ports) -> Settings:
    """What the configuration says, and where the neighbours are that are served here."""
    settings = config.egress
    return Settings(
        ca_file=str((config.data_folder / CA_CERTIFICATE).absolute()),
        hosted=_hosted(config, domain, ports()),
        reachable=Reachable(settings.addresses),
        dead_after_ms=int(settings.dead_after_seconds * 1000),
        bury_dead=settings.when_dead == "dead-letter",
        credentials=settings.credentials,
    )


def _hosted(config: Config, domain: Domain, ports: Mapping[Plane, int]) -> dict[str, Hosted]:
    """Everything that is served here, by all its names, at the public door."""
    bound = config.bind[0]
    place = Hosted(LOOPBACK.get(bound, bound), {HTTPS_PORT: ports[Plane.HTTPS], AMQP_PORT: ports[Plane.AMQP]})
    return {host: place for each in domain.directory.all() for host in each.hosts}
