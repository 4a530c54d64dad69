"""Another's job on a guest that is copied ahead: it is waited for, never ended, and the guest is not stopped under it."""

import itertools
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ferryman.drivers.database.records import DatabaseRecords, open_records
from ferryman.errors import Busy
from ferryman.execute import another, undo, windows
from ferryman.execute.request import Fulfilment
from ferryman.model.mark import Mark
from ferryman.model.outcome import Report
from ferryman.model.phase import Phase
from ferryman.model.request import Options, Request
from ferryman.plain import to_plain
from tests.durability.fakes import FakeSite, records_of_both
from tests.durability.killing import says, told
from tests.durability.processes import Carrying, carry
from tests.durability.test_cold import AT_HOME, arrived, at_home
from tests.durability.test_warm import ask, nothing_remembered
from tests.durability.test_windows import until
from tests.durability.world import World, change, world
from tests.unit.sites import UUID

BACKUP, SNAPSHOT = {"backup": "another"}, {"other_job": "snapshot"}
WAITED_FOR = "that is not ours runs on the guest"


def left_at(state: Path, moment: str, job: dict[str, str], **options: Any) -> None:
    """A move that died at that moment; then another began a job. A hook is told before the stop."""
    World.with_local_disks(state / "world.json")
    with World(state / "world.json").opened() as content:
        content["hooks"] = [{"name": "users", "on": ["before-stop"], "command": ["tell"]}]
    assert carry(state, ask(**options), moment).returncode == -signal.SIGKILL
    with World(state / "world.json").opened() as content:
        content["a"].update(job)


def over(state: Path, job: dict[str, str]) -> None:
    with World(state / "world.json").opened() as content:
        for name in job:
            del content["a"][name]


def waiting(state: Path, words: str = WAITED_FOR) -> Carrying:
    """A process that took it up, and waits."""
    process = Carrying(state, "recover")
    until(lambda: says(state, words), "it does not wait")
    return process


def noted(state: Path) -> dict[str, Any]:
    """What is waited for."""
    records = open_records(state)
    found = records.facts(records.requests()[0].id)["another"]
    records.engine.dispose()
    return dict(found)


def passes(state: Path) -> list[bool]:
    records = open_records(state)
    found = records.facts(records.requests()[0].id)["passes"]
    records.engine.dispose()
    return [one["complete"] for one in found]


def phases(state: Path) -> list[str]:
    records = open_records(state)
    found = [entry.phase for entry in records.phases(records.requests()[0].id)]
    records.engine.dispose()
    return found


def never_stopped(report: Report) -> None:
    assert "stopping" not in [entry.phase for entry in report.phases]


@pytest.mark.parametrize("job", [BACKUP, SNAPSHOT, {"block_job": "block job"}])
def test_a_pass_waits_for_its_end_and_goes_on(tmp_path: Path, job: dict[str, str]) -> None:
    left_at(tmp_path, "copy-ahead:before", job)
    process = waiting(tmp_path)
    assert world(tmp_path)["a"].items() >= job.items()
    over(tmp_path, job)
    assert process.ended().returncode == 0
    arrived(tmp_path)
    nothing_remembered(tmp_path)
    assert says(tmp_path, "has ended")
    assert passes(tmp_path) == [True]


@pytest.mark.parametrize(
    ("moment", "job", "told_users"),
    [
        ("copy-ahead:inside", BACKUP, False),
        ("copy-ahead:after", BACKUP, False),
        ("copy-ahead:after", SNAPSHOT, False),
        ("tell-before-stop:after", BACKUP, True),
    ],
)
def test_the_stop_waits_too_and_what_was_written_meanwhile_is_copied_before_it(
    tmp_path: Path, moment: str, job: dict[str, str], told_users: bool
) -> None:
    left_at(tmp_path, moment, job)
    process = waiting(tmp_path)
    assert ("told" in world(tmp_path)) is told_users  # one that is there when the passes end is waited for first
    assert world(tmp_path)["a"]["autostart"] is not told_users  # nor is anything taken away before
    over(tmp_path, job)
    assert process.ended().returncode == 0
    arrived(tmp_path)
    assert passes(tmp_path) == [True, True]


def test_one_that_is_there_from_the_beginning_holds_up_nobody_else(tmp_path: Path) -> None:
    """It is waited for before its turn to be copied ahead comes, which may be days."""
    left_at(tmp_path, "try-definition:after", BACKUP, at=_soon(100_000.0))
    process = waiting(tmp_path)
    assert Phase.COPYING_AHEAD not in phases(tmp_path)
    over(tmp_path, BACKUP)
    until(lambda: phases(tmp_path)[-1] == Phase.WAITING, "it waits on")
    process.signal(signal.SIGKILL)
    process.ended()
    assert passes(tmp_path) == [True]


