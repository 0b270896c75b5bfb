"""Fuzz targets of JSON bodies: what services and devices send over HTTP, and twins over any protocol.

Invariant: a body is read into what the domain stores, or refused by a `HubError`; what was read has an encoding and is
the same after it, stays within the limits that are documented for it, and can be told again.
"""

from contextlib import suppress

import msgspec

from devices.fakes import NOW, NOW_MS, CountedIds
from fuzz.target import pure
from isthmus.base.errors import HubError
from isthmus.base.ids import DeviceRef, HubId
from isthmus.commands.file_upload import blob_of, read_correlation
from isthmus.commands.methods import parse_method
from isthmus.configurations.configuration import (
    Rule,
    changed_configuration,
    configuration_to_wire,
    decode_configuration,
    encode_configuration,
    new_configuration,
    parse_configuration,
)
from isthmus.devices.given_twin import given_applied, parse_given_twin
from isthmus.devices.identity import changed_identity, decode_identity, encode_identity, new_identity, parse_identity
from isthmus.devices.twin import (
    PROPERTIES_SIZE_MAX,
    TAGS_SIZE_MAX,
    Twin,
    client_section,
    decode_twin,
    encode_twin,
    new_twin,
    parse_twin_body,
    patched,
    replaced,
    reported_patched,
    section_size,
)
from isthmus.jobs.job import decode_job, encode_job, job_to_wire, new_job, parse_request
from isthmus.jobs.line import Line, read_line, write_error, write_line
from isthmus.jobs.lines import LineCutter
from isthmus.jobs.scheduled_job import decode_scheduled, encode_scheduled, new_scheduled, scheduled_to_wire
from isthmus.resources.hub import Hub
from isthmus.servers.gateway.event_hub_rest import BATCH_TYPE, message_of
from isthmus.servers.gateway.hosted_event import Sender, take
from isthmus.servers.gateway.http_device_contract import DeviceMessage, batch_messages, single_message
from isthmus.servers.gateway.http_file_contract import file_name, upload_end
from isthmus.servers.gateway.http_message import Call
from isthmus.telemetry.message import Envelope, decode_envelope, encode_envelope

REF = DeviceRef(HubId(1), "dev1")
MODULE = DeviceRef(HubId(1), "dev1", "mod1")
HUB = Hub(HubId(1), "hub", "hub.isthmus.test", 4, 0)


def body_of(data: bytes) -> object:
    """The JSON of a service's body; raises HubError."""
    return Call(HUB, REF, {}, {}, data).json()


def check_identity(data: bytes) -> None:
    """A device's and a module's identity, made and changed."""
    for ref in (REF, MODULE):
        with suppress(HubError):
            body = parse_identity(ref, body_of(data))
            made = new_identity(ref, body, CountedIds(), NOW_MS)
            assert decode_identity(encode_identity(made)) == made
            assert decode_identity(encode_identity(changed_identity(made, body, CountedIds(), NOW_MS))).status


def check_twin(data: bytes) -> None:
    """A patch, a replacement, and a device's reported properties, one upon the other; and a whole twin of an import."""
    twin = new_twin()
    for change in (patched, replaced):
        with suppress(HubError):
            twin = change(twin, parse_twin_body(body_of(data)), NOW)
            _check_stored(twin)
    with suppress(HubError):
        twin = reported_patched(twin, client_section(body_of(data), "properties.reported"), NOW)
        _check_stored(twin)
    with suppress(HubError):
        whole = body_of(data)
        assert not isinstance(whole, dict) or isinstance(whole.get("tags"), object)
        given = parse_given_twin(
            whole.get("tags") if isinstance(whole, dict) else None,
            whole.get("properties") if isinstance(whole, dict) else None,
        )
        _check_stored(given_applied(twin, given, NOW, is_new=True))


def _check_stored(twin: Twin) -> None:
    stored = decode_twin(encode_twin(twin))
    assert encode_twin(stored) == encode_twin(twin), "a twin says something else after it was stored"
    assert section_size(twin.tags) <= TAGS_SIZE_MAX
    assert section_size(twin.properties.desired) <= PROPERTIES_SIZE_MAX
    assert section_size(twin.properties.reported) <= PROPERTIES_SIZE_MAX


def check_method(data: bytes) -> None:
    """A direct method; its payload is passed on as it came and is JSON therefore."""
    with suppress(HubError):
        request = parse_method(data)
        msgspec.json.decode(request.payload, type=msgspec.Raw)  # numbers of any length pass through
        request.payload.decode()
        assert request.name.encode()


