"""The bytes inside TLS."""

import asyncio
import socket
import ssl

READ_BYTES_MAX = 65_536


class Talk:
    """A TLS connection to the hub; `close` it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, data: bytes) -> None:
        """Sends; what a walk says is small, so nothing waits."""
        self._writer.write(data)

    async def read(self) -> bytes:
        """What has come; raises EOFError when the peer is gone."""
        data = await self._reader.read(READ_BYTES_MAX)
        if not data:
            raise EOFError
        return data

    @property
    def version(self) -> str:
        """The version of TLS, as OpenSSL writes it."""
        return str(self._tls.version())

    @property
    def expires(self) -> str:
        """When the peer's certificate ends, as OpenSSL writes it."""
        certificate = self._tls.getpeercert() or {}
        return str(certificate.get("notAfter", ""))

    def close(self) -> None:
        """Ends it at once."""
        self._writer.transport.abort()

    @property
    def _tls(self) -> ssl.SSLObject:
        found: ssl.SSLObject = self._writer.get_extra_info("ssl_object")
        return found


async def secured(plain: socket.socket, context: ssl.SSLContext, host_name: str) -> Talk:
    """TLS over a connected socket, the chain and the name verified; raises OSError, and takes the socket along."""
    try:
        return Talk(*await asyncio.open_connection(sock=plain, ssl=context, server_hostname=host_name))
    except BaseException:
        plain.close()
        raise
