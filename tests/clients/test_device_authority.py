"""Devices and modules whose certificate a CA of the hub's owner signed: stock clients, and the CA's own life."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.iot.device import X509, IoTHubDeviceClient, IoTHubModuleClient
from azure.iot.device.exceptions import CredentialError
from azure.iot.hub import IoTHubRegistryManager
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from clients.devices import key_of, make_device
from clients.managing import GROUP, MANAGEMENT_OPTIONS, Managing, told
from clients.node import node
from clients.reading import WAIT_SECONDS, EventCollector
from clients.sas import sas_token
from clients.test_device_https import HttpsDevice
from support.certificates import DAY, Issued, issue, write_pem
from support.server import RunningHub

HUB_OPTIONS = MANAGEMENT_OPTIONS
AUTH = {"scope": "device", "type": "x509", "issuer": "iothub", "acceptingIpFilterRule": None}

ROOT = issue("Works root", authority=True)
LINE = issue("Line 2", ROOT, authority=True)


@pytest.fixture(scope="module", autouse=True)
def root(hub: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The root is registered and verified for all tests here."""
    path = certificate_file(tmp_path_factory.mktemp("ca") / "root.pem", ROOT)
    hub.isthmus("iot", "hub", "certificate", "create", "-n", "works", "--path", str(path), "--verified")


@pytest.mark.parametrize("carrier", [{}, {"websockets": True}], ids=["MQTT", "WebSocket"])
def test_a_device_comes_in_by_a_chain_with_an_intermediate(
    hub: RunningHub, device_id: str, tmp_path: Path, collect: Callable[..., EventCollector], carrier: dict[str, bool]
) -> None:
    reader = collect()
    make(hub, device_id)
    chain = write_pem(tmp_path / "device.pem", issue(device_id, LINE), LINE)
    with connected(hub, device_id, chain, **carrier) as device:
        device.send_message("by our CA")
        device.patch_twin_reported_properties({"proof": "chain"})
        assert device.get_twin()["reported"]["proof"] == "chain"
    (event,) = reader.of_device(device_id)
    assert event.body_as_str() == "by our CA"
    assert json.loads(event.system_properties[b"iothub-connection-auth-method"]) == AUTH


def test_a_module_comes_in_by_a_certificate_for_both_names(
    hub: RunningHub,
    device_id: str,
    tmp_path: Path,
    collect: Callable[..., EventCollector],
    service: IoTHubRegistryManager,
) -> None:
    reader = collect()
    make(hub, device_id)
    service.create_module_with_certificate_authority(device_id, "vision", "")
    path = str(write_pem(tmp_path / "module.pem", issue(f"{device_id}/vision", LINE), LINE))
    module = IoTHubModuleClient.create_from_x509_certificate(
        X509(path, path), hub.host_name, device_id, "vision", server_verification_cert=hub.ca.read_text()
    )
    module.connect()
    try:
        module.send_message("from the module")
    finally:
        module.shutdown()
    (event,) = reader.of_device(device_id)
    assert event.system_properties[b"iothub-connection-module-id"] == b"vision"


def test_a_device_sends_over_https_by_its_chain(
    hub: RunningHub, device_id: str, tmp_path: Path, collect: Callable[..., EventCollector]
) -> None:
    reader = collect()
    make(hub, device_id)
    good = HttpsDevice(hub, device_id, cert=write_pem(tmp_path / "good.pem", issue(device_id, LINE), LINE))
    assert good.send(b"right").status_code == 204
    for number, (shown, rule) in enumerate(strangers(device_id).items()):
        answer = HttpsDevice(hub, device_id, cert=write_pem(tmp_path / f"{number}.pem", *rule[1])).send(b"wrong")
        assert (answer.status_code, answer.headers["iothub-errorcode"]) == (401, "IotHubUnauthorizedAccess"), shown
        assert_explained(hub, device_id, rule[0])
    assert HttpsDevice(hub, device_id).send(b"nothing").status_code == 401
    assert_explained(hub, device_id, "auth.missing")
    assert len(reader.of_device(device_id)) == 1


def strangers(device_id: str) -> dict[str, tuple[str, list[Issued]]]:
    """What is refused, by which rule."""
    foreign = issue("Works root", authority=True)
    return {
        "without the intermediate": ("auth.ca-unknown", [issue(device_id, LINE)]),
        "self-signed": ("auth.ca-unknown", [issue(device_id)]),
        "an impostor's": ("auth.certificate-chain", [issue(device_id, foreign), foreign]),
        "another device's": ("auth.certificate-name", [issue("another", LINE), LINE]),
        "ended": ("auth.certificate-expired", [issue(device_id, LINE, begins=-2 * DAY, ends=-DAY), LINE]),
    }


