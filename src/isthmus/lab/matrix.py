"""Who can reach what: each host's probe on every plane at every address, beside what the plan expects."""

import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from isthmus.base.clock import Clock
from isthmus.base.sas_token import sign
from isthmus.lab.declare import CommandLine
from isthmus.lab.errors import LabError
from isthmus.lab.hub import probe_device, probe_keys, ready_facts
from isthmus.lab.layout import namespace_of
from isthmus.lab.plan import Plan
from isthmus.lab.probe import LINK, PLANES
from isthmus.lab.processes import MARK_VARIABLE, PYTHON, ended, within
from isthmus.lab.reach import Attempt, Verdict, attempts_of
from isthmus.lab.record import Record
from isthmus.lab.ways import carrying

TOKEN_SECONDS = 600
"""Of the probes' tokens; a run of the matrix is over long before."""

PROBES_AT_ONCE_MAX = 8
"""Processes; each has threads of its own, which wait most of the time."""

PROBE_SECONDS_MAX = 120.0
POLICY = "service"


@dataclass(frozen=True, slots=True)
class Cell:
    """One try on one plane, and what came of it; `way` is what carries a site's traffic, else empty."""

    attempt: Attempt
    plane: str
    observed: str
    way: str

    @property
    def expected(self) -> Verdict:
        """What the plan says of it."""
        return self.attempt.link if self.plane == LINK else self.attempt.expected

    @property
    def as_expected(self) -> bool:
        """True when it went as the plan says."""
        return self.observed == self.expected

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        attempt = self.attempt
        return {
            "from": attempt.host,
            "network": attempt.place,
            "way": self.way,
            "hub": attempt.hub,
            "target": attempt.target,
            "address": attempt.address,
            "byName": attempt.by_name,
            "plane": self.plane,
            "port": PLANES[self.plane][0],
            "expected": self.expected.value,
            "observed": self.observed,
            "ok": self.as_expected,
        }


class Prober:
    """Sends the probes of one lab out."""

    def __init__(self, record: Record, plan: Plan, clock: Clock) -> None:
        self._record = record
        self._plan = plan
        self._expires_s = clock.utc_ms() // 1000 + TOKEN_SECONDS
        self._ca = str(ready_facts(record)["ca"])
        self._device_keys = probe_keys(record)
        self._policy_keys = {hub: self._policy_key(hub) for hub in (plan.hub.first, *plan.hub.others)}

    def cells(self, hosts: Sequence[str]) -> list[Cell]:
        """Those of some hosts, host by host; raises LabError when a probe cannot be run at all."""
        by_host = [attempts_of(self._plan, host) for host in hosts]
        with ThreadPoolExecutor(PROBES_AT_ONCE_MAX) as threads:
            return [cell for cells in threads.map(self._probe, by_host) for cell in cells]

    def _probe(self, tries: Sequence[Attempt]) -> list[Cell]:
        """What one host meets; all its tries are for the same hub."""
        host, place, hub = tries[0].host, tries[0].place, tries[0].hub
        planned = [(attempt, plane) for attempt in tries for plane in PLANES]
        way = carrying(self._plan, place)
        observed = self._send_out(host, hub, planned)
        return [Cell(attempt, plane, verdict, way) for (attempt, plane), verdict in zip(planned, observed, strict=True)]

    def _send_out(self, host: str, hub: str, planned: Sequence[tuple[Attempt, str]]) -> list[str]:
        done = ended(
            [*within(namespace_of(self._plan.name, host)), *PYTHON, "isthmus.lab.probe"],
            PROBE_SECONDS_MAX,
            given=json.dumps(self._errand(host, hub, planned)),
            environment=os.environ | {MARK_VARIABLE: self._record.mark},
        )
        if done.returncode != 0:
            raise LabError(f"The probe at {host} failed: {done.stderr.strip()}")
        verdicts: list[str] = json.loads(done.stdout)
        return verdicts

    def _errand(self, host: str, hub: str, planned: Sequence[tuple[Attempt, str]]) -> dict[str, Any]:
        host_name, device = self._plan.hub.host_name_of(hub), probe_device(host)
        resource = f"{host_name}/devices/{device}"
        return {
            "host_name": host_name,
            "ca": self._ca,
            "device_id": device,
            "device_token": sign(resource, self._device_keys[host], self._expires_s),
            "policy": POLICY,
            "policy_token": sign(host_name, self._policy_keys[hub], self._expires_s, POLICY),
            "tries": [(plane, attempt.address, attempt.by_name) for attempt, plane in planned],
        }

    def _policy_key(self, hub: str) -> str:
        found = CommandLine(self._record).run("iot", "hub", "policy", "show", "--hub-name", hub, "-n", POLICY)
        return str(found["primaryKey"])


def render(cells: Iterable[Cell]) -> str:
    """The matrix for people: a line for each host and address, a column for each plane."""
    rows = [("from", "in", "to", *(f"{plane} {port}" for plane, (port, _) in PLANES.items()))]
    count = differing = 0
    for attempt, group in groupby(cells, key=lambda cell: cell.attempt):
        line = list(group)
        count, differing = count + len(line), differing + sum(not cell.as_expected for cell in line)
        place = f"{attempt.place}, {line[0].way}" if line[0].way else attempt.place
        rows.append((attempt.host, place, _target(attempt), *(_shown(cell) for cell in line)))
    otherwise = f"{differing} observed otherwise than expected" if differing else "all observed as expected"
    end = f"{count} paths, {otherwise}."
    return _aligned(rows) + f"\n{end}\n"


def _target(attempt: Attempt) -> str:
    name = f"{attempt.hub} by name, " if attempt.by_name else ""
    return f"{name}{attempt.address} ({attempt.target})"


def _shown(cell: Cell) -> str:
    return cell.observed if cell.as_expected else f"{cell.observed.upper()}, expected {cell.expected.value}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in rows
    )


def holds(cells: Iterable[Cell]) -> bool:
    """True when every path is as expected."""
    return all(cell.as_expected for cell in cells)
