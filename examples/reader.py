"""A reader: everything that devices send, from all partitions of the built-in endpoint, on azure-eventhub.

Needs what `isthmus env` prints; ends with Ctrl-C. It begins at the oldest message that is kept. A reader that must not
begin anew gives the client a checkpoint store.
"""

import os
from typing import Any

from azure.eventhub import EventHubConsumerClient


def show(partition: Any, event: Any) -> None:
    device = event.system_properties[b"iothub-connection-device-id"].decode()
    print(f"{device} {partition.partition_id}/{event.sequence_number} {event.body_as_str()}", flush=True)


def main() -> None:
    client = EventHubConsumerClient.from_connection_string(
        os.environ["EVENTHUB_CONNECTION_STRING"],
        consumer_group="$Default",
        connection_verify=os.environ["IOTHUB_CA_CERTIFICATE"],
    )
    with client:
        client.receive(on_event=show, starting_position="-1")


if __name__ == "__main__":
    main()
