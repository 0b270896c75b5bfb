"""The fuzz target of TLS, as far as it is ours: the layer around OpenSSL, and the name in a client hello.

Invariant: whatever bytes come, and however they are cut, the layer takes them and stays silent or raises `TlsError`;
it does not come to be established without a handshake, and nothing is said behind its back (Python writes what a
callback of OpenSSL raises to the standard error, where any stranger could fill it).
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fuzz.failures import Failures, failures_of
from fuzz.target import Check, Target
from isthmus.logs import tell_unraisable
from isthmus.wire.tls import ServerContexts, server_context
from isthmus.wire.tls_error import TlsError
from support.certificates import issue_server, write_pem

HOST = "hub.isthmus.test"


@contextmanager
def served() -> Iterator[Check]:
    """Contexts of two names."""
    with tempfile.TemporaryDirectory() as folder, _heard() as said:
        pem = str(write_pem(Path(folder) / "server.pem", issue_server(HOST)))
        contexts = ServerContexts(server_context(pem, request_client_certificate=True))
        contexts.put(HOST, server_context(pem, request_client_certificate=True))

        def check(data: bytes) -> None:
            middle = len(data) // 2
            for pieces in ([data], [data[:middle], data[middle:]]):
                layer = contexts.layer()
                with suppress(TlsError):
                    for piece in pieces:
                        assert layer.receive(piece) == b""
                        layer.outgoing()
                assert not layer.established
                assert layer.server_name == layer.server_name.lower()
            assert not said.found, said.found[0]

        yield check


@contextmanager
def _heard() -> Iterator[Failures]:
    """What is said behind the back of whoever calls, as a server's process would say it."""
    kept, sys.unraisablehook = sys.unraisablehook, tell_unraisable
    try:
        with failures_of() as failures:
            yield failures
    finally:
        sys.unraisablehook = kept


TARGETS = (Target("tls", served),)
