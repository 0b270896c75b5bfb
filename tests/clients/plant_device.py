"""A device of the plant on the stock SDK, as a process inside its namespace: sends texts, then uploads a file.

Takes its task as JSON from standard input; prints the blob's name, once the hub has been told that it is there.
"""

import json
import sys
from pathlib import Path
from typing import Any

from azure.iot.device import IoTHubDeviceClient, Message
from azure.storage.blob import BlobClient


def main() -> None:
    task: dict[str, Any] = json.load(sys.stdin)
    device = IoTHubDeviceClient.create_from_connection_string(
        task["device"], server_verification_cert=Path(task["ca"]).read_text()
    )
    device.connect()
    for text in task["texts"]:
        body = json.dumps({"text": text})
        device.send_message(Message(body, content_type="application/json", content_encoding="utf-8"))
    if task["file"]:
        sys.stdout.write(upload(device, task["ca"], task["file"].encode()))
    device.shutdown()


def upload(device: Any, ca: str, data: bytes) -> str:
    """Uploads by the address that the hub gives, and tells the hub."""
    given = device.get_storage_info_for_blob("report.txt")
    url = f"https://{given['hostName']}/{given['containerName']}/{given['blobName']}{given['sasToken']}"
    with BlobClient.from_blob_url(url, connection_verify=ca) as blob:
        blob.upload_blob(data)
    device.notify_blob_upload_status(given["correlationId"], True, 200, "done")
    return str(given["blobName"])


if __name__ == "__main__":
    main()
