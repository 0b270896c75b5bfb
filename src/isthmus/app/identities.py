"""Bearer tokens and the token authority, as the configuration has them."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from isthmus.access.access_tokens import Issuer, Keys, read_set
from isthmus.access.issuer_keys import PAGE_BYTES_MAX, IssuerKeys, IssuerPages
from isthmus.app.domain import Domain
from isthmus.app.issuer_pages import page_fetcher
from isthmus.base.clock import Clock
from isthmus.base.errors import ConfigurationError
from isthmus.config import Config, TrustedIssuer
from isthmus.resources.bearer_tokens import BearerTokens
from isthmus.resources.token_authority import issuer_at
from isthmus.servers.gateway.doors import HTTPS_PORT
from isthmus.servers.gateway.gate import Gate
from isthmus.servers.gateway.listener import Listeners
from isthmus.servers.gateway.metadata_door import Bound, MetadataDoors, MetadataPage
from isthmus.servers.gateway.places import Places
from isthmus.servers.gateway.token_door import TokenDoor


class TrustedIssuers:
    """The issuers elsewhere that are trusted by configuration; `close` them."""

    def __init__(self, settings: Sequence[TrustedIssuer], clock: Clock) -> None:
        """Raises ConfigurationError when keys or certificates in a file cannot be read."""
        self._fetched: list[IssuerKeys] = []
        self.issuers = tuple(self._issuer(each, clock) for each in settings)

    async def close(self) -> None:
        """Ends what is being fetched."""
        for keys in self._fetched:
            await keys.close()

    def _issuer(self, trusted: TrustedIssuer, clock: Clock) -> Issuer:
        if trusted.keys:
            return Issuer(trusted.issuer, partial(_same, _read_keys(trusted)), trusted.audiences)
        try:
            fetch = page_fetcher(trusted.ca)
        except OSError as error:
            message = f"The certificates to trust for {trusted.issuer} in {trusted.ca} cannot be read: {error}."
            raise ConfigurationError(message) from error
        keys = IssuerKeys(IssuerPages(trusted.issuer, trusted.document, trusted.key_set), fetch, clock)
        self._fetched.append(keys)
        return Issuer(trusted.issuer, keys.keys, trusted.audiences, keys.prepare, keys.trouble)


def bearer_tokens(domain: Domain, trusted: TrustedIssuers) -> BearerTokens:
    """The judge of bearer tokens."""
    return BearerTokens(domain.authority, domain.roles, domain.clock, trusted.issuers)


def token_door(config: Config, domain: Domain, gate: Gate) -> TokenDoor | None:
    """The authority's pages; None when none is switched on."""
    settings = config.authority
    if not settings.enabled and not settings.app_service:
        return None
    return TokenDoor(
        gate,
        domain.authority,
        domain.identities,
        domain.clock,
        oauth=settings.enabled,
        app_service=settings.app_service,
    )


def metadata_doors(config: Config, domain: Domain, gate: Gate, listeners: Listeners, places: Places) -> MetadataDoors:
    """The doors inside namespaces where tokens are given without a secret."""
    bound = [Bound(each.namespace, each.identity) for each in config.authority.metadata]
    return MetadataDoors(
        bound, listeners, places, lambda each: MetadataPage(each, gate, domain.authority, domain.identities)
    )


def name_issuer(config: Config, domain: Domain, https_port: Callable[[], int]) -> None:
    """Tells the authority its name, which has the port where that is not the usual one."""

    def named() -> str:
        host, port = domain.hubs.all()[0].host_name, https_port()
        return issuer_at(host if port == HTTPS_PORT else f"{host}:{port}")

    domain.authority.issuer_name = (lambda: config.authority.issuer) if config.authority.issuer else named


def _same(keys: Keys) -> Keys:
    return keys


def _read_keys(trusted: TrustedIssuer) -> Keys:
    try:
        with Path(trusted.keys).open("rb") as file:
            text = file.read(PAGE_BYTES_MAX)
        return read_set(msgspec.json.decode(text, type=dict[str, object]))
    except (OSError, ValueError, msgspec.DecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        message = f"The keys of {trusted.issuer} in {trusted.keys} cannot be read: {reason}."
        raise ConfigurationError(message) from error
