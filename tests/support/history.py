"""What clients of a hub did and were told, and whether a hub that keeps its promises could have let that happen.

Theory of operation. Clients append steps in the order in which things happened to them; `findings` reads the whole
history afterwards, pure and without a hub, and tells every promise that is broken:

- **Telemetry.** What was acknowledged is read. Of what a connection sent, readers see a beginning of it, in order; what
  a later connection sent comes behind it. A connection sends again what the one before it was not acknowledged, so one
  number may come from several connections. The partitions' sequence numbers have no gap.
- **Twins.** Whoever writes a section of a twin (the device its reported properties, the service the desired ones) is
  one client that waits for each answer. An answered patch is exactly one version more. One whose answer never came was
  applied or not: the checker goes on with both, until an answer or a look at the twin tells. A version never stands for
  two values, whoever heard of it. A connected device hears every desired version behind the twin that it was given.
- **Commands** (cloud-to-device messages). What was accepted is received; no connection receives a message twice or
  before an earlier one, and none comes again after feedback has told that it was completed. What was received and
  acknowledged gets feedback, and no message two outcomes.
- **Methods.** A call is executed at most once, never when nobody called, and its answer is what the device answered.

A step whose outcome nobody knows is part of the history too, because its effect is allowed.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

COMPLETED = "Success"
"""The outcome in a feedback record of a message that its device took."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A device sent a numbered message on one of its connections, which are counted."""

    device: str
    connection: int
    number: int


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The hub acknowledged it."""

    device: str
    number: int


@dataclass(frozen=True, slots=True)
class Read:
    """A reader of the built-in endpoint saw it, in this order."""

    device: str
    connection: int
    number: int
    partition: str
    sequence_number: int


@dataclass(frozen=True, slots=True)
class Patched:
    """A section of a twin was patched by its only writer; `version` is None when the answer never came."""

    section: str
    value: int
    version: int | None


@dataclass(frozen=True, slots=True)
class Looked:
    """The only writer, waiting for no answer, looked at the section; `value` is None before the first patch."""

    section: str
    value: int | None
    version: int


@dataclass(frozen=True, slots=True)
class Heard:
    """Somebody else was told of the section on a connection: of the whole twin, or of one patch."""

    section: str
    connection: int
    value: int | None
    version: int
    whole: bool


@dataclass(frozen=True, slots=True)
class CommandSent:
    """The service sent a message to a device; not `accepted` means that nobody knows."""

    device: str
    message_id: str
    accepted: bool


@dataclass(frozen=True, slots=True)
class CommandReceived:
    """The device received it on one of its connections, and acknowledges it afterwards."""

    device: str
    connection: int
    message_id: str


@dataclass(frozen=True, slots=True)
class FeedbackRead:
    """The service read what became of a message."""

    device: str
    message_id: str
    outcome: str


@dataclass(frozen=True, slots=True)
class MethodCalled:
    """The service is about to call a method."""

    device: str
    call: int


@dataclass(frozen=True, slots=True)
class MethodExecuted:
    """The device executes it, and answers with `result`."""

    device: str
    call: int
    result: int


@dataclass(frozen=True, slots=True)
class MethodAnswered:
    """The service was answered with the device's result."""

    device: str
    call: int
    result: int


Step: TypeAlias = (
    Sent
    | Acknowledged
    | Read
    | Patched
    | Looked
    | Heard
    | CommandSent
    | CommandReceived
    | FeedbackRead
    | MethodCalled
    | MethodExecuted
    | MethodAnswered
)


def findings(history: Sequence[Step]) -> list[str]:
    """Every broken promise in one sentence each; empty when the history could be that of a good hub."""
    return [*_telemetry(history), *_twins(history), *_commands(history), *_methods(history)]


