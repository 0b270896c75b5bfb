"""The planes: which protocol a listening socket speaks, and for whom."""

from enum import Enum


class Plane(Enum):
    """What a listening socket serves; metrics and management are for operators and belong to no hub, nor do names.

    By a link connectors dial in; what a carried connection is for, its destination port says. Metadata gives tokens to
    what runs inside a network namespace.
    """

    MQTT = "mqtt"
    AMQP = "amqp"
    HTTPS = "https"
    METRICS = "metrics"
    LINK = "link"
    MANAGEMENT = "management"
    NAMES = "names"
    METADATA = "metadata"
