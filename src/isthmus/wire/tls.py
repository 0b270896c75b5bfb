"""TLS as a layer of its own: bytes in, bytes out, no socket; the only file of the ground floor that imports `ssl`.

Theory of operation. A `TlsLayer` stands between a transport below and a protocol above. Ciphertext from below goes into
`receive`, which returns plaintext; plaintext from above goes into `send`; whatever must travel down (handshake flights,
records, alerts, close_notify) waits in `outgoing` until the owner takes it, which it does after every `receive` during
the handshake and after every `send`. The layer touches no descriptor, so it runs over a socket, over memory, or over
another `TlsLayer` (the outer one's plaintext is the inner one's ciphertext), and bytes that precede TLS on a socket can
be read by somebody else first.

Ciphertext is fed in pieces of one record, so that OpenSSL's memory buffers, which never shrink, stay at that size for
the life of the connection. Plaintext is read only while the incoming buffer holds bytes: asking OpenSSL once more for
every record would cost an exception each.

Client certificates are requested and not judged: a device may present a self-signed certificate whose thumbprint is
registered, or a chain to a CA that one hub knows and another does not, and which hub is meant is known only from the
first packet. `ssl` cannot say "ask, and accept any", so OpenSSL's certificate verification callback is replaced through
ctypes by one that accepts; the peer still has to prove that it owns the key (RFC 8446 §4.4.3, RFC 5246 §7.4.8). Whoever
authenticates afterwards judges `peer_chain`. `client_certificate_trouble` proves by real handshakes that this works in
the interpreter at hand; where it does not, contexts are made without asking for certificates.

Sessions are never resumed (no tickets, no session cache): a resumed session has lost the intermediate certificates.
"""

import _ssl
import ctypes
import ssl
import sys
from collections.abc import Sequence
from typing import Protocol

from isthmus.wire.tls_error import TlsError

RECORD_BYTES = 16_384
"""Largest plaintext of a TLS record (RFC 8446 §5.1): one read of this size never leaves a rest inside OpenSSL."""

CIPHER_SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""TLS 1.2 suites: forward secrecy and AEAD only; every device SDK's TLS library has at least one of them."""

HANDSHAKE_FLIGHTS_MAX = 8
"""Flights an in-memory handshake may take before it counts as failed; TLS 1.2 with certificates needs four."""


class Layer(Protocol):
    """What a connection needs from the layer below its protocol."""

    @property
    def established(self) -> bool:
        """True once application bytes may be sent."""

    @property
    def ended(self) -> bool:
        """True once the peer has said that it will send no more."""

    @property
    def server_name(self) -> str:
        """The host name the peer asked for, lower case; empty when it named none or an address."""

    @property
    def peer_chain(self) -> tuple[bytes, ...]:
        """The peer's certificates as DER, its own first; empty when it presented none."""

    @property
    def version(self) -> str:
        """Protocol version, such as `TLSv1.3`."""

    def receive(self, data: bytes | memoryview) -> bytes:
        """Takes bytes from below and returns the bytes for above; raises `TlsError`."""

    def send(self, data: bytes | memoryview) -> None:
        """Takes bytes from above; their protected form is added to `outgoing`."""

    def outgoing(self) -> bytes:
        """Hands over all bytes that must travel down, in order."""

    def finish(self) -> None:
        """Adds the goodbye to `outgoing`; nothing may be sent after it."""


