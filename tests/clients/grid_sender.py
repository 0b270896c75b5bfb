"""A device of the grid that sends until its standard input ends, on the stock client with its own retry.

Its first line of input is the task; it prints a JSON line for each thing that happens, with the wall clock's time:
`connected`, `disconnected`, `acknowledged` with the message's number, `failed` with the error. A client whose sending
thread has died of a connection that was reset under it never says so (azure-iot-device 2.x): one that does not answer
in time is given up for a new one, as an application's supervisor does, and `gave up` is told.
"""

import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotInTime
from pathlib import Path
from typing import Any

from azure.iot.device import IoTHubDeviceClient

ANSWER_SECONDS_MAX = 8.0
SECONDS_BETWEEN_MESSAGES = 0.05
SECONDS_BETWEEN_FAILURES = 0.2
RETRY_SECONDS = 1


class Device:
    """The client, and what it prints."""

    def __init__(self, connection_string: str, ca: str, mark: str) -> None:
        self._connection_string = connection_string
        self._ca = Path(ca).read_text()
        self._mark = mark
        self._printing = threading.Lock()
        self._client = self._new_client()

    def send_until(self, end: threading.Event) -> None:
        """Sends numbered messages, each until it is acknowledged."""
        number = 0
        while not end.is_set():
            if self._send(number):
                self._tell("acknowledged", number=number)
                number += 1
                end.wait(SECONDS_BETWEEN_MESSAGES)
            else:
                end.wait(SECONDS_BETWEEN_FAILURES)

    def _send(self, number: int) -> bool:
        thread = ThreadPoolExecutor(1)
        try:
            thread.submit(self._client.send_message, f"{self._mark} {number}").result(ANSWER_SECONDS_MAX)
        except NotInTime:
            self._tell("gave up")
            self._client = self._new_client()
        except Exception as error:
            self._tell("failed", error=type(error).__name__)
        else:
            return True
        finally:
            thread.shutdown(wait=False)
        return False

    def _new_client(self) -> IoTHubDeviceClient:
        client = IoTHubDeviceClient.create_from_connection_string(
            self._connection_string, server_verification_cert=self._ca, connection_retry_interval=RETRY_SECONDS
        )
        client.on_connection_state_change = lambda: self._tell("connected" if client.connected else "disconnected")
        client.on_background_exception = lambda error: None
        return client

    def _tell(self, what: str, **details: Any) -> None:
        with self._printing:
            sys.stdout.write(json.dumps({"what": what, "at": time.time()} | details) + "\n")
            sys.stdout.flush()


def main() -> None:
    device = Device(**json.loads(sys.stdin.readline()))
    end = threading.Event()
    sending = threading.Thread(target=device.send_until, args=(end,), daemon=True)
    sending.start()
    sys.stdin.read()
    end.set()
    sending.join(ANSWER_SECONDS_MAX)
    os._exit(0)


if __name__ == "__main__":
    main()
