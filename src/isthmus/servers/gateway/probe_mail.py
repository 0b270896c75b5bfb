"""Messages of probes: as durable as anybody's, and nobody's to read.

A record that names no endpoint takes its turn in the log with all others and is shown to no reader; it goes with the
segment that it is in.
"""

from isthmus.base.clock import Clock
from isthmus.resources.hub import Hub
from isthmus.servers.gateway.awaited_commit import AwaitedCommit
from isthmus.telemetry.message import Envelope, encode_envelope
from isthmus.telemetry.ports import Log, Partition

PROBE_BYTES_MAX = 256
"""Of a probe's message: its name. A longer one is cut, for nobody will read it."""


class ProbeMail:
    """Takes messages of probes; on the event loop only."""

    def __init__(self, log: Log, clock: Clock) -> None:
        self._log = log
        self._clock = clock

    async def send(self, hub: Hub, device_id: str, payload: bytes) -> None:
        """Returns when the message is durable; raises HubError ServiceUnavailable when it never will be."""
        waiter = AwaitedCommit()
        envelope, now_ms = encode_envelope(Envelope(device_id)), self._clock.utc_ms()
        partition = Partition(hub.number, 0)
        self._log.append(partition, (), envelope, payload[:PROBE_BYTES_MAX], now_ms, waiter, 0)
        await waiter.durable()
