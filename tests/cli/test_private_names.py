"""`network private-dns` and `dns-zone-group`: what they send, and what they print as `az` does."""

import json
from typing import Any

import pytest

from cli.conftest import Run
from cli.management import HUB_ID, FakeManagement

GROUP = HUB_ID.partition("/Microsoft.Devices")[0]
NETWORK = f"{GROUP}/Microsoft.Network"
ZONE = f"{NETWORK}/privateDnsZones/plant.test"
LINK = f"{ZONE}/virtualNetworkLinks/here"
ENDPOINT = f"{NETWORK}/privateEndpoints/pe"
ZONE_GROUP = f"{ENDPOINT}/privateDnsZoneGroups/default"
DNS = ("network", "private-dns")
ZONE_BODY = {"id": ZONE, "name": "plant.test", "location": "global", "properties": {"numberOfRecordSets": 1}}


def records(kind: str, **properties: Any) -> dict[str, Any]:
    return {"id": f"{ZONE}/{kind}/press", "name": "press", "properties": {"ttl": 60} | properties}


def test_a_zone_is_created_and_printed_flat(management: FakeManagement, run: Run) -> None:
    management.on("PUT", ZONE, ZONE_BODY)

    done = run(*DNS, "zone", "create", "-g", "isthmus", "-n", "plant.test", "--tags", "site=north")

    assert management.asked[-1].body == {"location": "global", "tags": {"site": "north"}}
    assert json.loads(done.out)["numberOfRecordSets"] == 1


@pytest.mark.parametrize(
    ("flags", "header"), [((), None), (("--if-none-match",), "*"), (("--if-none-match", "false"), None)]
)
def test_only_what_is_new_is_created_when_asked_so(
    management: FakeManagement, run: Run, flags: tuple[str, ...], header: str | None
) -> None:
    management.on("PUT", ZONE, ZONE_BODY)
    management.on("PUT", f"{ZONE}/A/press", records("A"))

    run(*DNS, "zone", "create", "-n", "plant.test", *flags)
    run(*DNS, "record-set", "a", "create", "-z", "plant.test", "-n", "press", *flags)

    assert [asked.headers.get("if-none-match") for asked in management.asked[-2:]] == [header, header]


def test_a_zones_tags_are_changed(management: FakeManagement, run: Run) -> None:
    management.on("PATCH", ZONE, ZONE_BODY)

    assert run(*DNS, "zone", "update", "-n", "plant.test", "--tags", "a=b").code == 0
    assert management.asked[-1].body == {"tags": {"a": "b"}}


@pytest.mark.parametrize(
    ("words", "method", "path"),
    [
        (("zone", "list"), "GET", f"{NETWORK}/privateDnsZones"),
        (("zone", "show", "-n", "plant.test"), "GET", ZONE),
        (("zone", "delete", "-n", "plant.test", "--yes"), "DELETE", ZONE),
        (("link", "vnet", "list", "-z", "plant.test"), "GET", f"{ZONE}/virtualNetworkLinks"),
        (("link", "vnet", "show", "-z", "plant.test", "-n", "here"), "GET", LINK),
        (("link", "vnet", "delete", "-z", "plant.test", "-n", "here", "-y"), "DELETE", LINK),
        (("record-set", "list", "-z", "plant.test"), "GET", f"{ZONE}/ALL"),
        (("record-set", "aaaa", "list", "-z", "plant.test"), "GET", f"{ZONE}/AAAA"),
        (("record-set", "txt", "show", "-z", "plant.test", "-n", "press"), "GET", f"{ZONE}/TXT/press"),
        (("record-set", "a", "delete", "-z", "plant.test", "-n", "press", "-y"), "DELETE", f"{ZONE}/A/press"),
    ],
)
def test_what_is_asked(management: FakeManagement, run: Run, words: tuple[str, ...], method: str, path: str) -> None:
    if method == "GET":
        management.on(method, path, {"value": [ZONE_BODY]})
    else:
        management.on(method, path, status=204)

    done = run(*DNS, *words)

    assert (done.code, management.asked[-1].method, management.asked[-1].path) == (0, method, path)


def test_a_link_is_sent_as_az_does(management: FakeManagement, run: Run) -> None:
    management.on("PUT", LINK, {"id": LINK, "name": "here", "properties": {}})

    run(*DNS, "link", "vnet", "create", "-z", "plant.test", "-n", "here", "-v", "plant", "-e", "false")

    assert management.asked[-1].body["properties"] == {
        "virtualNetwork": {"id": f"{NETWORK}/virtualNetworks/plant"},
        "registrationEnabled": False,
        "resolutionPolicy": "Default",
    }


def test_a_links_policy_is_changed(management: FakeManagement, run: Run) -> None:
    management.on("PATCH", LINK, {"id": LINK, "name": "here", "properties": {}})

    run(*DNS, "link", "vnet", "update", "-z", "plant.test", "-n", "here", "--resolution-policy", "NxDomainRedirect")

    assert management.asked[-1].body == {"properties": {"resolutionPolicy": "NxDomainRedirect"}}