def test_killed_in_the_pass_after_it_the_next_process_goes_on_with_that(tmp_path: Path) -> None:
    left_at(tmp_path, "tell-before-stop:after", BACKUP)
    process = waiting(tmp_path)
    with World(tmp_path / "world.json").opened() as content:
        del content["a"]["backup"]
        content["copy_lasts"] = True
    until(lambda: world(tmp_path)["frozen"].endswith("-2"), "no pass begins")
    process.signal(signal.SIGKILL)
    process.ended()
    with World(tmp_path / "world.json").opened() as content:
        content["copy_lasts"] = False
    assert carry(tmp_path, "recover").returncode == 0
    arrived(tmp_path)
    nothing_remembered(tmp_path)
    assert passes(tmp_path) == [True, True, True]


def test_one_that_begins_as_soon_as_a_pass_has_ended_is_waited_for_too(tmp_path: Path) -> None:
    """Then the checkpoint before that of the pass cannot be forgotten at once."""
    left_at(tmp_path, "wait:inside", {}, at=_soon(2.0))
    with World(tmp_path / "world.json").opened() as content:
        content["right_after_it"] = SNAPSHOT
    process = waiting(tmp_path)
    over(tmp_path, SNAPSHOT)
    assert process.ended().returncode == 0
    arrived(tmp_path)
    nothing_remembered(tmp_path)
    assert passes(tmp_path) == [True, True, True]


def test_in_its_window_it_waits_as_long_as_the_window_and_goes_on(tmp_path: Path) -> None:
    left_at(tmp_path, "wait:inside", BACKUP, window=_window(minutes=30))
    process = waiting(tmp_path)
    found = noted(tmp_path)
    assert another.WITHIN < found["until"] - found["since"] < 31 * 60
    over(tmp_path, BACKUP)
    assert process.ended().returncode == 0
    arrived(tmp_path)


@pytest.mark.parametrize("moment", ["copy-ahead:before", "tell-before-stop:after"])
def test_one_that_lasts_longer_than_there_is_time_puts_the_move_back_and_the_guest_is_not_stopped(
    tmp_path: Path, moment: str
) -> None:
    left_at(tmp_path, moment, BACKUP, give_up_at=_soon(60.0))
    assert carry(tmp_path, "recover").returncode == 0
    assert world(tmp_path)["a"]["backup"] == "another"
    nothing_remembered(tmp_path)
    over(tmp_path, BACKUP)
    report = at_home(tmp_path, "failed")
    never_stopped(report)
    assert report.outcome is not None
    assert "a job (backup) that is not ours" in report.outcome.reason
    assert report.outcome.remedy.startswith("virsh domjobinfo web")
    assert report.outcome.error == "Busy"  # worth a --retry
    assert noted(tmp_path)["until"] <= datetime.fromisoformat(report.request.options.give_up_at).timestamp()


def test_a_cancel_ends_the_waiting(tmp_path: Path) -> None:
    left_at(tmp_path, "copy-ahead:before", BACKUP)
    process = waiting(tmp_path)
    records = open_records(tmp_path)
    records.ask_cancel(records.requests()[0].id, "somebody")
    records.engine.dispose()
    assert process.ended().returncode == 0
    over(tmp_path, BACKUP)  # it runs on all the while
    never_stopped(at_home(tmp_path, "cancelled"))
    nothing_remembered(tmp_path)


def test_killed_while_it_waits_it_waits_on_until_the_same_moment(tmp_path: Path) -> None:
    left_at(tmp_path, "copy-ahead:before", BACKUP)
    process = waiting(tmp_path)
    process.signal(signal.SIGKILL)
    process.ended()
    before = noted(tmp_path)
    again = Carrying(tmp_path, "recover")
    time.sleep(2.0)
    assert noted(tmp_path) == before
    over(tmp_path, BACKUP)
    assert again.ended().returncode == 0
    arrived(tmp_path)
    assert len([one for one in told(tmp_path).decisions if WAITED_FOR in one]) == 1


def test_a_job_that_lets_no_mark_be_removed_is_waited_for_again_then(tmp_path: Path) -> None:
    left_at(tmp_path, "copy-ahead:after", SNAPSHOT, give_up_at=_soon(60.0))
    process = waiting(tmp_path, "waits for the end of a job (snapshot)")
    assert {"mark", "checkpoints"} <= world(tmp_path)["a"].keys()
    over(tmp_path, SNAPSHOT)
    assert process.ended().returncode == 0
    never_stopped(at_home(tmp_path, "failed"))
    nothing_remembered(tmp_path)


