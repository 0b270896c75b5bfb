"""Isthmus: an IoT hub for your own network, wire-compatible with Azure IoT Hub."""

__version__ = "0.1.0"
