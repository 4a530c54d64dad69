"""What doctor finds of this machine: each lack is caused for real, and each line that is not good has its remedy."""

import os
import sqlite3
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from ferryman.app.doctor import examine
from ferryman.drivers import machine
from ferryman.drivers.database.health import broken
from ferryman.drivers.database.records import open_records
from ferryman.model.host import Answer, Check, Host
from ferryman.model.request import Request


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "state"
    monkeypatch.setenv("FERRYMAN_STATE_DIRECTORY", str(directory))
    monkeypatch.setenv("FERRYMAN_SETTINGS", str(tmp_path / "none.toml"))
    return directory


def line(lines: Sequence[Check], thing: str) -> Check:
    (found,) = [one for one in lines if one.thing.startswith(thing)]
    if found.answer is Answer.MISSING:
        assert found.remedy, found
    return found


def test_a_machine_that_runs_these_tests_has_the_libraries(state: Path) -> None:
    lines = list(examine())
    for thing in ("python", "dbos", "sqlalchemy", "libvirt", "state directory", "database", "requests"):
        assert line(lines, thing).answer is Answer.GOOD
    assert line(lines, "hosts").answer is Answer.MISSING
    assert "host add" in line(lines, "hosts").remedy


def test_programs_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    lines = list(machine.programs())
    assert line(lines, "ssh").remedy == "apt install openssh-client"
    assert line(lines, "ip").answer is Answer.MISSING
    assert line(lines, "virsh").answer is Answer.GOOD  # ferryman runs none


def test_a_state_directory_that_others_enter_or_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    (found,) = machine.state_directory(tmp_path / "open")
    assert (found.answer, "700" in found.remedy) == (Answer.MISSING, True)
    (tmp_path / "file").write_text("")
    (found,) = machine.state_directory(tmp_path / "file/state")
    assert found.answer is Answer.MISSING
    assert not list((tmp_path / "open").iterdir())


def test_a_torn_database_is_named_and_the_rest_still_told(state: Path) -> None:
    open_records(state).engine.dispose()
    (state / "ferryman.sqlite-wal").unlink(missing_ok=True)
    (state / "ferryman.sqlite").write_bytes(b"SQLite format 3\0" + os.urandom(8192))
    lines = list(examine())
    assert line(lines, "database").answer is Answer.MISSING
    assert line(lines, "python").answer is Answer.GOOD
    assert broken(state / "not-there") == ""


def test_a_database_of_another_schema_is_named(state: Path) -> None:
    open_records(state).engine.dispose()
    with sqlite3.connect(state / "ferryman.sqlite") as connection:
        connection.execute("UPDATE schema_version SET version = 99")
    connection.close()
    assert "99" in line(list(examine()), "records in").detail


def test_requests_that_nobody_carries_are_named(state: Path) -> None:
    records = open_records(state)
    records.add_request(Request("abcd", "uuid", "web", "a", "b"), "slot0")
    records.engine.dispose()
    found = line(list(examine()), "requests")
    assert (found.answer, found.remedy) == (Answer.MISSING, "ferryman recover")
    assert "abcd" in found.detail


def test_a_host_that_does_not_answer_is_named(state: Path) -> None:
    records = open_records(state)
    records.add_host(Host("nowhere", "qemu+ssh://root@127.0.0.1:1/system"))
    records.engine.dispose()
    lines = [one for one in examine() if one.host == "nowhere"]
    assert [(one.thing, one.answer) for one in lines] == [("libvirtd", Answer.MISSING)]
    assert lines[0].remedy


def test_settings_that_cannot_be_read_are_named(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERRYMAN_TIMEOUT", "soon")
    lines = list(examine())
    assert "soon" in line(lines, "settings").detail or line(lines, "settings").answer is Answer.MISSING


def certificate(directory: Path, days: int) -> Path:
    path = directory / f"{days}.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=here",
         "-days", str(days), "-keyout", str(directory / "key.pem"), "-out", str(path)], check=True, capture_output=True,
    )  # fmt: skip
    return path


def test_a_settings_file_with_secrets_that_others_may_read_is_named(
    state: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "ferryman.toml"
    file.write_text('hook_secret = "s"')
    monkeypatch.setenv("FERRYMAN_SETTINGS", str(file))
    file.chmod(0o644)
    assert f"chmod 600 {file}" in line(list(examine()), "settings").remedy
    file.chmod(0o600)
    assert line(list(examine()), "settings").answer is Answer.GOOD
    file.write_text("retry = 2")
    file.chmod(0o644)
    assert line(list(examine()), "settings").answer is Answer.GOOD


def test_certificates_are_good_soon_over_over_or_not_there(tmp_path: Path) -> None:
    path, key = certificate(tmp_path, 100), tmp_path / "key.pem"
    day = 86400.0
    for after, answer, word in (
        (0.0, Answer.GOOD, "valid"), (80 * day, Answer.MISSING, "expires"), (101 * day, Answer.MISSING, "expired"),
    ):  # fmt: skip
        lines = list(machine.certificates((path, path, key), time.time() + after))
        assert [one.answer for one in lines] == [answer, answer]
        assert word in lines[0].detail
    (found,) = machine.certificates((path, tmp_path / "none.pem", key))
    assert "none.pem" in found.detail
    key.write_text("no certificate")
    assert {one.answer for one in machine.certificates((key, key, key))} == {Answer.MISSING}


def test_the_clock_is_told_or_said_not_to_be(tmp_path: Path) -> None:
    found = machine.clock()
    assert found.detail
    assert found.answer in Answer
    if found.answer is Answer.MISSING:
        assert found.remedy
