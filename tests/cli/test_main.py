"""The tree as a whole: what is there, what is to come, and how a command ends that cannot be carried out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cli.conftest import Run
from cli.management import KEY, POLICIES, FakeManagement
from isthmus.base.places import CA_CERTIFICATE


@pytest.mark.parametrize(
    "words",
    [
        ("iot", "hub", "distributed-tracing", "show"),
        ("monitor-feedback",),
        ("iot", "hub", "device-identity", "children", "add"),
        ("iot", "dps", "create"),
        ("network", "nsg", "create", "--name", "x"),
        ("role", "definition", "create"),
        ("storage", "blob", "upload"),
    ],
)
def test_what_az_has_and_we_not_yet_says_so(run: Run, words: tuple[str, ...]) -> None:
    done = run(*words)
    assert (done.code, done.out) == (2, "")
    assert "is not there yet" in done.err


@pytest.mark.parametrize("words", [("nonsense",), ("device-identity", "create"), ("iot", "hub", "up"), ("show", "-x")])
def test_what_is_not_understood_ends_with_2(run: Run, words: tuple[str, ...]) -> None:
    assert run(*words).code == 2


def test_without_a_server_one_sentence_says_how_to_start_it(run: Run) -> None:
    done = run("device-twin", "show", "-d", "a")
    assert done.code == 1
    assert "isthmus up" in done.err
    assert done.err.count("\n") == 1


def test_connection_strings_of_policies(management: FakeManagement, run: Run) -> None:
    assert run("connection-string").out == (
        f"HostName=hub.isthmus.test;SharedAccessKeyName=iothubowner;SharedAccessKey={KEY}\n"
    )
    assert run("connection-string", "--policy", "SERVICE", "--kt", "secondary").out == (
        "HostName=hub.isthmus.test;SharedAccessKeyName=service;SharedAccessKey=c2Vydg==\n"
    )
    assert run("connection-string", "--events", "--policy", "service").out == (
        "Endpoint=sb://hub.isthmus.test/;SharedAccessKeyName=service;SharedAccessKey=c2VydmljZQ==;EntityPath=hub\n"
    )
    shown = json.loads(run("iot", "hub", "connection-string", "show", "--all").out)
    assert len(shown["connectionString"]) == len(POLICIES)


def test_only_service_strings_carry_the_port(management: FakeManagement, run: Run) -> None:
    management.set("GET", "/hubs", [{"name": "hub", "hostName": "hub.isthmus.test", "httpsPort": 8443}])
    assert run("connection-string").out.startswith("HostName=hub.isthmus.test:8443;")
    assert run("connection-string", "--events").out.startswith("Endpoint=sb://hub.isthmus.test/;")


def test_an_unknown_policy_is_told_with_those_there_are(management: FakeManagement, run: Run) -> None:
    done = run("connection-string", "--policy", "other")
    assert done.code == 1
    assert "iothubowner, service" in done.err


def test_a_login_is_for_what_the_service_api_has(run: Run) -> None:
    login = f"HostName=h;SharedAccessKeyName=service;SharedAccessKey={KEY}"
    refused = run("iot", "hub", "show", "--login", login)
    assert (refused.code, refused.err) == (
        1,
        "isthmus: --login takes Management=https://HOST:PORT;Token=TOKEN here; a policy's key opens devices alone.\n",
    )
    assert run("monitor-events", "--login", login).code == 2


def test_env_can_be_read_by_a_shell(management: FakeManagement, run: Run) -> None:
    path = _write_ca(management.data)
    text = run("env").out
    shell = ["sh", "-c", f'{text}\nprintf "%s\\n" "$IOTHUB_CONNECTION_STRING" "$SSL_CERT_FILE"']
    told = subprocess.run(shell, capture_output=True, text=True, check=True).stdout.splitlines()
    assert told == [run("connection-string").out.strip(), str(path)]


def test_ca_prints_a_path_or_says_what_makes_it(run: Run, tmp_path: Path) -> None:
    assert run("ca").code == 1
    path = _write_ca(tmp_path / "data")
    assert run("ca").out == f"{path}\n"


def test_a_socket_path_too_long_for_the_kernel_is_reached(run: Run, tmp_path: Path) -> None:
    short = tmp_path / "s"
    long = tmp_path / ("x" * 120)
    long.symlink_to(short)
    with FakeManagement(short) as management:
        management.on("GET", "/health", {"status": "healthy"})
        assert run("health", "--data", str(long)).code == 0


def test_explain_tells_people_and_programs(management: FakeManagement, run: Run) -> None:
    decision = {
        "time": "2026-01-31T14:02:00.1230000Z",
        "verdict": "refused",
        "device": "press-1",
        "address": "127.0.0.9",
        "plane": "mqtt",
        "door": "public",
        "hop": "network",
        "rule": "network.public-access",
        "value": "publicNetworkAccess is Disabled",
        "remedy": "isthmus iot hub update --set properties.publicNetworkAccess=Enabled",
        "trackingId": "abc-G:0",
        "count": 3,
    } | dict.fromkeys(("hub", "principal", "detail"), "")
    slower = {"time": "2026-01-31T14:01:00.0000000Z", "verdict": "delayed", "hop": "limit", "rule": "limit.device-rate"}
    slow = {**decision, "value": "", "remedy": "", "trackingId": "", "count": 1} | slower
    for answer in ([decision], [slow], [decision]):
        management.on("GET", "/explain", answer)
    assert run("explain", "--device-id", "press-1", "--since", "15m").out.splitlines() == [
        "2026-01-31T14:02:00.123Z device press-1 from 127.0.0.9 by mqtt at the public door was refused, "
        "network: network.public-access, 3 times",
        "    value       publicNetworkAccess is Disabled",
        "    remedy      isthmus iot hub update --set properties.publicNetworkAccess=Enabled",
        "    trackingId  abc-G:0",
        "2026-01-31T14:01:00.000Z device press-1 from 127.0.0.9 by mqtt at the public door was delayed, "
        "limit: limit.device-rate",
    ]
    assert [asked.query["verdict"] for asked in management.asked] == ["refused", "delayed"]
    assert run("explain", "abc-G:0", "-o", "tsv", "--query", "[].rule").out == "network.public-access\n"
    assert management.last.query == {"trackingId": "abc-G:0", "top": "20"}


def test_explain_tells_what_was_changed(management: FakeManagement, run: Run) -> None:
    change = {
        "time": "2026-01-31T14:02:00.1230000Z",
        "verdict": "changed",
        "principal": "owner:uid:0",
        "hub": "hub",
        "detail": "hub updated",
        "after": {"publicNetworkAccess": "Disabled"},
    }
    management.on("GET", "/explain", [change])
    assert run("explain", "--all").out == (
        '2026-01-31T14:02:00.123Z owner:uid:0 changed hub (hub updated): {"publicNetworkAccess": "Disabled"}\n'
    )
    assert "verdict" not in management.last.query


def test_explain_refuses_a_time_that_is_none(management: FakeManagement, run: Run) -> None:
    assert run("explain", "--since", "yesterday").code == 1


def test_health_tells_which_part_is_ill(management: FakeManagement, run: Run) -> None:
    well = {"ok": True, "parts": {"log": {"ok": True, "reason": ""}}}
    ill = {"ok": False, "parts": {"log": {"ok": False, "reason": "no space left"}, "state": {"ok": True, "reason": ""}}}
    management.on("GET", "/health", well)
    assert json.loads(run("health").out) == well
    management.set("GET", "/health", ill, status=503)
    assert run("health") == (1, "", "isthmus: The server is not well: log (no space left).\n")


def test_metrics_are_printed_as_they_are(management: FakeManagement, run: Run) -> None:
    management.on("GET", "/metrics", "isthmus_messages_total 3\n")
    assert run("metrics").out == "isthmus_messages_total 3\n"


def test_a_simple_command_starts_light() -> None:
    """Nothing of the server's weight is imported to ask a question."""
    heavy = "{'aiohttp', 'cryptography', 'rich', 'jmespath', 'uvloop', 'asyncio'}"
    code = f"import sys, isthmus.cli; sys.exit(' '.join({heavy} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_output_that_nobody_reads_ends_quietly(management: FakeManagement, run: Run) -> None:
    management.on("GET", "/metrics", "x" * 1_000_000)
    command = f"{sys.executable} -m isthmus metrics --data {management.data} | head -c 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("x", "")


def _write_ca(data: Path) -> Path:
    path = data / CA_CERTIFICATE
    path.parent.mkdir(parents=True)
    path.write_text("certificate")
    return path
