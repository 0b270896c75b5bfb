"""Devices: the identity registry and the twins."""