def test_while_somebody_else_migrates_it_nobody_says_that_it_is_at_home(tmp_path: Path) -> None:
    migration = {"other_job": "outgoing migration"}
    left_at(tmp_path, "copy-ahead:after", migration, give_up_at=_soon(60.0))
    carry(tmp_path, "recover")
    report = told(tmp_path)
    assert report.outcome is not None
    assert (report.outcome.status, report.outcome.running_at) == ("needs attention", "")
    assert {entry.state for entry in report.undo} == {"registered"}
    never_stopped(report)
    over(tmp_path, migration)
    carry(tmp_path, "recover")
    at_home(tmp_path, "failed")


def test_one_job_after_another_is_not_waited_for_without_end(
    records: DatabaseRecords, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(another, "WITHIN", 30.0)
    guest = {"state": "running", "autostart": True}
    at = FakeSite(records, World.made(tmp_path / "world.json", a=guest, b=None)).ports

    def waits() -> None:
        """For one that lasts 20 looks, a second between them."""
        looks = itertools.count(1)

        def asked() -> str:
            if next(looks) == 20:
                change(tmp_path, a=guest)
            return ""

        change(tmp_path, a=guest | SNAPSHOT)
        until = partial(windows.waits_until, at, REQUEST, 0.0)
        another.once_free(at, REQUEST, lambda: None, until=until, asked=asked)

    waits()
    with pytest.raises(Busy, match="no more time to wait"):
        waits()


# What is taken back

REQUEST = Request("there0000", UUID, "web", "a", "b", Options(warm=True), "somebody@here", time.time())
CHECKPOINT = f"ferryman-{REQUEST.id}-1"


@pytest.fixture
def records(tmp_path: Path) -> Iterator[DatabaseRecords]:
    opened = records_of_both(tmp_path)
    opened.add_request(REQUEST, "slot1")
    opened.register_undo(REQUEST.id, undo.RESTORE_DEFINITION, {"host": "b"})
    opened.keep_definition(REQUEST.id, "b", "<domain/>")
    for act in (undo.RESTORE_AUTOSTART, undo.REMOVE_MARK, undo.END_PASSES):
        opened.register_undo(REQUEST.id, act, {"host": "a"})
    yield opened
    opened.engine.dispose()


@pytest.mark.parametrize("ends", [True, False])
def test_a_guest_that_somebody_else_takes_away_while_its_undo_waits_is_not_said_to_run_at_home(
    records: DatabaseRecords, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    guest = {"state": "running", "autostart": True, "other_job": "outgoing migration"}
    at = FakeSite(records, World.made(tmp_path / "world.json", a=guest, b=None)).ports

    def waits(*_: object) -> list[str]:
        if ends:
            change(tmp_path, a=None)
        return [] if ends else ["remove-mark at a: a job runs on it"]

    monkeypatch.setattr(undo, "undo_all", waits)
    found = Fulfilment(at, lambda _: None)._undo_if_at_home(REQUEST)
    assert found == {"running_at": "", "failures": None if ends else ["remove-mark at a: a job runs on it"]}


def test_what_stays_since_the_job_does_not_end_is_named_and_taken_back_later(
    records: DatabaseRecords, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(another, "WITHIN", 3.0)
    mark = to_plain(Mark(REQUEST.id, "somebody@here", 0.0, 1.0))
    guest = {"state": "running", "autostart": False, "mark": mark, "checkpoints": ["nightly", CHECKPOINT]} | SNAPSHOT
    at = FakeSite(records, World.made(tmp_path / "world.json", a=guest, bitmaps=["nightly", CHECKPOINT])).ports
    failures = undo.undo_all(at, REQUEST)
    assert [one.partition(" ")[0] for one in failures] == ["end-passes", "remove-mark", "restore-autostart"]
    assert CHECKPOINT in failures[0]
    assert "nightly" not in failures[0]
    assert world(tmp_path)["b"]  # what it is not in the way of does not wait for it
    assert undo.undo_all(at, REQUEST) == failures  # its time is over: tried once
    over(tmp_path, SNAPSHOT)
    assert undo.undo_all(at, REQUEST) == []
    assert world(tmp_path)["a"] == AT_HOME | {"checkpoints": ["nightly"]}


def _soon(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="seconds")


def _window(*, minutes: float) -> str:
    """One that is open now."""
    now = datetime.now(UTC)
    return f"{now - timedelta(minutes=1):%H:%M}-{now + timedelta(minutes=minutes):%H:%M} UTC"
