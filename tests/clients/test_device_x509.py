"""Devices and modules that prove themselves by a self-signed certificate, on the stock client and by its bytes."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from azure.iot.device import X509, IoTHubDeviceClient, IoTHubModuleClient
from azure.iot.device.exceptions import CredentialError
from azure.iot.hub import IoTHubRegistryManager
from cryptography.hazmat.primitives import hashes

from clients.devices import OTHER_KEY, client_of, make_device
from clients.raw import NOT_AUTHORIZED, RawMqtt
from clients.reading import WAIT_SECONDS, EventCollector
from clients.sas import sas_token
from support.certificates import Issued, issue, write_pem
from support.server import RunningHub

X509_AUTH = {"scope": "device", "type": "x509", "issuer": "iothub", "acceptingIpFilterRule": None}


@pytest.mark.parametrize("digest", [hashes.SHA1(), hashes.SHA256()], ids=lambda digest: str(digest.name))
@pytest.mark.parametrize("flag", ["--primary-thumbprint", "--secondary-thumbprint"])
def test_either_thumbprint_of_either_hash_lets_the_device_in(
    hub: RunningHub,
    device_id: str,
    tmp_path: Path,
    collect: Callable[..., EventCollector],
    digest: hashes.HashAlgorithm,
    flag: str,
) -> None:
    reader = collect()
    certificate = issue(device_id)
    thumbprints = {"--primary-thumbprint": "A" * 40, flag: thumbprint(certificate, digest)}
    make_x509_device(hub, device_id, **thumbprints)
    with connected(hub, device_id, write_pem(tmp_path / "device.pem", certificate)) as device:
        device.send_message("by certificate")
        device.patch_twin_reported_properties({"proof": "x509"})
        assert device.get_twin()["reported"]["proof"] == "x509"
    (event,) = reader.of_device(device_id)
    assert event.body_as_str() == "by certificate"
    assert json.loads(event.system_properties[b"iothub-connection-auth-method"]) == X509_AUTH


def test_another_certificate_is_refused_and_explained(hub: RunningHub, device_id: str, tmp_path: Path) -> None:
    make_x509_device(hub, device_id, **{"--primary-thumbprint": thumbprint(issue(device_id))})
    device = x509_client(hub, device_id, write_pem(tmp_path / "other.pem", issue(device_id)))
    with pytest.raises(CredentialError):
        device.connect()
    device.shutdown()
    assert_explained(hub, device_id, "auth.thumbprint")


def test_certificate_of_an_unknown_device_is_refused_alike(hub: RunningHub, device_id: str, tmp_path: Path) -> None:
    device = x509_client(hub, device_id, write_pem(tmp_path / "device.pem", issue(device_id)))
    with pytest.raises(CredentialError):
        device.connect()
    device.shutdown()
    assert_explained(hub, device_id, "auth.unknown-device")


def test_token_of_a_certificate_identity_is_refused(hub: RunningHub, device_id: str, tmp_path: Path) -> None:
    make_x509_device(hub, device_id, **{"--primary-thumbprint": thumbprint(issue(device_id))})
    connection_string = f"HostName={hub.host_name};DeviceId={device_id};SharedAccessKey={OTHER_KEY}"
    device = client_of(hub, connection_string, connection_retry=False)
    with pytest.raises(CredentialError):
        device.connect()
    device.shutdown()
    assert_explained(hub, device_id, "auth.method")


def test_certificate_of_a_key_identity_is_refused(hub: RunningHub, device_id: str, tmp_path: Path) -> None:
    make_device(hub, device_id)
    device = x509_client(hub, device_id, write_pem(tmp_path / "device.pem", issue(device_id)))
    with pytest.raises(CredentialError):
        device.connect()
    device.shutdown()
    assert_explained(hub, device_id, "auth.method")


def test_neither_token_nor_certificate_is_refused(hub: RunningHub, device_id: str) -> None:
    make_x509_device(hub, device_id, **{"--primary-thumbprint": thumbprint(issue(device_id))})
    user = f"{hub.host_name}/{device_id}/?api-version=2021-04-12"
    with RawMqtt(hub) as stranger:
        assert stranger.connect(device_id, user, "") == NOT_AUTHORIZED
    assert_explained(hub, device_id, "auth.missing")
    with RawMqtt(hub) as stranger:
        token = sas_token(f"{hub.host_name}/devices/{device_id}", OTHER_KEY)
        assert stranger.connect(device_id, user, token) == NOT_AUTHORIZED
    assert_explained(hub, device_id, "auth.method")


def test_device_whose_thumbprint_is_replaced_is_cut(hub: RunningHub, device_id: str, tmp_path: Path) -> None:
    old, new = issue(device_id), issue(device_id)
    make_x509_device(hub, device_id, **{"--primary-thumbprint": thumbprint(old)})
    with connected(hub, device_id, write_pem(tmp_path / "old.pem", old), connection_retry=False) as device:
        cut = threading.Event()
        device.on_connection_state_change = lambda: cut.set() if not device.connected else None
        hub.isthmus("device-identity", "update", "-d", device_id, "--primary-thumbprint", thumbprint(new))
        assert cut.wait(WAIT_SECONDS)
    with connected(hub, device_id, write_pem(tmp_path / "new.pem", new)) as device:
        device.send_message("with the new one")


def test_module_proves_itself_by_a_certificate_of_its_own(
    hub: RunningHub,
    device_id: str,
    tmp_path: Path,
    collect: Callable[..., EventCollector],
    service: IoTHubRegistryManager,
) -> None:
    reader = collect()
    make_device(hub, device_id)
    certificate = issue("vision")
    service.create_module_with_x509(device_id, "vision", "", thumbprint(certificate), "B" * 64)
    path = str(write_pem(tmp_path / "module.pem", certificate))
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
    assert json.loads(event.system_properties[b"iothub-connection-auth-method"]) == X509_AUTH | {"scope": "module"}


@contextmanager
def connected(hub: RunningHub, device_id: str, pem: Path, **options: Any) -> Iterator[IoTHubDeviceClient]:
    device = x509_client(hub, device_id, pem, **options)
    device.connect()
    try:
        yield device
    finally:
        device.shutdown()


def x509_client(hub: RunningHub, device_id: str, pem: Path, **options: Any) -> IoTHubDeviceClient:
    """A client that shows the certificate of a PEM file with the key in it."""
    return IoTHubDeviceClient.create_from_x509_certificate(
        X509(str(pem), str(pem)),
        hub.host_name,
        device_id,
        server_verification_cert=hub.ca.read_text(),
        **options,
    )


def make_x509_device(hub: RunningHub, device_id: str, **thumbprints: str) -> None:
    """Registers a device by the thumbprints of its certificates, named as the command line's flags."""
    flags = [word for pair in thumbprints.items() for word in pair]
    hub.isthmus("device-identity", "create", "-d", device_id, "--auth-method", "x509_thumbprint", *flags)


def thumbprint(certificate: Issued, digest: hashes.HashAlgorithm | None = None) -> str:
    """As `openssl x509 -fingerprint` prints it, without colons; SHA-256 unless said otherwise."""
    return certificate.certificate.fingerprint(digest or hashes.SHA256()).hex().upper()


def assert_explained(hub: RunningHub, device_id: str, rule: str) -> None:
    newest = hub.json("explain", "--device-id", device_id)[0]
    assert newest["rule"] == rule
    assert newest["remedy"]
