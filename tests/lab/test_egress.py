"""A plant device's messages at every target, each closed to the public, with no key anywhere in the configuration."""

import json
import subprocess
import sys
import uuid
from dataclasses import asdict, replace

from clients.devices import until
from clients.egress_client import Task
from house.source import ROOT
from support.lab import RunningLab

CLIENTS = ROOT / "tests" / "clients"
SECONDS_MAX = 150.0
STORE, EVENTS, BUS = "factorystore", "factory-events", "factory-bus"
DOMAIN = "isthmus.test"
TARGETS = ("json blobs", "avro blobs", "event hub", "queue", "topic")


def task(lab: RunningLab, *wanted: str) -> Task:
    url = f"https://{STORE}.blob.{DOMAIN}"
    events, bus = f"{EVENTS}.servicebus.{DOMAIN}", f"{BUS}.servicebus.{DOMAIN}"
    return Task(
        ca=str(lab.ca),
        wanted=wanted,
        json_blobs=(url, "json"),
        avro_blobs=(url, "avro"),
        event_hub=(events, "readings"),
        queue=(bus, "orders"),
        topic=(bus, "alarms", "all"),
    )


def test_a_plant_devices_messages_are_read_at_every_target_by_identity_alone(lab: RunningLab) -> None:
    texts = [f"{uuid.uuid4().hex} {number}" for number in range(5)]
    send(lab, texts)
    assert read(lab, "analyst", task(lab, *texts)) == dict.fromkeys(TARGETS, "ok")
    stored = lab.isthmus("iot", "hub", "show", "-n", "factory")
    assert "AccountKey" not in stored
    assert "SharedAccessKey=" not in stored


def test_the_intruder_is_refused_by_each_target_with_its_own_code_whatever_keys_he_has(lab: RunningLab) -> None:
    account = json.loads(lab.isthmus("storage", "account", "show-connection-string", "-n", STORE, "-o", "json"))
    strings = (
        account["connectionString"],
        lab.isthmus("connection-string", "--namespace", EVENTS, "--entity", "readings").strip(),
        lab.isthmus("connection-string", "--namespace", BUS).strip(),
    )
    met = read(lab, "intruder", replace(task(lab, "anything"), strings=strings, seconds=20.0))
    assert "AuthorizationFailure" in met["json blobs"]
    assert "AuthorizationFailure" in met["avro blobs"]
    assert "401 Description: Ip has been prevented to connect to the endpoint." in met["event hub"]
    assert met["queue"].startswith("ServiceBusAuthenticationError")
    assert met["topic"].startswith("ServiceBusAuthenticationError")
    refused = json.loads(lab.isthmus("explain", "--address", "203.0.113.66", "-o", "json"))
    assert {each["rule"] for each in refused if each["hub"] in {STORE, EVENTS, BUS}} == {"network.public-access"}
    assert {STORE, EVENTS, BUS} <= {each["hub"] for each in refused}


def test_a_device_uploads_a_file_to_the_only_address_it_has(lab: RunningLab) -> None:
    said = uuid.uuid4().hex
    blob = send(lab, [], file=said)
    assert blob.endswith("/report.txt")
    listed = within(lab, "analyst", READ_BLOB, json.dumps([f"https://{STORE}.blob.{DOMAIN}", str(lab.ca), blob]))
    assert listed == said


def test_exports_and_imports_run_against_the_closed_account(lab: RunningLab) -> None:
    uri = f"https://{STORE}.blob.{DOMAIN}/jobs"
    made = lab.make_device("mes")
    ended(lab, "export", "--blob-container-uri", uri, "--include-keys", "true")
    lab.isthmus("device-identity", "delete", "-n", "factory", "-d", made)
    ended(lab, "import", "--input-blob-container-uri", uri, "--output-blob-container-uri", uri)
    assert json.loads(lab.isthmus("device-identity", "show", "-n", "factory", "-d", made, "-o", "json"))


def ended(lab: RunningLab, verb: str, *arguments: str) -> None:
    """Runs a job by the hub's identity to its end."""
    words = ("device-identity", verb, "-n", "factory", *arguments, "--identity", "[system]", "-o", "json")
    job = json.loads(lab.isthmus(*words))["jobId"]

    def status() -> str:
        shown = lab.isthmus("iot", "hub", "job", "show", "-n", "factory", "--job-id", job, "-o", "json")
        return str(json.loads(shown)["status"])

    until(lambda: status() in {"completed", "failed"})
    assert status() == "completed"


def send(lab: RunningLab, texts: list[str], file: str = "") -> str:
    """Sends as a new device of the plant, and uploads a file if one is given; returns its name."""
    device = lab.isthmus("connection-string", "-n", "factory", "--device-id", lab.make_device("press-1")).strip()
    given = {"device": device, "ca": str(lab.ca), "texts": texts, "file": file}
    return within(lab, "press-1", (CLIENTS / "plant_device.py").read_text(), json.dumps(given))


def read(lab: RunningLab, host: str, given: Task) -> dict[str, str]:
    found: dict[str, str] = json.loads(
        within(lab, host, (CLIENTS / "egress_client.py").read_text(), json.dumps(asdict(given)))
    )
    return found


READ_BLOB = """
import json, sys
from azure.identity import ManagedIdentityCredential
from azure.storage.blob import BlobClient
account, ca, name = json.load(sys.stdin)
blob = BlobClient(account, "uploads", name, credential=ManagedIdentityCredential(), connection_verify=ca)
sys.stdout.write(blob.download_blob().readall().decode())
"""


def within(lab: RunningLab, host: str, program: str, given: str) -> str:
    done = subprocess.run(
        lab.within(host, [sys.executable, "-c", program]),
        input=given,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
