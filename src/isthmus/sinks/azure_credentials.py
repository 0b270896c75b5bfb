"""Azure's own credentials, where the targets are Azure's: `[egress] credentials = "azure"`.

Azure does not know the identities of this installation. Here the process asks Entra ID for its tokens instead, as
azure-identity does it anywhere: by environment variables, a workload identity, a managed identity of the machine. All
hubs then show the same identity, the process', whichever of theirs an endpoint names.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, Self

from azure.core.credentials import AccessToken
from azure.core.exceptions import AzureError

from isthmus.base.ids import HubId
from isthmus.routing.sink import Egress, FailureKind, SinkFailure
from isthmus.sinks.clients import Credential, CredentialFactory, HubCredential
from isthmus.sinks.failures import reason_of

HUB: Final = "hub"
AZURE: Final = "azure"
"""Whose tokens are shown (`[egress] credentials`)."""

MakeCredential = Callable[[], AbstractAsyncContextManager[Credential]]


def credentials_of(setting: str) -> CredentialFactory:
    """The credentials that a setting names: those of hubs, or Azure's own."""
    return azure_credentials() if setting == AZURE else HubCredential


class AzureCredential:
    """Takes each token from a credential of its own, which holds no connection afterwards; clients keep the tokens."""

    def __init__(self, make: MakeCredential) -> None:
        self._make = make

    async def get_token(self, *scopes: str, **options: object) -> AccessToken:
        """A token for the scopes; raises `SinkFailure` IDENTITY with azure-identity's words."""
        try:
            async with self._make() as credential:
                return await credential.get_token(*scopes, **options)
        except ImportError as error:
            reason = "azure-identity is not installed: pip install 'isthmus[azure]'"
            raise SinkFailure(FailureKind.IDENTITY, reason, "ClientMissing") from error
        except (AzureError, ValueError) as error:
            raise SinkFailure(FailureKind.IDENTITY, reason_of(error), type(error).__name__) from error

    async def close(self) -> None:
        """Holds nothing."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()


def _default() -> AbstractAsyncContextManager[Credential]:
    """Loaded when it is used: the package is optional, and takes a while."""
    from azure.identity.aio import DefaultAzureCredential

    credential: AbstractAsyncContextManager[Credential] = DefaultAzureCredential()
    return credential


def azure_credentials(make: MakeCredential = _default) -> CredentialFactory:
    """The same credential for every hub and identity; `make` may be any of azure-identity's asynchronous classes."""

    def for_any(hub: HubId, identity: str, egress: Egress) -> Credential:
        return AzureCredential(make)

    return for_any
