"""Sinks: what delivers to the endpoints of a hub, on the official clients, with keys and with the hub's identity."""
