"""A connector in its pod: a process without any right, in a namespace that may bind low ports, as Kubernetes has it."""

import os
import subprocess
import sys
from pathlib import Path

from isthmus.base.clock import Clock
from isthmus.lab.declare import CommandLine
from isthmus.lab.errors import LabError
from isthmus.lab.layout import namespace_of, pod_of
from isthmus.lab.plan import Plan
from isthmus.lab.processes import PYTHON, last_words, start
from isthmus.lab.record import Record
from isthmus.lab.waiting import wait_until

NOBODY = 65534
"""The user and group that have nothing."""

START_SECONDS_MAX = 30.0
TOKEN_VARIABLE = "ISTHMUS_ENROLMENT_TOKEN"
READY = "ready.json"

WITHOUT_RIGHTS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
AS_NOBODY = (*WITHOUT_RIGHTS, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")


def start_connector(record: Record, plan: Plan, network: str, clock: Clock) -> None:
    """Enrols a network's connector and starts it; raises LabError with its words when it does not listen in time."""
    token = CommandLine(record).run("connector", "enrol", "-n", network, "--vnet-name", network)["token"]
    name = f"connector-{network}"
    data = record.path(name)
    data.mkdir(mode=0o700)
    prefix, ready = _unprivileged(data), data / READY
    process = start(
        record,
        name,
        [*prefix, *PYTHON, "isthmus", "connector", "run", "--data", str(data), "--ready-file", str(ready)],
        namespace=namespace_of(plan.name, pod_of(network)),
        environment={TOKEN_VARIABLE: token},
    )
    wait_until(clock, START_SECONDS_MAX, lambda: ready.exists() or process.poll() is not None)
    if not ready.exists():
        raise LabError(f"The connector of {network} does not start: {last_words(record, name)}")


def _unprivileged(data: Path) -> tuple[str, ...]:
    """What takes all rights away: nobody, or, where nobody may not read this Python, root without a capability."""
    tried = subprocess.run((*AS_NOBODY, sys.executable, "-c", "import isthmus"), capture_output=True, check=False)
    if tried.returncode != 0:
        return WITHOUT_RIGHTS
    os.chown(data, NOBODY, NOBODY)
    return AS_NOBODY
