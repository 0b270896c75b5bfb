"""The command `isthmus`: the names, flags and output of `az iot hub`, over the server's management API."""

from isthmus.cli.main import main

__all__ = ["main"]
