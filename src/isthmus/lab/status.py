"""What of a lab runs and what does not."""

import json
from collections.abc import Iterator
from typing import Any

from isthmus.lab.hub import READY
from isthmus.lab.kernel import namespace_inode
from isthmus.lab.plan import Plan
from isthmus.lab.processes import is_alive
from isthmus.lab.record import Record
from isthmus.lab.supervisor import WAYS
from isthmus.lab.ways import carrying


def status_of(record: Record, plan: Plan) -> dict[str, Any]:
    """Everything as JSON; `ok` when nothing is missing."""
    processes = [
        {"name": name, "pid": told["pid"], "running": is_alive(record, name), "namespace": told["namespace"]}
        for name, told in record.all("process").items()
    ]
    namespaces = [
        {"name": name, "there": namespace_inode(name) == told.get("inode", 0) != 0}
        for name, told in record.all("namespace").items()
    ]
    connected = all(each["there"] for each in namespaces)
    whole = connected and all(each["running"] for each in processes)
    return {
        "name": plan.name,
        "folder": str(record.folder),
        "hostname": plan.hub.hostname,
        "data": str(record.hub_data),
        "ca": _ca(record),
        "ok": whole and record.path(BUILT).exists(),
        "built": record.path(BUILT).exists(),
        "processes": processes,
        "namespaces": namespaces,
        "ways": _ways(record, plan) if connected else [],
    }


BUILT = "built"
"""The file that `up` leaves when all of it stands."""


def render_status(facts: dict[str, Any]) -> str:
    """The same for people."""
    return "".join(f"{line}\n" for line in _lines(facts))


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    state = "is up" if facts["ok"] else "is not whole" if facts["built"] else "was not built to the end"
    yield f"The lab {facts['name']} {state}; hub {facts['hostname']}."
    yield f"  its hub's command line    isthmus … --data {facts['data']}"
    yield f"  the CA to trust           {facts['ca'] or 'not made yet'}"
    yield f"  a shell on a host         ip netns exec {facts['name']}-HOST bash"
    for process in facts["processes"]:
        state = "runs" if process["running"] else "HAS ENDED"
        yield f"  {process['name']:<25} {state}, pid {process['pid']}, {process['namespace'] or 'no namespace'}"
    gone = [namespace["name"] for namespace in facts["namespaces"] if not namespace["there"]]
    yield f"  {len(facts['namespaces'])} namespaces{f', gone: {gone}' if gone else ''}"
    for way in facts["ways"]:
        yield f"  {way['site']} reaches {way['gateway']} by {way['carries']}; {_vpn(way)}"


def _vpn(way: dict[str, Any]) -> str:
    if not way["vpn"]:
        return "it has no VPN"
    return "its VPN is alive" if all(way["vpn"]) else "its VPN is dead"


def _ways(record: Record, plan: Plan) -> list[dict[str, Any]]:
    path = record.path(WAYS)
    alive = json.loads(path.read_text()) if path.exists() else {}
    return [
        {"site": name, "gateway": site.gateway, "carries": carrying(plan, name), "vpn": alive.get(name, [])}
        for name, site in plan.sites.items()
    ]


def _ca(record: Record) -> str:
    path = record.path(READY)
    return str(json.loads(path.read_text())["ca"]) if path.exists() else ""
