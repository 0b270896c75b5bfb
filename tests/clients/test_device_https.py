"""Devices over HTTPS, as the C SDK's HTTP transport speaks; read back and commanded by the stock clients."""

import base64
import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
from azure.iot.hub import IoTHubRegistryManager
from cryptography.hazmat.primitives import hashes

from clients.devices import OTHER_KEY, identity, key_of, make_device
from clients.feedback import FeedbackReader
from clients.names import resolved
from clients.raw import TIMEOUT_SECONDS
from clients.reading import EventCollector
from clients.sas import sas_token
from support.certificates import issue, write_pem
from support.server import RunningHub

Collect = Callable[..., EventCollector]

SYSTEM = {
    "iothub-messageid": "m-1",
    "iothub-correlationid": "c-1",
    "iothub-userid": "u-1",
    "iothub-contenttype": "application/json",
    "iothub-contentencoding": "utf-8",
    "iothub-creationtimeutc": "2026-01-02T03:04:05.678Z",
    "iothub-messageschema": "schema-1",
    "iothub-interface-id": "urn:interface:1",
    "dt-subject": "thermostat",
}
APPLICATION = {"iothub-app-line": "2", "IoTHub-App-Hall": "north side", "iothub-app-empty": ""}


class HttpsDevice:
    """A device or module as the C SDK's HTTP transport is one: one connection, kept alive."""

    def __init__(self, hub: RunningHub, name: str, token: str = "", cert: Path | None = None) -> None:
        device_id, _, module_id = name.partition("/")
        module = f"/modules/{module_id}" if module_id else ""
        self.path = f"/devices/{device_id}{module}"
        self.origin = f"https://{hub.host_name}"
        self.session = requests.Session()
        self.session.verify = str(hub.ca)
        self.session.cert = None if cert is None else str(cert)
        self.session.headers.update({"User-Agent": "iothubclient/1.14.0", "Accept": "application/json"})
        if token:
            self.session.headers["Authorization"] = token

    def ask(self, verb: str, path: str, query: str = "", data: bytes = b"", **headers: str) -> requests.Response:
        """One request; underscores of header names stand for dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"{self.origin}{self.path}{path}?api-version=2016-11-14{query}"
        return self.session.request(verb, url, data=data, headers=named, timeout=TIMEOUT_SECONDS)

    def send(self, data: bytes, headers: Mapping[str, str] | None = None) -> requests.Response:
        named = {"Content-Type": "application/octet-stream", "iothub-to": f"{self.path}/messages/events"}
        return self.ask("POST", "/messages/events", data=data, **named, **(headers or {}))

    def send_batch(self, batch: object) -> requests.Response:
        data = batch if isinstance(batch, bytes) else json.dumps(batch).encode()
        return self.ask("POST", "/messages/events", data=data, Content_Type="application/vnd.microsoft.iothub.json")

    def receive(self) -> requests.Response:
        return self.ask("GET", "/messages/devicebound")

    def settle(self, verb: str, etag: str, tail: str = "", query: str = "") -> requests.Response:
        return self.ask(verb, f"/messages/devicebound/{etag.strip(chr(34))}{tail}", query, If_Match=etag)


@contextmanager
def https_device(hub: RunningHub, name: str, *, create: bool = True, key: str = "") -> Iterator[HttpsDevice]:
    """A device that proves itself by its key."""
    if create:
        make_device(hub, name)
    own = key or key_of(hub.device_connection_string(name))
    device = HttpsDevice(hub, name, sas_token(f"{hub.host_name}/devices/{name}", own))
    with device.session:
        yield device


def test_a_message_arrives_with_its_properties(hub: RunningHub, device_id: str, collect: Collect) -> None:
    reader = collect()
    with https_device(hub, device_id) as device:
        answer = device.send(b'{"t":21}', SYSTEM | APPLICATION)
        assert (answer.status_code, answer.content) == (204, b"")
        assert "Content-Type" not in answer.headers
    (event,) = reader.of_device(device_id)
    assert event.body_as_str() == '{"t":21}'
    assert event.properties == {b"line": b"2", b"Hall": b"north side", b"empty": b""}
    assert (event.message_id, event.correlation_id, event.content_type) == ("m-1", "c-1", "application/json")
    raw = event.raw_amqp_message.properties
    assert raw is not None
    assert (raw.user_id, raw.content_encoding) == (b"u-1", b"utf-8")
    assert raw.creation_time == int(datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC).timestamp() * 1000)
    assert raw.to == f"/devices/{device_id}/messages/events".encode()
    system = event.system_properties
    assert system[b"iothub-connection-auth-generation-id"] == identity(hub, device_id)["generationId"].encode()
    method = {"scope": "device", "type": "sas", "issuer": "iothub", "acceptingIpFilterRule": None}
    assert json.loads(system[b"iothub-connection-auth-method"]) == method
    assert system[b"iothub-message-source"] == b"Telemetry"
    assert (system[b"dt-subject"], system[b"iothub-message-schema"]) == (b"thermostat", b"schema-1")
    assert system[b"iothub-interface-id"] == b"urn:interface:1"


def test_messages_of_a_device_keep_their_order_across_kinds(hub: RunningHub, device_id: str, collect: Collect) -> None:
    reader = collect()
    with https_device(hub, device_id) as device:
        assert device.send(b"0").status_code == 204
        batch = [{"body": base64.b64encode(b"%d" % number).decode()} for number in range(1, 51)]
        assert device.send_batch(batch).status_code == 204
        assert device.send(b"51").status_code == 204
    events = reader.of_device(device_id, 52)
    assert [event.body_as_str() for event in events] == [str(number) for number in range(52)]


def test_a_batch_has_text_and_binary_and_scalars(hub: RunningHub, device_id: str, collect: Collect) -> None:
    reader = collect()
    with https_device(hub, device_id) as device:
        batch = [
            {"body": "aGVsbG8=", "properties": {"iothub-app-k": "v", "iothub-messageid": "1", "dt-subject": "comp"}},
            {"body": "text as is é", "base64Encoded": False, "properties": {"iothub-app-n": 5, "iothub-app-b": True}},
            {"body": "", "base64Encoded": True},
        ]
        assert device.send_batch(batch).status_code == 204
    first, second, third = reader.of_device(device_id, 3)
    assert (first.body_as_str(), first.message_id, first.properties) == ("hello", "1", {b"k": b"v"})
    assert first.system_properties[b"dt-subject"] == b"comp"
    assert (second.body_as_str(), second.properties) == ("text as is é", {b"n": b"5", b"b": b"true"})
    assert third.body_as_str() == ""


def test_a_bad_batch_is_refused_whole(hub: RunningHub, device_id: str, collect: Collect) -> None:
    reader = collect()
    good = {"body": "Z29vZA=="}
    with https_device(hub, device_id) as device:
        unnamed = {"body": "", "properties": {"iothub-app-a b": "v"}}
        for batch, status, code, rule in (
            (b'[{"body":', 400, "DeserializationError", "contract.batch"),
            (b'{"body":"eA=="}', 400, "DeserializationError", "contract.batch"),
            ([good, {"body": "%"}], 400, "ArgumentInvalid", "contract.batch"),
            ([good, unnamed], 400, "ArgumentInvalid", "contract.message-header"),
            ([], 400, "ArgumentInvalid", "contract.batch"),
            ([good] * 5_001, 413, "MessageTooLarge", "limit.batch"),
            (b"[" + b" " * 262_144, 413, "MessageTooLarge", "limit.message-size"),
        ):
            assert_refused(hub, device_id, device.send_batch(batch), status, code, rule)
        assert device.send(b"last").status_code == 204
    assert [event.body_as_str() for event in reader.of_device(device_id)] == ["last"]


def test_the_largest_message_goes_and_one_byte_more_does_not(hub: RunningHub, device_id: str, collect: Collect) -> None:
    reader = collect()
    with https_device(hub, device_id) as device:
        headers = {"iothub-app-abc": "xyz"}
        to = len(f"{device.path}/messages/events")
        room = 262_144 - 6 - to
        assert device.send(b"x" * room, headers).status_code == 204
        answer = device.send(b"x" * (room + 1), headers)
        assert_refused(hub, device_id, answer, 413, "MessageTooLarge", "limit.message-size")
        many = {f"iothub-app-p{number}": "v" for number in range(400)}
        assert device.send(b"many", many).status_code == 204
        for value in ("é", "日本".encode().decode("latin-1")):
            answer = device.send(b"x", {"iothub-app-name": value})
            assert_refused(hub, device_id, answer, 400, "ArgumentInvalid", "contract.message-header")
        answer = device.send(b"x", {"iothub-creationtimeutc": "yesterday"})
        assert_refused(hub, device_id, answer, 400, "ArgumentInvalid", "contract.message-header")
    largest, many_properties = reader.of_device(device_id, 2)
    assert len(largest.body_as_str()) == room
    assert len(many_properties.properties) == 400


def test_a_module_sends_by_its_own_key_only(
    hub: RunningHub, device_id: str, service: IoTHubRegistryManager, collect: Collect
) -> None:
    reader = collect()
    make_device(hub, device_id)
    service.create_module_with_sas(device_id, "vision", "", key(1), key(2))
    name = f"{device_id}/vision"
    token = sas_token(f"{hub.host_name}/devices/{device_id}/modules/vision", key(1))
    assert HttpsDevice(hub, name, token).send(b"from the module").status_code == 204
    assert HttpsDevice(hub, device_id, token).send(b"as the device").status_code == 401
    device_token = sas_token(f"{hub.host_name}/devices/{device_id}", key_of(hub.device_connection_string(device_id)))
    assert HttpsDevice(hub, name, device_token).send(b"as the module").status_code == 401
    (event,) = reader.of_device(device_id)
    assert event.system_properties[b"iothub-connection-module-id"] == b"vision"
    assert json.loads(event.system_properties[b"iothub-connection-auth-method"])["scope"] == "module"


def test_a_policy_with_device_connect_and_no_other_sends_for_a_device(
    hub: RunningHub, device_id: str, collect: Collect
) -> None:
    reader = collect()
    make_device(hub, device_id)
    for policy, status in (("device", 204), ("service", 401)):
        token = sas_token(hub.host_name, key_of(hub.connection_string(policy)), policy)
        assert HttpsDevice(hub, device_id, token).send(policy.encode()).status_code == status
    assert hub.json("explain", "--device-id", device_id)[0]["rule"] == "auth.right"
    (event,) = reader.of_device(device_id)
    assert json.loads(event.system_properties[b"iothub-connection-auth-method"])["scope"] == "hub"


def test_a_certificate_needs_no_token(hub: RunningHub, device_id: str, tmp_path: Path, collect: Collect) -> None:
    reader = collect()
    good, other = issue(device_id), issue(device_id)
    hub.isthmus(
        *("device-identity", "create", "-d", device_id, "--auth-method", "x509_thumbprint"),
        *("--primary-thumbprint", good.certificate.fingerprint(hashes.SHA256()).hex().upper()),
    )
    answer = HttpsDevice(hub, device_id, cert=write_pem(tmp_path / "other.pem", other)).send(b"wrong")
    assert_refused(hub, device_id, answer, 401, "IotHubUnauthorizedAccess", "auth.thumbprint")
    assert_refused(
        hub, device_id, HttpsDevice(hub, device_id).send(b"none"), 401, "IotHubUnauthorizedAccess", "auth.missing"
    )
    device = HttpsDevice(hub, device_id, cert=write_pem(tmp_path / "good.pem", good))
    assert device.send(b"right").status_code == 204
    assert device.receive().status_code == 204
    (event,) = reader.of_device(device_id)
    assert json.loads(event.system_properties[b"iothub-connection-auth-method"])["type"] == "x509"


def test_a_command_is_received_with_its_properties_and_completed(
    hub: RunningHub, device_id: str, service: IoTHubRegistryManager
) -> None:
    with https_device(hub, device_id) as device:
        assert device.receive().status_code == 204
        properties = {
            "messageId": "m-1",
            "correlationId": "c-1",
            "contentType": "application/json",
            "contentEncoding": "utf-8",
            "iothub-ack": "full",
            "colour": "blue",
        }
        service.send_c2d_message(device_id, '{"a":1}', properties)
        service.send_c2d_message(device_id, "second", {"messageId": "m-2"})
        first = device.receive()
        assert (first.status_code, first.content) == (200, b'{"a":1}')
        headers = first.headers
        assert re.fullmatch(r'"[^"]+"', headers["ETag"])
        assert headers["Content-Type"] == "application/octet-stream"
        assert (headers["ContentType"], headers["ContentEncoding"]) == ("application/json", "utf-8")
        assert (headers["iothub-messageid"], headers["iothub-correlationid"]) == ("m-1", "c-1")
        assert headers["iothub-to"] == f"/devices/{device_id}/messages/devicebound"
        assert (headers["iothub-ack"], headers["iothub-app-colour"]) == ("full", "blue")
        assert (headers["iothub-deliverycount"], headers["iothub-sequencenumber"]) == ("0", "1")
        enqueued = datetime.fromisoformat(headers["iothub-enqueuedtime"])
        assert abs((datetime.now(UTC) - enqueued).total_seconds()) < 60
        assert datetime.fromisoformat(headers["iothub-expiry"]) > enqueued
        second = device.receive()
        assert second.headers["iothub-messageid"] == "m-2"
        assert device.receive().status_code == 204
        assert device.settle("DELETE", headers["ETag"]).status_code == 204
        lost = device.settle("DELETE", headers["ETag"])
        assert_refused(hub, device_id, lost, 412, "DeviceMessageLockLost", "error.DeviceMessageLockLost")
        assert device.settle("POST", second.headers["ETag"], "/abandon").status_code == 204
        again = device.receive()
        assert (again.content, again.headers["iothub-deliverycount"]) == (b"second", "1")
        assert device.settle("DELETE", again.headers["ETag"]).status_code == 204
        assert device.receive().status_code == 204


def test_feedback_tells_what_a_device_did_with_commands(
    hub: RunningHub, device_id: str, service: IoTHubRegistryManager
) -> None:
    feedback = FeedbackReader(hub.connection_string(), hub.json("iot", "hub", "show")["name"])
    done, bad = f"{device_id}-done", f"{device_id}-bad"
    with https_device(hub, device_id) as device:
        service.send_c2d_message(device_id, "done?", {"messageId": done, "iothub-ack": "full"})
        service.send_c2d_message(device_id, "bad?", {"messageId": bad, "iothub-ack": "full"})
        assert device.settle("DELETE", device.receive().headers["ETag"]).status_code == 204
        assert device.settle("DELETE", device.receive().headers["ETag"], query="&reject").status_code == 204
    assert feedback.wait_for(done)["statusCode"] == "Success"
    assert feedback.wait_for(bad)["statusCode"] == "Rejected"


def test_a_device_over_https_is_not_connected(hub: RunningHub, device_id: str) -> None:
    with https_device(hub, device_id) as device:
        assert device.send(b"hello").status_code == 204
        assert identity(hub, device_id)["connectionState"] == "Disconnected"


def test_paths_and_versions_are_taken_as_clients_write_them(hub: RunningHub, device_id: str) -> None:
    with https_device(hub, device_id) as device:
        assert device.ask("GET", "/messages/deviceBound").status_code == 204
        assert device.ask("POST", "/Messages/Events/", data=b"x").status_code == 204
        url = f"{device.origin}{device.path}/messages/events"
        answer = device.session.post(url, data=b"x", timeout=TIMEOUT_SECONDS)
        assert (answer.status_code, answer.headers["iothub-errorcode"]) == (400, "InvalidProtocolVersion")
        # The hub has no storage for files, and says so.
        assert device.ask("POST", "/files", data=b'{"blobName":"a"}').status_code == 400


def test_strangers_hear_the_same_and_the_owner_everything(hub: RunningHub, device_id: str) -> None:
    own = key_of(hub.create_device(device_id))
    off = f"{device_id}-off"
    off_key = key_of(hub.create_device(off))
    hub.isthmus("device-identity", "update", "-d", off, "--set", "status=disabled")
    scope = f"{hub.host_name}/devices/{device_id}"
    tries = (
        ("auth.missing", device_id, ""),
        ("auth.malformed", device_id, "Bearer nonsense"),
        ("auth.signature", device_id, sas_token(scope, OTHER_KEY)),
        ("auth.expired", device_id, sas_token(scope, own, seconds=-3600)),
        ("auth.unknown-policy", device_id, sas_token(scope, own, "nobody")),
        ("auth.scope", device_id, sas_token(f"{hub.host_name}/devices/another", own)),
        ("auth.scope", device_id, sas_token(f"other.isthmus.test/devices/{device_id}", own)),
        ("auth.unknown-device", f"{device_id}-none", sas_token(f"{scope}-none", own)),
        ("auth.disabled", off, sas_token(f"{hub.host_name}/devices/{off}", off_key)),
    )
    told = set()
    for rule, name, token in tries:
        device = HttpsDevice(hub, name, token)
        for answer in (device.send(b"x"), device.receive(), device.settle("DELETE", '"token"')):
            assert_refused(hub, name, answer, 401, "IotHubUnauthorizedAccess", rule)
            told.add(answer.json()["Message"])
    assert told == {"ErrorCode:IotHubUnauthorizedAccess;Unauthorized"}


def test_a_door_policy_and_a_closed_public_door_hold_here_too(
    hub: RunningHub, device_id: str, loopback_address: str, collect: Collect
) -> None:
    reader = collect()
    name = f"https-{uuid.uuid4().hex[:6]}"
    hub.isthmus(
        *("network", "private-endpoint", "create", "--name", name, "--connection-name", name),
        *("--private-connection-resource-id", hub.json("iot", "hub", "show")["id"], "--group-id", "iotHub"),
        *("--ip-config", f"name={name}", "group-id=iotHub", "member-name=iotHub"),
        f"private-ip-address={loopback_address}",
    )
    token = sas_token(f"{hub.host_name}/devices/{device_id}", key_of(hub.create_device(device_id)))
    try:
        hub.isthmus("policy", "create", "-n", name, "--device-id", device_id, "--doors", f"private:{name}")
        answer = HttpsDevice(hub, device_id, token).send(b"bound")
        assert_refused(hub, device_id, answer, 401, "IotHubUnauthorizedAccess", "policy.wrong-door")
        hub.isthmus("policy", "delete", "-n", name)
        hub.isthmus("iot", "hub", "update", "--set", "properties.publicNetworkAccess=Disabled")
        answer = HttpsDevice(hub, device_id, token).send(b"outside")
        assert_refused(hub, device_id, answer, 401, "IotHubUnauthorizedAccess", "network.public-access")
        with resolved(hub.host_name, loopback_address):
            inside = HttpsDevice(hub, device_id, token)
            assert inside.send(b"inside").status_code == 204
            assert inside.receive().status_code == 204
    finally:
        hub.isthmus("iot", "hub", "update", "--set", "properties.publicNetworkAccess=Enabled")
        hub.isthmus("network", "private-endpoint", "delete", "--name", name)
    assert [event.body_as_str() for event in reader.of_device(device_id)] == ["inside"]


def test_a_route_asks_the_twin_of_a_device_without_a_session(
    hub: RunningHub, device_id: str, service: IoTHubRegistryManager, collect: Collect
) -> None:
    reader = collect()
    route = f"hall-{uuid.uuid4().hex[:6]}"
    hub.isthmus(
        *("iot", "hub", "message-route", "create", "--route-name", route, "--source-type", "DeviceMessages"),
        *("--endpoint-name", "events", "--condition", "$twin.tags.hall = 'north'", "--enabled", "true"),
    )
    fallback = ("iot", "hub", "message-route", "fallback", "set", "--enabled")
    try:
        hub.isthmus(*fallback, "false")
        with https_device(hub, device_id) as device:
            assert device.send(b"not yet").status_code == 204
            twin = service.get_twin(device_id)
            twin.tags = {"hall": "north"}
            service.update_twin(device_id, twin, twin.etag)
            assert device.send(b"now").status_code == 204
    finally:
        hub.isthmus(*fallback, "true")
        hub.isthmus("iot", "hub", "message-route", "delete", "--route-name", route)
    assert [event.body_as_str() for event in reader.of_device(device_id)] == ["now"]


def assert_refused(
    hub: RunningHub, device_id: str, answer: requests.Response, status: int, code: str, rule: str
) -> None:
    """The body and headers that clients parse, and the rule in `explain` by the tracking id."""
    assert (answer.status_code, answer.headers["iothub-errorcode"]) == (status, code)
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    body: dict[str, Any] = answer.json()
    assert set(body) == {"Message", "ExceptionMessage"}
    named, _, said = body["Message"].partition(";")
    assert named == f"ErrorCode:{code}"
    assert said
    assert ";" not in said
    tracking_id = re.fullmatch(r"Tracking ID:(\S+ \S+)", body["ExceptionMessage"])
    assert tracking_id, body
    (entry,) = hub.json("explain", tracking_id[1])
    assert (entry["rule"], entry["plane"], entry["device"]) == (rule, "https", device_id)


def key(number: int) -> str:
    return base64.b64encode(bytes([number]) * 32).decode()
