"""Backends: databases behind the ports of the domain."""
