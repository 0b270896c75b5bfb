"""What the lab asks of Linux: namespaces, cables, addresses, routes. The only file here that knows pyroute2.

Everything is made inside the lab's own namespaces; the machine's own network is never touched. Blocking.
"""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from pyroute2 import NetNS, netns
from pyroute2.netlink.exceptions import NetlinkError

from isthmus.lab.errors import LabError
from isthmus.lab.layout import LAN, Bridge, Plug, Route

NAMESPACES = Path("/run/netns")
SETTINGS = Path("/proc/sys/net/ipv4")

Result = TypeVar("Result")


def require_free(name: str) -> None:
    """Raises LabError when there is a namespace of that name."""
    if namespace_inode(name):
        raise LabError(f"There is a namespace {name} already, which is not this lab's: choose another --name.")


def make_namespace(name: str) -> int:
    """Makes a namespace and returns the inode that tells it from a later one."""
    netns.create(name)
    return namespace_inode(name)


def namespace_inode(name: str) -> int:
    """The inode of a namespace, 0 when there is none of that name."""
    try:
        return (NAMESPACES / name).stat().st_ino
    except FileNotFoundError:
        return 0


def remove_namespace(name: str) -> None:
    """Removes a namespace with all links in it; those who are still inside find themselves cut off."""
    with suppress(OSError, LabError), opened(name) as inside:
        inside.cut_off()
    with suppress(FileNotFoundError):
        netns.remove(name)


def inside_namespace(name: str, act: Callable[[], Result]) -> Result:
    """What `act` returns when it is called inside a namespace, in a thread that ends with it.

    A socket made there stays the namespace's; the calling thread never leaves its own.
    """
    results: list[Result] = []
    failures: list[BaseException] = []

    def enter() -> None:
        try:
            netns.setns(name, flags=0)
            results.append(act())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def write_setting(name: str, setting: str, value: int) -> None:
    """Writes a value below /proc/sys/net/ipv4 of a namespace."""
    inside_namespace(name, lambda: (SETTINGS / setting).write_text(f"{value}\n"))


@contextmanager
def opened(name: str) -> Iterator["Inside"]:
    """Talks to the kernel about one namespace; raises LabError when there is none, or when the kernel says no."""
    if not namespace_inode(name):
        raise LabError(f"There is no namespace {name}.")
    socket = NetNS(name, flags=0)
    try:
        yield Inside(name, socket)
    except NetlinkError as error:
        raise LabError(f"The kernel refuses a part of the lab: {error}.") from error
    finally:
        socket.close()


class Inside:
    """The links, addresses and routes of one namespace."""

    def __init__(self, name: str, socket: Any) -> None:
        self._name = name
        self._socket = socket

    def wake(self) -> None:
        """Takes the loopback interface up."""
        self._socket.link("set", index=self.index_of("lo"), state="up")

    def make_bridge(self, bridge: Bridge) -> None:
        """Makes the node's bridge."""
        self._socket.link("add", ifname=LAN, kind="bridge")
        if bridge.address:
            self.add_address(LAN, bridge.address)
        self.set_up(LAN)

    def make_cable(self, near: Plug, far_interface: str, far_namespace: str) -> None:
        """Makes both ends of a cable; neither has an address yet."""
        peer = {"ifname": far_interface, "net_ns_fd": far_namespace}
        self._socket.link("add", ifname=near.interface, kind="veth", peer=peer)

    def connect(self, plug: Plug) -> None:
        """Gives a cable's end its address, or plugs it into the bridge, and takes it up."""
        if plug.bridged:
            self._socket.link("set", index=self.index_of(plug.interface), master=self.index_of(LAN))
        else:
            self.add_address(plug.interface, plug.address)
        self.set_up(plug.interface)

    def receive(self, interface: str, source: "Inside", name: str) -> None:
        """Takes an interface out of another namespace and names it anew."""
        source._socket.link("set", index=source.index_of(interface), net_ns_fd=self._name)
        self._socket.link("set", index=self.index_of(interface), ifname=name)

    def add_address(self, interface: str, address: str) -> None:
        """Gives an interface an address with its prefix length."""
        text, _, length = address.partition("/")
        self._socket.addr("add", index=self.index_of(interface), address=text, prefixlen=int(length))

    def add_route(self, route: Route) -> None:
        """Adds a route, or does nothing when it is there; raises LabError when its interface is not."""
        with suppress(_Exists):
            self._route("add", route)

    def remove_route(self, route: Route) -> None:
        """Removes a route, if it is there."""
        with suppress(_Missing, LabError):
            self._route("del", route)

    def set_up(self, interface: str) -> None:
        """Takes an interface up."""
        self._socket.link("set", index=self.index_of(interface), state="up")

    def set_down(self, interface: str) -> None:
        """Takes an interface down; its routes go."""
        self._socket.link("set", index=self.index_of(interface), state="down")

    def leaves_by(self, address: str) -> str:
        """The interface that packets for an address leave by, empty when there is no way."""
        try:
            (route,) = self._socket.route("get", dst=address)
        except NetlinkError:
            return ""
        (link,) = self._socket.get_links(route.get("oif"))
        return str(link.get("ifname"))

    def index_of(self, interface: str) -> int:
        """The index of an interface; raises LabError when there is none."""
        found = self._socket.link_lookup(ifname=interface)
        if not found:
            raise LabError(f"There is no interface {interface} in {self._name}.")
        return int(found[0])

    def cut_off(self) -> None:
        """Deletes every link that can be deleted."""
        for link in self._socket.get_links():
            with suppress(NetlinkError):
                self._socket.link("del", index=link["index"])

    def _route(self, verb: str, route: Route) -> None:
        given: dict[str, Any] = {"dst": route.destination, "oif": self.index_of(route.interface)}
        if route.via:
            # The gateway of a bound endpoint's /32 is in no range of the interface; it is on the link all the same.
            given |= {"gateway": route.via, "flags": ["onlink"]}
        if route.metric:
            given["priority"] = route.metric
        try:
            self._socket.route(verb, **given)
        except NetlinkError as error:
            raise {errno.EEXIST: _Exists, errno.ESRCH: _Missing}.get(error.code, NetlinkError)(*error.args) from error


class _Exists(Exception):  # noqa: N818 - a state of the kernel
    """The route is there."""


class _Missing(Exception):  # noqa: N818 - a state of the kernel
    """The route is not there."""


def is_root() -> bool:
    """True for whoever may make namespaces."""
    return os.geteuid() == 0
