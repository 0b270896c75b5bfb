"""The programs a lab runs that are not Python's."""

import shutil
from collections.abc import Callable, Iterator

from isthmus.lab.errors import LabError
from isthmus.lab.plan import Plan, Presence


def require_tools(plan: Plan, find: Callable[[str], object] = shutil.which) -> None:
    """Raises LabError naming the Debian packages of what a plan needs and the machine lacks."""
    missing = {package: None for tool, package in _tools(plan) if find(tool) is None}
    if missing:
        raise LabError(f"This lab needs {' and '.join(missing)}: apt-get install {' '.join(missing)}.")


def _tools(plan: Plan) -> Iterator[tuple[str, str]]:
    yield "ip", "iproute2"
    if any(site.vpn is not None for site in plan.sites.values()):
        yield "wg", "wireguard-tools"
        yield "wireguard-go", "wireguard-go"
    if any(network.presence is Presence.CONNECTOR for network in plan.networks.values()):
        yield "setpriv", "util-linux"