@pytest.mark.parametrize(
    ("kind", "words", "present", "sent"),
    [
        ("a", ("add-record", "-a", "10.0.0.2"), None, {"ttl": 3600, "aRecords": [{"ipv4Address": "10.0.0.2"}]}),
        (
            "a",
            ("add-record", "--ipv4-address", "10.0.0.2"),
            {"aRecords": [{"ipv4Address": "10.0.0.1"}]},
            {"ttl": 60, "aRecords": [{"ipv4Address": "10.0.0.1"}, {"ipv4Address": "10.0.0.2"}]},
        ),
        ("aaaa", ("add-record", "-a", "fd00::1"), None, {"ttl": 3600, "aaaaRecords": [{"ipv6Address": "fd00::1"}]}),
        ("cname", ("set-record", "-c", "b.test"), None, {"ttl": 3600, "cnameRecord": {"cname": "b.test"}}),
        ("txt", ("add-record", "-v", "one", "two"), None, {"ttl": 3600, "txtRecords": [{"value": ["one", "two"]}]}),
    ],
)
def test_a_record_is_added_to_its_set(
    management: FakeManagement,
    run: Run,
    kind: str,
    words: tuple[str, ...],
    present: dict[str, Any] | None,
    sent: dict[str, Any],
) -> None:
    whole = [records(kind.upper(), **present)] if present is not None else []
    management.on("GET", f"{ZONE}/{kind.upper()}", {"value": whole})
    management.on("PUT", f"{ZONE}/{kind.upper()}/press", records(kind.upper()))

    run(*DNS, "record-set", kind, words[0], "-g", "isthmus", "-z", "plant.test", "-n", "press", *words[1:])

    assert management.asked[-1].body == {"properties": sent}


@pytest.mark.parametrize(
    ("address", "flags", "method", "left"),
    [
        ("10.0.0.1", (), "PUT", ["10.0.0.2"]),
        ("10.0.0.3", (), None, None),
    ],
)
def test_a_record_is_removed(
    management: FakeManagement, run: Run, address: str, flags: tuple[str, ...], method: str | None, left: Any
) -> None:
    both = [{"ipv4Address": "10.0.0.1"}, {"ipv4Address": "10.0.0.2"}]
    management.on("GET", f"{ZONE}/A/press", records("A", aRecords=both))
    management.on("PUT", f"{ZONE}/A/press", records("A"))

    done = run(*DNS, "record-set", "a", "remove-record", "-z", "plant.test", "-n", "press", "-a", address, *flags)

    assert (done.code == 0) is (method is not None)
    if method:
        assert [each["ipv4Address"] for each in management.asked[-1].body["properties"]["aRecords"]] == left


@pytest.mark.parametrize(("flags", "method"), [((), "DELETE"), (("--keep-empty-record-set",), "PUT")])
def test_a_set_goes_with_its_last_record(
    management: FakeManagement, run: Run, flags: tuple[str, ...], method: str
) -> None:
    management.on("GET", f"{ZONE}/CNAME/press", records("CNAME", cnameRecord={"cname": "b.test"}))
    management.on("PUT", f"{ZONE}/CNAME/press", records("CNAME"))
    management.on("DELETE", f"{ZONE}/CNAME/press", status=204)

    run(*DNS, "record-set", "cname", "remove-record", "-z", "plant.test", "-n", "press", "-c", "b.test", *flags)

    assert management.asked[-1].method == method


def test_a_set_is_changed_as_az_does(management: FakeManagement, run: Run) -> None:
    management.on("GET", f"{ZONE}/A/press", records("A", aRecords=[{"ipv4Address": "10.0.0.1"}]))
    management.on("PUT", f"{ZONE}/A/press", records("A"))

    run(*DNS, "record-set", "a", "update", "-z", "plant.test", "-n", "press", "--set", "ttl=5")

    assert management.asked[-1].body["properties"]["ttl"] == 5
    assert management.asked[-1].body["properties"]["aRecords"] == [{"ipv4Address": "10.0.0.1"}]


def test_a_zone_group_is_made_of_a_zones_name_or_id(management: FakeManagement, run: Run) -> None:
    management.on("PUT", ZONE_GROUP, {"id": ZONE_GROUP, "name": "default", "properties": {}})
    for zone in ("plant.test", ZONE):
        run(
            *("network", "private-endpoint", "dns-zone-group", "create", "--endpoint-name", "pe", "-n", "default"),
            *("--private-dns-zone", zone, "--zone-name", "plant"),
        )

        assert management.asked[-1].body == {
            "properties": {"privateDnsZoneConfigs": [{"name": "plant", "properties": {"privateDnsZoneId": ZONE}}]}
        }


def test_a_zone_is_added_to_a_group_and_removed(management: FakeManagement, run: Run) -> None:
    config = {"name": "plant", "properties": {"privateDnsZoneId": ZONE}}
    management.on("GET", ZONE_GROUP, {"name": "default", "properties": {"privateDnsZoneConfigs": [config]}})
    management.on("PUT", ZONE_GROUP, {"id": ZONE_GROUP, "name": "default", "properties": {}})
    words = ("network", "private-endpoint", "dns-zone-group")
    whose = ("--endpoint-name", "pe", "-n", "default", "--zone-name")

    run(*words, "add", *whose, "mill", "--private-dns-zone", "mill.test")
    assert len(management.asked[-1].body["properties"]["privateDnsZoneConfigs"]) == 2

    run(*words, "remove", *whose, "PLANT")
    assert management.asked[-1].body["properties"]["privateDnsZoneConfigs"] == []
    assert run(*words, "remove", *whose, "other").code == 1


def test_an_export_is_printed_as_it_is(management: FakeManagement, run: Run) -> None:
    management.on("GET", f"{NETWORK}/virtualNetworks/plant/privateNames/hosts", {"value": "10.1.0.5 hub.test\n"})

    assert run(*DNS, "export", "--vnet-name", "plant", "--format", "hosts").out == "10.1.0.5 hub.test\n"


def test_servers_of_a_network_are_named(management: FakeManagement, run: Run) -> None:
    path = f"{NETWORK}/virtualNetworks/plant"
    management.on("PUT", path, {"id": path, "name": "plant", "properties": {}})

    run("network", "vnet", "create", "-n", "plant", "--dns-servers", "10.0.0.4", "10.0.0.5")

    assert management.asked[-1].body["properties"]["dhcpOptions"] == {"dnsServers": ["10.0.0.4", "10.0.0.5"]}
