"""A hub's and a connector's side in memory, every word through both, without sockets."""

from isthmus.wire.link.connector_side import ConnectorLink
from isthmus.wire.link.hub_side import HubLink
from isthmus.wire.link.messages import VERSION, ConnectorMessage, Hello, HubMessage, Setup


class Peers:
    """Both ends of a control connection, and the time."""

    def __init__(self, hello: Hello | None = None, name: str = "plant-a") -> None:
        self.now = 1_000.0
        self.hub = HubLink(name, self.now)
        self.connector = ConnectorLink(hello or greeting(), self.now)

    def to_hub(self) -> list[ConnectorMessage]:
        """Delivers what the connector has said, byte by byte, and returns what the hub's owner hears."""
        heard: list[ConnectorMessage] = []
        for byte in self.connector.data_to_send():
            heard += self.hub.receive(bytes((byte,)), self.now)
        return heard

    def to_connector(self) -> list[HubMessage]:
        """Delivers what the hub has said, and returns what the connector's owner hears."""
        data = self.hub.data_to_send()
        return self.connector.receive(data, self.now) if data else []

    def live(self) -> "Peers":
        """Both after hello and setup."""
        self.to_hub()
        self.hub.send(Setup(generation=1))
        self.to_connector()
        return self


def greeting(name: str = "plant-a", version: int = VERSION) -> Hello:
    """What a connector says first."""
    return Hello(version=version, name=name, instance="process-1", hostname="gateway")
