"""The server's side of RFC 6455, without a socket: the opening handshake, and frames as a stream of bytes."""
