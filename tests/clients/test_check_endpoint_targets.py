"""`check endpoint` at every kind of target, all closed to the public: with one switch off, and with two."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from clients.site import ENTITY, HOST, NOBODY, Neighbour, Site, assign, make_site
from support.loopback import Loopback
from support.server import RunningHub

KINDS = ("hub", "queue", "topic", "json")
ROLES = {
    "hub": "Azure Event Hubs Data Sender",
    "queue": "Azure Service Bus Data Sender",
    "topic": "Azure Service Bus Data Sender",
    "json": "Storage Blob Data Contributor",
}
CODES = {
    # Role missing, and network refused, as each service says it.
    "hub": ("'Send' claim(s) are required", "Ip has been prevented"),
    "queue": ("'Send' claim(s) are required", "Ip has been prevented"),
    "topic": ("'Send' claim(s) are required", "Ip has been prevented"),
    "json": ("AuthorizationPermissionMismatch", "AuthorizationFailure"),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Loopback() as loopback:
        settings = "[authority]\nenabled = true\n"
        hub = RunningHub(tmp_path_factory.mktemp("site"), loopback.take(), hostname=HOST, settings=settings)
        try:
            hub.start()
            made = make_site(hub, loopback.take)
            made.add_endpoint("hub", "eventhub", "--endpoint-uri", f"sb://{made.events.host}", "--entity-path", ENTITY)
            bus = ("--endpoint-uri", f"sb://{made.bus.host}")
            made.add_endpoint("queue", "servicebus-queue", *bus, "--entity-path", "orders")
            made.add_endpoint("topic", "servicebus-topic", *bus, "--entity-path", "news")
            made.add_container("json", "json")
            yield made
            hub.stop()
        finally:
            hub.kill()


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_works_with_all_on_and_names_what_is_off(site: Site, kind: str) -> None:
    assert check(site, kind)["works"]
    role, network = CODES[kind]

    take_role(site, kind)
    found = check(site, kind)
    assert (found["off"], role in answer(found)) == (["role"], True)

    trust(site, kind, on=False)
    found = check(site, kind)
    assert found["off"] == ["trustedServices", "role"], "network is judged first, and both are told"
    assert network in answer(found)

    assign(site.hub, site.hub_principal, ROLES[kind], scope_of(site, kind))
    found = check(site, kind)
    assert (found["off"], network in answer(found)) == (["trustedServices"], True)

    trust(site, kind, on=True)
    assert check(site, kind)["works"]


def test_without_an_identity_every_endpoint_names_it_first(site: Site) -> None:
    site.hub.isthmus("iot", "hub", "identity", "remove", "--system-assigned")
    for kind in KINDS:
        found = check(site, kind)
        assert found["off"] == ["identity", "role"]
        steps = {each["step"]: each["outcome"] for each in found["steps"]}
        assert (steps["identity"], steps["token"], steps["write"]) == ("failed", "failed", "failed")


def check(site: Site, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(site.hub.run("check", "endpoint", kind, "--output", "json").stdout)
    return found


def answer(found: dict[str, Any]) -> str:
    return str(next(each["value"] for each in found["steps"] if each["step"] == "write"))


def scope_of(site: Site, kind: str) -> str:
    return {
        "hub": f"{site.events.resource_id}/eventhubs/{ENTITY}",
        "queue": f"{site.bus.resource_id}/queues/orders",
        "topic": f"{site.bus.resource_id}/topics/news",
        "json": f"{site.storage.resource_id}/blobServices/default/containers/json",
    }[kind]


def take_role(site: Site, kind: str) -> None:
    listed = site.hub.json("role", "assignment", "list", "--scope", scope_of(site, kind))
    own = [each["id"] for each in listed if each["principalId"] == site.hub_principal]
    site.hub.isthmus("role", "assignment", "delete", "--ids", *own)


def trust(site: Site, kind: str, *, on: bool) -> None:
    """The target's exception for trusted services."""
    target, words = target_of(site, kind)
    if words == "storage":
        bypass = "AzureServices" if on else "None"
        site.hub.isthmus("storage", "account", "update", "-n", target.name, "--bypass", bypass)
        return
    site.hub.isthmus(
        *(words, "namespace", "network-rule-set", "update", "-n", target.name, "--default-action", "deny"),
        *("--ip-rules", NOBODY, "--enable-trusted-service-access", str(on).lower()),
    )


def target_of(site: Site, kind: str) -> tuple[Neighbour, str]:
    if kind == "json":
        return site.storage, "storage"
    return (site.events, "eventhubs") if kind == "hub" else (site.bus, "servicebus")
