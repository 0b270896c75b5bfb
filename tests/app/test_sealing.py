"""Secrets at rest through starts of a server: the key it makes, keys from elsewhere, older folders, and wrong keys."""

import base64
import sqlite3
from collections.abc import Callable
from pathlib import Path

from app.starting import failing_start, wait_for
from isthmus.access.files import read_sealed
from isthmus.access.sealed_folder import KeySources, confidential_files, new_key, open_sealed_folder, write_key
from isthmus.backends.sqlite.documents import OPEN_KINDS, checksum, place
from isthmus.base.ids import HubId
from isthmus.base.state import Key
from support.server import RunningHub

HUB = "hub.isthmus.test"
ENDPOINT = (
    *("message-endpoint", "create", "servicebus-queue", "--endpoint-name", "orders"),
    *(
        "--connection-string",
        f"Endpoint=sb://bus.example/;SharedAccessKeyName=a;SharedAccessKey={'A' * 43}=;EntityPath=q",
    ),
)


def test_a_folder_of_an_earlier_release_is_sealed_at_its_first_start(make_hub: Callable[..., RunningHub]) -> None:
    hub = make_hub(hostname=HUB)
    secrets = secrets_of(hub)
    hub.stop()
    unseal(hub.data)
    assert all(secret.encode() in raw(hub.data) for secret in secrets)
    ca = hub.ca.read_bytes()

    hub.start()

    assert secrets_of(hub) == secrets
    hub.stop()
    assert [secret for secret in secrets if secret.encode() in raw(hub.data)] == []
    assert b"PRIVATE KEY" not in raw(hub.data)
    assert hub.ca.read_bytes() == ca


def test_a_key_from_elsewhere_takes_over_and_offline_commands_find_it(
    make_hub: Callable[..., RunningHub], tmp_path: Path, loopback_address: str
) -> None:
    hub = make_hub(hostname=HUB)
    string = hub.create_device("press")
    hub.stop()
    path = tmp_path / "elsewhere.key"
    write_key(path, new_key())
    hub = RunningHub(hub.log.parent, hub.address, hostname=HUB, options=("--sealing-key-file", str(path)))
    hub.start()
    hub.stop()
    (hub.data / "sealing.key").unlink()

    assert hub.device_connection_string("press") == string
    path.unlink()
    assert "which was not found" in hub.isthmus("connection-string", "-d", "press", code=1)


def test_a_missing_or_wrong_key_ends_the_start_in_a_sentence(make_hub: Callable[..., RunningHub]) -> None:
    hub = make_hub(hostname=HUB)
    hub.stop()
    wrong = hub.data.parent / "wrong.key"
    write_key(wrong, new_key())
    kept = (hub.data / "sealing.key").rename(hub.data.parent / "kept.key")
    before = fingerprint(hub.data)

    missing = failing_start(hub.data, "--bind", hub.address)
    other = failing_start(hub.data, "--bind", hub.address, "--sealing-key-file", wrong)

    for ended in (missing, other):
        assert ended.code == 1
        assert ended.said.startswith(f"isthmus: {hub.data} is sealed by the key ")
        assert ended.said.count("\n") == 1
    assert fingerprint(hub.data) == before
    kept.rename(hub.data / "sealing.key")
    hub.start()


def test_a_key_in_the_environment_is_not_inherited(tmp_path: Path, loopback_address: str) -> None:
    key = base64.b64encode(new_key().secret).decode()
    under = ("env", f"ISTHMUS_SEALING_KEY={key}")
    hub = RunningHub(tmp_path, loopback_address, options=("--ephemeral",), under=under)
    try:
        hub.start()
        hub.isthmus(*ENDPOINT)
        wait_for(lambda: bool(children(hub)))

        assert not (hub.data / "sealing.key").exists()
        for child in children(hub):
            assert key.encode() not in Path(f"/proc/{child}/environ").read_bytes()
    finally:
        hub.kill()


def test_the_first_start_prints_no_secret(make_hub: Callable[..., RunningHub]) -> None:
    hub = make_hub(hostname=HUB)
    secrets = [*secrets_of(hub), (hub.data / "sealing.key").read_text().strip()]

    assert [secret for secret in secrets if secret in hub.log.read_text()] == []
    assert "PRIVATE KEY" not in hub.log.read_text()


def secrets_of(hub: RunningHub) -> list[str]:
    """Keys of a policy, a device and an account."""
    device = "press"
    if not any(each["deviceId"] == device for each in hub.json("device-identity", "list")):
        hub.isthmus("device-identity", "create", "-d", device)
        hub.isthmus("storage", "account", "create", "-n", "plantstore")
    keys = hub.json("storage", "account", "keys", "list", "-n", "plantstore")
    strings = (hub.connection_string(), hub.device_connection_string(device))
    return [*(string.rpartition("SharedAccessKey=")[2] for string in strings), keys[0]["value"]]


def children(hub: RunningHub) -> list[str]:
    """The processes that the server has started."""
    threads = Path(f"/proc/{hub.pid}/task").iterdir()
    return [child for thread in threads for child in (thread / "children").read_text().split()]


def unseal(data: Path) -> None:
    """Makes of a stopped hub's folder one as releases left it that sealed nothing."""
    sealer = open_sealed_folder(data, KeySources(), reading=True).sealer
    for path in confidential_files(data):
        path.write_bytes(read_sealed(path, sealer) or b"")
    with sqlite3.connect(data / "state.db") as rows:
        for kind, hub, name, revision, body in rows.execute(
            "SELECT kind, hub, name, revision, body FROM documents"
        ).fetchall():
            key = Key(kind, HubId(hub), name)
            plain = body if kind in OPEN_KINDS else sealer.open(place(key, revision), body)
            rows.execute(
                "UPDATE documents SET body = ?, checksum = ? WHERE kind = ? AND hub = ? AND name = ?",
                (plain, checksum(key, revision, plain), *key),
            )
    rows.close()
    for name in ("sealing.key", "sealing.json"):
        (data / name).unlink()


def raw(data: Path) -> bytes:
    """Every file of a folder but the key to the others."""
    return b"".join(
        path.read_bytes() for path in sorted(data.rglob("*")) if path.is_file() and path.name != "sealing.key"
    )


def fingerprint(data: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in data.rglob("*") if path.is_file()}
