"""Feedback about commands, as a back-end reads it."""

import json
import time
from typing import Any

import uamqp

from clients.sas import sas_token


class FeedbackReader:
    """Receives feedback batches by uamqp, which azure-iot-hub itself has no call for."""

    def __init__(self, connection_string: str, hub_name: str) -> None:
        parts = dict(part.split("=", 1) for part in connection_string.split(";"))
        host, policy, key = parts["HostName"], parts["SharedAccessKeyName"], parts["SharedAccessKey"]
        self.address = f"amqps://{host}/messages/serviceBound/feedback"
        self.records: dict[str, dict[str, Any]] = {}
        self.auth = (host, f"{policy}@sas.root.{hub_name}", sas_token(host, key, policy))

    def wait_for(self, message_id: str) -> dict[str, Any]:
        """The record about a message; what else comes in its batch is kept for later calls."""
        deadline = time.monotonic() + 45
        client = uamqp.ReceiveClient(self.address, auth=uamqp.authentication.SASLPlain(*self.auth), timeout=5000)
        try:
            while message_id not in self.records and time.monotonic() < deadline:
                for batch in client.receive_message_batch(max_batch_size=10, timeout=2000):
                    records = json.loads(b"".join(batch.get_data()))
                    batch.accept()
                    self.records |= {record["originalMessageId"]: record for record in records}
        finally:
            client.close()
        assert message_id in self.records, f"no feedback for {message_id}"
        return self.records[message_id]