def check_job(data: bytes) -> None:
    """Imports and exports, and scheduled jobs."""
    with suppress(HubError):
        job = new_job(parse_request(body_of(data)), "job1", NOW_MS)
        assert decode_job(encode_job(job)) == job
        msgspec.json.encode(job_to_wire(job))
    with suppress(HubError):
        scheduled = new_scheduled("job1", body_of(data), NOW_MS)
        again = decode_scheduled(encode_scheduled(scheduled))
        again.selection  # noqa: B018
        msgspec.json.encode(scheduled_to_wire(again))


def check_import_line(data: bytes) -> None:
    """A line of an import, and the same identity as an export writes it."""
    read = read_line(data)
    if not isinstance(read, Line):
        assert msgspec.json.decode(write_error(read))
        return
    ref = DeviceRef(HubId(1), read.device_id, read.module_id)
    with suppress(HubError):
        identity = new_identity(ref, parse_identity(ref, read.body), CountedIds(), NOW_MS)
        line = write_line(identity, given_applied(new_twin(), read.twin, NOW, is_new=True), exclude_keys=False)
        assert isinstance(read_line(line.removesuffix(b"\n")), Line), "an export that no import takes"


def check_line_cutter(data: bytes) -> None:
    """Lines of a blob are the same however it comes, with the places behind them; of a long one no more is kept."""
    whole = _lines([data])
    assert _lines([data[place : place + 1] for place in range(len(data))]) == whole
    middle = len(data) // 2
    assert _lines([data[:middle], data[middle:]]) == whole
    lines = data.split(b"\n")
    assert [line for line, _ in whole] == [line.removesuffix(b"\r") for line in lines[: len(lines) - (not lines[-1])]]


def _lines(pieces: list[bytes]) -> list[tuple[bytes, int]]:
    cutter = LineCutter(0)
    found = [line for piece in pieces for line in cutter.take(piece)]
    return [*found, *cutter.rest()]


def check_configuration(data: bytes) -> None:
    """A configuration, made, changed, stored, told again, and made ready to be judged by."""
    with suppress(HubError):
        given = parse_configuration("c1", body_of(data))
        made = new_configuration(given, 1, NOW_MS)
        assert decode_configuration(encode_configuration(made)) == made
        again = changed_configuration(made, given, NOW_MS)
        msgspec.json.encode(configuration_to_wire(again))
        Rule(again)


def check_file(data: bytes) -> None:
    """What a device says of a file."""
    with suppress(HubError):
        assert len(blob_of("dev1", file_name(data))) <= 1_024
    with suppress(HubError):
        correlation, _ = upload_end(data, "")
        read_correlation(correlation)
    read_correlation(data.decode(errors="replace"))


def check_device_message(data: bytes) -> None:
    """A batch of a device; and a message, with a line for each header and the body behind an empty one."""
    head, _, body = data.partition(b"\n\n")
    lines = (line.partition(":") for line in head.decode("utf-8", "surrogateescape").split("\n"))
    with suppress(HubError):
        messages = [single_message([(name, value.strip()) for name, _, value in lines], body)]
        _check_messages(messages)
    with suppress(HubError):
        _check_messages(batch_messages(data))


def _check_messages(messages: list[DeviceMessage]) -> None:
    for message in messages:
        bag = message.bag
        envelope = Envelope(device_id="dev1", system=bag.system, properties=bag.properties)
        assert decode_envelope(encode_envelope(envelope)) == envelope


def check_hosted_events(data: bytes) -> None:
    """Events for a hosted event hub: a batch, and one with its properties in the first line."""
    properties, _, body = data.partition(b"\n")
    sender = Sender("owner", "public")
    with suppress(HubError):
        take(*message_of(data, BATCH_TYPE, ""), sender)
    with suppress(HubError):
        take(*message_of(body, "text/plain", properties.decode("utf-8", "surrogateescape")), sender)


TARGETS = (
    pure("identity", check_identity),
    pure("twin", check_twin),
    pure("method", check_method),
    pure("job", check_job),
    pure("import-line", check_import_line),
    pure("line-cutter", check_line_cutter),
    pure("configuration", check_configuration),
    pure("file", check_file),
    pure("device-message", check_device_message),
    pure("hosted-events", check_hosted_events),
)
