"""The lab's hub: `isthmus up` in its namespace, with the identities that hosts and probes have."""

import json
from pathlib import Path
from typing import Any

from isthmus.base.clock import Clock
from isthmus.base.ids import Ids
from isthmus.lab.errors import LabError
from isthmus.lab.layout import namespace_of
from isthmus.lab.plan import HUB, Plan
from isthmus.lab.processes import PYTHON, last_words, start
from isthmus.lab.record import Record
from isthmus.lab.waiting import wait_until

READY = "ready.json"
PROBES = "probes.json"
"""The keys that probes use, for root only."""

SEED = "seed.toml"
SETTINGS = "hub.toml"
START_SECONDS_MAX = 60.0


def probe_device(host: str) -> str:
    """The identity a host's probe has, beside the host's own device, which it must not push out."""
    return f"probe-{host}"


def start_hub(record: Record, plan: Plan, ids: Ids, clock: Clock) -> None:
    """Starts the hub and waits until it serves; raises LabError with its words when it does not."""
    keys = {host: ids.key() for host in plan.hosts}
    _write_secret(record.path(PROBES), json.dumps(keys))
    _write_secret(record.path(SEED), seed_of(plan, keys))
    record.path(SETTINGS).write_text(settings_of(plan))
    process = start(
        record,
        HUB,
        [
            *(*PYTHON, "isthmus", "up", "--data", str(record.hub_data), "--hostname", plan.hub.hostname),
            *("--bind", plan.hub.address, "--ready-file", str(record.path(READY)), "--seed", str(record.path(SEED))),
            *("--config", str(record.path(SETTINGS))),
        ],
        namespace=namespace_of(plan.name, HUB),
    )
    ready = record.path(READY)
    wait_until(clock, START_SECONDS_MAX, lambda: ready.exists() or process.poll() is not None)
    if not ready.exists():
        raise LabError(f"The hub does not start: {last_words(record, HUB)}")


def settings_of(plan: Plan) -> str:
    """The server's configuration: namespaces of hosts whose programs have an identity are bound to it."""
    bound = ((namespace_of(plan.name, host), host) for host in plan.readers)
    return "".join(f'[[authority.metadata]]\nnamespace = "{place}"\nidentity = "{host}"\n' for place, host in bound)


def seed_of(plan: Plan, keys: dict[str, str]) -> str:
    """The hubs, a device for each host that is one, and a probe's identity for each host."""
    lines = []
    for other in plan.hub.others:
        lines += ["[[hubs]]", f'name = "{other}"']
    for host, planned in plan.hosts.items():
        hub = plan.hub_of(planned.network)
        where = [] if hub == plan.hub.first else [f'hub = "{hub}"']
        lines += ["[[devices]]", f'id = "{probe_device(host)}"', *where, f'primary_key = "{keys[host]}"']
        if planned.device:
            lines += ["[[devices]]", f'id = "{host}"', *where]
    return "\n".join(lines) + "\n"


def ready_facts(record: Record) -> dict[str, Any]:
    """What the ready file tells; raises LabError when the hub is not ready."""
    try:
        facts: dict[str, Any] = json.loads(record.path(READY).read_text())
    except FileNotFoundError as error:
        raise LabError("The lab's hub is not ready: see `isthmus lab status`.") from error
    return facts


def probe_keys(record: Record) -> dict[str, str]:
    """The key of each host's probe."""
    keys: dict[str, str] = json.loads(record.path(PROBES).read_text())
    return keys


def _write_secret(path: Path, text: str) -> None:
    path.touch(0o600)
    path.write_text(text)
