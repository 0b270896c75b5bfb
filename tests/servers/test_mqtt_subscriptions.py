"""Which filters a hub knows, and how subscriptions add up."""

import pytest

from isthmus.base.errors import HubError
from isthmus.base.ids import DeviceRef, HubId
from isthmus.servers.gateway.mqtt_subscriptions import SUBSCRIPTIONS_MAX, Feed, Subscriptions, feed_of

DEVICE = DeviceRef(HubId(1), "dev1")
MODULE = DeviceRef(HubId(1), "dev1", "mod1")


@pytest.mark.parametrize(
    ("ref", "topic_filter", "feed"),
    [
        (DEVICE, "devices/dev1/messages/devicebound/#", Feed.DEVICEBOUND),
        (DEVICE, "devices/+/messages/devicebound/#", Feed.DEVICEBOUND),
        (DEVICE, "$iothub/methods/POST/#", Feed.METHODS),
        (DEVICE, "$iothub/methods/POST/reboot/#", Feed.METHODS),
        (DEVICE, "$iothub/twin/res/#", Feed.TWIN_REPLIES),
        (DEVICE, "$iothub/twin/PATCH/properties/desired/#", Feed.DESIRED),
        (MODULE, "devices/dev1/modules/mod1/inputs/#", Feed.NOTHING),
        (MODULE, "devices/dev1/modules/mod1/#", Feed.NOTHING),
        (MODULE, "devices/dev1/modules/mod1/messages/devicebound/#", Feed.NOTHING),
        (MODULE, "$iothub/methods/POST/#", Feed.METHODS),
    ],
)
def test_filters_of_the_hub_are_known(ref: DeviceRef, topic_filter: str, feed: Feed) -> None:
    assert feed_of(ref, topic_filter) is feed


@pytest.mark.rule("MQTT-3.8.3-2", "MQTT-4.7.2-1")
@pytest.mark.parametrize(
    ("ref", "topic_filter"),
    [
        (DEVICE, "#"),
        (DEVICE, "devices/#"),
        (DEVICE, "devices/dev2/messages/devicebound/#"),
        (DEVICE, "devices/dev1/messages/events/#"),
        (DEVICE, "$iothub/#"),
        (DEVICE, "$iothub/methods/POST/+/#"),
        (DEVICE, "devices/dev1/modules/mod1/#"),
        (MODULE, "devices/dev1/messages/devicebound/#"),
        (MODULE, "devices/+/messages/devicebound/#"),
    ],
)
def test_foreign_filters_are_refused(ref: DeviceRef, topic_filter: str) -> None:
    with pytest.raises(HubError) as caught:
        feed_of(ref, topic_filter)

    assert caught.value.refusal is not None
    assert caught.value.refusal.rule == "contract.filter"


@pytest.mark.rule("MQTT-3.3.5-1", "MQTT-3.8.4-6", "MQTT-3.10.4-1")
def test_the_highest_quality_up_to_one_is_granted() -> None:
    subscriptions = Subscriptions(DEVICE)

    assert subscriptions.add("devices/dev1/messages/devicebound/#", 2) == 1
    assert subscriptions.add("devices/+/messages/devicebound/#", 0) == 0
    assert subscriptions.qos(Feed.DEVICEBOUND) == 1
    subscriptions.remove("devices/dev1/messages/devicebound/#")
    assert subscriptions.qos(Feed.DEVICEBOUND) == 0
    subscriptions.remove("devices/+/messages/devicebound/#")
    assert subscriptions.qos(Feed.DEVICEBOUND) is None


def test_distinct_filters_are_bounded() -> None:
    subscriptions = Subscriptions(DEVICE)
    for number in range(SUBSCRIPTIONS_MAX):
        subscriptions.add(f"$iothub/methods/POST/m{number}/#", 0)
    subscriptions.add("$iothub/methods/POST/m0/#", 1)

    with pytest.raises(HubError) as caught:
        subscriptions.add("$iothub/twin/res/#", 0)
    assert caught.value.refusal is not None
    assert caught.value.refusal.rule == "limit.subscriptions"
    assert len(subscriptions.filters) == SUBSCRIPTIONS_MAX


def test_methods_are_taken_by_name_or_all() -> None:
    subscriptions = Subscriptions(DEVICE, {"$iothub/methods/POST/reboot/#": 0})

    assert subscriptions.takes_method("reboot")
    assert not subscriptions.takes_method("erase")
    subscriptions.add("$iothub/methods/POST/#", 0)
    assert subscriptions.takes_method("erase")
    subscriptions.remove("$iothub/methods/POST/#")
    subscriptions.remove("never subscribed")
    assert not subscriptions.takes_method("erase")


def test_kept_filters_make_the_same_subscriptions() -> None:
    subscriptions = Subscriptions(DEVICE, {"devices/dev1/messages/devicebound/#": 1})

    assert Subscriptions(DEVICE, subscriptions.filters).qos(Feed.DEVICEBOUND) == 1
