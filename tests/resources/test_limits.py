"""Limits of a hub's description: what is at the limit is taken, and one more is refused.

The numbers stand here once more, so that whoever raises a limit is asked whether he meant to.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from isthmus.base.errors import HubError
from isthmus.resources.arm_patch import apply_patch
from isthmus.resources.enrichments import checked_enrichments
from isthmus.resources.hub import Hub
from isthmus.resources.hub_identity import HubIdentity
from isthmus.resources.members import tags_of
from isthmus.resources.outbound import checked_names
from routing import fakes

HUB = replace(fakes.HUB, identity=HubIdentity(True, "principal"))

UPLOADS = "DefaultEndpointsProtocol=https;AccountName=store;AccountKey=c2VjcmV0;EndpointSuffix=core.windows.net"


def tags(count: int) -> object:
    return tags_of({f"t{number}": "x" for number in range(count)})


def hub_tags(count: int) -> object:
    return apply_patch(HUB, {"tags": {f"t{number}": "x" for number in range(count)}})


def outbound_names(count: int) -> object:
    return checked_names([f"h{number}.example.test" for number in range(count)], "names")


def enrichments(count: int) -> object:
    return checked_enrichments(
        [{"key": f"k{number}", "value": "v", "endpointNames": ["events"]} for number in range(count)], "enrichments"
    )


def enrichment_key(length: int) -> object:
    return checked_enrichments([{"key": "k" * length, "value": "v", "endpointNames": ["events"]}], "enrichments")


def enrichment_value(length: int) -> object:
    return checked_enrichments([{"key": "k", "value": "v" * length, "endpointNames": ["events"]}], "enrichments")


def entity_name(length: int) -> Hub:
    said = {
        "name": "queue",
        "endpointUri": "sb://ns.servicebus.windows.net",
        "entityPath": "q" * length,
        "authenticationType": "identityBased",
    }
    return _with_endpoint("serviceBusQueues", said)


def connection_string(length: int) -> Hub:
    text = "Endpoint=sb://ns.servicebus.windows.net/;SharedAccessKeyName=send;SharedAccessKey=;EntityPath=q"
    key = "k" * (length - len(text))
    given = text.replace("SharedAccessKey=;", f"SharedAccessKey={key};")
    return _with_endpoint("serviceBusQueues", {"name": "queue", "connectionString": given})


def file_name_format(length: int) -> Hub:
    needed = "{iothub}/{partition}/{YYYY}/{MM}/{DD}/{HH}/{mm}"
    said = {
        "name": "store",
        "connectionString": UPLOADS,
        "containerName": "telemetry",
        "fileNameFormat": needed + "x" * (length - len(needed)),
    }
    return _with_endpoint("storageContainers", said)


def upload_seconds(seconds: int) -> Hub:
    storage = {"connectionString": UPLOADS, "containerName": "uploads", "sasTtlAsIso8601": f"PT{seconds}S"}
    return apply_patch(HUB, {"properties": {"storageEndpoints": {"$default": storage}}})


@pytest.mark.parametrize(
    ("make", "most"),
    [
        (tags, 50),
        (hub_tags, 50),
        (outbound_names, 100),
        (enrichments, 10),
        (enrichment_key, 128),
        (enrichment_value, 1_024),
        (entity_name, 260),
        (connection_string, 4_096),
        (file_name_format, 512),
        (upload_seconds, 86_400),
    ],
    ids=lambda value: value.__name__ if callable(value) else str(value),
)
def test_at_the_limit_and_one_above(make: Callable[[int], object], most: int) -> None:
    make(most)
    with pytest.raises(HubError):
        make(most + 1)


def _with_endpoint(kind: str, said: dict[str, str]) -> Hub:
    return apply_patch(HUB, {"properties": {"routing": {"endpoints": {kind: [said]}}}})
