"""Isthmus: an IoT hub for your own network, wire-compatible with Azure IoT Hub."""

from isthmus.compiled import CORE

__version__ = "0.1.0"
__all__ = ["CORE", "__version__"]
