"""The demo of `make run`: a hub, devices, a reader and a back-end in processes of their own, on the official SDKs."""

from isthmus.demo.scenes import run

__all__ = ["run"]
