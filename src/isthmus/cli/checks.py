"""`check`, and `check exposure`: proof from outside of what is open and what is not."""

import ssl
from typing import TYPE_CHECKING, Any

import click

from isthmus.base.clock import SystemClock, iso_utc
from isthmus.base.places import CA_CERTIFICATE
from isthmus.base.sas_token import sign
from isthmus.cli.command import Group
from isthmus.cli.connection_strings import POLICY_DEFAULT
from isthmus.cli.errors import CommandError
from isthmus.cli.output import Readable, as_table
from isthmus.cli.target import DEVICES_API, DEVICES_PROVIDER, Target

if TYPE_CHECKING:
    from isthmus.checks.exposure import Row

TOKEN_SECONDS = 300
"""Life of the tokens that are shown at the doors."""

DIFFERENT = 1
COLUMNS = (
    *("process", "place", "protocol", "address", "port", "plane", "door", "hub", "who", "expected", "observed"),
    "verdict",
)

check = Group("check", help="Proof of what is open, what is not, and which paths and endpoints work.")


@check.command("exposure", remote=False)
@click.option("--from", "source", default="127.0.0.1", show_default=True, metavar="ADDRESS",
    help="Knocks from this address of the machine, as a stranger there.")  # fmt: skip
def exposure(target: Target, source: str) -> Any:
    """Prints every listening socket of the installation, what is expected there and what answers.

    Reads the kernel's tables of the hub's processes in all network namespaces, for which it has to run as root where
    there are such, and knocks at each socket as a stranger and with a policy's key. Exits with 1 when a row differs: a
    socket that the hub does not know of, one that is missing, or an answer that is not the documented one.
    """
    from isthmus.checks.exposure import Vantage, matrix
    from isthmus.checks.kernel import survey
    from isthmus.checks.knocking import Key

    table = target.manage("GET", "/exposure", query={"from": source})
    pids = [process["pid"] for process in table["processes"]]
    since = iso_utc(SystemClock().utc_ms())
    keys = {name: Key(policy, token) for name, (policy, token) in _tokens(target, table).items()}
    vantage = Vantage(source, _trust(target), keys, lambda device: _rule(target, device, since))
    paths = [each["address"] for each in table["sockets"] if each["protocol"] == "unix"]
    rows = matrix(table, survey(pids, pids[0], paths), vantage)
    agrees = all(row.agrees for row in rows)
    return Readable(_text(rows), [row.to_json() for row in rows], 0 if agrees else DIFFERENT)


def _text(rows: "list[Row]") -> str:
    """The matrix as a table, without columns that say nothing."""
    told = [row.to_json() for row in rows]
    names = [name for name in COLUMNS if any(each[name] for each in told)]
    if len({row.hub for row in rows if row.hub}) == 1:
        names.remove("hub")
    told = [{name: each[name] for name in names} for each in told]
    different = sum(not row.agrees for row in rows)
    verdict = f"{different} of {len(rows)} rows are different." if different else f"{len(rows)} rows, all as expected."
    return f"{as_table(told, everything=True)}\n{verdict}"


def _trust(target: Target) -> ssl.SSLContext:
    path = target.data / CA_CERTIFICATE
    try:
        return ssl.create_default_context(cafile=str(path))
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.") from error


def _tokens(target: Target, table: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Name and a token of each hub's owner policy; reading the keys is a record of the journal."""
    expires = SystemClock().utc_ms() // 1000 + TOKEN_SECONDS
    tokens: dict[str, tuple[str, str]] = {}
    for hub in table["hubs"]:
        path = f"{target.resource_id(DEVICES_PROVIDER, 'IotHubs', hub['name'])}/IotHubKeys/{POLICY_DEFAULT}/listkeys"
        policy = target.manage("POST", path, query={"api-version": DEVICES_API})
        token = sign(hub["hostName"], policy["primaryKey"], expires, POLICY_DEFAULT)
        tokens[hub["name"]] = POLICY_DEFAULT, token
    return tokens


def _rule(target: Target, device: str, since: str) -> str:
    """By which rule a device was refused just now."""
    told = target.manage("GET", "/explain", query={"deviceId": device, "since": since, "top": "1"})
    return str(told[0]["rule"]) if told else ""