@pytest.mark.parametrize("name", list(strangers("any")))
def test_what_does_not_hold_is_refused_over_mqtt_and_explained(
    hub: RunningHub, device_id: str, tmp_path: Path, name: str
) -> None:
    make(hub, device_id)
    rule, chain = strangers(device_id)[name]
    device = client(hub, device_id, write_pem(tmp_path / "device.pem", *chain))
    with pytest.raises(CredentialError):
        device.connect()
    device.shutdown()
    assert_explained(hub, device_id, rule)


def test_a_token_of_a_device_of_a_ca_is_refused(hub: RunningHub, device_id: str) -> None:
    make(hub, device_id)
    make_device(hub, f"{device_id}-key")
    key = key_of(hub.device_connection_string(f"{device_id}-key"))
    token = sas_token(f"{hub.host_name}/devices/{device_id}", key)
    assert HttpsDevice(hub, device_id, token).send(b"by key").status_code == 401
    assert_explained(hub, device_id, "auth.method")


def test_a_stock_node_device_shows_its_chain(
    hub: RunningHub, device_id: str, tmp_path: Path, collect: Callable[..., EventCollector]
) -> None:
    reader = collect()
    make(hub, device_id)
    shown = issue(device_id, LINE)
    chain = tmp_path / "chain.pem"
    chain.write_text(shown.pem + LINE.pem)
    key = write_pem(tmp_path / "device.pem", shown)
    connection_string = f"HostName={hub.host_name};DeviceId={device_id};x509=true"
    told_by_node = node(
        *("device_x509.cjs", connection_string, str(chain), str(key)), ca=hub.ca, names={hub.host_name: hub.address}
    )
    assert told_by_node == {"sent": "by our CA, from Node"}
    (event,) = reader.of_device(device_id)
    assert event.body_as_str() == "by our CA, from Node"


def test_a_ca_is_renewed_by_a_second_certificate_without_an_outage(
    hub: RunningHub, device_id: str, tmp_path: Path
) -> None:
    old, new = issue("Old CA", authority=True), issue("New CA", authority=True)
    register(hub, tmp_path, "old", old)
    make(hub, device_id)
    make(hub, f"{device_id}-2")
    first = write_pem(tmp_path / "first.pem", issue(device_id, old))
    second = write_pem(tmp_path / "second.pem", issue(f"{device_id}-2", new))
    with connected(hub, device_id, first, connection_retry=False) as staying:
        register(hub, tmp_path, "new", new)
        cut = told_when_cut(staying)
        with connected(hub, f"{device_id}-2", second, connection_retry=False) as moved:
            lost = told_when_cut(moved)
            affected = remove(hub, "old", "--dry-run")
            assert [each["device"] for each in affected] == [device_id]
            assert not cut.is_set()
            remove(hub, "old")
            assert cut.wait(WAIT_SECONDS)
            moved.send_message("still here")
            assert not lost.is_set()
    device = client(hub, device_id, first)
    with pytest.raises(CredentialError):
        device.connect()
    device.shutdown()
    assert_explained(hub, device_id, "auth.ca-unknown")
    with connected(hub, device_id, write_pem(tmp_path / "renewed.pem", issue(device_id, new))) as device:
        device.send_message("by the new one")


def test_a_device_waits_for_the_proof_of_possession(hub: RunningHub, device_id: str, tmp_path: Path) -> None:
    made = issue("Proved CA", authority=True)
    path = tmp_path / "proved.der"
    path.write_bytes(made.der)
    shown = hub.json("iot", "hub", "certificate", "create", "-n", "proved", "-p", str(path))
    assert shown["properties"]["isVerified"] is False
    make(hub, device_id)
    chain = write_pem(tmp_path / "device.pem", issue(device_id, made))
    device = client(hub, device_id, chain)
    with pytest.raises(CredentialError):
        device.connect()
    device.shutdown()
    assert_explained(hub, device_id, "auth.ca-unverified")
    command = ("iot", "hub", "certificate")
    asked = hub.json(*command, "generate-verification-code", "-n", "proved", "--etag", shown["etag"])
    proof = certificate_file(tmp_path / "proof.pem", issue(asked["properties"]["verificationCode"], made))
    verified = hub.json(*command, "verify", "-n", "proved", "-p", str(proof), "--etag", asked["etag"])
    assert verified["properties"]["isVerified"] is True
    assert verified in hub.json(*command, "list")["value"]
    with connected(hub, device_id, chain, connection_retry=False) as device:
        cut = told_when_cut(device)
        flags = ("-n", "proved", "--verified", "false", "--etag", verified["etag"])
        assert hub.json(*command, "update", *flags)["properties"]["isVerified"] is False
        assert cut.wait(WAIT_SECONDS)


