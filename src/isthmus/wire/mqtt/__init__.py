"""MQTT 3.1.1, without a socket: codec, the server's side of a connection, and a client's side to talk to it."""
