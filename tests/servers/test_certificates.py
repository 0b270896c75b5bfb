"""Certificates of the hubs: made before they are served, refused before a hub is made, and what is not covered told."""

import ssl
from pathlib import Path

import pytest
from cryptography import x509

from isthmus.base.clock import SystemClock
from isthmus.base.errors import Code, ConfigurationError, HubError
from isthmus.base.ids import HubId
from isthmus.base.sealing import UNSEALED
from isthmus.resources.hub import Hub
from isthmus.servers.gateway.certificates import Certificates
from isthmus.wire.tls import TlsLayer

FIRST, SECOND = "first.isthmus.test", "second.isthmus.test"


def make(folder: Path, *addresses: str, names: tuple[str, ...] = (FIRST,)) -> Certificates:
    return Certificates(folder, names, addresses or ("127.0.0.1",), "machine", SystemClock(), UNSEALED)


def served_names(certificates: Certificates, folder: Path, asked: str) -> set[str]:
    """Names in the certificate that a client is shown who asks for `asked` and trusts the CA."""
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    arriving, leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(arriving, leaving, server_hostname=asked)
    server = certificates.contexts.layer()
    while not shaken(client, server, arriving, leaving):
        pass
    shown = x509.load_der_x509_certificate(client.getpeercert(binary_form=True) or b"")
    names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(names.get_values_for_type(x509.DNSName))


def shaken(client: ssl.SSLObject, server: TlsLayer, arriving: ssl.MemoryBIO, leaving: ssl.MemoryBIO) -> bool:
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        server.receive(leaving.read())
        arriving.write(server.outgoing())
        return False
    return True


def hub(host_name: str) -> Hub:
    return Hub(HubId(2), host_name.partition(".")[0], host_name, 4, 0)


async def test_each_hub_shows_its_own_certificate(tmp_path: Path) -> None:
    certificates = make(tmp_path, names=(FIRST, SECOND))

    assert FIRST in served_names(certificates, tmp_path, FIRST)
    assert SECOND in served_names(certificates, tmp_path, SECOND)


async def test_a_hub_made_at_run_time_is_served_and_a_deleted_one_is_not(tmp_path: Path) -> None:
    certificates = make(tmp_path)
    await certificates.prepare(SECOND)
    await certificates.resource_changed(None, hub(SECOND))
    assert SECOND in served_names(certificates, tmp_path, SECOND)

    await certificates.resource_changed(hub(SECOND), None)

    assert SECOND not in served_names(certificates, tmp_path, SECOND)


async def test_a_name_that_the_authority_may_not_vouch_for_is_refused_beforehand(tmp_path: Path) -> None:
    certificates = make(tmp_path)

    with pytest.raises(HubError) as raised:
        await certificates.prepare("second.elsewhere.example")

    assert raised.value.code is Code.ARGUMENT_INVALID
    assert "may not vouch" in raised.value.message


async def test_an_offline_root_hinders_no_new_name(tmp_path: Path) -> None:
    make(tmp_path, names=(FIRST, SECOND))
    (tmp_path / "root.pem").unlink()

    certificates = make(tmp_path, names=(FIRST, SECOND))
    await certificates.prepare("third.isthmus.test")

    assert SECOND in served_names(certificates, tmp_path, SECOND)


def test_addresses_that_are_not_covered_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path, "127.0.0.1")
    assert caplog.messages == []

    make(tmp_path, "127.0.0.1", "192.0.2.7", "0.0.0.0")

    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.addresses == ["192.0.2.7"]  # type: ignore[attr-defined]


def test_a_certificate_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    make(tmp_path)
    (path,) = tmp_path.glob("server-*.pem")
    path.unlink()
    path.mkdir()

    with pytest.raises(ConfigurationError, match=r"server-first\.isthmus\.test\.pem"):
        make(tmp_path)
