"""Azure's own credentials, where the targets are Azure's: `[egress] credentials = "azure"`.

Azure does not know the identities of this installation. Here the process asks Entra ID for its tokens instead, as
azure-identity does it anywhere: by environment variables, a workload identity, a managed identity of the machine. All
hubs then show the same identity, the process', whichever of theirs an endpoint names.
"""

from collections.abc import Callable
from typing import Self

from azure.core.credentials import AccessToken
from azure.core.exceptions import AzureError
from azure.identity.aio import DefaultAzureCredential

from isthmus.base.ids import HubId
from isthmus.routing.sink import Egress, FailureKind, SinkFailure
from isthmus.sinks.clients import Credential, CredentialFactory
from isthmus.sinks.failures import reason_of


class AzureCredential:
    """Takes each token from a credential of its own, which holds no connection afterwards; clients keep the tokens."""

    def __init__(self, make: Callable[[], DefaultAzureCredential]) -> None:
        self._make = make

    async def get_token(self, *scopes: str, **options: object) -> AccessToken:
        """A token for the scopes; raises `SinkFailure` IDENTITY with azure-identity's words."""
        try:
            async with self._make() as credential:
                return await credential.get_token(*scopes, **options)
        except (AzureError, ValueError) as error:
            raise SinkFailure(FailureKind.IDENTITY, reason_of(error), type(error).__name__) from error

    async def close(self) -> None:
        """Holds nothing."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()


def azure_credentials(make: Callable[[], DefaultAzureCredential] = DefaultAzureCredential) -> CredentialFactory:
    """The same credential for every hub and identity; `make` may be any of azure-identity's asynchronous classes."""

    def for_any(hub: HubId, identity: str, egress: Egress) -> Credential:
        return AzureCredential(make)

    return for_any
