"""A start that cannot be: one sentence, exit code 1, and nothing left behind."""

import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from app.starting import failing_start
from isthmus.base.places import MANAGEMENT_SOCKET
from support.server import RunningHub


def is_one_sentence(said: str) -> bool:
    return said.startswith("isthmus: ") and said.endswith(".\n") and said.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--bind", "192.0.2.1"], "not an address of this machine"),
        (["--bind", "hub.test"], "is none"),
        (["--hostname", "h1.test"], "3 to 50 letters"),
        (["--hostname", "hub_1.test"], "not one"),
        (["--hostname", "hub.a b.test"], "is none"),
        (["--partitions", "33"], "partitions"),
        (["--mqtt-port", "70000"], "mqtt_port"),
        (["--mqtt-port", "5671"], "both 5671"),
        (["--ready-file", "/no-such-folder/ready.json"], "No such file or directory"),
        (["--seed", "/no-such-seed.toml"], "cannot be read"),
        (["--config", "/no-such-config.toml"], "cannot be read"),
    ],
)
def test_a_setting_that_cannot_be_is_named(tmp_path: Path, loopback_address: str, flags: list[str], words: str) -> None:
    bind = () if "--bind" in flags else ("--bind", loopback_address)

    ended = failing_start(tmp_path / "data", *bind, *flags)

    assert ended.code == 1
    assert is_one_sentence(ended.said), ended.said
    assert words in ended.said
    assert not (tmp_path / "data" / MANAGEMENT_SOCKET).exists()


def test_a_port_in_use_is_named_and_the_folder_is_free_again(
    tmp_path: Path, loopback_addresses: Callable[[], str]
) -> None:
    address = loopback_addresses()
    with socket.create_server((address, 5671)):
        ended = failing_start(tmp_path / "hub" / "data", "--bind", address)

    assert (ended.code, is_one_sentence(ended.said)) == (1, True), ended.said
    assert f"Port 5671 at {address} is in use" in ended.said
    assert not (tmp_path / "hub" / "data" / MANAGEMENT_SOCKET).exists()
    hub = RunningHub(tmp_path / "hub", address)
    try:
        hub.start()
        hub.stop()
    finally:
        hub.kill()


@pytest.mark.parametrize("flag", ["--durable", "--ephemeral"])
def test_a_second_server_on_the_folder_is_refused_and_the_first_one_stays(
    running_hub: RunningHub, loopback_address: str, flag: str
) -> None:
    ended = failing_start(running_hub.data, "--bind", loopback_address, flag)

    assert (ended.code, is_one_sentence(ended.said)) == (1, True), ended.said
    assert f"A server runs on {running_hub.data} already" in ended.said
    assert running_hub.json("health")["ok"] is True


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, loopback_address: str) -> None:
    (tmp_path / "file").write_text("in the way")

    ended = failing_start(tmp_path / "file" / "data", "--bind", loopback_address)

    assert (ended.code, is_one_sentence(ended.said)) == (1, True), ended.said
    assert "Not a directory" in ended.said


@pytest.mark.parametrize("damage", ["garbage", "folder"])
def test_tls_files_that_cannot_be_used_are_named(
    make_hub: Callable[..., RunningHub], damage: str, loopback_address: str
) -> None:
    hub = make_hub()
    hub.stop()
    authority = hub.data / "tls" / "authority.pem"
    authority.unlink()
    authority.write_text("no key") if damage == "garbage" else authority.mkdir()

    ended = failing_start(hub.data, "--bind", loopback_address)

    assert (ended.code, is_one_sentence(ended.said)) == (1, True), ended.said
    assert str(authority) in ended.said


def test_a_damaged_document_is_named(make_hub: Callable[..., RunningHub], loopback_address: str) -> None:
    hub = make_hub()
    hub.stop()
    with sqlite3.connect(hub.data / "state.db") as state:
        state.execute("UPDATE documents SET body = x'7b7d' WHERE kind = 'hub'")
    state.close()

    ended = failing_start(hub.data, "--bind", loopback_address)

    assert (ended.code, is_one_sentence(ended.said)) == (1, True), ended.said
    assert "stored document hub 'isthmus'" in ended.said
    said = hub.isthmus("connection-string", code=1)
    assert "stored document hub 'isthmus'" in said
    assert said.count("\n") == 1


def test_a_state_file_that_is_none_is_named(tmp_path: Path, loopback_address: str) -> None:
    (tmp_path / "state.db").write_bytes(b"not a database" * 100)

    ended = failing_start(tmp_path, "--bind", loopback_address)

    assert (ended.code, is_one_sentence(ended.said)) == (1, True), ended.said
    assert "state.db" in ended.said


@pytest.mark.parametrize(
    ("seed", "words"),
    [
        ('[[devices]]\nid = "a b"\n', "device a b"),
        ('[[devices]]\nid = "d1"\nhub = "other"\n', "device d1"),
        ('[[devices]]\nid = "d1"\nkey = "x"\n', "key"),
        ('[[hubs]]\nname = "x"\n', "hub x"),
        ('[[private_endpoints]]\nname = "plant"\naddress = "192.0.2.1"\n', "private endpoint plant"),
        ('[[devices]]\nid = "d1"\n[[devices]]\nid = "d1"\n', "twice"),
        ("not toml", "not valid TOML"),
    ],
)
@pytest.mark.parametrize("flag", ["--durable", "--ephemeral"])
def test_a_seed_that_cannot_be_is_named(
    tmp_path: Path, loopback_address: str, seed: str, words: str, flag: str
) -> None:
    path = tmp_path / "seed.toml"
    path.write_text(seed)

    ended = failing_start(tmp_path / "data", "--bind", loopback_address, "--seed", path, flag)

    assert (ended.code, is_one_sentence(ended.said)) == (1, True), ended.said
    assert words in ended.said