def _telemetry(history: Sequence[Step]) -> Iterator[str]:
    sent: dict[tuple[str, int], list[int]] = defaultdict(list)
    read: dict[tuple[str, int], list[int]] = defaultdict(list)
    connections: dict[str, list[int]] = defaultdict(list)
    acknowledged: dict[str, set[int]] = defaultdict(set)
    for step in history:
        match step:
            case Sent(device, connection, number):
                sent[device, connection].append(number)
            case Acknowledged(device, number):
                acknowledged[device].add(number)
            case Read(device, connection, number):
                read[device, connection].append(number)
                connections[device].append(connection)
    for device, numbers in acknowledged.items():
        seen = {number for (owner, _), some in read.items() if owner == device for number in some}
        if lost := sorted(numbers - seen):
            yield f"telemetry of {device}: acknowledged and lost: {_some(lost)}"
    for (device, connection), order in read.items():
        if order != sent[device, connection][: len(order)]:
            yield f"telemetry of {device}: connection {connection} sent something else, or in another order"
    for device, counted in connections.items():
        if counted != sorted(counted):
            yield f"telemetry of {device}: an earlier connection's message comes behind a later one's"
    yield from _sequence_numbers(history)


def _sequence_numbers(history: Sequence[Step]) -> Iterator[str]:
    partitions: dict[str, list[int]] = defaultdict(list)
    for step in history:
        if isinstance(step, Read):
            partitions[step.partition].append(step.sequence_number)
    for partition, numbers in partitions.items():
        for earlier, later in pairwise(numbers):
            if later != earlier + 1:
                yield f"partition {partition}: sequence number {later} follows {earlier}"


def _twins(history: Sequence[Step]) -> Iterator[str]:
    sections = list(dict.fromkeys(step.section for step in history if isinstance(step, Patched | Looked | Heard)))
    for section in sections:
        steps = [step for step in history if isinstance(step, Patched | Looked | Heard) and step.section == section]
        for finding in (*_versions(steps), *_values(steps), *_patches_heard(steps)):
            yield f"twin {section}: {finding}"


_TwinStep: TypeAlias = Patched | Looked | Heard


def _versions(steps: Sequence[_TwinStep]) -> Iterator[str]:
    """Follows the writer: `possible` are the versions, with their values, at which the section may be."""
    possible: set[tuple[int, int | None]] = set()
    for step in steps:
        match step:
            case Patched(_, value, None):
                possible |= {(version + 1, value) for version, _ in possible}
            case Patched(_, value, int(version)):
                if possible:
                    yield from _judge(version, value, {(before + 1, value) for before, _ in possible})
                possible = {(version, value)}
            case Looked(_, value, version):
                if possible:
                    yield from _judge(version, value, possible)
                possible = {(version, value)}


def _judge(version: int, value: int | None, possible: set[tuple[int, int | None]]) -> Iterator[str]:
    versions = sorted(version for version, _ in possible)
    if version > versions[-1]:
        yield f"version {version} where {versions[-1]} is the highest possible: skipped"
    elif version < versions[0]:
        yield f"version {version} where {versions[0]} is the lowest possible: lost or repeated"
    elif (version, value) not in possible:
        yield f"version {version} has {value}, which it cannot have"


def _values(steps: Sequence[_TwinStep]) -> Iterator[str]:
    """One value for each version, whoever tells it; and what somebody was told is there in the end."""
    values: dict[int, int | None] = {}
    for step in steps:
        if step.version is not None and values.setdefault(step.version, step.value) != step.value:
            yield f"version {step.version} stands for {values[step.version]} and for {step.value}"
    written = {step.value for step in steps if isinstance(step, Patched)}
    for version, value in values.items():
        if value is not None and value not in written:
            yield f"version {version} has {value}, which nobody wrote"
    of_writer = [step for step in steps if not isinstance(step, Heard)]
    if of_writer and isinstance(last := of_writer[-1], Looked):
        for version in sorted(version for version in values if version > last.version):
            yield f"version {version} was told and is not there in the end"


