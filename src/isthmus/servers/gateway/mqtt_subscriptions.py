"""What a device may subscribe to, and what it has subscribed to.

Filters are compared as text: a hub knows these forms and no others, and an id in a filter is never matched as a
pattern (IoT Hub developer guide, "Communicate with an IoT hub using the MQTT protocol").
"""

import re
from collections.abc import Mapping
from enum import Enum

from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.ids import DeviceRef

SUBSCRIPTIONS_MAX = 5
"""Distinct filters of one device at a time ("Communicate with an IoT hub using the MQTT protocol"); then it is cut."""


class Feed(Enum):
    """What a subscription brings; `NOTHING` is for filters of Edge, where only a gateway has something to send."""

    DEVICEBOUND = "devicebound"
    METHODS = "methods"
    TWIN_REPLIES = "twin-replies"
    DESIRED = "desired"
    NOTHING = "nothing"


METHODS_FILTER = re.compile(r"\$iothub/methods/POST/(?:([^/+#]+)/)?#")
TWIN_REPLIES_FILTER = "$iothub/twin/res/#"
DESIRED_FILTER = "$iothub/twin/PATCH/properties/desired/#"


class Subscriptions:
    """The filters of one session, each with the QoS granted."""

    __slots__ = ("_feeds", "_filters", "_methods", "_ref")

    def __init__(self, ref: DeviceRef, filters: Mapping[str, int] | None = None) -> None:
        self._ref = ref
        self._filters: dict[str, int] = {}
        self._feeds: dict[Feed, int] = {}
        self._methods: frozenset[str] = frozenset()
        for topic_filter, qos in (filters or {}).items():
            self.add(topic_filter, qos)

    @property
    def filters(self) -> dict[str, int]:
        """A copy, to be stored."""
        return dict(self._filters)

    def add(self, topic_filter: str, qos: int) -> int:
        """Subscribes, or changes the QoS of a subscription [MQTT-3.8.4-3]; returns the QoS granted, 1 for 2.

        Raises `HubError` with the refusal `contract.filter` for a filter a hub does not have, or
        `limit.subscriptions`; nothing has changed then.
        """
        feed_of(self._ref, topic_filter)
        if topic_filter not in self._filters and len(self._filters) >= SUBSCRIPTIONS_MAX:
            remedy = f"Subscribe to at most {SUBSCRIPTIONS_MAX} filters at a time."
            refusal = Refusal(Hop.LIMIT, "limit.subscriptions", topic_filter[:256], remedy)
            raise HubError(Code.INVALID_OPERATION, "Too many subscriptions", refusal)
        self._filters[topic_filter] = min(qos, 1)
        self._index()
        return min(qos, 1)

    def remove(self, topic_filter: str) -> None:
        """Unsubscribes; from what was not there as well [MQTT-3.10.4-5]."""
        self._filters.pop(topic_filter, None)
        self._index()

    def qos(self, feed: Feed) -> int | None:
        """The highest QoS granted for a feed, None without a subscription."""
        return self._feeds.get(feed)

    def takes_method(self, name: str) -> bool:
        """True when a method of that name reaches the device."""
        return "" in self._methods or name in self._methods

    def _index(self) -> None:
        feeds: dict[Feed, int] = {}
        methods: set[str] = set()
        for topic_filter, qos in self._filters.items():
            feed = feed_of(self._ref, topic_filter)
            feeds[feed] = max(qos, feeds.get(feed, 0))
            match = METHODS_FILTER.fullmatch(topic_filter)
            if match is not None:
                methods.add(match[1] or "")
        self._feeds = feeds
        self._methods = frozenset(methods)


def feed_of(ref: DeviceRef, topic_filter: str) -> Feed:
    """What a filter brings to `ref`; raises `HubError` with the refusal `contract.filter`."""
    if topic_filter == TWIN_REPLIES_FILTER:
        return Feed.TWIN_REPLIES
    if topic_filter == DESIRED_FILTER:
        return Feed.DESIRED
    if METHODS_FILTER.fullmatch(topic_filter):
        return Feed.METHODS
    if topic_filter in _own_filters(ref):
        return Feed.NOTHING if ref.module_id else Feed.DEVICEBOUND
    refusal = Refusal(Hop.CONTRACT, "contract.filter", topic_filter[:256], "Subscribe to the hub's own topics only.")
    raise HubError(Code.INVALID_OPERATION, "The topic filter is not one of the hub's", refusal)


def _own_filters(ref: DeviceRef) -> tuple[str, ...]:
    if ref.module_id:
        own = f"devices/{ref.device_id}/modules/{ref.module_id}"
        return (f"{own}/inputs/#", f"{own}/#", f"{own}/messages/devicebound/#")
    return (f"devices/{ref.device_id}/messages/devicebound/#", "devices/+/messages/devicebound/#")
