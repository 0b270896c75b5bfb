"""Devices: the identity registry, the twins, who is connected, and the events about them."""
