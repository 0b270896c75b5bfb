"""Servers: the doors; they know protocols and the domain, never a database."""
