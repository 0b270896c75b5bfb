"""The lab's file: what it says, and how it is refused."""

from pathlib import Path

import pytest

from isthmus.lab.plan import INTERNET, load_plan
from lab.plans import FACTORY, changed, complaint, factory


def test_the_example_says_what_it_shows() -> None:
    plan = factory()
    assert plan.name == "factory"
    assert plan.hub.host_name_of(plan.hub.first) == "factory.isthmus.test"
    assert plan.lan("works") == "10.20.1.0/24"
    assert plan.lan("plant") == "192.168.10.0/24"
    assert plan.lan(INTERNET) == "203.0.113.0/24"
    assert plan.peers("office") == ("works", "branch")
    assert plan.sites_of("works") == ("plant",)
    assert plan.networks["works"].presence is not None


def test_neighbours_are_in_a_network_and_in_the_hubs_domain() -> None:
    plan = factory()
    assert plan.neighbours_in("data") == ("factorystore", "factory-events", "factory-bus")
    assert "data" not in plan.endpoints
    assert plan.host_name_of_neighbour("factorystore") == "factorystore.blob.isthmus.test"
    assert plan.host_name_of_neighbour("factory-bus") == "factory-bus.servicebus.isthmus.test"


def test_another_name_takes_the_place_of_the_files() -> None:
    assert load_plan(FACTORY, "other").name == "other"


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert complaint(tmp_path / "none.toml") == f"{tmp_path / 'none.toml'} cannot be read: No such file or directory."


def test_what_is_not_toml_is_told(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("name = ")
    assert "is not valid TOML" in complaint(path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "factory"', 'name = "factory"\ncolour = "red"', "unknown field `colour`"),
        ('name = "factory"', 'name = "Factory"', "name 'Factory' has to match"),
        ("[hosts.crane]", "[hosts.crane-of-hall-two]", "'crane-of-hall-two' cannot be a name"),
        ("[hosts.crane]", "[hosts.hub]", "'hub' cannot be a name"),
        ("[hosts.crane]", "[hosts.office]", "office is named twice"),
        ('"factory.isthmus.test"', '"factory"', "has to be a hub's name and a domain"),
        ('others = ["bakery"]', 'others = ["factory"]', "'factory' cannot be a further hub's name"),
        ('range = "10.30.0.0/16"', 'range = "10.30.0.1/16"', "networks.office.range '10.30.0.1/16' is no IPv4 block"),
        ('range = "10.30.0.0/16"', 'range = "fd00::/64"', "is no IPv4 block"),
        ('range = "10.30.0.0/16"', 'range = "100.64.0.0/24"', "overlaps 100.64.0.0/16"),
        ('subnet = "10.20.1.0/24"', 'subnet = "10.21.1.0/24"', "is not in 10.20.0.0/16"),
        ('gateway = "works"', 'gateway = "work"', "sites.plant.gateway: there is no network work"),
        ('between = ["works", "office"]', 'between = ["works", "offices"]', "there is no network offices"),
        ('between = ["works", "office"]', 'between = ["works", "works"]', "works is peered with itself"),
        ('between = ["office", "branch"]', 'between = ["office", "works"]', "office and works are peered twice"),
        ('network = "branch"', 'network = "branches"', "there is no network or site branches"),
        ('range = "10.30.0.0/16"', 'range = "10.20.0.0/16"', "the ranges of works and office overlap"),
        ('range = "192.168.10.0/24"', 'range = "10.20.8.0/24"', "the ranges of works and plant overlap"),
        ('endpoint = "10.20.1.4"', "", "networks.works needs both presence and endpoint"),
        ('network = "data"', 'network = "date"', "neighbours.factorystore.network: there is no network date"),
        ('network = "data"', 'network = "office"', "neighbours.factorystore.network: office needs a presence"),
        ('network = "data"', 'network = "cell"', 'networks.cell.presence has to be "netns" where a neighbour is'),
        ('kind = "storage"', 'kind = "eventhubs"', "neighbours.factorystore is eventhubs, which holds no containers"),
        ('kind = "storage"', 'kind = "files"', "Invalid enum value 'files'"),
        ('to = "factorystore/json"', 'to = "factorystore/xml"', "routes[0].to: there is no factorystore/xml"),
        ('to = "factorystore/uploads"', 'to = "factory-bus/orders"', "uploads.to: factory-bus/orders is no container"),
        ('endpoint = "10.70.0.10"', 'endpoint = "10.70.0.20"', "10.70.0.20 is given twice in data"),
        ('endpoint = "10.70.0.10"', 'endpoint = "10.71.0.10"', "neighbours.factorystore.endpoint '10.71.0.10' is no"),
        ('endpoint = "10.20.1.4"', 'endpoint = "10.20.1.3"', "is one of the reserved addresses"),
        ('endpoint = "10.20.1.4"', 'endpoint = "10.20.2.4"', "is no address of works"),
        ('endpoint = "10.20.1.4"', 'endpoint = "10.20.1.20"', "10.20.1.20 is given twice in works"),
        ('site = "203.0.113.20"', 'site = "203.0.113.10"', "203.0.113.10 is given twice in internet"),
        ('address = "203.0.113.66"', 'address = "203.0.113.255"', "is one of the reserved addresses of internet"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert said in complaint(changed(tmp_path, old, new))


def test_a_site_needs_a_way(tmp_path: Path) -> None:
    text = FACTORY.read_text().replace("line = true\n", "")
    text = "\n".join(line for line in text.splitlines() if not line.startswith("vpn ="))
    path = tmp_path / "cut-off.toml"
    path.write_text(text)
    assert "sites.plant has neither vpn nor line" in complaint(path)