def test_the_stock_management_client_manages_certificates(owner: Managing) -> None:
    certificates, made = owner.iothub.certificates, issue("ARM CA", authority=True)
    properties = {"properties": {"certificate": made.pem}}
    created = certificates.create_or_update(GROUP, owner.hub_name, "arm", properties)
    assert created.name == "arm"
    assert created.properties.thumbprint == made.certificate.fingerprint(hashes.SHA1()).hex().upper()
    assert created.properties.expiry == made.certificate.not_valid_after_utc
    assert certificates.get(GROUP, owner.hub_name, "arm").etag == created.etag
    assert "arm" in [each.name for each in certificates.list_by_iot_hub(GROUP, owner.hub_name).value]
    asked = certificates.generate_verification_code(GROUP, owner.hub_name, "arm", created.etag)
    proof = {"certificate": issue(asked.properties.verification_code, made).pem}
    with pytest.raises(HttpResponseError) as stale:
        certificates.verify(GROUP, owner.hub_name, "arm", created.etag, proof)
    assert told(stale.value) == (412, "PreconditionFailed")
    verified = certificates.verify(GROUP, owner.hub_name, "arm", asked.etag, proof)
    assert verified.properties.is_verified
    leaf = {"properties": {"certificate": issue("leaf", made).pem}}
    with pytest.raises(HttpResponseError) as refused:
        certificates.create_or_update(GROUP, owner.hub_name, "leaf", leaf)
    assert told(refused.value) == (400, "ArgumentInvalid")
    certificates.delete(GROUP, owner.hub_name, "arm", verified.etag)
    with pytest.raises(ResourceNotFoundError) as gone:
        certificates.get(GROUP, owner.hub_name, "arm")
    assert told(gone.value) == (404, "CertificateNotFound")


def test_times_are_written_as_arm_writes_them(hub: RunningHub) -> None:
    shown = hub.json("iot", "hub", "certificate", "show", "-n", "works")["properties"]
    assert parsedate_to_datetime(shown["expiry"]) == ROOT.certificate.not_valid_after_utc
    assert shown["subject"] == "CN=Works root"
    assert shown["certificate"].encode() == ROOT.certificate.public_bytes(Encoding.PEM)


@contextmanager
def connected(hub: RunningHub, device_id: str, pem: Path, **options: Any) -> Iterator[IoTHubDeviceClient]:
    device = client(hub, device_id, pem, **options)
    device.connect()
    try:
        yield device
    finally:
        device.shutdown()


def client(hub: RunningHub, device_id: str, pem: Path, **options: Any) -> IoTHubDeviceClient:
    """A client that shows the chain of a PEM file with the key in it."""
    return IoTHubDeviceClient.create_from_x509_certificate(
        X509(str(pem), str(pem)), hub.host_name, device_id, server_verification_cert=hub.ca.read_text(), **options
    )


def told_when_cut(device: IoTHubDeviceClient) -> threading.Event:
    cut = threading.Event()
    device.on_connection_state_change = lambda: cut.set() if not device.connected else None
    return cut


def make(hub: RunningHub, device_id: str) -> None:
    hub.isthmus("device-identity", "create", "-d", device_id, "--am", "x509_ca")


def register(hub: RunningHub, folder: Path, name: str, issued: Issued) -> None:
    """Registers a CA's certificate, verified."""
    path = certificate_file(folder / f"{name}-ca.pem", issued)
    hub.isthmus("iot", "hub", "certificate", "create", "-n", name, "-p", str(path), "-v")


def remove(hub: RunningHub, name: str, *flags: str) -> Any:
    etag = hub.json("iot", "hub", "certificate", "show", "-n", name)["etag"]
    return hub.json("iot", "hub", "certificate", "delete", "-n", name, "--etag", etag, *flags)


def certificate_file(path: Path, issued: Issued) -> Path:
    path.write_text(issued.pem)
    return path


def assert_explained(hub: RunningHub, device_id: str, rule: str) -> None:
    newest = hub.json("explain", "--device-id", device_id)[0]
    assert newest["rule"] == rule
    assert newest["remedy"]
