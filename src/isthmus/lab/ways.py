"""The ways of a site: which one carries, and links that are cut and mended by hand."""

from isthmus.lab.errors import LabError
from isthmus.lab.kernel import opened
from isthmus.lab.layout import Layout, namespace_of, pod_of
from isthmus.lab.plan import INTERNET, Plan

VPN = "vpn"
LINE = "line"
CONNECTOR = "connector"


def carrying(plan: Plan, place: str) -> str:
    """What the kernel sends a site's traffic through now: `vpn`, `line`, `none`; empty for what is no site."""
    site = plan.sites.get(place)
    if site is None:
        return ""
    network = plan.networks[site.gateway]
    target = network.endpoint or str(plan.lan(site.gateway)).partition("/")[0]
    with opened(namespace_of(plan.name, place)) as router:
        return router.leaves_by(target) or "none"


def cut(plan: Plan, link: str) -> None:
    """Takes a link down, as a broken cable does; raises LabError for a link that is not there."""
    node, interface = _found(plan, link)
    with opened(namespace_of(plan.name, node)) as inside:
        inside.set_down(interface)


def mend(plan: Plan, layout: Layout, link: str) -> None:
    """Takes a link up again, with the routes that went with it; raises LabError for a link that is not there."""
    node, interface = _found(plan, link)
    with opened(namespace_of(plan.name, node)) as inside:
        inside.set_up(interface)
        for route in layout.routes:
            if (route.node, route.interface) == (node, interface):
                inside.add_route(route)


def _found(plan: Plan, link: str) -> tuple[str, str]:
    """The node and interface that stand for one of the links that `lab cut` names."""
    one, _, two = link.partition("/")
    site = plan.sites.get(one)
    if site is not None and two == VPN and site.vpn is not None:
        return f"{one}.vpn", INTERNET
    if site is not None and two == LINE and site.line:
        return one, LINE
    if one in plan.networks and two in plan.peers(one):
        return one, f"to-{two}"
    if one in plan.networks and two == CONNECTOR and plan.networks[one].connector:
        return pod_of(one), INTERNET
    if one in plan.hosts and not two:
        return one, "eth0"
    raise LabError(f"There is no link {link}: say SITE/vpn, SITE/line, NETWORK/NETWORK, NETWORK/connector or a host.")
