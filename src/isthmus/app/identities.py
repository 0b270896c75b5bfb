"""Bearer tokens and the token authority, as the configuration has them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from isthmus.access.access_tokens import Issuer, Keys, read_set
from isthmus.app.domain import Domain
from isthmus.base.errors import ConfigurationError
from isthmus.config import Config, TrustedIssuer
from isthmus.resources.bearer_tokens import BearerTokens
from isthmus.resources.token_authority import issuer_at
from isthmus.servers.gateway.doors import HTTPS_PORT
from isthmus.servers.gateway.gate import Gate
from isthmus.servers.gateway.token_door import TokenDoor

KEY_SET_BYTES_MAX = 1024 * 1024
"""A key set of an issuer; the largest that are published have some dozens of kilobytes."""


def bearer_tokens(config: Config, domain: Domain) -> BearerTokens:
    """The judge of bearer tokens; raises ConfigurationError when the keys of a trusted issuer cannot be read."""
    trusted = [_issuer(each) for each in config.authority.trusted]
    return BearerTokens(domain.authority, domain.roles, domain.clock, trusted)


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


def name_issuer(config: Config, domain: Domain, https_port: Callable[[], int]) -> None:
    """Tells the authority its name, which has the port where that is not the usual one."""

    def named() -> str:
        host, port = domain.hubs.all()[0].host_name, https_port()
        return issuer_at(host if port == HTTPS_PORT else f"{host}:{port}")

    domain.authority.issuer_name = (lambda: config.authority.issuer) if config.authority.issuer else named


def _issuer(trusted: TrustedIssuer) -> Issuer:
    return Issuer(trusted.issuer, partial(_same, _read_keys(trusted)), trusted.audiences)


def _same(keys: Keys) -> Keys:
    return keys


def _read_keys(trusted: TrustedIssuer) -> Keys:
    try:
        with Path(trusted.keys).open("rb") as file:
            text = file.read(KEY_SET_BYTES_MAX)
        return read_set(msgspec.json.decode(text, type=dict[str, object]))
    except (OSError, ValueError, msgspec.DecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        message = f"The keys of {trusted.issuer} in {trusted.keys} cannot be read: {reason}."
        raise ConfigurationError(message) from error
