"""The TLS contexts of all hubs and neighbours, issued by the data folder's own authority."""

import asyncio
import logging
import ssl
from collections.abc import Sequence
from pathlib import Path

from isthmus.access.certificates import RENEWAL_DAYS, Authority, ServerCertificate, self_signed
from isthmus.access.key_pair import lent
from isthmus.base.clock import Clock
from isthmus.base.errors import Code, ConfigurationError, HubError
from isthmus.base.sealing import Sealer
from isthmus.resources.guarded import Guarded
from isthmus.wire.link.messages import CONTROL_PROTOCOL, ENROL_SERVER_NAME
from isthmus.wire.tls import LinkContexts, ServerContexts, client_certificate_trouble, link_context, server_context

logger = logging.getLogger(__name__)


class Certificates:
    """Keeps a certificate for each resource's host name.

    Made before anybody connects: it reads, writes and makes keys.
    """

    def __init__(
        self,
        folder: Path,
        host_names: Sequence[str],
        addresses: Sequence[str],
        machine_name: str,
        clock: Clock,
        sealer: Sealer,
    ) -> None:
        """Makes what is missing: the authority, and a certificate for each of `host_names`, the first the default.

        `addresses` are those that are bound. Raises `ConfigurationError`.
        """
        self._authority = Authority.load_or_create(folder, host_names, addresses, machine_name, clock, sealer)
        self._asks = _can_ask(self._authority, host_names[0], clock)
        self.contexts = ServerContexts(self._context(host_names[0]))
        for name in host_names:
            self.contexts.put(name, self._context(name))
        if self._authority.uncovered:
            logger.warning(
                "clients cannot reach these addresses but by host name, for the CA may not vouch for them",
                extra={"addresses": list(self._authority.uncovered), "ca": str(self._authority.ca_path)},
            )
        if (days := self._authority.root_needed_in_days) < RENEWAL_DAYS:
            logger.warning("the CA's root is needed to go on issuing", extra={"days": round(days)})

    @property
    def ca_path(self) -> Path:
        """The authority's certificate (PEM)."""
        return self._authority.ca_path

    def link_contexts(self, host_name: str, trusted: Path) -> LinkContexts:
        """The link door's contexts: a hub's certificate with the authority's own behind it, which no client asks for.

        A connector that enrols knows the authority by its fingerprint only. `trusted` is the PEM file of the authority
        of connectors. Raises `ConfigurationError`.
        """
        own = self._authority.server_certificate(host_name)
        try:
            with lent(own.pem + self.ca_path.read_bytes()) as chain:
                strict = link_context(chain, trusted=str(trusted), protocols=[CONTROL_PROTOCOL])
                return LinkContexts(strict, ENROL_SERVER_NAME, link_context(chain, trusted=None, protocols=[]))
        except OSError as error:
            raise _unusable(own, error) from error

    async def prepare(self, host_name: str) -> None:
        """Makes the certificate of a resource that is about to be made.

        Raises HubError ArgumentInvalid when the authority may not vouch for the name, or is offline.
        """
        try:
            await asyncio.to_thread(self._authority.server_certificate, host_name)
        except ConfigurationError as error:
            raise HubError(Code.ARGUMENT_INVALID, str(error).rstrip(".")) from error

    async def resource_changed(self, old: Guarded | None, new: Guarded | None) -> None:
        """Listens to all resources: serves a new one's name, and forgets a deleted one's."""
        if new is None and old is not None:
            self.contexts.remove(old.host_name)
        if old is None and new is not None:
            self.contexts.put(new.host_name, await asyncio.to_thread(self._context, new.host_name))

    def _context(self, host_name: str) -> ssl.SSLContext:
        own = self._authority.server_certificate(host_name)
        try:
            with lent(own.pem) as path:
                return server_context(path, request_client_certificate=self._asks)
        except OSError as error:
            raise _unusable(own, error) from error


def _unusable(certificate: ServerCertificate, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"{certificate.path} cannot be used ({error.strerror}): remove it to have it made anew.")


def _can_ask(authority: Authority, host_name: str, clock: Clock) -> bool:
    """Whether this interpreter can ask for client certificates without judging them; without it X.509 is off."""
    with lent(authority.server_certificate(host_name).pem) as own, lent(self_signed(clock)) as trial:
        trouble = client_certificate_trouble(own, trial)
    if trouble:
        logger.warning("X.509 identities are off on this interpreter", extra={"reason": trouble})
    return not trouble
