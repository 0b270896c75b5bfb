"""`check endpoint`: every switch that lets a hub write to a closed target, off and on again, and what is named."""

import json
import shlex
from dataclasses import dataclass, field
from typing import Any

import pytest

from support.server import RunningHub

HUB_HOST = "hub.isthmus.test"
CONTAINER = "telemetry"
CONTRIBUTOR = "Storage Blob Data Contributor"
SWITCHES = ["identity", "authenticationType", "trustedServices", "role"]
STEPS = ["identity", "token", "role", "network", "name", "write"]


@dataclass
class ClosedStorage:
    """An account that nobody reaches but trusted services, an endpoint that leads there, and what was set right."""

    hub: RunningHub
    account: dict[str, Any] = field(default_factory=dict)

    def set_up(self) -> None:
        options = ("--default-action", "Deny", "--bypass", "AzureServices")
        self.account = self.hub.json("storage", "account", "create", "-n", "plantstore", *options)
        self.hub.isthmus("storage", "container", "create", "-n", CONTAINER, "--account-name", "plantstore")
        self.switch("identity", on=True)
        self.switch("role", on=True)
        self.switch("authenticationType", on=True)

    def switch(self, name: str, *, on: bool) -> None:
        """Turns one of the four."""
        match name:
            case "identity":
                word = "assign" if on else "remove"
                self.hub.isthmus("iot", "hub", "identity", word, "--system-assigned")
            case "authenticationType":
                self._set_endpoint(by_identity=on)
            case "trustedServices":
                bypass = "AzureServices" if on else "None"
                self.hub.isthmus("storage", "account", "update", "-n", "plantstore", "--bypass", bypass)
            case "role" if on:
                self._assign(self.scope)
            case "role":
                found = self.hub.json("role", "assignment", "list", "--all")
                self.hub.isthmus("role", "assignment", "delete", "--ids", *[each["id"] for each in found])

    @property
    def scope(self) -> str:
        return f"{self.account['id']}/blobServices/default/containers/{CONTAINER}"

    def assign_at(self, scope: str) -> None:
        """Gives the role at another scope."""
        self._assign(scope)

    def check(self, *, code: int = 0) -> dict[str, Any]:
        done = self.hub.run("check", "endpoint", "store", "--output", "json")
        assert done.returncode == code, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        assert [each["switch"] for each in found["switches"]] == SWITCHES
        assert [each["step"] for each in found["steps"]] == STEPS
        return found

    def _assign(self, scope: str) -> None:
        principal = self.hub.json("iot", "hub", "identity", "show")["principalId"]
        who = ("--assignee-object-id", principal, "--assignee-principal-type", "ServicePrincipal")
        self.hub.isthmus("role", "assignment", "create", *who, "--role", CONTRIBUTOR, "--scope", scope)

    def _set_endpoint(self, *, by_identity: bool) -> None:
        endpoint: dict[str, Any] = {"name": "store", "containerName": CONTAINER, "encoding": "JSON"}
        if by_identity:
            uri = self.account["primaryEndpoints"]["blob"]
            endpoint |= {"authenticationType": "identityBased", "endpointUri": uri}
        else:
            shown = self.hub.json("storage", "account", "show-connection-string", "-n", "plantstore")
            endpoint |= {"authenticationType": "keyBased", "connectionString": shown["connectionString"]}
        place = "properties.routing.endpoints.storageContainers"
        self.hub.isthmus("iot", "hub", "update", "--set", f"{place}=[{json.dumps(endpoint)}]")


@pytest.fixture(scope="module")
def storage(hub: RunningHub) -> ClosedStorage:
    made = ClosedStorage(hub)
    made.set_up()
    return made


