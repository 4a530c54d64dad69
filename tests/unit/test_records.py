"""The records, in a real database file."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from ferryman.drivers.database import records as records_module
from ferryman.drivers.database import schema
from ferryman.drivers.database.records import DatabaseRecords, open_records
from ferryman.errors import BadInput, NotFound, RecordsUnusable
from ferryman.model.finding import note
from ferryman.model.host import Host
from ferryman.model.outcome import Outcome, Status
from ferryman.model.phase import Phase
from ferryman.model.request import Options, Request


@pytest.fixture
def records(tmp_path: Path) -> Iterator[DatabaseRecords]:
    opened = open_records(tmp_path)
    yield opened
    opened.engine.dispose()


def asked(records: DatabaseRecords, identity: str, at: float = 1.0) -> Request:
    request = Request(identity, "uuid", "web", "a", "b", Options(bandwidth=7), "me", at)
    records.add_request(request, "slot0")
    return request


def test_hosts_are_registered_replaced_and_forgotten(records: DatabaseRecords) -> None:
    records.add_host(Host("b", "qemu+tls://b/system"))
    records.add_host(Host("a", "qemu+tls://a/system"))
    records.add_host(Host("b", "qemu+ssh://b/system", ssh="root@b"))
    assert [(host.name, host.uri) for host in records.hosts()] == [("a", "qemu+tls://a/system"), ("b", "qemu+ssh://b/system")]  # fmt: skip
    records.remove_host("a")
    assert [host.name for host in records.hosts()] == ["b"]


def test_a_request_is_found_by_the_beginning_of_its_id(records: DatabaseRecords) -> None:
    first = asked(records, "aa11")
    asked(records, "aa22")
    assert records.request("aa1") == first
    with pytest.raises(BadInput, match="2 requests"):
        records.request("aa")
    with pytest.raises(NotFound):
        records.request("b")
    with pytest.raises(NotFound):
        records.request("%")


def test_open_requests_are_those_that_have_not_ended_well(records: DatabaseRecords) -> None:
    for number, phase in enumerate((Phase.SUCCEEDED, Phase.NEEDS_ATTENTION, Phase.TRANSFERRING, Phase.REFUSED)):
        asked(records, f"r{number}", at=number)
        records.enter(f"r{number}", phase)
    assert [request.id for request in records.requests(open_only=True)] == ["r2", "r1"]
    assert len(records.requests()) == 4


def test_of_many_at_once_one_gets_the_lease(records: DatabaseRecords) -> None:
    for number in range(12):
        asked(records, f"r{number}")
    with ThreadPoolExecutor(12) as pool:
        holders = set(pool.map(lambda number: records.take_lease("uuid", f"r{number}"), range(12)))
    (holder,) = holders
    other = next(f"r{number}" for number in range(12) if f"r{number}" != holder)
    records.drop_lease("uuid", other)
    assert records.lease("uuid") == holder
    records.drop_lease("uuid", holder)
    assert records.lease("uuid") == ""


def test_undo_is_registered_once_and_comes_last_first(records: DatabaseRecords) -> None:
    asked(records, "r")
    for act in ("one", "two", "one"):
        records.register_undo("r", act, {"host": "a"})
    acts = records.undo_acts("r")
    assert [act for _, act, _ in acts] == ["two", "one"]
    records.close_undo(acts[0][0], "done")
    records.close_undo(acts[1][0], "failed", "why")
    assert [act for _, act, _ in records.undo_acts("r")] == ["one"]
    assert [(entry.act, entry.state, entry.error) for entry in records.undo_entries("r")] == [
        ("one", "failed", "why"), ("two", "done", ""),
    ]  # fmt: skip


def test_a_phase_entered_again_is_told_once_and_findings_found_again_replace(records: DatabaseRecords) -> None:
    asked(records, "r")
    for phase in (Phase.PREPARING, Phase.PREPARING, Phase.TRANSFERRING):
        records.enter("r", phase)
    records.keep_findings("r", "before", [note("old", "a", "b")])
    records.keep_findings("r", "before", [note("new", "a", "b")])
    records.keep_findings("r", "after", [note("late", "a", "b")])
    report = records.report("r")
    assert [entry.phase for entry in report.phases] == ["queued", "preparing", "transferring"]
    assert [finding.code for finding in report.findings_before] == ["new"]
    assert [finding.code for finding in report.findings_after] == ["late"]
    assert report.outcome is None


def test_what_is_written_is_there_for_another_process(records: DatabaseRecords, tmp_path: Path) -> None:
    request = asked(records, "r")
    records.keep_facts("r", {"probe": "x"})
    records.keep_facts("r", {"plan": {"a": 1}})
    records.mark_asked("r")
    records.ask_cancel("r", "me")
    records.ask_cancel("r", "you")
    records.keep_outcome("r", Outcome(Status.CANCELLED, "because", downtime=0.1))
    other = open_records(tmp_path)
    assert other.request("r") == request
    assert other.facts("r") == {"probe": "x", "plan": {"a": 1}}
    assert other.asked_at("r") is not None
    assert other.cancel_asked("r") == "me"
    outcome = other.report("r").outcome
    assert outcome is not None
    assert (outcome.status, outcome.downtime) == (Status.CANCELLED, 0.1)
    other.engine.dispose()


def test_records_of_another_schema_are_refused(records: DatabaseRecords, tmp_path: Path) -> None:
    with records.engine.begin() as connection:
        connection.execute(update(schema.schema_version).values(version=99))
    with pytest.raises(BadInput, match="schema version 99"):
        open_records(tmp_path)


def test_files_that_cannot_be_used_now_are_named_with_their_directory(tmp_path: Path) -> None:
    records = open_records(tmp_path)
    with records.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout=10")
    with closing(sqlite3.connect(tmp_path / "ferryman.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RecordsUnusable, match="locked") as caught:
            asked(records, "aa11")
        assert str(tmp_path) in caught.value.what
    asked(records, "aa11")
    with pytest.raises(IntegrityError):  # a fault of ours stays what it is
        asked(records, "aa11")
    records.engine.dispose()


def test_two_first_commands_at_once_both_find_the_records_unstamped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_records(tmp_path).engine.dispose()
    monkeypatch.setattr(records_module, "_schema_version", lambda _: None)  # it looked before the other one wrote
    records = open_records(tmp_path)
    assert records.requests() == ()
    records.engine.dispose()
