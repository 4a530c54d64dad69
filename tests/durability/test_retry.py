"""What failed by something that gets better by itself is tried again: each try a request, bounded, and none that nobody wants."""

import itertools
import signal
from pathlib import Path

import pytest

from ferryman.drivers.database.records import open_records
from ferryman.model.outcome import Report
from ferryman.model.phase import Phase, may_follow
from tests.durability.killing import MOMENTS
from tests.durability.processes import carry
from tests.durability.test_cold import ARRIVED, AT_HOME
from tests.durability.world import World, change, world
from tests.unit.sites import UUID


def made(state: Path, cuts: int) -> None:
    World.with_local_disks(state / "world.json")
    with World(state / "world.json").opened() as content:
        content["cuts"] = cuts


def tries(state: Path) -> list[Report]:
    """All of them, the first one first; none is left open, none holds the guest, and none ended twice."""
    records = open_records(state)
    reports = [records.report(request.id) for request in reversed(records.requests())]
    assert not records.requests(open_only=True)
    assert records.lease(UUID) == ""
    records.engine.dispose()
    for report in reports:
        for earlier, later in itertools.pairwise(Phase(entry.phase) for entry in report.phases):
            assert may_follow(earlier, later), report.phases
    return reports


def ends(state: Path) -> list[str]:
    return [one.phase for one in tries(state)]


def test_a_copy_that_was_cut_is_tried_again_from_a_guest_that_runs_at_home(tmp_path: Path) -> None:
    made(tmp_path, cuts=1)
    assert carry(tmp_path, "ask-cold-retry").returncode == 0
    first, second = tries(tmp_path)
    assert [first.phase, second.phase] == ["failed", "succeeded"]
    assert (world(tmp_path)["a"], world(tmp_path)["b"]) == (None, ARRIVED)
    assert first.tried_again_as == second.request.id
    assert (second.request.retries, second.request.attempt) == (first.request.id, 2)
    assert second.request.begin_at >= first.outcome.ended_at - 60 if first.outcome else False
    for report in (first, second):
        assert [(one.request, one.phase) for one in report.tries] == [
            (first.request.id, "failed"),
            (second.request.id, "succeeded"),
        ]
    assert any("try 2 of 3 in 30.0 s" in text for text in first.decisions)


def test_it_is_tried_so_many_times_and_not_once_more(tmp_path: Path) -> None:
    made(tmp_path, cuts=9)
    carry(tmp_path, "ask-cold-retry")
    reports = tries(tmp_path)
    assert [one.phase for one in reports] == ["failed"] * 3
    assert [one.request.attempt for one in reports] == [1, 2, 3]
    pauses = [later.request.begin_at - earlier.request.begin_at for earlier, later in itertools.pairwise(reports[1:])]
    assert pauses[0] >= 60  # the second pause is twice as long as the first
    assert (world(tmp_path)["a"], world(tmp_path)["b"]) == (AT_HOME, None)
    assert world(tmp_path)["cuts"] == 6


def test_a_backup_before_a_move_that_another_job_was_in_the_way_of_is_made_anew_and_then_the_guest_is_moved(
    tmp_path: Path,
) -> None:
    World.made(tmp_path / "world.json", files={"a": {}, "b": {}})
    guest = world(tmp_path)["a"]
    carry(tmp_path, 'ask:{"backup_to": "b:/backups", "retry": 1}', "make-folder:after")
    change(tmp_path, a=guest | {"backup": "another"})
    assert carry(tmp_path, "recover", "wait-to-retry:before").returncode == -signal.SIGKILL
    change(tmp_path, a=guest)
    assert carry(tmp_path, "recover").returncode == 0
    first, second = tries(tmp_path)
    assert first.outcome is not None
    assert (first.outcome.status, first.outcome.error) == ("refused", "AlreadyRunning")
    assert "without which it is not moved" in first.outcome.reason
    assert second.outcome is not None
    assert second.outcome.status == "succeeded", second.outcome
    assert len(list((tmp_path / "places/b/backups").glob("*/*"))) == 1


def test_without_being_asked_to_nothing_is_tried_again(tmp_path: Path) -> None:
    made(tmp_path, cuts=1)
    carry(tmp_path, "ask-cold")
    assert ends(tmp_path) == ["failed"]


def test_what_does_not_get_better_by_itself_is_not_tried_again(tmp_path: Path) -> None:
    made(tmp_path, cuts=0)
    with World(tmp_path / "world.json").opened() as content:
        content["copy_fails"] = "the digests differ"
    carry(tmp_path, "ask-cold-retry")
    assert ends(tmp_path) == ["failed"]


def test_a_veto_is_not_tried_again(tmp_path: Path) -> None:
    made(tmp_path, cuts=0)
    with World(tmp_path / "world.json").opened() as content:
        content["hooks"] = [{"name": "guard", "on": ["before-stop"], "command": ["guard"]}]
        content["answers"] = {"guard": [{"ended": "veto", "words": "no"}]}
    carry(tmp_path, "ask-cold-retry")
    assert ends(tmp_path) == ["refused"]


def test_a_guest_that_assess_refuses_is_not_tried_again(tmp_path: Path) -> None:
    World.with_local_disks(tmp_path / "world.json")
    with World(tmp_path / "world.json").opened() as content:
        content["b"] = {"state": "off", "autostart": False}  # an inactive definition is in the way
    carry(tmp_path, "ask-cold-retry")
    assert ends(tmp_path) == ["refused"]


def test_one_that_was_cancelled_is_not_tried_again(tmp_path: Path) -> None:
    made(tmp_path, cuts=1)
    assert carry(tmp_path, "ask-cold-retry", "settle:before").returncode == -signal.SIGKILL
    records = open_records(tmp_path)
    records.ask_cancel(records.requests()[0].id, "anna")
    records.engine.dispose()
    carry(tmp_path, "recover")
    assert len(tries(tmp_path)) == 1
    assert world(tmp_path)["a"] == AT_HOME


def test_cancelled_while_it_waits_for_its_next_try_none_is_made(tmp_path: Path) -> None:
    made(tmp_path, cuts=1)
    assert carry(tmp_path, "ask-cold-retry", "wait-to-retry:before").returncode == -signal.SIGKILL
    records = open_records(tmp_path)
    records.ask_cancel(records.requests()[0].id, "anna")
    records.engine.dispose()
    carry(tmp_path, "recover")
    assert ends(tmp_path) == ["failed", "cancelled"]
    assert world(tmp_path)["a"] == AT_HOME


ROUND = [(step, moment) for step in ("retry", "tell-end", "report", "wait-to-retry") for moment in MOMENTS]


@pytest.mark.parametrize(
    ("step", "moment"),
    [pytest.param(*one, marks=() if number % 4 == 1 else pytest.mark.whole) for number, one in enumerate(ROUND)],
)
def test_killed_around_a_retry_it_is_made_once(tmp_path: Path, step: str, moment: str) -> None:
    made(tmp_path, cuts=1)
    assert carry(tmp_path, "ask-cold-retry", f"{step}:{moment}").returncode == -signal.SIGKILL
    assert carry(tmp_path, "recover").returncode == 0
    assert ends(tmp_path) == ["failed", "succeeded"]
    assert (world(tmp_path)["a"], world(tmp_path)["b"]) == (None, ARRIVED)
