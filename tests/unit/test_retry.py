"""What is tried again, how often and when; and that a mail is made from the plan that a request has, or would get."""

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from ferryman.app import Moves
from ferryman.drivers.database.records import DatabaseRecords
from ferryman.errors import Refused
from ferryman.execute import windows
from ferryman.execute.request import Fulfilment
from ferryman.execute.retry import BETTER_BY_ITSELF, decide, make, wait
from ferryman.model.outcome import Outcome, Status
from ferryman.model.phase import Phase
from ferryman.model.plan import Method
from ferryman.model.request import Options, Request
from ferryman.plain import to_plain
from ferryman.plan.steps import live_plan
from ferryman.report.notice import Language
from tests.durability.fakes import FakeSite, records_of_both
from tests.durability.world import World
from tests.unit.sites import UUID, good_site
from tests.unit.test_command_line import ferryman

REQUEST = Request("9c7fa58b", UUID, "web", "a", "b", Options(retry=8), asked_at=1000.0)
CUT = Outcome(Status.FAILED, "cut", error="Unreachable")


@pytest.mark.parametrize("error", BETTER_BY_ITSELF)
@pytest.mark.parametrize("status", [Status.FAILED, Status.REFUSED])
def test_what_gets_better_by_itself_is_tried_again_when_all_is_as_it_was(error: type, status: Status) -> None:
    again = decide(Outcome(status, "", error=error.__name__), REQUEST)
    assert again is not None
    assert "try 2 of 9" in again.reason


@pytest.mark.parametrize("status", [Status.CANCELLED, Status.NEEDS_ATTENTION, Status.SUCCEEDED, Status.CLOSED])
def test_nothing_else_is(status: Status) -> None:
    assert decide(replace(CUT, status=status), REQUEST) is None


@pytest.mark.parametrize(
    "error",
    ["", "Blocked", "Refused", "Vetoed", "NotFound", "Insecure", "NoWay", "SourceChanged", "Mismatch", "Stopped", "DriverError"],
)  # fmt: skip
def test_nor_is_what_wants_a_person(error: str) -> None:
    assert decide(replace(CUT, error=error), REQUEST) is None


def test_the_tries_are_bounded_and_further_and_further_apart() -> None:
    pauses = []
    for attempt in range(1, 12):
        again = decide(CUT, replace(REQUEST, attempt=attempt))
        pauses.append(again.pause if again else None)
    assert pauses == [30, 60, 120, 240, 480, 900, 900, 900, None, None, None]
    assert decide(CUT, replace(REQUEST, options=Options())) is None


def tried_again(
    records: DatabaseRecords, tmp_path: Path, options: Options, now: float, *, begun: bool = True
) -> Options:
    """With which options a move that was cut now is tried again, half a minute later."""
    request = replace(REQUEST, id="55555555", options=options)
    records.add_request(request, "slot0")
    clock = Counting()
    clock.at = now
    site = FakeSite(records, World.made(tmp_path / "world.json"))
    ports = replace(site.ports, clock=clock)
    if begun:
        windows.note_give_up(ports, request, now)
    following = records.request(make(ports, request, CUT))
    records.engine.dispose()
    return following.options


@pytest.mark.parametrize(("now", "begins"), [(20_000.0, "1970-01-01T10:00:00+00:00"), (36_005.0, "")])
def test_a_moment_that_is_still_to_come_is_waited_for_also_by_a_further_try(
    records: DatabaseRecords, tmp_path: Path, now: float, begins: str
) -> None:
    """A host may be silent when the move is asked for, or while it is copied ahead."""
    asked = Options(retry=1, at="1970-01-01T10:00:00+00:00")
    assert tried_again(records, tmp_path, asked, now) == replace(asked, at=begins)


def test_all_tries_are_given_up_when_the_first_one_would_have_been(records: DatabaseRecords, tmp_path: Path) -> None:
    """Not a day later, when it is tried again a minute after that time of the day."""
    asked = Options(retry=1, cold=True, give_up_at="10:00 UTC")
    assert tried_again(records, tmp_path, asked, 35_990.0).give_up_at == "1970-01-01T10:00:00+00:00"


