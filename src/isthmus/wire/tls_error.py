"""What goes wrong in TLS; apart from the layer, because a compiled exception has no subclasses that are not."""


class TlsError(Exception):
    """The peer's bytes are not TLS, or not a handshake we accept; `reason` is OpenSSL's, in lower-case words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