def test_with_all_switches_on_every_step_is_told_and_the_trial_is_written(storage: ClosedStorage) -> None:
    found = storage.check()
    assert (found["works"], found["off"]) == (True, [])
    assert {each["switch"]: each["state"] for each in found["switches"]} == dict.fromkeys(SWITCHES, "on")
    steps = {each["step"]: each for each in found["steps"]}
    assert {name: each["outcome"] for name, each in steps.items()} == dict.fromkeys(STEPS, "ok")
    assert "for https://storage.azure.com, until 2" in steps["token"]["value"]
    assert steps["role"]["value"] == f"{CONTRIBUTOR} at {storage.scope}"
    assert "trusts the hub's own identity" in steps["network"]["value"]
    assert f"plantstore.blob.isthmus.test is {storage.hub.address} port 443" in steps["name"]["value"]


@pytest.mark.parametrize("name", SWITCHES)
def test_each_switch_is_named_when_it_is_off_and_the_endpoint_works_again_when_it_is_on(
    storage: ClosedStorage, name: str
) -> None:
    storage.switch(name, on=False)
    found = storage.check(code=1)
    states = {each["switch"]: each["state"] for each in found["switches"]}
    if name == "identity":
        # An identity's end is the end of its roles, and a new one has none.
        assert found["off"] == ["identity", "role"]
    else:
        assert (found["off"], states) == ([name], {**dict.fromkeys(SWITCHES, "on"), name: "off"})
    assert name in found["verdict"]
    remedy = next(each["remedy"] for each in found["switches"] if each["switch"] == name)
    assert remedy.startswith("isthmus ")
    told = storage.hub.run("check", "endpoint", "store")
    assert (told.returncode, remedy in told.stdout) == (1, True)

    storage.hub.isthmus(*shlex.split(remedy)[1:])
    if name == "identity":
        storage.switch("role", on=True)
    assert storage.check()["works"]


def test_a_role_one_scope_too_low_or_beside_is_told_with_its_scope(storage: ClosedStorage) -> None:
    storage.switch("role", on=False)
    storage.assign_at(storage.scope.replace(CONTAINER, "other"))
    found = storage.check(code=1)
    role = next(each for each in found["switches"] if each["switch"] == "role")
    assert (found["off"], role["state"]) == (["role"], "off")
    assert "containers/other, which does not cover" in role["value"]
    storage.switch("role", on=False)
    storage.assign_at(storage.account["id"])
    assert storage.check()["works"]


def test_a_key_opens_an_account_that_is_open_and_the_switches_are_told_all_the_same(storage: ClosedStorage) -> None:
    storage.hub.isthmus("storage", "account", "update", "-n", "plantstore", "--default-action", "Allow")
    storage.switch("authenticationType", on=False)
    found = storage.check()
    assert (found["works"], found["off"]) == (True, [])
    assert "off, and not needed as things are: authenticationType" in found["verdict"]
    assert {each["step"]: each["outcome"] for each in found["steps"]}["token"] == "skipped"
    storage.hub.isthmus("storage", "account", "keys", "renew", "-n", "plantstore", "--key", "primary")
    found = storage.check(code=1)
    assert found["off"] == ["authenticationType", "key"]
    storage.switch("authenticationType", on=True)
    storage.hub.isthmus("storage", "account", "update", "-n", "plantstore", "--default-action", "Deny")
    assert storage.check()["works"]


def test_a_name_that_the_hub_may_not_go_to_is_told(storage: ClosedStorage) -> None:
    restricted = "properties.restrictOutboundNetworkAccess"
    storage.hub.isthmus("iot", "hub", "update", "--set", f"{restricted}=true")
    found = storage.check(code=1)
    steps = {each["step"]: each for each in found["steps"]}
    assert (steps["name"]["outcome"], "allowedFqdnList" in steps["name"]["value"]) == ("failed", True)
    assert found["off"] == ["outbound"]
    storage.hub.isthmus("iot", "hub", "update", "--set", f"{restricted}=false")
    assert storage.check()["works"]


def test_an_endpoint_that_is_not_there_is_not_found(storage: ClosedStorage) -> None:
    assert "it has: store" in storage.hub.isthmus("check", "endpoint", "nowhere", code=1)
