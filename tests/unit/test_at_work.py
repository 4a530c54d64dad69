"""That a warm move is worked at is noted by whatever takes long: its moment, which comes meanwhile, is not missed then."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ferryman.errors import Refused
from ferryman.execute import backup, reading
from ferryman.execute import mark as marks
from ferryman.execute import windows as waiting
from ferryman.execute.patience import Patience
from ferryman.execute.request import Fulfilment
from ferryman.model.backup import BackupPlace, BackupPlan
from ferryman.model.outcome import Outcome, Status
from tests.unit.test_waiting import HOUR, Clock, a_request
from tests.unit.test_windows import at

AT_TEN = {"warm": True, "at": "2026-12-05T22:00:00+01:00"}  # asked for at 21:45


def for_minutes(minutes: int, clock: Clock, look: Callable[[], object]) -> None:
    """So long it is worked at, as by a copy that asks all the while whether it shall end."""
    for _ in range(minutes // 5):
        clock.time += 300.0
        assert not look()


def test_what_was_copied_ahead_through_its_moment_has_not_missed_it(tmp_path: Path) -> None:
    """By a ferryman that was started when the machine's clock was an hour behind."""
    clock = Clock("2026-12-05T20:45Z")
    with a_request(tmp_path, clock, **AT_TEN) as (ports, request):
        for_minutes(35, clock, lambda: waiting.note_at_work(ports, request))
        waiting.wait(ports, request)
        assert waiting.begin(ports, request, fresh=False)


def test_what_was_backed_up_through_its_moment_has_not_missed_it(tmp_path: Path) -> None:
    clock = Clock("2026-12-05T20:45Z")
    plan = BackupPlan("web", "uuid", "a", BackupPlace("", "/backups"), "name", (), (), running=True)
    with a_request(tmp_path, clock, backup_to="/backups", **AT_TEN) as (ports, request):
        Fulfilment(ports, lambda _: None).admit(request)
        for_minutes(30, clock, reading._Watch(ports, request, plan).ends)
        backup._move_on(ports, request)
        for_minutes(5, clock, lambda: waiting.note_at_work(ports, request))
        waiting.wait(ports, request)
        assert waiting.begin(ports, request, fresh=False)
        assert not ports.records.facts("r")["left_alone"]


def test_what_of_it_no_guest_writes_to_may_be_copied_through_its_moment_too(tmp_path: Path) -> None:
    clock = Clock("2026-12-05T20:45Z")
    with a_request(tmp_path, clock, **AT_TEN) as (ports, request):
        watched = Patience(ports, request, lambda _: None)
        for_minutes(35, clock, watched.ends)
        waiting.note_at_work(ports, request)
        waiting.wait(ports, request)
        assert not ports.records.facts("r")["left_alone"]


def test_whose_turn_comes_late_was_not_left_alone(tmp_path: Path) -> None:
    """Else a crash of a minute would end a move for which others of the same command went first."""
    clock = Clock("2026-12-05T20:45Z")
    with a_request(tmp_path, clock, warm=True) as (ports, request):
        clock.time += HOUR
        fulfilment = Fulfilment(ports, lambda _: None)
        fulfilment.fresh.add("r")
        fulfilment.admit(request)
        clock.time += 60.0
        waiting.note_at_work(ports, request)
        assert not ports.records.facts("r")["left_alone"]


def test_found_again_after_an_hour_it_was_left_alone(tmp_path: Path) -> None:
    clock = Clock("2026-12-05T20:45Z")
    with a_request(tmp_path, clock, warm=True) as (ports, request):
        clock.time += HOUR
        Fulfilment(ports, lambda _: None).admit(request)
        assert ports.records.facts("r")["left_alone"]


def test_neither_a_clock_that_is_set_nor_another_process_is_a_break(tmp_path: Path) -> None:
    clock = Clock("2026-12-05T20:45Z")
    with a_request(tmp_path, clock, warm=True) as (ports, request):
        waiting.note_at_work(ports, request)
        clock.time += 60.0
        clock.set(clock.time + 2 * HOUR)
        waiting.note_at_work(ports, request)
        clock.time += 60.0
        clock.behind = 0.0  # that of the process which carries it on
        waiting.note_at_work(ports, request)
        assert not ports.records.facts("r")["left_alone"]
        clock.time += 700.0
        waiting.note_at_work(ports, request)
        assert ports.records.facts("r")["left_alone"]


def test_what_was_left_alone_when_its_moment_came_has_missed_it(tmp_path: Path) -> None:
    """Copied on afterwards all the same; and said."""
    clock = Clock("2026-12-05T20:45Z")
    with a_request(tmp_path, clock, **AT_TEN) as (ports, request):
        for_minutes(5, clock, lambda: waiting.note_at_work(ports, request))
        clock.time += 1800.0
        for_minutes(5, clock, lambda: waiting.note_at_work(ports, request))
        with pytest.raises(Refused, match="nobody carried it out then"):
            waiting.wait(ports, request)


def test_what_was_copied_long_before_its_moment_may_miss_it(tmp_path: Path) -> None:
    """It waited for hours, and nobody waited any more when its moment came."""
    clock = Clock("2026-12-05T08:00Z")
    with a_request(tmp_path, clock, warm=True, at="2026-12-05T02:00:00+01:00") as (ports, request):
        ports.records.keep_facts(
            "r", {"at_work_since": at("2026-12-04T20:00Z"), "at_work_until": at("2026-12-04T21:00Z")}
        )
        with pytest.raises(Refused, match="nobody carried it out then"):
            waiting.wait(ports, request)


def test_one_that_was_left_alone_once_is_worked_at_without_a_break_from_then_on(tmp_path: Path) -> None:
    """Else its moment, which comes while it waits for its turn, would count as one that nobody was there for."""
    clock = Clock("2026-12-03T00:00Z")
    with a_request(tmp_path, clock, warm=True, at="2026-12-05T02:00:00+01:00") as (ports, request):
        waiting.note_at_work(ports, request)
        clock.time += HOUR
        found = clock.time
        for _ in range(3):
            waiting.note_at_work(ports, request)
            clock.time += 1.0
        facts = ports.records.facts("r")
        assert (facts["left_alone"], facts["at_work_since"]) == (True, found)


def test_its_mark_lasts_while_a_pass_takes_hours_and_while_others_have_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, told = Clock("2026-12-05T00:55Z"), list[float]()

    def marked() -> None:
        mark = ports.hypervisor("a").mark("uuid")
        assert mark is not None
        told.append(mark.until - clock.time)

    def at_work() -> None:
        waiting.note_at_work(ports, request)
        marked()

    with a_request(tmp_path, clock, warm=True, window="Sat 02:00-10:00 Europe/Berlin") as (ports, request):
        marks.set_mark(ports, request)
        for_minutes(180, clock, at_work)
        fulfilment = Fulfilment(ports, lambda _: None)
        fulfilment._turn._line.append("other")  # its window is open, and another guest is moved

        def sleep(_: float) -> None:
            clock.time += 300.0
            marked()
            if len(told) == 2 * 36:
                fulfilment._turn._line.remove("other")

        monkeypatch.setattr(clock, "sleep", sleep)
        monkeypatch.setattr("ferryman.execute.request.step", lambda _, act, *of: act(*of))
        fulfilment._in_its_time(request, lambda: Outcome(Status.SUCCEEDED, ""))
    assert len(told) == 2 * 36
    assert min(told) > 0
