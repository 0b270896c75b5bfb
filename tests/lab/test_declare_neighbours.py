"""What the hub's server is told of neighbours: closed, private, and reached by identity and role, with no key."""

from typing import Any

from isthmus.lab.declare_neighbours import NeighbourDeclaration
from lab.plans import factory

PRINCIPAL = "11111111-1111-1111-1111-111111111111"


class Told:
    """Keeps the commands, and answers as the command line would."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, ...]] = []

    def __call__(self, *command: str) -> Any:
        self.commands.append(command)
        return {"id": f"/{'/'.join(command[:2])}/{command[-1]}", "principalId": PRINCIPAL}

    def of(self, *words: str) -> list[tuple[str, ...]]:
        """Those that begin with these words."""
        return [command for command in self.commands if command[: len(words)] == words]


def told() -> Told:
    run = Told()
    NeighbourDeclaration(factory(), run, lambda text: None).declare()
    return run


def test_every_neighbour_is_closed_before_it_holds_anything() -> None:
    commands = told().commands
    for made in (("storage", "account", "create"), ("eventhubs", "namespace", "create")):
        (command,) = (each for each in commands if each[:3] == made)
        assert command[command.index("--public-network-access") + 1] == "Disabled"
    words = [each[:3] for each in commands]
    assert words.index(("storage", "account", "create")) < words.index(("storage", "container", "create"))


def test_every_route_has_an_endpoint_by_the_hubs_identity_and_nothing_has_a_key() -> None:
    run = told()
    endpoints = run.of("iot", "hub", "message-endpoint", "create")
    assert [each[4] for each in endpoints] == [
        "storage-container",
        "storage-container",
        "eventhub",
        "servicebus-queue",
        "servicebus-topic",
    ]
    assert all(each[each.index("--identity") + 1] == "[system]" for each in endpoints)
    assert len(run.of("iot", "hub", "message-route", "create")) == len(endpoints) + 1
    assert not [each for each in run.commands if any("connection-string" in word for word in each)]


def test_the_hub_may_write_and_the_reader_may_read() -> None:
    roles = [command[command.index("--role") + 1] for command in told().of("role", "assignment", "create")]
    assert roles == [
        "Storage Blob Data Contributor",
        "Azure Event Hubs Data Sender",
        "Azure Service Bus Data Sender",
        "Storage Blob Data Reader",
        "Azure Event Hubs Data Receiver",
        "Azure Service Bus Data Receiver",
    ]


def test_a_plan_without_neighbours_tells_nothing() -> None:
    run = Told()
    plan = factory()
    from_file = type(plan)(name=plan.name, internet=plan.internet, hub=plan.hub)
    NeighbourDeclaration(from_file, run, lambda text: None).declare()
    assert run.commands == []
