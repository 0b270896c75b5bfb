"""Mixed load at half of what the machine does, for a long time: nothing grows that should be level.

First everything runs at full speed for a while, which tells how fast each part goes beside the others; then each runs
at half of that, while `support.usage` samples what the server's processes hold. In the end all that was acknowledged
has come out of the built-in endpoint and of the event hub that a route leads to, and after the clients have left, the
server has no more sockets and threads than before they came.

`SOAK` in the environment sets the time of `make test-long`: `SOAK=24h`; 30 minutes without it.
"""

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence

import pytest

from clients.counting_reader import CountingReader
from clients.devices import key_of, until
from clients.hosted import namespace
from clients.mixed_load import DEVICES, PARTS, MixedLoad
from clients.names import resolved
from support.server import RunningHub
from support.usage import THREADS, Usage, leaks, sample

HUB_HOST = "hub.isthmus.test"
HUB_SETTINGS = """
[log]
retention_gib = 0.25

[audit]
entries_max = 20000
"""
"""So small that all of them are full soon, and stay so."""
LOAD_SHARE = 0.5
CALIBRATION_SECONDS = 3.0
CALIBRATION_SECONDS_LONG = 20.0
LOAD_SECONDS = 4.0
FILL_MESSAGES = 2_560
"""80 MiB: more than the log keeps of the newest in memory, which half speed would take long to fill."""
SAMPLES = 120
ARRIVE_SECONDS_MAX = 120.0
SOCKETS = 4
"""What the hub itself may open meanwhile: a worker's connection to the event hub has two ends here."""
QUIET_SAMPLES = 5
QUIET_SECONDS = 0.2
UNITS = {"s": 1, "m": 60, "h": 3_600}


async def test_clients_that_came_and_went_leave_nothing_behind(plant: "Plant") -> None:
    await plant.soak(calibration_seconds=CALIBRATION_SECONDS, seconds=LOAD_SECONDS)


@pytest.mark.long
async def test_nothing_grows_under_mixed_load(plant: "Plant") -> None:
    seconds = duration(os.environ.get("SOAK", "30m"))
    samples = await plant.soak(calibration_seconds=CALIBRATION_SECONDS_LONG, seconds=seconds, fill=FILL_MESSAGES)
    sys.stdout.write(f"{plant.load.paces}{told(samples[:: SAMPLES // 20])}\n")
    assert leaks(samples, minutes=seconds / 60, connections=plant.load.connections) == [], told(samples)


class Plant:
    """A hub whose telemetry goes to a hosted event hub as well, and what loads and reads it."""

    def __init__(self, hub: RunningHub, event_hub: str, host: str) -> None:
        self.load = MixedLoad(hub, {name: key_of(hub.create_device(name)) for name in DEVICES})
        self._hub = hub
        self._readers = [
            CountingReader(hub.events_connection_string(), str(hub.ca), hub.host_name, hub.address),
            CountingReader(event_hub, str(hub.ca), host, hub.address),
        ]

    async def soak(self, *, calibration_seconds: float, seconds: float, fill: int = 0) -> list[Usage]:
        """Calibrates, loads, and sees that everything has arrived and everybody has left."""
        await self._run(1.0)
        await self.load.fill(fill)
        start = await self._at_rest()
        already = {name: pace.done for name, pace in self.load.paces.items()}
        await self._run(calibration_seconds)
        calibrated = await self._at_rest()
        done = {name: pace.done - already[name] for name, pace in self.load.paces.items()}
        self.load.set_rates({name: max(0.1, count / calibration_seconds * LOAD_SHARE) for name, count in done.items()})
        samples = await self._run(seconds)
        left = await self._at_rest()
        assert left.sockets <= start.sockets + SOCKETS, told([start, calibrated, left])
        assert left.threads <= calibrated.threads + THREADS, told([start, calibrated, left])
        assert all(self.load.paces[name].done for name in PARTS)
        return samples

    def close(self) -> None:
        for reader in self._readers:
            reader.close()

    async def _run(self, seconds: float) -> list[Usage]:
        """Loads for so long, and samples meanwhile."""
        samples = []
        async with asyncio.TaskGroup() as tasks:
            load = tasks.create_task(self.load.run())
            for _ in range(SAMPLES):
                await asyncio.sleep(seconds / SAMPLES)
                samples.append(await asyncio.to_thread(self._sample))
            load.cancel()
        return samples

    async def _at_rest(self) -> Usage:
        """What is held when everything has arrived and the number of sockets does not fall any more."""
        await asyncio.to_thread(until, self._arrived, ARRIVE_SECONDS_MAX)
        usages = [self._sample()]
        while len(usages) < QUIET_SAMPLES or usages[-QUIET_SAMPLES].sockets > usages[-1].sockets:
            await asyncio.sleep(QUIET_SECONDS)
            usages.append(await asyncio.to_thread(self._sample))
        return usages[-1]

    def _arrived(self) -> bool:
        for reader in self._readers:
            assert not reader.errors, reader.errors
        return all(reader.events >= self.load.acknowledged for reader in self._readers)

    def _sample(self) -> Usage:
        return sample(self._hub.pid, log=self._hub.log, folder=self._hub.data)


@pytest.fixture
def plant(hub: RunningHub) -> Iterator[Plant]:
    """The hub, the event hub, and a route to it."""
    with resolved(hub.host_name, hub.address), namespace(hub, "eventhubs") as events:
        events.make("eventhub", "create", "-n", "telemetry", "--partition-count", "2")
        principal = hub.json("iot", "hub", "identity", "assign", "--system-assigned")["principalId"]
        role = ("--role", "Azure Event Hubs Data Sender", "--scope", events.resource_id)
        hub.isthmus("role", "assignment", "create", "--assignee-object-id", principal, *role)
        options = ("--endpoint-uri", f"sb://{events.host}", "--entity-path", "telemetry")
        create = ("message-endpoint", "create", "eventhub", "--en", "copy", "--identity", "[system]")
        hub.isthmus("iot", "hub", *create, *options)
        for name in ("copy", "events"):
            hub.isthmus("iot", "hub", "message-route", "create", "--rn", name, "-t", "DeviceMessages", "--en", name)
        plant = Plant(hub, events.connection_string("telemetry"), events.host)
        yield plant
        plant.close()


def duration(text: str) -> float:
    """Seconds of `90s`, `30m` or `24h`."""
    return float(text[:-1]) * UNITS[text[-1]]


def told(usages: Sequence[Usage]) -> str:
    """Samples as a failing test shows them, a line each."""
    return "\n" + "\n".join(map(str, usages))
