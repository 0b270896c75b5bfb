"""Builds everything and connects it; the only room that knows all, and contains no rules of its own."""

from isthmus.app.offline import offline
from isthmus.app.serving import serve

__all__ = ["offline", "serve"]
