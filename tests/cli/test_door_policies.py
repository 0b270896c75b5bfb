"""`policy`: what it sends; and `--dry-run` of every command that can cut somebody off: what it prints, no more."""

import json
from typing import Any

import pytest

from cli.conftest import Run
from cli.management import HUB_ID, FakeManagement

FLOOR = f"{HUB_ID}/doorPolicies/floor"
NETWORK = HUB_ID.partition("/Microsoft.Devices")[0] + "/Microsoft.Network"
CONNECTION = f"{HUB_ID}/privateEndpointConnections/plant"


def policy(**properties: Any) -> dict[str, Any]:
    usual = {"deviceIds": ["press"], "query": "", "sharedAccessPolicy": "", "consumerGroup": ""}
    members = usual | {"doors": ["private"], "enabled": True} | properties
    return {"id": FLOOR, "name": "floor", "etag": "AAAA=", "properties": members}


@pytest.mark.parametrize(
    ("flags", "sent"),
    [
        (
            ["-d", "press", "oven", "--doors", "private:plant"],
            {"deviceIds": ["press", "oven"], "doors": ["private:plant"]},
        ),
        (
            ["--tag-query", "tags.site = 'a'", "--doors", "public", "network:works", "--enabled", "false"],
            {"query": "tags.site = 'a'", "doors": ["public", "network:works"], "enabled": False},
        ),
        (["--policy-name", "service", "--doors", "private"], {"sharedAccessPolicy": "service", "doors": ["private"]}),
        (["--consumer-group", "billing", "--doors", "private"], {"consumerGroup": "billing", "doors": ["private"]}),
    ],
)
def test_create_sends_whom_and_where(management: FakeManagement, run: Run, flags: list[str], sent: Any) -> None:
    management.on("PUT", FLOOR, policy())
    done = run("policy", "create", "-n", "floor", *flags)
    assert (done.code, json.loads(done.out)["name"]) == (0, "floor")
    assert management.asked[-1].body == {"properties": sent}


def test_update_replaces_the_subject_and_keeps_the_rest(management: FakeManagement, run: Run) -> None:
    management.on("GET", FLOOR, policy())
    management.on("PUT", FLOOR, policy())
    assert run("policy", "update", "-n", "floor", "--tag-query", "tags.a = 1").code == 0
    put = management.asked[-1]
    assert put.headers["if-match"] == '"AAAA="'
    assert put.body["properties"] == {
        "deviceIds": None,
        "query": "tags.a = 1",
        "sharedAccessPolicy": None,
        "consumerGroup": None,
        "doors": ["private"],
        "enabled": True,
    }


def test_show_list_and_delete(management: FakeManagement, run: Run) -> None:
    management.on("GET", FLOOR, policy())
    management.on("GET", f"{HUB_ID}/doorPolicies", {"value": [policy()]})
    management.on("DELETE", FLOOR, None)
    assert json.loads(run("policy", "show", "-n", "floor", "--query", "name").out) == "floor"
    assert json.loads(run("policy", "list", "--query", "[].name").out) == ["floor"]
    assert run("policy", "delete", "-n", "floor").code == 0


def test_the_shared_access_policies_keep_their_place(management: FakeManagement, run: Run) -> None:
    listed = json.loads(run("iot", "hub", "policy", "list").out)
    assert [each["keyName"] for each in listed] == ["iothubowner", "service"]


AFFECTED = {
    "hub": "hub",
    "device": "press",
    "principal": "device:press",
    "address": "203.0.113.7",
    "door": "public",
    "plane": "mqtt",
    "consumerGroup": "",
    "lastSeen": "2026-01-31T14:02:00.0000000Z",
    "live": True,
    "rule": "network.public-access",
    "value": "publicNetworkAccess is Disabled",
    "remedy": "open it",
}


