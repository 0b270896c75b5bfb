"""What the owner reads about sockets that ended before their peer had named anything; pure."""

from isthmus.base.errors import Hop, Refusal
from isthmus.servers.gateway.connection import Failure

BUDGET_FULL = Refusal(
    Hop.SOCKET,
    "socket.budget",
    "every socket is taken by a peer that makes progress",
    "Raise the limit of open files (ulimit -n, LimitNOFILE=) or close connections that are not needed.",
)

EVICTED = Refusal(
    Hop.SOCKET,
    "socket.evicted",
    "the peer made no progress and another one needed its socket",
    "Find out what connects from there and then says nothing; a client that goes on with its handshake is kept.",
)

NOTHING_PROVED = Refusal(
    Hop.AUTHENTICATION,
    "auth.time",
    "the peer did not authenticate in time",
    "Let the client send its credentials after connecting.",
)

_DEFAULT_REMEDY = "Use TLS 1.2 or 1.3 with an ECDHE suite with AES-GCM or ChaCha20."

_REMEDIES = {
    "tlsv1 alert unknown ca": "Let the client trust the CA whose path `isthmus ca` prints.",
    "sslv3 alert certificate unknown": "Let the client trust the CA whose path `isthmus ca` prints.",
    "sslv3 alert bad certificate": "Let the client connect by a name of the server certificate, and trust its CA.",
    "tlsv1 alert decrypt error": "Give the client the certificate and the private key that belong together.",
    "http request": "Use https:// at this port.",
    "wrong version number": "Use TLS at this port; nothing is served in the clear.",
    "unsupported protocol": "Let the client use TLS 1.2 or 1.3.",
    "unknown protocol": "Use TLS at this port; nothing is served in the clear.",
    "no shared cipher": _DEFAULT_REMEDY,
    "bad signature": "Give the client the certificate and the private key that belong together.",
    "closed by peer": "Let the client trust the CA whose path `isthmus ca` prints, and connect by a name it covers.",
    "reset by peer": "Let the client trust the CA whose path `isthmus ca` prints, and connect by a name it covers.",
}


def refusal_of(failure: Failure, detail: str) -> Refusal:
    """The refusal for the journal; `detail` is the TLS library's reason in lower-case words."""
    if failure is Failure.HANDSHAKE_TIME:
        return Refusal(Hop.TLS, "tls.time", "the handshake did not end in time", "Look for packet loss on the way.")
    if failure is Failure.PROOF_TIME:
        return NOTHING_PROVED
    return Refusal(Hop.TLS, "tls.handshake", detail, _REMEDIES.get(detail, _DEFAULT_REMEDY))
