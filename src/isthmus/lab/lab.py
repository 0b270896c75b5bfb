"""What `isthmus lab` does: up, status, matrix, cut, mend, down. Blocking; needs root."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from isthmus.base.clock import Clock
from isthmus.base.ids import Ids
from isthmus.lab.build import Builder
from isthmus.lab.connector import start_connector
from isthmus.lab.declare import CommandLine, Declaration
from isthmus.lab.declare_neighbours import NeighbourDeclaration
from isthmus.lab.errors import LabError
from isthmus.lab.files import write_file
from isthmus.lab.hub import start_hub
from isthmus.lab.kernel import is_root
from isthmus.lab.layout import Layout, layout_of, namespace_of
from isthmus.lab.matrix import Cell, Prober
from isthmus.lab.plan import Plan, Presence, load_plan
from isthmus.lab.processes import PYTHON, last_words, start
from isthmus.lab.record import FOLDER, Record
from isthmus.lab.status import BUILT, status_of
from isthmus.lab.supervisor import WAYS
from isthmus.lab.teardown import take_down
from isthmus.lab.tools import require_tools
from isthmus.lab.waiting import wait_until
from isthmus.lab.ways import cut, mend

VPN_SECONDS_MAX = 30.0
"""For a first handshake, with all of wireguard-go's patience between tries."""

RESOLVER = "options timeout:1 attempts:3\n"
"""A name server is at the private endpoint's own address, and away while there is no endpoint (resolv.conf(5))."""

SUPERVISOR = "supervisor"

Say = Callable[[str], None]


class Lab:
    """The lab of one file, by its name."""

    def __init__(self, file: Path, name: str, clock: Clock, ids: Ids, say: Say) -> None:
        """Reads the file; raises LabError when it is wrong, or when the user is not root."""
        if not is_root():
            raise LabError("The lab makes network namespaces, which only root may: run it with sudo.")
        self._file = file
        self.plan: Plan = load_plan(file, name)
        self._clock = clock
        self._ids = ids
        self._say = say
        self._record = Record(FOLDER / self.plan.name)

    def up(self) -> None:
        """Builds everything and starts it; when that fails, takes away what there is and raises LabError."""
        require_tools(self.plan)
        self._record.begin(self._ids.uuid(), self._file.read_text())
        with self._record.held():
            try:
                self._up(layout_of(self.plan))
            except BaseException:
                take_down(self._record, self._clock, self._say)
                raise

    def status(self) -> dict[str, Any]:
        """What runs; raises LabError when there is no such lab."""
        return status_of(self._the_record(), self._built_plan())

    def matrix(self, hosts: Sequence[str] = ()) -> list[Cell]:
        """Every path, or those of some hosts, tried; raises LabError when there is no such lab or host."""
        record, plan = self._the_record(), self._built_plan()
        unknown = [host for host in hosts if host not in plan.hosts]
        if unknown:
            raise LabError(f"There is no host {unknown[0]} in the lab {plan.name}.")
        return Prober(record, plan, self._clock).cells(hosts or tuple(plan.hosts))

    def cut(self, link: str) -> None:
        """Breaks a link; raises LabError when there is none."""
        self._the_record()
        cut(self._built_plan(), link)

    def mend(self, link: str) -> None:
        """Joins a link again; raises LabError when there is none."""
        self._the_record()
        plan = self._built_plan()
        mend(plan, layout_of(plan), link)

    def down(self) -> None:
        """Takes the lab away, whole or half built; without effect when there is none."""
        if not self._record.exists:
            self._say(f"There is no lab {self.plan.name}.")
            return
        with self._record.held():
            take_down(self._record, self._clock, self._say)
        self._say(f"The lab {self.plan.name} is gone.")

    def _up(self, layout: Layout) -> None:
        plan, record = self.plan, self._record
        Builder(record, plan.name, layout).build()
        self._say(f"{len(layout.nodes)} namespaces, {len(layout.cables)} cables")
        start(record, SUPERVISOR, [*PYTHON, "isthmus.lab.supervisor", str(record.folder), plan.name])
        start_hub(record, plan, self._ids, self._clock)
        self._say(f"hub {plan.hub.hostname} at {plan.hub.address}")
        declaration = Declaration(plan, CommandLine(record), self._say)
        declaration.networks()
        for name in plan.endpoints:
            declaration.endpoint(name)
            if plan.networks[name].presence is Presence.CONNECTOR:
                start_connector(record, plan, name, self._clock)
                self._say(f"connector {name}, unprivileged, carries what comes to {plan.networks[name].endpoint}")
        NeighbourDeclaration(plan, CommandLine(record).run, self._say).declare()
        self._hand_out_names(declaration)
        self._wait_for_tunnels(layout)
        if not plan.hub.public:
            declaration.close_public()
            self._say("the public side is closed")
        record.path(BUILT).touch()

    def _hand_out_names(self, declaration: Declaration) -> None:
        """Tells hosts their name servers; a site asks those of the network that its gateway leads to."""
        plan = self.plan
        of_place = declaration.name_servers()
        of_place |= {name: of_place[site.gateway] for name, site in plan.sites.items()}
        for name, host in plan.hosts.items():
            if servers := of_place.get(host.network):
                lines = [f"nameserver {server}\n" for server in servers]
                write_file(self._record, namespace_of(plan.name, name), "resolv.conf", "".join([*lines, RESOLVER]))

    def _wait_for_tunnels(self, layout: Layout) -> None:
        if layout.tunnels and not wait_until(self._clock, VPN_SECONDS_MAX, self._tunnels_live):
            raise LabError(f"The VPN does not come up: {last_words(self._record, SUPERVISOR)}")

    def _tunnels_live(self) -> bool:
        path = self._record.path(WAYS)
        told = json.loads(path.read_text()) if path.exists() else {}
        return bool(told) and all(all(ends) for ends in told.values())

    def _the_record(self) -> Record:
        if not self._record.exists:
            raise LabError(f"There is no lab {self.plan.name}: `isthmus lab up {self._file}` builds it.")
        return self._record

    def _built_plan(self) -> Plan:
        """The plan as it was built, whatever has become of the file."""
        return load_plan(self._record.file, self.plan.name)
