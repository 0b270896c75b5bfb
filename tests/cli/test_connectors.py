"""The words `connector enrol|list|show|revoke`, and what they ask for."""

import json

import pytest

from cli.conftest import Run
from cli.management import FakeManagement


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        (("-n", "plant-a"), {"name": "plant-a", "network": "", "expiresInSeconds": 900}),
        (("--vnet-name", "plant"), {"name": "", "network": "plant", "expiresInSeconds": 900}),
        (("-n", "plant-a", "--expires-in", "90s"), {"name": "plant-a", "network": "", "expiresInSeconds": 90}),
        (("--name", "a", "--expires-in", "2h"), {"name": "a", "network": "", "expiresInSeconds": 7_200}),
    ],
)
def test_enrol_prints_the_token(
    management: FakeManagement, run: Run, arguments: tuple[str, ...], body: dict[str, object]
) -> None:
    management.on("POST", "/connectors/enrol", {"token": "isthmus-enrol-1.x"})

    assert json.loads(run("connector", "enrol", *arguments).out) == {"token": "isthmus-enrol-1.x"}
    assert management.last.body == body
    assert run("connector", "enrol", *arguments, "--query", "token", "-o", "tsv").out == "isthmus-enrol-1.x\n"


def test_a_duration_that_is_none_is_told(run: Run) -> None:
    done = run("connector", "enrol", "-n", "a", "--expires-in", "soon")

    assert done.code == 1
    assert "--expires-in" in done.err


def test_list_show_and_revoke_ask_for_the_connector(management: FakeManagement, run: Run) -> None:
    management.on("GET", "/connectors", [{"name": "plant-a"}])
    management.on("GET", "/connectors/plant-a", {"name": "plant-a"})
    management.on("POST", "/connectors/plant-a/revoke", {"name": "plant-a", "state": "Revoked"})

    assert json.loads(run("connector", "list").out) == [{"name": "plant-a"}]
    assert json.loads(run("connector", "show", "-n", "plant-a").out) == {"name": "plant-a"}
    assert json.loads(run("connector", "revoke", "-n", "plant-a").out)["state"] == "Revoked"
    assert run("connector", "show").code == 2