def told(**members: Any) -> dict[str, Any]:
    usual = {"affected": [AFFECTED], "affectedTotal": 1, "admitted": 3, "refusedAlready": 0, "complete": True}
    return {"dryRun": True, "since": "2026-01-24T14:02:00.0000000Z"} | usual | members


@pytest.mark.parametrize(
    ("words", "method", "path"),
    [
        (["policy", "create", "-n", "floor", "-d", "press", "--doors", "private"], "PUT", FLOOR),
        (["policy", "update", "-n", "floor", "--enabled", "true"], "PUT", FLOOR),
        (["iot", "hub", "update", "--set", "properties.publicNetworkAccess=Disabled"], "PUT", HUB_ID),
        (["iot", "hub", "delete", "-n", "hub"], "DELETE", HUB_ID),
        (["network", "private-endpoint", "delete", "-n", "plant"], "DELETE", f"{NETWORK}/privateEndpoints/plant"),
        (["network", "private-endpoint-connection", "reject", "--id", CONNECTION], "PUT", CONNECTION),
        (["network", "private-endpoint-connection", "delete", "--id", CONNECTION], "DELETE", CONNECTION),
        (["network", "vnet", "delete", "-n", "works"], "DELETE", f"{NETWORK}/virtualNetworks/works"),
        (
            ["network", "vnet", "peering", "delete", "--vnet-name", "works", "-n", "there"],
            "DELETE",
            f"{NETWORK}/virtualNetworks/works/virtualNetworkPeerings/there",
        ),
        (["network", "local-gateway", "delete", "-n", "depot"], "DELETE", f"{NETWORK}/localNetworkGateways/depot"),
    ],
)
def test_a_dry_run_asks_for_one_and_prints_who(
    management: FakeManagement, run: Run, words: list[str], method: str, path: str
) -> None:
    management.on("GET", FLOOR, policy())
    management.on("GET", HUB_ID, {"id": HUB_ID, "name": "hub", "etag": "AAAA=", "properties": {}})
    management.on("GET", CONNECTION, {"properties": {"privateLinkServiceConnectionState": {}}})
    management.on(method, path, told())
    done = run(*words, "--dry-run", "--since", "2026-01-24T14:02:00Z")
    assert (done.code, json.loads(done.out)) == (0, [AFFECTED])
    asked = management.asked[-1]
    assert (asked.method, asked.path) == (method, path)
    assert (asked.query["dryRun"], asked.query["since"]) == ("true", "2026-01-24T14:02:00.0000000Z")
    assert done.err == (
        "Dry run, nothing was changed. "
        "1 connection that is open now or came since 2026-01-24T14:02Z would be cut off.\n"
        "3 would still be admitted.\n"
    )


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"affected": [], "affectedTotal": 0}, "Nobody who is connected now or came since"),
        ({"affectedTotal": 2}, "Only 1 of them are listed."),
        ({"refusedAlready": 4}, "refused already, or not there any more: 4."),
        ({"complete": False}, "the oldest of them were left out"),
    ],
)
def test_the_summary_says_what_the_list_does_not(
    management: FakeManagement, run: Run, members: dict[str, Any], said: str
) -> None:
    management.on("DELETE", HUB_ID, told(**members))
    assert said in run("iot", "hub", "delete", "-n", "hub", "--dry-run").err


def test_a_dry_run_prints_a_table(management: FakeManagement, run: Run) -> None:
    management.on("DELETE", HUB_ID, told())
    done = run("iot", "hub", "delete", "-n", "hub", "--dry-run", "--output", "table", "--query", "[].[device,rule]")
    assert done.out.splitlines()[2].split() == ["press", "network.public-access"]


@pytest.mark.parametrize("since", ["yesterday", "7w", "0"])
def test_since_is_a_time_or_an_age(management: FakeManagement, run: Run, since: str) -> None:
    done = run("iot", "hub", "delete", "-n", "hub", "--dry-run", "--since", since)
    assert done.code == 1
    assert "--since" in done.err
