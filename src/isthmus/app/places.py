"""Who makes sockets in network namespaces for this server: a helper at a socket, a child, or nobody."""

import logging
import os
from pathlib import Path

from isthmus.base.errors import ConfigurationError
from isthmus.config import Config
from isthmus.namespaces.client import AtSocket, Child, NamespaceClient, Nobody, Way

RECORD_FILE = "namespaces.added"
"""In the data folder: what the child has added, for after a crash."""

NOBODY = (
    "Network namespaces and addresses need root: start isthmus namespace-helper as root, and name its socket in "
    "network.helper of the configuration."
)

logger = logging.getLogger(__name__)


class HelpedPlaces:
    """The helper's client, and the helper's life."""

    def __init__(self, config: Config) -> None:
        self._record = config.data_folder / RECORD_FILE
        self.client = NamespaceClient(_way(config, self._record))

    async def start(self) -> None:
        """Has a child clear up what its predecessor has left behind; without that, it starts when it is needed."""
        if not self._record.exists():
            return
        try:
            await self.client.begin()
        except ConfigurationError as error:
            logger.error("namespaces are not cleared up", extra={"reason": str(error)})

    async def close(self) -> None:
        """Ends a child, which takes its addresses back."""
        await self.client.close()


def _way(config: Config, record: Path) -> Way:
    if config.network.helper:
        return AtSocket(Path(config.network.helper))
    return Child(record) if os.geteuid() == 0 else Nobody(NOBODY)
