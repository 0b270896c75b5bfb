"""What the AMQP pump asks of each kind of resource: its nodes, its policies and its words."""

from collections.abc import Iterable
from typing import Protocol

from isthmus.access.principal import SharedAccessPolicy
from isthmus.base.errors import HubError
from isthmus.resources.guarded import Guarded
from isthmus.servers.gateway.amqp_links import LinkHandler, Pump
from isthmus.servers.gateway.amqp_replies import Replies
from isthmus.wire.amqp.link import Link


class NodeSet(Protocol):
    """The nodes of one kind of resource."""

    def attach(self, link: Link, pump: Pump, replies: Replies, resource: Guarded) -> LinkHandler | None:
        """Judges a new link and accepts it; None when it was redirected. Raises HubError to refuse it."""

    def policies(self, resource: Guarded, audience: str) -> Iterable[SharedAccessPolicy]:
        """The policies of the part of the resource that a token's audience means, besides the resource's own."""

    def told(self, error: HubError, resource: Guarded) -> HubError:
        """A refusal in the words that clients of such a resource know."""