def _patches_heard(steps: Sequence[_TwinStep]) -> Iterator[str]:
    """Of one connection the patches follow each other without a gap, and begin at the whole twin at the latest."""
    patches: dict[int, list[int]] = defaultdict(list)
    wholes: dict[int, int] = {}
    for step in steps:
        if isinstance(step, Heard) and step.whole:
            wholes.setdefault(step.connection, step.version)
        elif isinstance(step, Heard):
            patches[step.connection].append(step.version)
    for connection, versions in patches.items():
        if any(later != earlier + 1 for earlier, later in pairwise(versions)):
            yield f"connection {connection} heard of the versions {_some(versions)}"
        if versions[0] > (whole := wholes.get(connection, versions[0])) + 1:
            yield f"connection {connection} was given version {whole}, and heard next of {versions[0]}"


def _commands(history: Sequence[Step]) -> Iterator[str]:
    sent: dict[str, list[str]] = defaultdict(list)
    accepted: dict[str, set[str]] = defaultdict(set)
    received: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    outcomes: dict[tuple[str, str], str] = {}
    for step in history:
        match step:
            case CommandSent(device, message_id, was_accepted):
                sent[device].append(message_id)
                if was_accepted:
                    accepted[device].add(message_id)
            case CommandReceived(device, connection, message_id):
                received[device][connection].append(message_id)
                if outcomes.get((device, message_id)) == COMPLETED:
                    yield f"command {message_id} of {device} came again after feedback about its completion"
            case FeedbackRead(device, message_id, outcome):
                if outcomes.setdefault((device, message_id), outcome) != outcome:
                    yield f"command {message_id} of {device} has two outcomes"
    for device, connections in received.items():
        yield from _received_in_order(device, sent[device], connections)
    for device in dict.fromkeys([*sent, *received]):
        yield from _commands_settled(device, accepted[device], received[device], outcomes)
    for device, message_id in outcomes:
        if message_id not in sent[device]:
            yield f"feedback about {message_id} of {device}, which nobody sent"


def _received_in_order(device: str, sent: list[str], connections: dict[int, list[str]]) -> Iterator[str]:
    places = {message_id: place for place, message_id in enumerate(sent)}
    firsts: dict[str, None] = {}
    for connection, messages in connections.items():
        if unknown := [message_id for message_id in messages if message_id not in places]:
            yield f"commands of {device}: received and never sent: {_some(unknown)}"
            continue
        order = [places[message_id] for message_id in messages]
        if any(later <= earlier for earlier, later in pairwise(order)):
            yield f"commands of {device}: connection {connection} received {_some(messages)}, twice or not in order"
        firsts |= dict.fromkeys(messages)
    order = [places[message_id] for message_id in firsts]
    if order != sorted(order):
        yield f"commands of {device}: a later one came for the first time before an earlier one"


def _commands_settled(
    device: str, accepted: set[str], connections: dict[int, list[str]], outcomes: dict[tuple[str, str], str]
) -> Iterator[str]:
    received = {message_id for messages in connections.values() for message_id in messages}
    if lost := sorted(accepted - received):
        yield f"commands of {device}: accepted and never received: {_some(lost)}"
    if silent := sorted(message_id for message_id in received if (device, message_id) not in outcomes):
        yield f"commands of {device}: received and acknowledged, without feedback: {_some(silent)}"
    told = {message_id for (owner, message_id), outcome in outcomes.items() if (owner, outcome) == (device, COMPLETED)}
    if invented := sorted(told - received):
        yield f"commands of {device}: told to be completed and never received: {_some(invented)}"


def _methods(history: Sequence[Step]) -> Iterator[str]:
    called: dict[int, str] = {}
    executed: dict[int, MethodExecuted] = {}
    for step in history:
        match step:
            case MethodCalled(device, call):
                called[call] = device
            case MethodExecuted(device, call):
                if called.get(call) != device:
                    yield f"method call {call} was executed by {device}, for which nobody called"
                if call in executed:
                    yield f"method call {call} was executed twice"
                executed[call] = step
            case MethodAnswered(device, call, result):
                done = executed.get(call)
                if done is None or (done.device, done.result) != (device, result):
                    yield f"method call {call} was answered with {result}, which {device} did not answer"


def _some(items: Sequence[object], count: int = 5) -> str:
    told = ", ".join(str(item) for item in items[:count])
    return told if len(items) <= count else f"{told} and {len(items) - count} more"
