"""A plan laid out: what Linux would refuse, and what must not be connected, is not in it."""

import ipaddress
from collections import Counter

from isthmus.lab.layout import Layout, Plug, layout_of, pod_of
from isthmus.lab.plan import INTERNET
from lab.plans import factory


def test_names_of_interfaces_fit_and_are_single_in_a_namespace() -> None:
    layout = layout_of(factory())
    named = [(plug.node, plug.interface) for plug in plugs(layout)]
    named += [(end.router, end.interface) for tunnel in layout.tunnels for end in tunnel.ends]
    assert all(len(interface) <= 15 for _, interface in named)
    assert not [name for name, count in Counter(named).items() if count > 1]


def test_every_address_is_single_in_its_namespace_and_transfer_links_are_apart() -> None:
    layout = layout_of(factory())
    given = [(plug.node, plug.address) for plug in plugs(layout) if plug.address]
    assert not [each for each, count in Counter(given).items() if count > 1]
    transfers = {ipaddress.ip_interface(address).network for _, address in given if address.endswith("/30")}
    tunnels = {ipaddress.ip_interface(f"{tunnel.ends[0].inner}/30").network for tunnel in layout.tunnels}
    assert len(transfers) == 3
    assert not transfers & tunnels


def test_no_namespace_with_the_internet_forwards() -> None:
    layout = layout_of(factory())
    outside = {near.node for near, far in layout.cables if far.node == INTERNET}
    assert {"hub", "intruder", "cell.pod", "plant.vpn", "works.vpn-plant"} <= outside
    assert not [node.name for node in layout.nodes if node.forwards and node.name in {*outside, INTERNET}]


def test_routes_lead_to_peers_and_sites_and_nowhere_else() -> None:
    layout = layout_of(factory())
    routes = {node: {route.destination for route in layout.routes if route.node == node} for node in factory().networks}
    assert routes["works"] == {"10.30.0.0/16", "192.168.10.0/24"}
    assert routes["office"] == {"10.20.0.0/16", "10.40.0.0/16"}
    assert routes["branch"] == {"10.30.0.0/16"}


def test_the_vpn_is_preferred_to_the_line() -> None:
    layout = layout_of(factory())
    (tunnel,) = layout.tunnels
    for end in tunnel.ends:
        (through,) = tunnel.routes(end)
        (beside,) = [
            route for route in layout.routes if (route.node, route.destination) == (through.node, through.destination)
        ]
        assert through.metric < beside.metric
        assert through.via == tunnel.far(end).inner


def test_a_pod_has_no_name_that_a_host_can_have() -> None:
    assert "." in pod_of("cell")


def plugs(layout: Layout) -> list[Plug]:
    return [plug for cable in layout.cables for plug in cable]
