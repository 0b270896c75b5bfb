"""The opening handshake of a WebSocket."""

import pytest

from isthmus.wire.websocket.handshake import HandshakeError, NoProtocolError, Opening, open_server

ASKED = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol": "mqtt",
}
ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: %s\r\n\r\n"
)
"""With the key and its answer of RFC 6455 §1.3."""


def opened(**changed: str) -> Opening:
    headers = ASKED | {name.replace("_", "-"): value for name, value in changed.items()}
    return open_server(lambda name: headers.get(name, ""), ("mqtt", "AMQPWSB10"))


@pytest.mark.rule("MQTT-6.0.0-4")
def test_the_answer_proves_the_key_and_echoes_the_protocol() -> None:
    assert opened() == Opening("mqtt", ANSWER % b"mqtt")


@pytest.mark.parametrize(
    "changed",
    [
        {"Connection": "keep-alive, Upgrade"},
        {"Upgrade": "WebSocket"},
        {"Sec_WebSocket_Extensions": "permessage-deflate"},
        {"Sec_WebSocket_Protocol": "mqttv3.1, mqtt, AMQPWSB10"},
    ],
)
def test_what_clients_write_in_other_ways(changed: dict[str, str]) -> None:
    assert opened(**changed).answer == ANSWER % b"mqtt"


@pytest.mark.parametrize(
    "changed",
    [
        {"Connection": "keep-alive"},
        {"Connection": ""},
        {"Upgrade": "h2c"},
        {"Sec_WebSocket_Version": "8"},
        {"Sec_WebSocket_Version": ""},
        {"Sec_WebSocket_Key": ""},
        {"Sec_WebSocket_Key": "short"},
        {"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZSBvZiAyMCBieXRlcw=="},
        {"Sec_WebSocket_Key": "ü" * 16},
    ],
)
def test_what_opens_no_websocket(changed: dict[str, str]) -> None:
    with pytest.raises(HandshakeError) as caught:
        opened(**changed)
    assert not isinstance(caught.value, NoProtocolError)


@pytest.mark.parametrize("offered", ["", "MQTT", "amqp", "mqttv3.1,x"])
def test_no_sub_protocol_in_common(offered: str) -> None:
    with pytest.raises(NoProtocolError) as caught:
        opened(Sec_WebSocket_Protocol=offered)
    assert str(caught.value) == offered
