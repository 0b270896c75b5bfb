"""File notifications as a back-end reads them, by uamqp, which azure-iot-hub itself has no call for."""

import json
import time
from typing import Any

import uamqp

from clients.sas import sas_token

WAIT_SECONDS_MAX = 45


class FileNotifications:
    """Receives and settles the notifications of a hub, which is reached `at` an address; uamqp asks no resolver."""

    def __init__(self, connection_string: str, hub_name: str, node: str = "filenotifications", at: str = "") -> None:
        parts = dict(part.split("=", 1) for part in connection_string.split(";"))
        host, policy, key = parts["HostName"], parts["SharedAccessKeyName"], parts["SharedAccessKey"]
        self._address = f"amqps://{at or host}/messages/serviceBound/{node}"
        self._auth = (at or host, f"{policy}@sas.root.{hub_name}", sas_token(host, key, policy))

    def next(self, *, settle: str = "accept") -> dict[str, Any]:
        """The next notification; `settle` is a method of uamqp's message, empty to leave it unsettled."""
        return self.many(1, settle=settle)[0]

    def waiting(self) -> list[dict[str, Any]]:
        """Those that are there now, settled."""
        return self._read(100, 0.0, "accept")

    def many(self, count: int, *, settle: str = "accept") -> list[dict[str, Any]]:
        """So many notifications, in the order in which they came."""
        found = self._read(count, WAIT_SECONDS_MAX, settle)
        assert len(found) == count, f"{len(found)} of {count} file notifications"
        return found

    def _read(self, count: int, seconds: float, settle: str) -> list[dict[str, Any]]:
        """Asks once, and again until there are so many or the time is over."""
        found: list[dict[str, Any]] = []
        deadline = time.monotonic() + seconds
        auth = uamqp.authentication.SASLPlain(*self._auth)
        client = uamqp.ReceiveClient(self._address, auth=auth, timeout=5000, auto_complete=False)
        try:
            while True:
                for message in client.receive_message_batch(max_batch_size=count - len(found), timeout=1000):
                    found.append(json.loads(b"".join(message.get_data())))
                    if settle:
                        getattr(message, settle)()
                        client.do_work()  # sends it
                if len(found) >= count or time.monotonic() >= deadline:
                    return found
        finally:
            client.close()
