"""`audit` on a server of its own: listed, exported, verified against heads; whatever is done to the file is found."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest

from support.loopback import Loopback
from support.server import RunningHub

WAIT_SECONDS = 20.0


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> RunningHub:
    """A stopped hub with eight records, whose last head was exported."""
    folder = tmp_path_factory.mktemp("template")
    with Loopback() as loopback:
        made = RunningHub(folder, loopback.take(), settings=_settings(folder / "heads"))
        made.start()
        try:
            for number in range(1, 9):
                made.isthmus("device-identity", "create", "-d", f"press-{number}")
            made.stop()
        finally:
            made.kill()
    return made


@pytest.fixture
def hub(template: RunningHub, tmp_path: Path) -> RunningHub:
    """A copy of the template, which the test may spoil."""
    shutil.copytree(template.data, tmp_path / "data", ignore=shutil.ignore_patterns("*.sock"))
    return RunningHub(tmp_path, template.address)


@pytest.fixture
def heads(template: RunningHub, tmp_path: Path) -> Path:
    """A copy of the heads that the template exported."""
    return Path(shutil.copy(template.log.with_name("heads"), tmp_path / "heads"))


def test_records_tell_who_what_before_and_after(running_hub: RunningHub) -> None:
    running_hub.create_device("press-1")
    running_hub.isthmus("iot", "hub", "update", "--set", "properties.publicNetworkAccess=Disabled", "--force")
    running_hub.isthmus("device-identity", "update", "-d", "press-1", "--status", "disabled")
    changes = running_hub.json("audit", "list", "--kind", "changed", "--since", "1h")
    told = [(each["detail"], each["before"], each["after"]) for each in changes]
    assert told[1][0] == "hub updated"
    assert told[1][1]["properties"]["publicNetworkAccess"] == "Enabled"
    assert told[1][2]["properties"]["publicNetworkAccess"] == "Disabled"
    assert (told[0][1]["status"], told[0][2]["status"]) == ("enabled", "disabled")
    assert (told[2][1], told[2][2]["authentication"]["symmetricKey"]["primaryKey"]) == (None, "(secret)")
    assert all(each["principal"].startswith("owner:uid:") for each in changes)
    reads = running_hub.json("audit", "list", "--kind", "read")
    assert {each["detail"] for each in reads} == {"keys of an identity read"}
    table = running_hub.isthmus("audit", "list", "--top", "1", "-o", "table")
    assert table.split()[:5] == ["Sequence", "Time", "Kind", "Who", "From"]
    assert running_hub.json("audit", "show", str(changes[0]["sequence"])) == changes[0]


def test_a_running_and_a_stopped_hubs_journal_is_verified(make_hub: Callable[..., RunningHub], tmp_path: Path) -> None:
    heads = tmp_path / "heads"
    hub = make_hub(settings=_settings(heads))
    hub.create_device("press-1")
    deadline = monotonic() + WAIT_SECONDS
    while '"sequence":2,' not in (heads.read_text() if heads.exists() else ""):
        assert monotonic() < deadline
        hub.isthmus("audit", "verify")
    key = tmp_path / "key.pem"
    key.write_text(hub.isthmus("audit", "key"))
    told = hub.isthmus("audit", "verify", "--head", str(heads), "--public-key", str(key))
    assert "The journal is whole." in told
    hub.stop()
    report = hub.json("audit", "verify", "--head", str(heads))
    assert report["whole"]
    assert report["headsMatched"] >= 2
    assert report["lastSequence"] == report["records"]


@pytest.mark.parametrize(
    ("tampering", "words"),
    [
        ("UPDATE journal SET body = replace(body, 'press-4', 'press-5') WHERE entry_id = 4", "record 4 (2"),
        ("DELETE FROM journal WHERE entry_id = 5", "record 5 is missing, between 2"),
        (
            "UPDATE journal SET entry_id = -3 WHERE entry_id = 3;"
            "UPDATE journal SET entry_id = 3 WHERE entry_id = 6;"
            "UPDATE journal SET entry_id = 6 WHERE entry_id = -3",
            "in the place of record 3 stands record 6 (2",
        ),
        (
            "DELETE FROM journal WHERE entry_id > 6;"
            "UPDATE meta SET number = 6, value = (SELECT chain FROM journal WHERE entry_id = 6) "
            "WHERE name = 'journal head'",
            "records 7 to 8 are missing: the end was cut off behind record 6",
        ),
    ],
)
def test_what_is_done_to_the_journal_is_found(hub: RunningHub, heads: Path, tampering: str, words: str) -> None:
    with sqlite3.connect(hub.data / "state.db") as state:
        state.executescript(tampering)
    state.close()
    report = verified(hub, "--head", str(heads), code=1)
    assert words in report
    assert report.endswith("The journal is NOT whole.\n")


def test_a_byte_flipped_in_the_file_is_found(hub: RunningHub) -> None:
    path = hub.data / "state.db"
    content = bytearray(path.read_bytes())
    content[content.rindex(b'"device":"press-4"') + 15] ^= 1
    path.write_bytes(content)
    assert "record 4 (2" in verified(hub, code=1)


def test_a_forged_head_is_found(hub: RunningHub, heads: Path) -> None:
    lines = heads.read_text().splitlines()
    lines[-1] = lines[-1].replace('"sequence":8', '"sequence":9')
    heads.write_text("\n".join(lines))
    assert f"heads:{len(lines)}, dated 2" in verified(hub, "--head", str(heads), code=1)


def test_exported_records_are_verified_without_the_hub(hub: RunningHub, heads: Path, tmp_path: Path) -> None:
    records = tmp_path / "records.jsonl"
    assert hub.json("audit", "export", "--to", str(records)) == {"records": 8, "to": str(records)}
    lines = records.read_bytes().splitlines(keepends=True)
    assert json.loads(lines[3])["decision"]["device"] == "press-4"
    key = tmp_path / "key.pem"
    key.write_text(hub.isthmus("audit", "key"))
    evidence = ("--records", str(records), "--head", str(heads), "--public-key", str(key))
    hub.data = tmp_path / "nowhere"
    assert "records: 8, 1 to 8" in verified(hub, *evidence)
    lines[2], lines[5] = lines[5], lines[2]
    records.write_bytes(b"".join(lines))
    assert "stands behind record" in verified(hub, *evidence, code=1)
    lines[2] = lines[2].replace(b"press-6", b"press-9")
    records.write_bytes(lines[2])
    verified(hub, *evidence, code=1)


def test_an_export_is_never_written_over_another(hub: RunningHub, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("old")
    assert "is there already" in hub.isthmus("audit", "export", "--to", str(tmp_path / "there"), code=1)
    assert (tmp_path / "there").read_text() == "old"


def test_what_cannot_be_judged_ends_with_a_code_of_its_own(hub: RunningHub, tmp_path: Path) -> None:
    assert "cannot be read" in hub.isthmus("audit", "verify", "--head", str(tmp_path / "none"), code=2)
    hub.data = tmp_path
    assert "does not exist" in hub.isthmus("audit", "verify", code=2)


def test_a_head_that_cannot_be_exported_is_a_matter_of_health_and_holds_nobody_up(
    make_hub: Callable[..., RunningHub], tmp_path: Path
) -> None:
    hub = make_hub(settings=_settings(tmp_path / "missing" / "heads"))
    deadline = monotonic() + WAIT_SECONDS
    while "isthmus_audit_heads_failed_total 0.0" in hub.isthmus("metrics"):
        assert monotonic() < deadline
    assert "missing/heads" in hub.isthmus("health", code=1)
    hub.create_device("press-1")
    (tmp_path / "missing").mkdir()
    while not (tmp_path / "missing" / "heads").exists():
        assert monotonic() < deadline
        hub.isthmus("audit", "list")
    hub.stop()


def _settings(heads: Path) -> str:
    return f'[audit]\nheads_file = "{heads}"\nheads_interval_seconds = 1\n'


def verified(hub: RunningHub, *evidence: str, code: int = 0) -> str:
    """What `audit verify` prints, which it does on standard output whatever it finds."""
    done = hub.run("audit", "verify", *evidence)
    assert done.returncode == code, done.stderr
    return done.stdout