def test_a_try_that_lost_its_moment_before_it_began_is_given_up_when_the_first_one_would_have_been(
    records: DatabaseRecords, tmp_path: Path
) -> None:
    """Copied ahead until it was cut right before that; the further try is admitted after it, and would get the next day's."""
    asked = Options(retry=1, warm=True, at="1970-01-01T09:00:00+00:00", give_up_at="10:00 UTC")
    following = tried_again(records, tmp_path, asked, 35_985.0, begun=False)
    assert (following.at, following.give_up_at) == ("", "1970-01-01T10:00:00+00:00")
    assert following.retry == 1


def test_one_whose_moment_is_still_to_come_keeps_its_time_of_the_day(records: DatabaseRecords, tmp_path: Path) -> None:
    asked = Options(retry=1, warm=True, at="1970-01-01T09:00:00+00:00", give_up_at="10:00 UTC")
    assert tried_again(records, tmp_path, asked, 20_000.0, begun=False) == asked


# The mail of a request


@pytest.fixture
def records(tmp_path: Path) -> DatabaseRecords:
    records = records_of_both(tmp_path)
    records.add_request(REQUEST, "slot0")
    return records


def moves(records: DatabaseRecords, tmp_path: Path) -> Moves:
    return Moves(FakeSite(records, World.made(tmp_path / "world.json")), tmp_path)


def test_a_mail_is_made_from_the_requests_own_plan(records: DatabaseRecords, tmp_path: Path) -> None:
    cold = replace(live_plan(good_site(), Options()), method=Method.COLD, starts=True)
    records.keep_facts(REQUEST.id, {"plan": to_plain(cold)})
    assert "will be restarted" in moves(records, tmp_path).notice("9c7f", Language.EN)
    records.engine.dispose()


def test_one_without_a_plan_is_told_what_it_would_get(records: DatabaseRecords, tmp_path: Path) -> None:
    text = moves(records, tmp_path).notice(REQUEST.id, Language.EN)
    assert "moves to another server" in text
    assert "soon." in text  # others may have their turn before
    for phase in (Phase.PREPARING, Phase.TRANSFERRING):
        records.enter(REQUEST.id, phase)
    assert "now." in moves(records, tmp_path).notice(REQUEST.id, Language.EN)
    records.engine.dispose()


def test_another_try_is_announced_for_its_moment(records: DatabaseRecords, tmp_path: Path) -> None:
    asked = replace(REQUEST, id="55555555", begin_at=4099759200.0)
    records.add_request(asked, "slot0")
    assert "on 2099-11-30 at 22:00 UTC" in moves(records, tmp_path).notice(asked.id, Language.EN)
    records.engine.dispose()


def test_one_that_is_copied_before_its_time_is_announced_for_its_time(records: DatabaseRecords, tmp_path: Path) -> None:
    asked = replace(REQUEST, id="55555555", options=Options(warm=True, at="2099-12-05T22:00:00+00:00"))
    records.add_request(asked, "slot0")
    for phase in (Phase.QUEUED, Phase.PREPARING, Phase.COPYING_AHEAD, Phase.WAITING):
        records.enter(asked.id, phase)
        assert "on 2099-12-05 at 22:00 UTC" in moves(records, tmp_path).notice(asked.id, Language.EN)
    records.keep_facts(asked.id, {"due_at": 1.0})
    assert "2099" not in moves(records, tmp_path).notice(asked.id, Language.EN)
    records.engine.dispose()


def test_a_move_that_has_ended_is_announced_to_nobody(records: DatabaseRecords, tmp_path: Path) -> None:
    records.enter(REQUEST.id, Phase.REFUSED)
    with pytest.raises(Refused, match="it has ended"):
        moves(records, tmp_path).notice(REQUEST.id, Language.EN)
    records.engine.dispose()


def test_the_command_prints_the_language_that_is_asked_for(records: DatabaseRecords, tmp_path: Path) -> None:
    records.keep_facts(REQUEST.id, {"plan": to_plain(live_plan(good_site(), Options()))})
    records.engine.dispose()
    told: subprocess.CompletedProcess[str] = ferryman(tmp_path, "notice", REQUEST.id, "--lang", "zh", PYTHONUTF8="1")
    assert told.stdout.startswith("主题：虚拟机 web")
    assert ferryman(tmp_path, "notice", REQUEST.id).stdout.startswith("Subject: web")


# A retry that waits


