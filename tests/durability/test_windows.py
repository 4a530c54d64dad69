"""A move that waits for its time: killed, cancelled, found again too late or in time; by the one that serves: test_serving.py."""

import itertools
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ferryman.drivers.database.records import open_records
from ferryman.model.outcome import Report
from ferryman.model.phase import Phase, may_follow
from ferryman.model.request import Options, Request
from ferryman.model.units import MIB
from ferryman.plain import to_json
from tests.durability.killing import MOMENTS
from tests.durability.processes import Carrying, carry
from tests.durability.test_cold import arrived, at_home
from tests.durability.world import World, change
from tests.unit.sites import UUID


def in_seconds(seconds: float) -> str:
    """A moment of --at. Waiting is 20 times as fast in the fake world."""
    return datetime.fromtimestamp(time.time() + seconds, UTC).isoformat(timespec="seconds")


def window(*, opens: float, closes: float) -> str:
    """A window around now, in minutes from now; whole minutes before now."""
    now = datetime.now(UTC).replace(second=0)
    first, last = (now + timedelta(minutes=minutes) for minutes in (opens, closes))
    return f"{first:%H:%M}-{last:%H:%M} UTC"


def asking(**options: Any) -> str:
    return f"ask:{to_json(Options(**options))}"


def told(state: Path) -> Report:
    records = open_records(state)
    (request,) = records.requests()
    report = records.report(request.id)
    records.engine.dispose()
    phases = [Phase(entry.phase) for entry in report.phases]
    for earlier, later in itertools.pairwise(phases):
        assert may_follow(earlier, later), phases
    return report


def ended(state: Path, status: str) -> Report:
    report = told(state)
    assert report.outcome is not None
    assert report.outcome.status == status, report.outcome
    records = open_records(state)
    assert records.lease(UUID) == ""
    records.engine.dispose()
    return report


def moved_once(state: Path) -> Report:
    world = World(state / "world.json").read()
    assert (world["a"], world["b"]) == (None, {"state": "running", "autostart": True})
    assert world["calls"] == 1
    return ended(state, "succeeded")


def never_begun(state: Path, status: str) -> Report:
    world = World(state / "world.json").read()
    assert world["a"] == {"state": "running", "autostart": True}
    assert (world["b"], world["calls"]) == (None, 0)
    report = ended(state, status)
    assert not report.undo
    return report


