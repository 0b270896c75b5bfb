"""The floor of TLS on every plane's own listener: 1.2 with ECDHE and AEAD, nothing below, and nothing in plain."""

import socket
import ssl
import warnings

import pytest

from clients.managing import MANAGEMENT_OPTIONS, PORT
from support.server import RunningHub

HUB_OPTIONS = MANAGEMENT_OPTIONS
PLANES = {"mqtt": 8883, "amqp": 5671, "https": 443, "management": PORT}
WAIT_SECONDS = 15.0
FIRST_WORDS = (
    b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n",
    b"AMQP\x00\x01\x00\x00",
    b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",
)
GOOD = ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305")


@pytest.mark.parametrize("plane", PLANES)
def test_tls_11_is_refused(hub: RunningHub, plane: str) -> None:
    context = trusting(hub)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")

    with pytest.raises(ssl.SSLError):
        shake(hub, plane, context)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("suite", ["ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA", "AES128-GCM-SHA256"])
def test_suites_without_aead_or_ephemeral_keys_are_refused(hub: RunningHub, plane: str, suite: str) -> None:
    context = trusting(hub)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{suite}:@SECLEVEL=0")

    with pytest.raises(ssl.SSLError):
        shake(hub, plane, context)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("suite", GOOD)
def test_ecdhe_with_aead_is_taken(hub: RunningHub, plane: str, suite: str) -> None:
    context = trusting(hub)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(suite)

    assert shake(hub, plane, context) == (suite, "TLSv1.2")


@pytest.mark.parametrize("plane", PLANES)
def test_nobody_is_talked_to_in_plain(hub: RunningHub, plane: str) -> None:
    """Each protocol's own first words, without TLS, get no answer of that protocol."""
    for words in (
        b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n",
        b"AMQP\x00\x01\x00\x00",
        b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",
    ):
        with socket.create_connection(
            (hub.address, hub.ready["ports"].get(plane, PLANES[plane])), WAIT_SECONDS
        ) as plain:
            plain.sendall(words)
            answer = read_all(plain)
        # At most an alert of TLS (RFC 8446 §6).
        assert answer[:1] in (b"", b"\x15"), answer


def read_all(plain: socket.socket) -> bytes:
    """What comes until the other side closes."""
    answer = b""
    try:
        while part := plain.recv(4096):
            answer += part
    except ConnectionResetError:
        pass
    return answer


def connected(hub: RunningHub, plane: str) -> socket.socket:
    return socket.create_connection((hub.address, hub.ready["ports"].get(plane, PLANES[plane])), WAIT_SECONDS)


def trusting(hub: RunningHub) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(hub.ca))


def shake(hub: RunningHub, plane: str, context: ssl.SSLContext) -> tuple[str, str]:
    """Suite and version that were agreed on."""
    with (
        connected(hub, plane) as plain,
        context.wrap_socket(plain, server_hostname=hub.host_name) as tls,
    ):
        agreed = tls.cipher()
        assert agreed is not None
        return agreed[0], str(tls.version())
