"""From a layout to namespaces: everything below the hub, in the order that each part needs the one before."""

from contextlib import ExitStack

from isthmus.lab.files import make_folder, write_file
from isthmus.lab.kernel import Inside, make_namespace, opened, require_free, write_setting
from isthmus.lab.layout import Layout, Node, namespace_of
from isthmus.lab.record import Record
from isthmus.lab.wireguard import SOCKETS, make_keys, socket_of


class Builder:
    """Builds one lab, and writes each thing down before it makes it."""

    def __init__(self, record: Record, lab: str, layout: Layout) -> None:
        self._record = record
        self._lab = lab
        self._layout = layout

    def build(self) -> None:
        """Makes namespaces, links and routes; raises LabError, before anything is made when a name is taken."""
        for node in self._layout.nodes:
            require_free(namespace_of(self._lab, node.name))
        for node in self._layout.nodes:
            self._make_node(node)
        with ExitStack() as stack:
            inside = {
                node.name: stack.enter_context(opened(namespace_of(self._lab, node.name)))
                for node in self._layout.nodes
            }
            self._connect(inside)
        for tunnel in self._layout.tunnels:
            make_folder(self._record, SOCKETS)
            make_keys(self._record, tunnel)
            for end in tunnel.ends:
                self._record.add("file", str(socket_of(end)))

    def _make_node(self, node: Node) -> None:
        name = namespace_of(self._lab, node.name)
        self._record.add("namespace", name)
        self._record.add("namespace", name, inode=make_namespace(name))
        if node.forwards:
            write_setting(name, "ip_forward", 1)
        if node.low_ports:
            write_setting(name, "ip_unprivileged_port_start", 0)
        if node.hosts:
            write_file(self._record, name, "hosts", node.hosts)

    def _connect(self, inside: dict[str, Inside]) -> None:
        for node in inside.values():
            node.wake()
        for bridge in self._layout.bridges:
            inside[bridge.node].make_bridge(bridge)
        for near, far in self._layout.cables:
            inside[near.node].make_cable(near, far.interface, namespace_of(self._lab, far.node))
            inside[near.node].connect(near)
            inside[far.node].connect(far)
        for route in self._layout.routes:
            inside[route.node].add_route(route)