def until(seen: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not seen():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def waits(state: Path) -> bool:
    records = open_records(state)
    phases = [records.phase(one.id) for one in records.requests()]
    records.engine.dispose()
    return phases == [Phase.WAITING]


def waiting(state: Path, what: str) -> Carrying:
    """A process that waits with its request."""
    process = Carrying(state, what)
    until(lambda: waits(state), "it does not wait")
    return process


def pass_time(state: Path, **changes: str) -> None:
    """The request was asked for other times: as if it had been found again later."""
    records = open_records(state)
    (request,) = records.requests()
    from sqlalchemy import update

    from ferryman.drivers.database import schema
    from ferryman.plain import from_json

    row = to_json(request)
    content = from_json(row)
    content["options"].update(changes)
    with records.engine.begin() as connection:
        connection.execute(update(schema.requests).values(json=to_json(content)))
    records.engine.dispose()


def test_it_begins_when_its_moment_comes_and_not_before(tmp_path: Path) -> None:
    World.made(tmp_path / "world.json")
    carried = carry(tmp_path, asking(at=in_seconds(20)))
    assert carried.returncode == 0, carried.stderr
    report = moved_once(tmp_path)
    assert [entry.phase for entry in report.phases][:5] == [
        "queued",
        "preparing",
        "waiting",
        "preparing",
        "transferring",
    ]
    assert any(text.startswith("it begins at ") for text in report.decisions)


def test_within_its_window_it_begins_at_once(tmp_path: Path) -> None:
    World.made(tmp_path / "world.json")
    carry(tmp_path, asking(window=window(opens=-5, closes=20)))
    moved_once(tmp_path)


@pytest.mark.parametrize(
    ("step", "moment"), [(step, MOMENTS[n % 3]) for n, step in enumerate(("look-ahead", "wait", "begin"))]
)
def test_killed_at_each_step_of_waiting_it_begins_once(tmp_path: Path, step: str, moment: str) -> None:
    killed_and_recovered(tmp_path, f"{step}:{moment}")


@pytest.mark.whole
@pytest.mark.parametrize("step", ["look-ahead", "wait", "begin"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_each_step_of_waiting_at_every_moment(tmp_path: Path, step: str, moment: str) -> None:
    killed_and_recovered(tmp_path, f"{step}:{moment}")


def killed_and_recovered(state: Path, moment: str) -> None:
    World.made(state / "world.json")
    died = carry(state, asking(at=in_seconds(20)), moment)
    assert died.returncode == -signal.SIGKILL, (died.returncode, died.stderr)
    recovered = carry(state, "recover")
    assert recovered.returncode == 0, recovered.stderr
    moved_once(state)


def test_killed_while_it_waits_the_next_one_goes_on_waiting_and_begins_in_time(tmp_path: Path) -> None:
    World.made(tmp_path / "world.json")
    process = waiting(tmp_path, asking(at=in_seconds(60)))
    process.signal(signal.SIGKILL)
    process.ended()
    assert carry(tmp_path, "recover").returncode == 0
    assert [entry.phase for entry in moved_once(tmp_path).phases].count("waiting") == 1


def test_what_another_version_left_waiting_is_waited_for_again(tmp_path: Path) -> None:
    import sqlite3
    from contextlib import closing

    World.made(tmp_path / "world.json")
    process = waiting(tmp_path, asking(at=in_seconds(100)))
    process.signal(signal.SIGKILL)
    process.ended()
    with closing(sqlite3.connect(tmp_path / "dbos.sqlite")) as database, database:
        database.execute("UPDATE workflow_status SET application_version = 'of yesterday'")
    assert carry(tmp_path, "recover").returncode == 0
    moved_once(tmp_path)


def test_cancelled_while_it_waits_it_ends_within_two_seconds(tmp_path: Path) -> None:
    World.made(tmp_path / "world.json")
    process = waiting(tmp_path, asking(at=in_seconds(100_000)))
    records = open_records(tmp_path)
    records.ask_cancel(records.requests()[0].id, "somebody")
    records.engine.dispose()
    began = time.monotonic()
    assert process.ended().returncode == 0
    assert time.monotonic() - began < 4  # with the process' own end
    report = never_begun(tmp_path, "cancelled")
    assert report.outcome is not None
    assert "before it began" in report.outcome.reason


def test_cancelled_while_nobody_waits_the_next_one_ends_it(tmp_path: Path) -> None:
    World.made(tmp_path / "world.json")
    process = waiting(tmp_path, asking(at=in_seconds(100_000)))
    process.signal(signal.SIGKILL)
    process.ended()
    records = open_records(tmp_path)
    records.ask_cancel(records.requests()[0].id, "somebody")
    records.engine.dispose()
    assert carry(tmp_path, "recover").returncode == 0
    never_begun(tmp_path, "cancelled")


def left_waiting(state: Path, **options: str) -> None:
    """By a process that was killed."""
    World.made(state / "world.json")
    process = waiting(state, asking(**options))
    process.signal(signal.SIGKILL)
    process.ended()


def test_a_moment_that_passed_by_more_than_ten_minutes_is_given_up(tmp_path: Path) -> None:
    left_waiting(tmp_path, at=in_seconds(100_000))
    pass_time(tmp_path, at=in_seconds(-700))
    assert carry(tmp_path, "recover").returncode == 0
    report = never_begun(tmp_path, "refused")
    assert report.outcome is not None
    assert "nobody carried it out then" in report.outcome.reason
    assert "ferryman migrate web --to b" in report.outcome.remedy


def test_one_that_passed_by_less_is_begun(tmp_path: Path) -> None:
    left_waiting(tmp_path, at=in_seconds(100_000))
    pass_time(tmp_path, at=in_seconds(-300))
    assert carry(tmp_path, "recover").returncode == 0
    moved_once(tmp_path)


def test_killed_after_its_moment_and_found_days_later_it_is_not_begun(tmp_path: Path) -> None:
    """The waiting was over and stored; what was never asked of a hypervisor is not begun on another day."""
    World.made(tmp_path / "world.json")
    carry(tmp_path, asking(at=in_seconds(20)), "wait:after")
    forget(tmp_path, hours=50)
    assert carry(tmp_path, "recover").returncode == 0
    never_begun(tmp_path, "refused")


def test_killed_after_it_began_and_found_days_later_it_is_put_back(tmp_path: Path) -> None:
    World.made(tmp_path / "world.json")
    carry(tmp_path, asking(at=in_seconds(20)), "mark:after")
    forget(tmp_path, hours=50)
    assert carry(tmp_path, "recover").returncode == 0
    report = ended(tmp_path, "failed")
    assert report.outcome is not None
    assert "more than ten minutes" in report.outcome.reason
    assert World(tmp_path / "world.json").read()["calls"] == 0


def forget(state: Path, *, hours: float) -> None:
    """So long ago was what is noted of its beginning."""
    records = open_records(state)
    (request,) = records.requests()
    facts = records.facts(request.id)
    passed = {"window": {**facts["window"], "opens": facts["window"]["opens"] - hours * 3600}}
    if "due_at" in facts:
        passed["due_at"] = facts["due_at"] - hours * 3600
    records.keep_facts(request.id, passed)
    records.engine.dispose()


def test_a_window_that_passed_while_nobody_waited_is_waited_for_again_and_that_is_said(tmp_path: Path) -> None:
    left_waiting(tmp_path, window=window(opens=60, closes=70))
    records = open_records(tmp_path)
    (request,) = records.requests()
    last_week = {"opens": time.time() - 7000.0, "closes": time.time() - 6000.0}
    records.keep_facts(request.id, {"window": last_week})
    records.engine.dispose()
    process = Carrying(tmp_path, "recover")
    until(lambda: any("passed while nobody carried this out" in text for text in told(tmp_path).decisions), "not said")
    assert waits(tmp_path)
    process.signal(signal.SIGKILL)
    process.ended()
    assert World(tmp_path / "world.json").read()["calls"] == 0


def test_what_speaks_against_it_is_said_when_it_is_asked_for(tmp_path: Path) -> None:
    World.with_local_disks(tmp_path / "world.json")  # no --eject, and the destination does not have the medium's pool
    carry(tmp_path, asking(at=in_seconds(100_000), copy_storage="never"))
    assert told(tmp_path).phase == "refused"


def test_what_speaks_against_it_later_is_found_when_it_begins(tmp_path: Path) -> None:
    World.made(tmp_path / "world.json")
    process = waiting(tmp_path, asking(at=in_seconds(40)))
    change(tmp_path, local=True, medium="/srv/shared/iso")
    pass_time(tmp_path, copy_storage="never")
    process.signal(signal.SIGKILL)
    process.ended()
    carry(tmp_path, "recover")
    report = ended(tmp_path, "refused")
    assert [entry.phase for entry in report.phases][-2:] == ["preparing", "refused"]


def test_another_move_of_a_guest_that_waits_is_refused_and_told_why(tmp_path: Path) -> None:
    World.made(tmp_path / "world.json")
    process = waiting(tmp_path, asking(at=in_seconds(100_000)))
    assert carry(tmp_path, "ask").returncode == 0
    process.signal(signal.SIGKILL)
    process.ended()
    records = open_records(tmp_path)
    second, first = records.requests()
    outcome = records.report(second.id).outcome
    records.engine.dispose()
    assert outcome is not None
    assert f"{first.id} waits to move it" in outcome.reason


# Cold


COLD: dict[str, Any] = {"cold": True, "eject": True, "retire": True, "stop_timeout": 5.0}


def test_a_cold_move_that_fits_into_its_window_says_so_and_goes(tmp_path: Path) -> None:
    World.with_local_disks(tmp_path / "world.json")
    change(tmp_path, link=100 * MIB)
    carry(tmp_path, asking(**COLD, window=window(opens=-5, closes=20)))
    arrived(tmp_path)
    assert any("copying 1 GiB needs about 15.2 s at 100 MiB/s" in text for text in told(tmp_path).decisions)


@pytest.mark.parametrize(
    "times",  # from now on, which is when the test runs
    [lambda: {"window": window(opens=-5, closes=3)}, lambda: {"give_up_at": in_seconds(150)}],
    ids=["window", "give-up-at"],
)
def test_one_that_does_not_fit_is_not_stopped(tmp_path: Path, times: Callable[[], dict[str, str]]) -> None:
    World.with_local_disks(tmp_path / "world.json")
    change(tmp_path, link=1 * MIB)
    carry(tmp_path, asking(**COLD, **times()))
    report = at_home(tmp_path, "refused")
    assert report.outcome is not None
    assert "it was not stopped: copying 1 GiB needs about 17 min" in report.outcome.reason
    assert not report.undo
    assert "--window" in report.outcome.remedy


def test_what_was_never_measured_cannot_be_forecast_and_that_is_said(tmp_path: Path) -> None:
    World.with_local_disks(tmp_path / "world.json")
    carry(tmp_path, asking(**COLD, window=window(opens=-5, closes=20)))
    arrived(tmp_path)
    assert any("cannot be forecast" in text for text in told(tmp_path).decisions)


def test_the_last_copies_between_the_hosts_count_before_the_link(tmp_path: Path) -> None:
    World.with_local_disks(tmp_path / "world.json")
    change(tmp_path, link=1 * MIB)
    records = open_records(tmp_path)
    records.add_request(Request("earlier", "other", "db", "a", "b", Options(cold=True)), "slot0")
    records.enter("earlier", Phase.REFUSED)
    size = 512 * MIB
    copied = {"size": size, "read": size, "written": size, "wire": size, "sent_again": 0, "seconds": 4.0,
              "verify_seconds": 1.0, "source_digest": "", "destination_digest": "", "way": "tls"}  # fmt: skip
    records.keep_facts("earlier", {"copies": {"vda": copied}})
    records.engine.dispose()
    carry(tmp_path, asking(**COLD, window=window(opens=-5, closes=20)))
    records = open_records(tmp_path)
    report = records.report(records.requests()[0].id)
    records.engine.dispose()
    assert report.outcome is not None
    assert report.outcome.status == "succeeded", report.outcome
    assert any("at 102.4 MiB/s (as request earlier did)" in text for text in report.decisions)


def test_a_copy_that_is_not_done_at_its_time_is_put_back_and_the_guest_runs_again(tmp_path: Path) -> None:
    World.with_local_disks(tmp_path / "world.json")
    change(tmp_path, copy_lasts=True)
    give_up = in_seconds(30)
    carry(tmp_path, asking(**COLD, give_up_at=give_up))
    report = at_home(tmp_path, "cancelled")
    assert report.outcome is not None
    assert f"the clock (--give-up-at {give_up})" in report.outcome.reason
    assert 0 <= report.outcome.ended_at - datetime.fromisoformat(give_up).timestamp() < 30  # and it runs by then
    assert "stopping" in [entry.phase for entry in report.phases]


def test_a_guest_whose_turn_comes_after_its_time_is_not_begun(tmp_path: Path) -> None:
    """Others of the same command went before it, or an earlier try."""
    World.with_local_disks(tmp_path / "world.json")
    carry(tmp_path, asking(**COLD, give_up_at=in_seconds(-1)))
    report = at_home(tmp_path, "refused")
    assert report.outcome is not None
    assert "its turn came after" in report.outcome.reason
    assert [entry.phase for entry in report.phases] == ["queued", "refused"]


def test_a_window_that_closes_while_hooks_are_waited_for_stops_nothing(tmp_path: Path) -> None:
    World.with_local_disks(tmp_path / "world.json")
    dead = {"ended": "failed", "words": "connection refused", "again": True}
    hook = {"name": "chat", "on": ["before-stop"], "webhook": "https://chat.example.net/", "tries": 10}  # five minutes
    change(tmp_path, link=100 * MIB, hooks=[hook], answers={"chat": [dead] * 10})
    carry(tmp_path, asking(**COLD, window=window(opens=-5, closes=3)))
    report = at_home(tmp_path, "failed")
    assert report.outcome is not None
    assert "it was not stopped: it needs about 15.2 s, and by now there are 0" in report.outcome.reason
    assert "stopping" not in [entry.phase for entry in report.phases]


def test_killed_while_it_copies_and_found_after_its_time_it_is_put_back(tmp_path: Path) -> None:
    World.with_local_disks(tmp_path / "world.json")
    died = carry(tmp_path, asking(**COLD, give_up_at=in_seconds(7200)), "hold:after")
    assert died.returncode == -signal.SIGKILL
    records = open_records(tmp_path)
    records.keep_facts(records.requests()[0].id, {"give_up_at": time.time() - 1})
    records.engine.dispose()
    assert carry(tmp_path, "recover").returncode == 0
    at_home(tmp_path, "cancelled")


def test_a_command_does_not_end_before_what_it_took_in_hand_beside_its_own_moves(tmp_path: Path) -> None:
    """It would leave a guest that stands still, and nobody would know."""
    World.with_local_disks(tmp_path / "world.json")
    assert carry(tmp_path, "ask-cold", "copy-disks:before").returncode == -signal.SIGKILL
    ended = carry(tmp_path, "ask-none")
    assert "left by an earlier process, is carried on here" in ended.stderr
    arrived(tmp_path)
