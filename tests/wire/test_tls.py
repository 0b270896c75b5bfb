"""The TLS layer, two peers in memory: handshakes, client certificates, SNI, records, and bytes that are not TLS."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from isthmus.wire import tls
from isthmus.wire.tls import (
    RECORD_BYTES,
    LinkContexts,
    ServerContexts,
    StackedLayer,
    TlsLayer,
    link_context,
    server_context,
)
from isthmus.wire.tls_error import TlsError
from support.certificates import Issued, issue, write_pem

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
FLIGHTS_MAX = 8


@dataclass(frozen=True, slots=True)
class Server:
    pem: Path
    issued: Issued
    context: ssl.SSLContext


@pytest.fixture
def server(tmp_path: Path) -> Server:
    issued = issue("hub")
    pem = write_pem(tmp_path / "hub.pem", issued)
    return Server(pem, issued, server_context(str(pem), request_client_certificate=True))


@pytest.mark.rule("AMQP-5.2")
@pytest.mark.parametrize("version", VERSIONS)
def test_handshake_without_client_certificate(server: Server, version: ssl.TLSVersion) -> None:
    below, above = shake_hands(server.context, client_context(version))

    assert (below.established, above.established) == (True, True)
    assert below.version == {ssl.TLSVersion.TLSv1_2: "TLSv1.2", ssl.TLSVersion.TLSv1_3: "TLSv1.3"}[version]
    assert below.peer_chain == ()
    assert above.peer_chain == (server.issued.der,)


@pytest.mark.parametrize("version", VERSIONS)
def test_self_signed_client_certificate_is_taken_unjudged(
    server: Server, version: ssl.TLSVersion, tmp_path: Path
) -> None:
    device = issue("dev1")

    below, _ = shake_hands(server.context, client_context(version, write_pem(tmp_path / "dev1.pem", device)))

    assert below.peer_chain == (device.der,)


@pytest.mark.parametrize("version", VERSIONS)
def test_whole_client_chain_arrives_leaf_first(server: Server, version: ssl.TLSVersion, tmp_path: Path) -> None:
    root = issue("root", authority=True)
    plant = issue("plant", root, authority=True)
    device = issue("dev1", plant)
    presented = write_pem(tmp_path / "dev1.pem", device, plant)

    below, _ = shake_hands(server.context, client_context(version, presented))

    assert below.peer_chain == (device.der, plant.der)


def test_without_the_callback_a_self_signed_certificate_is_refused(server: Server, tmp_path: Path) -> None:
    judging = server_context(str(server.pem), request_client_certificate=False)
    judging.verify_mode = ssl.CERT_OPTIONAL
    client = client_context(ssl.TLSVersion.TLSv1_2, write_pem(tmp_path / "dev1.pem", issue("dev1")))

    with pytest.raises(TlsError, match="certificate verify failed"):
        shake_hands(judging, client)


def test_trial_finds_no_trouble_here(server: Server, tmp_path: Path) -> None:
    trial = write_pem(tmp_path / "trial.pem", issue("trial"))

    assert tls.client_certificate_trouble(str(server.pem), str(trial)) == ""


def test_trial_says_what_is_missing(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = write_pem(tmp_path / "trial.pem", issue("trial"))
    monkeypatch.delattr("_ssl.__file__")

    assert "shared library" in tls.client_certificate_trouble(str(server.pem), str(trial))


@pytest.mark.parametrize("version", VERSIONS)
def test_server_name_picks_the_certificate_and_its_callback(
    server: Server, version: ssl.TLSVersion, tmp_path: Path
) -> None:
    other = issue("other")
    contexts = ServerContexts(server.context)
    pem = str(write_pem(tmp_path / "other.pem", other))
    contexts.put("Other.Isthmus.test", server_context(pem, request_client_certificate=True))
    device = issue("dev1")
    client = client_context(version, write_pem(tmp_path / "dev1.pem", device))

    below, above = converse(contexts.layer(), TlsLayer(client, server_side=False, server_name="OTHER.isthmus.test"))

    assert above.peer_chain == (other.der,)
    assert below.server_name == "other.isthmus.test"
    assert below.peer_chain == (device.der,)


@pytest.mark.parametrize(("asked", "seen"), [("stranger.test", "stranger.test"), (None, ""), ("127.0.0.1", "")])
def test_unknown_and_absent_names_get_the_default(server: Server, asked: str | None, seen: str) -> None:
    client = TlsLayer(client_context(), server_side=False, server_name=asked)

    below, above = converse(ServerContexts(server.context).layer(), client)

    assert above.peer_chain == (server.issued.der,)
    assert below.server_name == seen


def test_removed_name_gets_the_default_again(server: Server, tmp_path: Path) -> None:
    contexts = ServerContexts(server.context)
    pem = str(write_pem(tmp_path / "other.pem", issue("other")))
    contexts.put("other", server_context(pem, request_client_certificate=True))
    contexts.remove("other")

    _, above = converse(contexts.layer(), TlsLayer(client_context(), server_side=False, server_name="other"))

    assert above.peer_chain == (server.issued.der,)


@pytest.mark.parametrize("version", VERSIONS)
def test_no_session_is_resumed(server: Server, version: ssl.TLSVersion) -> None:
    client = client_context(version)
    first, _ = wrapped(server.context, client, None)

    second, second_server = wrapped(server.context, client, first.session)

    assert second.session_reused is False
    assert second_server.session_reused is False


@pytest.mark.rule("MQTT-7.1.1-1", "MQTT-7.1.2-1")
@pytest.mark.parametrize("size", [0, 1, RECORD_BYTES, RECORD_BYTES + 1, 300_000])
def test_plaintext_of_any_size_passes_both_ways(server: Server, size: int) -> None:
    below, above = shake_hands(server.context, client_context())
    data = bytes(index % 251 for index in range(size))

    above.send(data)
    received = below.receive(above.outgoing())
    below.send(received)

    assert received == data
    assert above.receive(below.outgoing()) == data


def test_bytes_one_by_one_make_the_same_handshake_and_records(server: Server) -> None:
    below, above = TlsLayer(server.context), TlsLayer(client_context(), server_side=False)
    received = b""
    while not (below.established and above.established):
        for byte in above.outgoing():
            below.receive(bytes([byte]))
        above.receive(below.outgoing())
    above.send(b"hello")
    for byte in above.outgoing():
        received += below.receive(bytes([byte]))

    assert received == b"hello"


def test_application_bytes_behind_the_handshake_arrive_with_it(server: Server) -> None:
    below, above = TlsLayer(server.context), TlsLayer(client_context(ssl.TLSVersion.TLSv1_3), server_side=False)
    below.receive(above.outgoing())
    above.receive(below.outgoing())
    above.send(b"at once")

    assert below.receive(above.outgoing()) == b"at once"
    assert below.established


def test_goodbye_ends_the_peer(server: Server) -> None:
    below, above = shake_hands(server.context, client_context())
    above.send(b"last words")
    above.finish()

    assert below.receive(above.outgoing()) == b"last words"
    assert below.ended
    assert below.receive(b"ignored") == b""


def test_goodbye_before_the_handshake_says_nothing(server: Server) -> None:
    layer = TlsLayer(server.context)

    layer.finish()

    assert layer.outgoing() == b""


@pytest.mark.parametrize(
    ("garbage", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "http request"),
        (b"\x10\x20\x00\x04MQTT\x04\xc2" + bytes(30), "wrong version number"),
    ],
)
def test_bytes_that_are_not_tls_are_named(server: Server, garbage: bytes, reason: str) -> None:
    with pytest.raises(TlsError, match=reason):
        TlsLayer(server.context).receive(garbage)


def test_old_versions_are_refused_with_an_alert(server: Server) -> None:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    layer = TlsLayer(server.context)

    with pytest.raises(TlsError, match="unsupported protocol"):
        layer.receive(TlsLayer(client, server_side=False).outgoing())

    assert layer.outgoing()[:1] == b"\x15"


def test_weak_suites_are_refused(server: Server) -> None:
    client = client_context(ssl.TLSVersion.TLSv1_2)
    client.set_ciphers("ECDHE-ECDSA-AES128-SHA256")

    with pytest.raises(TlsError, match="no shared cipher"):
        shake_hands(server.context, client)


def test_damaged_record_breaks_the_layer(server: Server) -> None:
    below, above = shake_hands(server.context, client_context())
    above.send(b"hello")
    record = bytearray(above.outgoing())
    record[-1] ^= 1

    with pytest.raises(TlsError, match="bad record mac"):
        below.receive(bytes(record))


def test_whoever_said_goodbye_still_hears(server: Server) -> None:
    below, above = shake_hands(server.context, client_context())
    above.finish()
    below.receive(above.outgoing())
    assert below.ended
    below.send(b"x" * 50_000)
    below.finish()

    assert above.receive(below.outgoing()) == b"x" * 50_000
    assert above.ended


def test_a_stacked_layer_is_the_inner_one_in_the_outer(server: Server) -> None:
    outer_below, outer_above = shake_hands(server.context, client_context())
    inner_below = StackedLayer(outer_below, TlsLayer(server.context))
    inner_above = StackedLayer(outer_above, TlsLayer(client_context(), server_side=False))
    for _ in range(FLIGHTS_MAX):
        inner_below.receive(inner_above.outgoing())
        inner_above.receive(inner_below.outgoing())
    assert inner_above.established
    assert inner_above.peer_chain == (server.issued.der,)
    inner_above.send(b"deep")
    inner_above.finish()

    assert inner_below.receive(inner_above.outgoing()) == b"deep"
    assert inner_below.ended


def test_a_stacked_layer_without_its_outer_one_is_cut_off(server: Server) -> None:
    outer_below, outer_above = shake_hands(server.context, client_context())
    inner_below = StackedLayer(outer_below, TlsLayer(server.context))
    outer_above.finish()

    with pytest.raises(TlsError, match="outer layer ended"):
        inner_below.receive(outer_above.outgoing())


def test_a_caller_verifies_chain_and_name(server: Server, tmp_path: Path) -> None:
    own = tls.client_context(authorities=pem_of(issue("somebody else", authority=True)))
    above = TlsLayer(own, server_side=False, server_name="hub")
    below = TlsLayer(server.context)
    below.receive(above.outgoing())

    with pytest.raises(TlsError, match="certificate verify failed"):
        above.receive(below.outgoing())


def test_layers_stack(server: Server) -> None:
    outer_below, outer_above = shake_hands(server.context, client_context())
    inner_below, inner_above = TlsLayer(server.context), TlsLayer(client_context(), server_side=False)
    for _ in range(FLIGHTS_MAX):
        inner_below.receive(through(outer_above, outer_below, inner_above.outgoing()))
        inner_above.receive(through(outer_below, outer_above, inner_below.outgoing()))
    inner_above.send(b"deep")

    assert inner_below.receive(through(outer_above, outer_below, inner_above.outgoing())) == b"deep"


def pem_of(issued: Issued) -> str:
    return issued.certificate.public_bytes(Encoding.PEM).decode()


def through(sender: TlsLayer, receiver: TlsLayer, data: bytes) -> bytes:
    sender.send(data)
    return receiver.receive(sender.outgoing())


def client_context(version: ssl.TLSVersion | None = None, certificate: Path | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if certificate is not None:
        context.load_cert_chain(certificate)
    return context


@dataclass(frozen=True, slots=True)
class Link:
    contexts: LinkContexts
    authority: Issued


@pytest.fixture
def link(server: Server, tmp_path: Path) -> Link:
    authority = issue("connectors", authority=True)
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    strict = link_context(str(server.pem), trusted=str(trusted), protocols=["control"])
    opening = link_context(str(server.pem), trusted=None, protocols=[])
    return Link(LinkContexts(strict, "enrol.test", opening), authority)


def test_a_certificate_of_the_authority_is_let_in_and_a_protocol_agreed_on(link: Link, tmp_path: Path) -> None:
    connector = issue("plant-a", link.authority)
    context = client_context(ssl.TLSVersion.TLSv1_3, write_pem(tmp_path / "connector.pem", connector))
    context.set_alpn_protocols(["other", "control"])
    below, above = converse(link.contexts.layer(), TlsLayer(context, server_side=False))

    assert below.peer_chain[0] == connector.der
    assert (below.protocol, above.protocol) == ("control", "control")


def test_no_protocol_is_agreed_on_where_none_is_offered(link: Link, tmp_path: Path) -> None:
    presented = write_pem(tmp_path / "connector.pem", issue("plant-a", link.authority))
    below, _ = converse(
        link.contexts.layer(), TlsLayer(client_context(ssl.TLSVersion.TLSv1_3, presented), server_side=False)
    )

    assert below.protocol == ""


def test_whoever_has_no_certificate_of_the_authority_is_told_from_whoever_has_none(link: Link, tmp_path: Path) -> None:
    other = client_context(ssl.TLSVersion.TLSv1_3, write_pem(tmp_path / "other.pem", issue("plant-a")))
    with pytest.raises(TlsError, match="certificate verify failed: self-signed certificate"):
        converse(link.contexts.layer(), TlsLayer(other, server_side=False))
    nobody = TlsLayer(client_context(ssl.TLSVersion.TLSv1_3), server_side=False)
    with pytest.raises(TlsError, match="peer did not return a certificate"):
        converse(link.contexts.layer(), nobody)


def test_the_open_name_breaks_the_handshake_off_before_its_first_answer(link: Link) -> None:
    client = TlsLayer(client_context(ssl.TLSVersion.TLSv1_3), server_side=False, server_name="Enrol.Test")
    hello = client.outgoing()
    strict = link.contexts.layer()
    with pytest.raises(TlsError):
        strict.receive(hello)
    assert strict.server_name == link.contexts.open_name

    again = link.contexts.open_layer()
    again.receive(hello)
    client.receive(again.outgoing())
    below, _ = converse(again, client)
    assert below.peer_chain == ()


def test_a_link_speaks_tls_13_only(link: Link) -> None:
    with pytest.raises(TlsError, match="unsupported protocol"):
        converse(link.contexts.layer(), TlsLayer(client_context(ssl.TLSVersion.TLSv1_2), server_side=False))


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[TlsLayer, TlsLayer]:
    return converse(TlsLayer(server), TlsLayer(client, server_side=False))


def converse(below: TlsLayer, above: TlsLayer) -> tuple[TlsLayer, TlsLayer]:
    for _ in range(FLIGHTS_MAX):
        below.receive(above.outgoing())
        above.receive(below.outgoing())
    assert below.established
    assert above.established
    return below, above


def wrapped(
    server: ssl.SSLContext, client: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """A handshake by the standard library alone, since only a client's own object can offer a session."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = client.wrap_bio(down, up, session=session)
    ours = server.wrap_bio(up, down, server_side=True)
    waiting = [theirs, ours]
    for _ in range(FLIGHTS_MAX):
        for end in list(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
    assert not waiting
    with pytest.raises(ssl.SSLWantReadError):
        theirs.read(1)
    return theirs, ours
