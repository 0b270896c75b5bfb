"""The reader of the demo: all partitions of the built-in endpoint, on the stock azure-eventhub SDK."""

import argparse
import json
import os
from typing import Any

from azure.eventhub import EventHubConsumerClient

from isthmus.demo.parts import CONNECTION_STRING, resolve_privately, tell


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ca", required=True)
    parser.add_argument("--host-name", required=True)
    parser.add_argument("--private-address", required=True)
    options = parser.parse_args()
    connection_string = os.environ[CONNECTION_STRING]
    resolve_privately(options.host_name, options.private_address)
    client = EventHubConsumerClient.from_connection_string(connection_string, "$Default", connection_verify=options.ca)
    with client:
        client.receive(on_event=_take, on_error=_failed, starting_position="-1")


def _take(context: Any, event: Any) -> None:
    device = event.system_properties[b"iothub-connection-device-id"].decode()
    tell("read", device=device, partition=context.partition_id, sequence=event.sequence_number, body=_body(event))


def _body(event: Any) -> Any:
    return json.loads(event.body_as_str())


def _failed(context: Any, error: Exception) -> None:
    tell("reader-error", reason=type(error).__name__)


if __name__ == "__main__":
    main()