class TlsLayer:
    """One end of a TLS connection over nothing but bytes; a server by default."""

    __slots__ = (
        "_incoming",
        "_incoming_write",
        "_outgoing",
        "_outgoing_read",
        "_piece_bytes",
        "_read",
        "_records",
        "_tls",
        "_write",
        "ended",
        "established",
        "peer_chain",
        "protocol",
        "version",
    )

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool = True,
        server_name: str | None = None,
        piece_bytes: int = RECORD_BYTES,
    ) -> None:
        """`piece_bytes` is what OpenSSL is given at once, either way: a third more is what each direction may keep."""
        self._piece_bytes = piece_bytes
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_name
        )
        self._incoming_write = self._incoming.write
        self._outgoing_read = self._outgoing.read
        self._read = self._tls.read
        self._write = self._tls.write
        self._records: list[bytes] = []
        self.established = False
        self.ended = False
        self.peer_chain: tuple[bytes, ...] = ()
        self.version = ""
        self.protocol = ""
        """What both sides agreed to speak (RFC 7301); empty when they agreed on nothing."""
        if not server_side:
            self._shake_hands()

    @property
    def server_name(self) -> str:
        """The host name of the peer's server_name extension (RFC 6066 §3); empty when absent or an address."""
        return self._tls.requested_name if isinstance(self._tls, _NamedObject) else ""

    def receive(self, data: bytes | memoryview) -> bytes:
        """Takes ciphertext and returns the plaintext it completes, of all its records joined.

        During the handshake the answer is usually empty and `outgoing` is not. Bytes after the peer's close_notify are
        ignored. Raises `TlsError`; an alert for the peer may wait in `outgoing` then.
        """
        size = self._piece_bytes
        if len(data) <= size:
            self._incoming_write(data)
            return self._advance()
        pieces = []
        for start in range(0, len(data), size):
            self._incoming_write(data[start : start + size])
            pieces.append(self._advance())
        return b"".join(pieces)

    def send(self, data: bytes | memoryview) -> None:
        """Encrypts plaintext of any length; call it only once established. Raises `TlsError`."""
        try:
            size = self._piece_bytes
            if len(data) <= size:
                if data:
                    self._write(data)
                return
            rest = memoryview(data)
            while rest:
                # On a line of its own: mypyc works a slice's bounds out twice.
                written = self._write(rest[:size])
                rest = rest[written:]
                self._records.append(self._outgoing_read())
        except ssl.SSLError as error:
            raise TlsError(_words(error)) from error

    def outgoing(self) -> bytes:
        """Hands over the ciphertext that must travel down, in order; empty when there is none."""
        if not self._records:
            return self._outgoing_read()
        self._records.append(self._outgoing_read())
        data = b"".join(self._records)
        self._records.clear()
        return data

    def finish(self) -> None:
        """Adds close_notify to `outgoing` (RFC 8446 §6.1); without effect before the handshake is done.

        The peer may go on: `receive` works as before.
        """
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            # It reports that the peer's close_notify is not here yet, or that the handshake is not done.
            return

    def _advance(self) -> bytes:
        try:
            if not self.established and not self._shake_hands():
                return b""
            return self._decrypt()
        except ssl.SSLError as error:
            raise TlsError(_words(error)) from error

    def _decrypt(self) -> bytes:
        incoming, read = self._incoming, self._read
        records: list[bytes] = []
        try:
            while incoming.pending and not self.ended:
                record = read(RECORD_BYTES)
                records.append(record)
                self.ended = not record
        except ssl.SSLWantReadError:
            # The last record is not complete, or was not application data.
            pass
        except ssl.SSLZeroReturnError:
            # How OpenSSL reports the peer's close_notify once ours was sent.
            self.ended = True
        return records[0] if len(records) == 1 else b"".join(records)

    def _shake_hands(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        self.established = True
        self.version = self._tls.version() or ""
        self.protocol = self._tls.selected_alpn_protocol() or ""
        self.peer_chain = _chain(self._tls)
        return True


class StackedLayer:
    """TLS inside TLS: what the inner layer sends travels in the outer one; its peer is the one that is known."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, outer: Layer, inner: Layer) -> None:
        """`outer` must be established; what the inner one wants to say already waits in `outgoing`."""
        self._outer = outer
        self._inner = inner

    @property
    def established(self) -> bool:
        """True once the inner layer is."""
        return self._inner.established

    @property
    def ended(self) -> bool:
        """True once the inner peer has said that it will send no more."""
        return self._inner.ended

    @property
    def server_name(self) -> str:
        """The inner peer's."""
        return self._inner.server_name

    @property
    def peer_chain(self) -> tuple[bytes, ...]:
        """The inner peer's."""
        return self._inner.peer_chain

    @property
    def version(self) -> str:
        """The inner layer's."""
        return self._inner.version

    def receive(self, data: bytes | memoryview) -> bytes:
        """Takes the outer layer's ciphertext and returns the inner one's plaintext; raises `TlsError`.

        An outer layer that ends before the inner one is an error: the inner stream is cut off.
        """
        plaintext = self._inner.receive(self._outer.receive(data))
        if self._outer.ended and not self._inner.ended:
            raise TlsError("the outer layer ended first")
        return plaintext

    def send(self, data: bytes | memoryview) -> None:
        """Encrypts twice; raises `TlsError`."""
        self._inner.send(data)

    def outgoing(self) -> bytes:
        """Hands over what must travel down."""
        inner = self._inner.outgoing()
        if inner:
            self._outer.send(inner)
        return self._outer.outgoing()

    def finish(self) -> None:
        """Adds the inner goodbye; the outer layer stays open for the peer's."""
        self._inner.finish()


class ServerContexts:
    """The server's contexts by host name: the one for SNI's name, else the default.

    A name nobody knows gets the default: which resource is meant is decided by the first packet, not by TLS.
    """

    def __init__(self, default: ssl.SSLContext) -> None:
        self._by_name: dict[str, ssl.SSLContext] = {}
        self._default = default
        self.replace_default(default)

    def replace_default(self, context: ssl.SSLContext) -> None:
        """Serves new connections with `context` where no name fits; running ones keep theirs."""
        context.sslobject_class = _NamedObject
        context.sni_callback = self._choose
        self._default = context

    def put(self, host_name: str, context: ssl.SSLContext) -> None:
        """Serves new connections that ask for `host_name` with `context`."""
        self._by_name[host_name.lower()] = context

    def remove(self, host_name: str) -> None:
        """Serves `host_name` with the default again; an unknown name is not an error."""
        self._by_name.pop(host_name.lower(), None)

    def layer(self) -> TlsLayer:
        """The layer of a new connection."""
        return TlsLayer(self._default)

    def _choose(self, tls: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        if not name:
            return
        host_name = name.lower().rstrip(".")
        # RFC 6066 §3 allows no address here; a peer that sends one has named nobody.
        if isinstance(tls, _NamedObject) and not _is_address(host_name):
            tls.requested_name = host_name
        chosen = self._by_name.get(host_name)
        if chosen is not None:
            tls.context = chosen


class LinkContexts:
    """The two contexts of a door whose peers must show a certificate of one authority, save those who ask for a name.

    A context that the peer's name selects cannot ask for less than the one the handshake began with: OpenSSL keeps the
    first one's demands. So the handshake begins with the strict one, breaks off before its first answer when the peer
    asks for `open_name`, and is begun again with the other one by whoever drives it: see `open_layer`.
    """

    def __init__(self, strict: ssl.SSLContext, open_name: str, opening: ssl.SSLContext) -> None:
        strict.sslobject_class = opening.sslobject_class = _NamedObject
        strict.sni_callback = self._break_off
        self._strict = strict
        self._opening = opening
        self.open_name = open_name

    def layer(self) -> TlsLayer:
        """The layer of a new connection, whose peer must show a certificate."""
        return TlsLayer(self._strict)

    def open_layer(self) -> TlsLayer:
        """The layer that takes the bytes again which `layer` got, when that failed and `server_name` is `open_name`."""
        return TlsLayer(self._opening)

    def _break_off(self, tls: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> int | None:
        requested = (name or "").lower().rstrip(".")
        if isinstance(tls, _NamedObject):
            tls.requested_name = requested
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME if requested == self.open_name else None


def link_context(certificate: str, *, trusted: str | None, protocols: Sequence[str]) -> ssl.SSLContext:
    """Makes a server's context that speaks TLS 1.3 only, from a PEM file with key and chain.

    With `trusted`, a PEM file of authorities, the peer has to show a certificate of one of them, which is verified in
    the handshake. Of `protocols` the first that the peer offers is agreed on, none where it offers none of them. Raises
    OSError or `ssl.SSLError` when a file cannot be read or used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.num_tickets = 0
    context.load_cert_chain(certificate)
    context.set_alpn_protocols(list(protocols))
    if trusted is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(trusted)
    return context


def server_context(certificate: str, *, request_client_certificate: bool) -> ssl.SSLContext:
    """Makes a context from a PEM file with key and chain: TLS 1.2 and 1.3, ECDHE with AEAD, no resumption.

    With `request_client_certificate` the peer is asked for a certificate and whatever it presents is taken unjudged;
    ask `client_certificate_trouble` first. Raises OSError or `ssl.SSLError` when the file cannot be read or used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHER_SUITES)
    # A peer may neither make us work again on an open connection nor change its certificate there.
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.num_tickets = 0
    context.load_cert_chain(certificate)
    if request_client_certificate:
        context.verify_mode = ssl.CERT_OPTIONAL
        _judge_nothing(context)
    return context


def client_context(*, authorities: str, certificate: str = "", protocol: str = "") -> ssl.SSLContext:
    """Makes a context that calls a server of ours: TLS 1.3 only, the server's chain and name verified.

    `authorities` is PEM text; when it is empty nothing is verified, and whoever asks must judge `peer_chain` before
    anything is sent. `certificate` is a PEM file with key and chain to present, `protocol` the name to ask for by ALPN
    (RFC 7301). Raises OSError, `ssl.SSLError` or ValueError
    for what cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if authorities:
        context.load_verify_locations(cadata=authorities)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate:
        context.load_cert_chain(certificate)
    if protocol:
        context.set_alpn_protocols([protocol])
    return context


def default_client_context() -> ssl.SSLContext:
    """Makes a context that calls a stranger's server, such as a forward proxy, by what this machine trusts."""
    return ssl.create_default_context()


def client_certificate_trouble(server_certificate: str, client_certificate: str) -> str:
    """Tries out whether this interpreter can take client certificates unjudged; empty when it can, else the reason.

    Both arguments are PEM files with key and certificate, the client's self-signed. Takes a few milliseconds: it shakes
    hands in memory with TLS 1.2 and 1.3.
    """
    try:
        server = server_context(server_certificate, request_client_certificate=True)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            if not _presents(server, _trying_client(client_certificate, version)):
                return f"a self-signed client certificate did not arrive over {version.name}"
    except (AttributeError, OSError, ValueError, TlsError) as error:
        return str(error)
    return ""


def _presents(server: ssl.SSLContext, client: ssl.SSLContext) -> bool:
    below, above = TlsLayer(server), TlsLayer(client, server_side=False)
    for _ in range(HANDSHAKE_FLIGHTS_MAX):
        below.receive(above.outgoing())
        above.receive(below.outgoing())
        if below.established and above.established:
            return len(below.peer_chain) == 1
    return False


def _trying_client(certificate: str, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Both ends are ours and in memory; it is the server's side that is tried out.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(certificate)
    return context


class _NamedObject(ssl.SSLObject):
    """Remembers the name that the peer asked for."""

    requested_name: str = ""


_VERIFY = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_ACCEPT_ANY = _VERIFY(lambda _store, _argument: 1)
_SET_SESSION_CACHE_MODE = 44  # SSL_CTRL_SET_SESS_CACHE_MODE of openssl/ssl.h; mode 0 is SSL_SESS_CACHE_OFF.


def _judge_nothing(context: ssl.SSLContext) -> None:
    """Accepts every client certificate and switches the session cache off; raises where OpenSSL cannot be reached."""
    if sys.implementation.name != "cpython" or not hasattr(_ssl, "__file__"):
        raise OSError("the ssl module of this interpreter is not a shared library of CPython")
    # Symbols are looked up in what the extension module itself is linked to: never in a second OpenSSL.
    library = ctypes.CDLL(_ssl.__file__)
    set_verify = library.SSL_CTX_set_cert_verify_callback
    set_verify.argtypes = (ctypes.c_void_p, _VERIFY, ctypes.c_void_p)
    set_verify.restype = None
    control = library.SSL_CTX_ctrl
    control.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p)
    control.restype = ctypes.c_long
    # PySSLContext begins with the object header, then the SSL_CTX pointer (Modules/_ssl.c, 3.11 to 3.13).
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
    if not pointer.value:
        raise OSError("the SSL_CTX of the context was not found")
    set_verify(pointer, _ACCEPT_ANY, None)
    control(pointer, _SET_SESSION_CACHE_MODE, 0, None)


def _chain(tls: ssl.SSLObject) -> tuple[bytes, ...]:
    leaf = tls.getpeercert(binary_form=True)
    if leaf is None:
        return ()
    public = getattr(tls, "get_unverified_chain", None)
    if public is not None:
        return tuple(public())
    # Public from Python 3.13 on; before that only the object below has it.
    below = getattr(tls, "_sslobj", None)
    if below is None or not hasattr(below, "get_unverified_chain"):
        return (leaf,)
    return tuple(certificate.public_bytes(_ssl.ENCODING_DER) for certificate in below.get_unverified_chain() or ())


def _is_address(host_name: str) -> bool:
    return ":" in host_name or host_name.replace(".", "").isdigit()


def _words(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    # Not what typeshed says: OpenSSL has errors without a reason, and a compiled core insists on what is said.
    reason: str | None = getattr(error, "reason", None)
    return (reason or "closed in the middle of TLS").replace("_", " ").lower()