def test_cancel_by_the_first_id_reaches_the_try_that_waits(records: DatabaseRecords, tmp_path: Path) -> None:
    records.enter(REQUEST.id, Phase.PREPARING)
    records.add_retry(replace(REQUEST, id="77777777", retries=REQUEST.id, attempt=2, begin_at=2000.0))
    records.add_retry(replace(REQUEST, id="77777777", retries=REQUEST.id, attempt=2, begin_at=2000.0))  # run again
    records.enter(REQUEST.id, Phase.FAILED)
    assert moves(records, tmp_path).cancel(REQUEST.id).id == "77777777"
    assert records.cancel_asked("77777777")
    assert not records.cancel_asked(REQUEST.id)
    assert len(records.requests()) == 2
    records.engine.dispose()


class Counting:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> float:
        return self.at

    wall = now

    def sleep(self, seconds: float) -> None:
        self.at += seconds


def waited(records: DatabaseRecords, tmp_path: Path, *, first: Phase) -> tuple[bool, float]:
    """(in time, the moment when the waiting ended) of a retry at 1030 s, asked for at 1000 s."""
    records.enter(REQUEST.id, first)
    retry = replace(REQUEST, id="77777777", retries=REQUEST.id, attempt=2, begin_at=1030.0)
    records.add_retry(retry)
    clock = Counting()
    site = FakeSite(records, World.made(tmp_path / "world.json"))
    in_time = wait(replace(site.ports, clock=clock), retry)
    return in_time, clock.at


def test_it_waits_for_its_time(records: DatabaseRecords, tmp_path: Path) -> None:
    in_time, at = waited(records, tmp_path, first=Phase.FAILED)
    assert in_time
    assert at == pytest.approx(1030, abs=0.2)
    records.engine.dispose()


def test_it_waits_for_the_end_of_the_one_before_but_not_for_ever(records: DatabaseRecords, tmp_path: Path) -> None:
    in_time, at = waited(records, tmp_path, first=Phase.ROLLING_BACK)
    assert not in_time
    assert at == pytest.approx(1630, abs=1)
    records.engine.dispose()


def test_one_that_is_found_too_late_is_refused_before_anything_is_looked_at(
    records: DatabaseRecords, tmp_path: Path
) -> None:
    records.enter(REQUEST.id, Phase.FAILED)
    retry = replace(REQUEST, id="77777777", retries=REQUEST.id, attempt=2, begin_at=100.0)
    records.add_retry(retry)
    site = FakeSite(records, World.made(tmp_path / "world.json"))
    fulfilment = Fulfilment(replace(site.ports, clock=Counting()), lambda _: None)
    with pytest.raises(Refused, match="too late to be started"):
        fulfilment.wait_to_retry(retry)
    fulfilment.wait_to_retry(replace(retry, options=Options(window="02:00-04:00 UTC")))  # it waits for that
    records.engine.dispose()


def test_a_cancel_ends_the_waiting_at_once(records: DatabaseRecords, tmp_path: Path) -> None:
    records.add_retry(replace(REQUEST, id="77777777", retries=REQUEST.id))
    records.ask_cancel("77777777", "anna")
    _, at = waited(records, tmp_path, first=Phase.FAILED)
    assert at == 1000
    records.engine.dispose()


def test_who_follows_the_first_try_sees_the_last_and_ends_as_it_did(records: DatabaseRecords, tmp_path: Path) -> None:
    records.enter(REQUEST.id, Phase.PREPARING)
    records.add_retry(replace(REQUEST, id="77777777", retries=REQUEST.id, attempt=2, begin_at=1030.0, asked_at=1030.0))
    records.keep_outcome(REQUEST.id, CUT)
    records.enter(REQUEST.id, Phase.FAILED)
    records.keep_outcome("77777777", Outcome(Status.SUCCEEDED, "the guest runs at b", "b"))
    records.enter("77777777", Phase.SUCCEEDED)
    records.engine.dispose()
    followed = ferryman(tmp_path, "follow", REQUEST.id)
    assert followed.returncode == 0
    assert re.search(r"failed: cut[\s\S]*tried again as request 77777777[\s\S]*succeeded: the guest runs at b", followed.stdout)  # fmt: skip
    for one in (REQUEST.id, "77777777"):
        shown = ferryman(tmp_path, "show", one).stdout
        assert f"try 1: failed (request {REQUEST.id}" in shown
        assert "try 2: succeeded (request 77777777" in shown
    assert "2: succeeded (request 77777777, this one): the guest runs at b" in shown
