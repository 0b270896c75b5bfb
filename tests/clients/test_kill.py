"""`kill -9` under load of every kind: what clients were told holds afterwards, as a checker of their histories sees it.

The server is killed at the very moment at which one of its clients learns something, chosen by chance: it was
acknowledged, a patch has its version, a method is executed. It starts again on what is left in the folder, and the
clients go on where they were. In the end all that is under way is settled, everything is read, and
`support.history.findings` judges the whole. The clients are this suite's own, because a history has to tell what became
of each step; how stock clients come back is shown by `test_reconnect`.
"""

import asyncio
import random
import signal
import threading
from collections.abc import Callable, Sequence

import pytest

from clients.devices import until
from clients.reading import EventCollector, sender
from clients.recording_device import Power, RecordingDevice
from clients.recording_service import RecordingService
from support.history import (
    Acknowledged,
    CommandReceived,
    CommandSent,
    FeedbackRead,
    Heard,
    MethodAnswered,
    MethodCalled,
    MethodExecuted,
    Patched,
    Read,
    Sent,
    Step,
    findings,
)
from support.server import RunningHub

DEVICES = 5
CYCLES = 20
CYCLES_LONG = 1_000
MOMENTS: dict[type[Step], int] = {
    Sent: 100,
    Acknowledged: 100,
    Patched: 12,
    Heard: 12,
    CommandSent: 6,
    CommandReceived: 6,
    FeedbackRead: 1,
    MethodCalled: 8,
    MethodExecuted: 8,
    MethodAnswered: 8,
}
"""After how many steps of a kind, at most, the server is killed."""
CYCLE_SECONDS_MAX = 60.0
SETTLE_SECONDS_MAX = 60.0
READ_SECONDS_MAX = 600.0
INTO_START_SECONDS = (0.2, 1.5)
"""When a start is cut: while Python loads, while the log is recovered, or shortly after the doors have opened."""


@pytest.fixture
def hub(make_hub: Callable[..., RunningHub]) -> RunningHub:
    return make_hub(forked=True)


@pytest.mark.rule("MQTT-4.1.0-1", "MQTT-4.3.2-2", "MQTT-4.6.0-1", "MQTT-4.6.0-6")
async def test_history_of_killed_hub_keeps_every_promise(hub: RunningHub) -> None:
    history = await killed(hub, chance=random.Random(20), cycles=CYCLES)
    assert findings(history) == []
    assert {type(step) for step in history} >= set(MOMENTS)


@pytest.mark.long
async def test_history_of_often_killed_hub_keeps_every_promise(hub: RunningHub) -> None:
    seed = random.SystemRandom().randrange(2**32)
    history = await killed(hub, chance=random.Random(seed), cycles=CYCLES_LONG, starts_cut=True)
    assert findings(history) == [], f"with the seed {seed}"


async def killed(hub: RunningHub, *, chance: random.Random, cycles: int, starts_cut: bool = False) -> list[Step]:
    """The history of so many deaths, and of what was there in the end; `starts_cut` kills some starts as well."""
    recorder = Recorder(hub, chance)
    strings = [await asyncio.to_thread(hub.create_device, f"device-{number}") for number in range(DEVICES)]
    devices = [RecordingDevice(hub, string, recorder.record, recorder.power) for string in strings]
    service = await asyncio.to_thread(RecordingService, hub, devices, recorder.record, recorder.power)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(device.run()) for device in devices]
        running.append(tasks.create_task(service.run()))
        for _ in range(cycles):
            await recorder.death()
            if starts_cut and chance.randrange(4) == 0:
                await asyncio.to_thread(cut_start, hub, chance.uniform(*INTO_START_SECONDS))
            await asyncio.to_thread(hub.restart)
            recorder.power.restore()
        await settle(hub, recorder, devices, service)
        for task in running:
            task.cancel()
    acknowledged = {(step.device, step.number) for step in recorder.history if isinstance(step, Acknowledged)}
    return [*recorder.history, *await asyncio.to_thread(read_all, hub, acknowledged)]


class Recorder:
    """Keeps the history, and kills the server at the step that chance has chosen."""

    def __init__(self, hub: RunningHub, chance: random.Random) -> None:
        self.history: list[Step] = []
        self.power = Power()
        self._hub = hub
        self._chance = chance
        self._kind: type[Step] | None = None
        self._left = 0

    def record(self, step: Step) -> None:
        self.history.append(step)
        if type(step) is self._kind and self.power.on.is_set():
            self._left -= 1
            if self._left <= 0:
                self.cut()

    async def death(self) -> None:
        """Chooses a moment, and returns when the server was killed there."""
        self._kind = self._chance.choice(list(MOMENTS))
        self._left = self._chance.randint(1, MOMENTS[self._kind])
        async with asyncio.timeout(CYCLE_SECONDS_MAX):
            await self.power.off.wait()
        self._kind = None

    def cut(self) -> None:
        self._hub.signal(signal.SIGKILL)
        self.power.cut()


async def settle(
    hub: RunningHub, recorder: Recorder, devices: Sequence[RecordingDevice], service: RecordingService
) -> None:
    """Begins nothing new, waits for all that is under way, and lets everybody look at what is there."""
    service.writing = False
    for device in devices:
        device.writing = False
    await reached(lambda: service.settled and all(device.settled for device in devices))
    await reached(lambda: not pending(recorder.history, CommandReceived))
    # Feedback that does not fill a batch goes out in the first one after a start.
    recorder.cut()
    await asyncio.to_thread(hub.restart)
    recorder.power.restore()
    await reached(lambda: all(device.looked for device in devices))
    await reached(lambda: not pending(recorder.history, FeedbackRead))
    await service.look()


def pending(history: Sequence[Step], by: type[CommandReceived | FeedbackRead]) -> set[str]:
    """Commands that were accepted, or are known to have been, and have not come `by` yet."""
    known = {
        step.message_id
        for step in history
        if isinstance(step, CommandReceived) or (isinstance(step, CommandSent) and step.accepted)
    }
    return known - {step.message_id for step in history if isinstance(step, by)}


async def reached(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(until, condition, SETTLE_SECONDS_MAX)


def cut_start(hub: RunningHub, seconds: float) -> None:
    """Kills a start so many seconds after it has begun."""
    hub.kill()
    hub.launch()
    threading.Event().wait(seconds)
    hub.kill()


def read_all(hub: RunningHub, wanted: set[tuple[str, int]]) -> list[Read]:
    """What a reader sees of all partitions, from the beginning until all that is wanted has come, or time is over."""
    collector = EventCollector(hub.events_connection_string(), str(hub.ca))
    steps: list[Read] = []
    missing = set(wanted)

    def complete() -> bool:
        for event in collector.events[len(steps) :]:
            connection, number = map(int, event.body_as_str().split(":"))
            step = Read(sender(event), connection, number, collector.partition_of(event), event.sequence_number)
            steps.append(step)
            missing.discard((step.device, number))
        return not missing

    try:
        until(complete, READ_SECONDS_MAX)
    finally:
        collector.close()
    return steps
