"""Namespaces: the small helper that runs as root, and how it is asked.

It makes listening sockets inside Linux network namespaces, has the addresses there that they need, and passes the
sockets on. It knows nothing of hubs: who audits what runs as root reads this room.
"""
