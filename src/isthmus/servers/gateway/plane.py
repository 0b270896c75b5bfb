"""The planes: which protocol a listening socket speaks, and for whom."""

from enum import Enum


class Plane(Enum):
    """What a listening socket serves; the metrics are for the operator's monitoring and belong to no hub."""

    MQTT = "mqtt"
    AMQP = "amqp"
    HTTPS = "https"
    METRICS = "metrics"
