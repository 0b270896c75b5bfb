"""Where messages of probes go in tests."""

from isthmus.resources.hub import Hub


class FakeProbeMail:
    """Remembers what was sent, and has it durable at once."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []

    async def send(self, hub: Hub, device_id: str, payload: bytes) -> None:
        self.sent.append((device_id, payload))
