"""The planes: which protocol a listening socket speaks."""

from enum import Enum


class Plane(Enum):
    """The protocol that a listening socket speaks."""

    MQTT = "mqtt"
    AMQP = "amqp"
    HTTPS = "https"
