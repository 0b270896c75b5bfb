"""The link door of a server, made of its configuration, its certificates and the domain."""

import hashlib
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from isthmus.access.connector_authority import ConnectorAuthority, IssuedCertificate
from isthmus.app.domain import Domain
from isthmus.app.gateway import Gateway
from isthmus.app.stores import Stores
from isthmus.base.places import CA_CERTIFICATE
from isthmus.config import Config
from isthmus.names.serve import is_inside
from isthmus.names.setup import NamesSetup, encode_names_setup
from isthmus.network.virtual_networks import PresenceKind
from isthmus.servers.gateway.certificates import Certificates
from isthmus.servers.gateway.doors import Doors
from isthmus.servers.gateway.link_certifying import Issuing
from isthmus.servers.gateway.link_door import Inside, LinkDoor, LinkSettings, LinkTrust
from isthmus.servers.gateway.listener import Listeners
from isthmus.servers.management.connectors import LinkFace


def link_door(
    config: Config,
    stores: Stores,
    domain: Domain,
    gateway: Gateway,
    *,
    certificates: Certificates,
    doors: Doors,
    listeners: Listeners,
) -> LinkDoor:
    """Makes the door, and has it told of every change; it does not listen yet. Raises `ConfigurationError`."""
    folder = (config.data_folder / CA_CERTIFICATE).parent
    authority = ConnectorAuthority.load_or_create(folder, stores.clock, stores.sealed.sealer)
    hours = config.link.certificate_hours

    def issue(csr: str, name: str, link_id: int) -> IssuedCertificate:
        return authority.issue(csr, name, link_id, hours)

    tls_name = domain.hubs.all()[0].host_name
    door = LinkDoor(
        LinkSettings(config.link.bind or config.bind, config.link_port, config.link.allow, config.link.spares),
        LinkTrust(
            certificates.link_contexts(tls_name, authority.trust_path),
            Issuing(issue, certificates.ca_path.read_text()),
        ),
        Inside(
            certificates.contexts,
            lambda: doors.ports,
            {plane: setting.make_handler for plane, setting in gateway.planes.items()},
        ),
        listeners=listeners,
        connectors=domain.connectors,
        endpoints=domain.endpoints,
        journal=domain.journal,
        clock=stores.clock,
        names_of=lambda network: _names_of(config, domain, network),
    )
    domain.connectors.on_change(door.connector_changed)
    return door


def link_face(config: Config, domain: Domain, door: LinkDoor, certificates: Certificates) -> LinkFace:
    """The door as the owner's calls see it, and as tokens describe it."""
    authority = x509.load_pem_x509_certificate(certificates.ca_path.read_bytes())
    tls_name = domain.hubs.all()[0].host_name
    return LinkFace(
        open=door.open,
        shown=door.shown,
        hubs=config.link.addresses or _addresses(config, tls_name),
        tls_name=tls_name,
        ca_sha256=hashlib.sha256(authority.public_bytes(Encoding.DER)).hexdigest(),
    )


def _names_of(config: Config, domain: Domain, network: str) -> dict[str, object]:
    """The name service of a connector's network, at its endpoints' addresses there; empty when names are off."""
    if not config.names.port:
        return {}
    endpoints = (each for each in domain.endpoints.all() if each.place.startswith(f"{PresenceKind.CONNECTOR}:"))
    own = [each.address for each in endpoints if each.door.network.lower() == network.lower()]
    view = domain.names.names(network).view
    listeners = tuple(address for address in own if is_inside(address))
    return encode_names_setup(NamesSetup(view, listeners, config.names.forward, config.names.port))


def _addresses(config: Config, host_name: str) -> tuple[str, ...]:
    """The host name, and behind it the bound addresses, for a network whose names do not tell it."""
    bound = [address for address in config.link.bind or config.bind if not ipaddress.ip_address(address).is_unspecified]
    hosts = dict.fromkeys([host_name, *bound])
    return tuple(f"[{host}]:{config.link_port}" if ":" in host else f"{host}:{config.link_port}" for host in hosts)
