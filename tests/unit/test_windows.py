"""Moments and windows as they are written, where clocks leap, and whether a copy fits."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ferryman.app import times
from ferryman.drivers import clock
from ferryman.drivers.database.records import open_records
from ferryman.errors import BadInput, Refused
from ferryman.execute import ahead
from ferryman.execute import windows as waiting
from ferryman.execute.request import Fulfilment
from ferryman.model.copy import CopyResult
from ferryman.model.phase import Phase
from ferryman.model.plan import Travel
from ferryman.model.request import Options, Request
from ferryman.model.site import DiskReach, Reach
from ferryman.model.units import GIB, MIB
from ferryman.plain import to_plain
from ferryman.plan.ahead import Pass
from ferryman.plan.forecast import Rate, forecast
from ferryman.plan.method import plan_for
from ferryman.plan.windows import due, lasting, moment, opening, parse_window, told, words
from ferryman.ports import Ports
from tests.durability.fakes import FakeBetween, World
from tests.unit.sites import with_disk

BERLIN = "Europe/Berlin"


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def utc(seconds: float | None) -> str:
    assert seconds is not None
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("Sat 02:00-04:00 Europe/Berlin", "Sat 02:00-04:00 Europe/Berlin"),
        ("02:00-04:00", "02:00-04:00 Europe/Berlin"),
        ("sat,sun 02:00-04:00 UTC", "Sat,Sun 02:00-04:00 UTC"),
        ("Saturday, Sunday  2:00 - 4:00", "Sat,Sun 02:00-04:00 Europe/Berlin"),
        ("Mon-Fri 22:00-24:00", "Mon,Tue,Wed,Thu,Fri 22:00-00:00 Europe/Berlin"),
        ("Fri-Mon 22:00-06:00", "Mon,Fri,Sat,Sun 22:00-06:00 Europe/Berlin"),
        ("Mon-Sun 22:00-06:00", "22:00-06:00 Europe/Berlin"),
    ],
)
def test_a_window_is_read_as_people_write_it(text: str, meant: str) -> None:
    assert str(parse_window(text, BERLIN)) == meant


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("at night", "is not a window"),
        ("Sat 02:00", "is not a window"),
        ("Sam 02:00-04:00", "'Sam' is no day of the week"),
        ("Sat 25:00-26:00", "25:00 is no time of a day"),
        ("Sat 02:00-04:60", "04:60 is no time of a day"),
        ("Sat 02:00-04:00 Europe/Berln", "'Europe/Berln' is no time zone"),
        ("Sat 02:00-04:00 Europe", "'Europe' is no time zone"),
        ("Sat 02:00-04:00 ../../etc/passwd", "is no time zone"),
    ],
)
def test_what_is_wrong_with_one_is_named(text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        parse_window(text, BERLIN)


@pytest.mark.parametrize(
    ("window", "now", "opens", "closes"),
    [
        # Winter: an hour ahead of UTC. Before it, inside it, at its last second, after it.
        ("Sat 02:00-04:00", "2026-12-03T00:00Z", "2026-12-05 01:00", "2026-12-05 03:00"),
        ("Sat 02:00-04:00", "2026-12-05T02:00Z", "2026-12-05 01:00", "2026-12-05 03:00"),
        ("Sat 02:00-04:00", "2026-12-05T02:59:59Z", "2026-12-05 01:00", "2026-12-05 03:00"),
        ("Sat 02:00-04:00", "2026-12-05T03:00Z", "2026-12-12 01:00", "2026-12-12 03:00"),
        # It crosses midnight: on Sunday morning Saturday's is open still.
        ("Sat 22:00-04:00", "2026-12-06T02:00Z", "2026-12-05 21:00", "2026-12-06 03:00"),
        ("Sat 22:00-04:00", "2026-12-05T02:00Z", "2026-12-05 21:00", "2026-12-06 03:00"),
        # A whole day.
        ("Sat 00:00-24:00", "2026-12-05T12:00Z", "2026-12-04 23:00", "2026-12-05 23:00"),
        # Clocks leap from 02:00 to 03:00: it opens at the gap's end, and is open for one real hour.
        ("Sun 02:00-04:00", "2026-03-28T00:00Z", "2026-03-29 01:00", "2026-03-29 02:00"),
        ("Sun 02:30-04:00", "2026-03-28T00:00Z", "2026-03-29 01:00", "2026-03-29 02:00"),
        # It lies in the gap altogether: not open on that day.
        ("Sun 02:10-02:50", "2026-03-28T00:00Z", "2026-04-05 00:10", "2026-04-05 00:50"),
        # It closes in the gap.
        ("Sun 01:00-02:30", "2026-03-28T00:00Z", "2026-03-29 00:00", "2026-03-29 01:00"),
        # Clocks go back from 03:00 to 02:00: the first 02:00, and three real hours.
        ("Sun 02:00-04:00", "2026-10-24T00:00Z", "2026-10-25 00:00", "2026-10-25 03:00"),
        ("Sun 02:30-02:45", "2026-10-24T00:00Z", "2026-10-25 00:30", "2026-10-25 00:45"),
        # After the first 02:30 has passed, the second one is none.
        ("Sun 02:30-02:45", "2026-10-25T01:35Z", "2026-11-01 01:30", "2026-11-01 01:45"),
    ],
)  # fmt: skip
def test_when_a_window_is_open(window: str, now: str, opens: str, closes: str) -> None:
    found = opening(parse_window(window, BERLIN), at(now))
    assert (utc(found.opens), utc(found.closes)) == (opens, closes)


def test_a_day_that_a_country_left_out_has_no_window() -> None:
    """Samoa crossed the date line: after Thursday the 29th came Saturday the 31st."""
    found = opening(parse_window("Fri 02:00-04:00 Pacific/Apia", ""), at("2011-12-28T00:00Z"))
    assert words(found.opens, None) == words(at("2012-01-05T12:00Z"), None)


@pytest.mark.parametrize(
    ("text", "now", "meant"),
    [
        ("22:00", "2026-12-05T12:00Z", "2026-12-05 21:00"),
        ("22:00", "2026-12-05T21:00Z", "2026-12-06 21:00"),  # the next one: that one is now
        ("22:00 UTC", "2026-12-05T21:30Z", "2026-12-05 22:00"),
        ("2026-12-24T22:00", "2026-12-05T12:00Z", "2026-12-24 21:00"),
        ("2026-12-24 22:00", "2026-12-05T12:00Z", "2026-12-24 21:00"),
        ("2026-12-24T22:00Z", "2026-12-05T12:00Z", "2026-12-24 22:00"),
        ("2026-12-24T22:00:00-05:00", "2026-12-05T12:00Z", "2026-12-25 03:00"),
        ("2026-12-24T22:00 America/New_York", "2026-12-05T12:00Z", "2026-12-25 03:00"),
        ("2026-03-29T02:30", "2026-03-01T00:00Z", "2026-03-29 01:00"),  # in the gap: its end
        ("2026-10-25T02:30", "2026-10-01T00:00Z", "2026-10-25 00:30"),  # twice: the first
    ],
)
def test_a_moment_is_read_as_people_write_it(text: str, now: str, meant: str) -> None:
    assert utc(moment(text, at(now), BERLIN)) == meant


@pytest.mark.parametrize("text", ["tomorrow", "2026-12-24", "2026-13-24T22:00", "24:30", "22:00 Europe/Berln"])
def test_what_is_no_moment_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no (moment|time)"):
        moment(text, 0.0, BERLIN)


def test_what_lasts_means_the_same_in_another_zone() -> None:
    assert lasting("03:45", BERLIN) == "03:45 Europe/Berlin"
    assert lasting("2026-12-05 22:00", BERLIN) == "2026-12-05T22:00:00+01:00"


def test_people_are_told_the_time_of_the_zone_that_they_named() -> None:
    options = Options(window="Sat 02:00-04:00 Europe/Berlin")
    assert told(options, due(options, at("2026-12-03T00:00Z"))) == "Sat 2026-12-05 02:00 CET (window Sat 02:00-04:00 Europe/Berlin)"  # fmt: skip
    options = Options(at="2026-12-05T22:00:00+01:00")
    assert told(options, due(options, 0.0)) == "Sat 2026-12-05 22:00 UTC+01:00"


# What is typed


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", BERLIN)
    monkeypatch.setattr(clock, "wall", lambda: at("2026-12-05T12:00Z"))


@pytest.mark.usefixtures("here")
def test_what_is_typed_is_kept_so_that_it_means_the_same_on_any_machine() -> None:
    assert times.timed(Options(), at="22:00", window="", give_up_at="").at == "2026-12-05T22:00:00+01:00"
    assert times.timed(Options(), at="", window="02:00-04:00", give_up_at="").window == "02:00-04:00 Europe/Berlin"
    timed = times.timed(Options(cold=True), at="22:00", window="", give_up_at="03:45")
    assert timed.give_up_at == "03:45 Europe/Berlin"
    assert times.begins(timed) == "Sat 2026-12-05 22:00 UTC+01:00"


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("typed", "cold", "why"),
    [
        ({"at": "22:00", "window": "02:00-04:00"}, False, "leave --at or --window away"),
        ({"at": "2026-12-05T12:00"}, False, "is past"),
        ({"at": "tonight"}, False, "is no moment"),
        ({"window": "tonight"}, False, "is not a window"),
        ({"give_up_at": "03:45"}, False, "add --cold"),
        ({"at": "22:00", "give_up_at": "2026-12-05T21:00"}, True, "not after the beginning"),
        (
            {"window": "12:30-18:00", "give_up_at": "12:45"},
            True,
            "not after the beginning",
        ),  # open since 12:30, and it is 13:00
    ],
)
def test_times_that_make_no_sense_are_refused(typed: dict[str, str], cold: bool, why: str) -> None:
    given = {"at": "", "window": "", "give_up_at": ""} | typed
    with pytest.raises(BadInput) as refused:
        times.timed(Options(cold=cold), **given)
    assert why in str(refused.value)
    assert refused.value.remedy


UNNAMED = pytest.mark.parametrize("zone", ["", "CET-1CEST"])


@UNNAMED
def test_a_machine_that_does_not_name_its_zone_must_be_told(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    monkeypatch.setattr(clock, "zone", lambda: zone)
    with pytest.raises(BadInput, match="does not say what its time zone is"):
        times.timed(Options(), at="22:00", window="", give_up_at="")
    assert times.timed(Options(), at="", window="02:00-04:00 UTC", give_up_at="").window == "02:00-04:00 UTC"


@UNNAMED
def test_what_names_its_own_zone_is_understood_there_too(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    monkeypatch.setattr(clock, "zone", lambda: zone)
    monkeypatch.setattr(clock, "wall", lambda: at("2026-12-05T12:00Z"))
    timed = times.timed(Options(cold=True), at="22:00 Europe/Berlin", window="", give_up_at="2026-12-06T01:00+01:00")
    assert (timed.at, timed.give_up_at) == ("2026-12-05T21:00:00+00:00", "2026-12-06T00:00:00+00:00")


# Waiting, by an injected clock


HOUR = 3600.0


class Clock:
    """Time passes by sleeping; a machine that is suspended sleeps longer than it wanted to, so long in each of its next sleeps."""

    def __init__(self, begins: str, *suspended: float) -> None:
        self.time, self.suspended, self.slept = at(begins), list(suspended), 0
        self.set_at, self.set_to = float("inf"), 0.0  # when somebody sets it, and to what

    def now(self) -> float:
        return self.time

    wall = now

    def sleep(self, seconds: float) -> None:
        self.slept += 1
        self.time += seconds + (self.suspended.pop(0) if self.suspended else 0.0)
        if self.time >= self.set_at:
            self.time, self.set_at = self.set_to, float("inf")


@contextmanager
def a_request(directory: Path, clock: Clock, **options: Any) -> Iterator[tuple[Ports, Request]]:
    """A request in records of its own; nothing else of the world is there."""
    records = open_records(directory)
    request = Request("r", "uuid", "web", "a", "b", Options(**options), "me", clock.time)
    records.add_request(request, "slot0")
    yield Ports(records, None, None, None, clock, None), request  # type: ignore[arg-type]
    records.engine.dispose()


@pytest.mark.parametrize(
    ("window", "asked", "begins"),
    [
        ("Sun 02:30-04:00 Europe/Berlin", "2026-03-29T00:50Z", "2026-03-29 01:00"),  # the gap's end
        ("Sun 02:30-04:00 Europe/Berlin", "2026-10-25T00:20Z", "2026-10-25 00:30"),  # the first of two
        ("Sun 02:30-04:00 Europe/Berlin", "2026-10-25T01:20Z", "2026-10-25 01:20"),  # open: since the first
    ],
)
def test_it_waits_through_a_night_in_which_clocks_leap(tmp_path: Path, window: str, asked: str, begins: str) -> None:
    clock = Clock(asked)
    with a_request(tmp_path, clock, window=window) as (ports, request):
        waiting.wait(ports, request)
        assert utc(clock.time) == begins
        assert waiting.begin(ports, request, fresh=True)
        assert ports.records.phase("r") is Phase.PREPARING


def test_a_machine_that_slept_through_the_window_waits_for_the_next(tmp_path: Path) -> None:
    clock = Clock("2026-12-05T00:59:50Z", 3 * HOUR, 20.9 * HOUR)
    with a_request(tmp_path, clock, window="Sat,Sun 02:00-04:00 Europe/Berlin") as (ports, request):
        waiting.wait(ports, request)
        assert utc(clock.time) == "2026-12-06 01:00"
        assert any("passed while nobody carried this out" in text for text in ports.records.report("r").decisions)


def test_a_clock_that_was_days_ahead_and_is_set_right_misses_no_window(tmp_path: Path) -> None:
    clock = Clock("2026-12-05T20:00Z")
    clock.set_at, clock.set_to = at("2026-12-05T21:00Z"), at("2026-12-03T21:00Z")
    with a_request(tmp_path, clock, window="Thu-Fri 23:00-24:00 Europe/Berlin") as (ports, request):
        waiting.wait(ports, request)
        assert utc(clock.time) == "2026-12-03 22:00"
        assert not any("passed while nobody" in text for text in ports.records.report("r").decisions)


def test_a_clock_that_is_set_forward_into_the_window_opens_it(tmp_path: Path) -> None:
    clock = Clock("2026-12-03T20:00Z")
    clock.set_at, clock.set_to = at("2026-12-03T21:00Z"), at("2026-12-05T01:30Z")
    with a_request(tmp_path, clock, window="Sat 02:00-04:00 Europe/Berlin") as (ports, request):
        waiting.wait(ports, request)
        assert utc(clock.time) == "2026-12-05 01:30"


def test_a_machine_that_slept_through_the_moment_does_not_begin_in_the_morning(tmp_path: Path) -> None:
    clock = Clock("2026-12-05T00:59:50Z", 3 * HOUR)
    with (
        a_request(tmp_path, clock, at="2026-12-05T02:00:00+01:00") as (ports, request),
        pytest.raises(Refused, match="nobody carried it out then"),
    ):
        waiting.wait(ports, request)


def test_whose_turn_comes_after_the_window_closed_waits_for_the_next(tmp_path: Path) -> None:
    clock = Clock("2026-12-05T02:00Z")
    with a_request(tmp_path, clock, window="Sat,Sun 02:00-04:00 Europe/Berlin") as (ports, request):
        waiting.wait(ports, request)
        clock.time += HOUR
        clock.suspended = [21.9 * HOUR]
        assert not waiting.begin(ports, request, fresh=True)
        waiting.wait(ports, request)
        assert utc(clock.time) == "2026-12-06 01:00"
        assert "its turn did not come before the window closed" in ports.records.report("r").decisions


def test_whose_turn_comes_late_at_a_moment_goes_all_the_same(tmp_path: Path) -> None:
    """Guests of one command go one after another; only what was found again is too late."""
    clock = Clock("2026-12-05T00:59Z")
    with a_request(tmp_path, clock, at="2026-12-05T02:00:00+01:00") as (ports, request):
        waiting.wait(ports, request)
        clock.time += 3600
        with pytest.raises(Refused, match="nobody carried it out then"):
            waiting.begin(ports, request, fresh=False)
        assert waiting.begin(ports, request, fresh=True)


def test_who_has_waited_for_its_moment_and_was_found_again_before_goes_late_all_the_same(tmp_path: Path) -> None:
    """As what was handed over to the one that serves, which has not asked for it itself."""
    clock = Clock("2026-12-05T00:59Z")
    with a_request(tmp_path, clock, at="2026-12-05T02:00:00+01:00") as (ports, request):
        fulfilment = Fulfilment(ports, lambda _: None)
        fulfilment.wait(request)
        clock.time += 3600
        assert fulfilment._begin(request)


def test_what_was_copied_ahead_through_its_moment_has_not_missed_it(tmp_path: Path) -> None:
    clock = Clock("2026-12-05T03:00Z")
    with a_request(tmp_path, clock, warm=True, at="2026-12-05T02:00:00+01:00") as (ports, request):
        ports.records.keep_facts("r", {"at_work_since": at("2026-12-04T20:00Z"), "at_work_at": at("2026-12-05T02:59Z")})
        waiting.wait(ports, request)
        assert waiting.begin(ports, request, fresh=False)


def test_what_was_copied_long_before_its_moment_may_miss_it(tmp_path: Path) -> None:
    """It waited for hours, and nobody waited any more when its moment came."""
    clock = Clock("2026-12-05T08:00Z")
    with a_request(tmp_path, clock, warm=True, at="2026-12-05T02:00:00+01:00") as (ports, request):
        ports.records.keep_facts("r", {"at_work_since": at("2026-12-04T20:00Z"), "at_work_at": at("2026-12-04T21:00Z")})
        with pytest.raises(Refused, match="nobody carried it out then"):
            waiting.wait(ports, request)


def test_cancel_is_seen_within_a_second(tmp_path: Path) -> None:
    clock = Clock("2026-12-05T00:00Z")
    with a_request(tmp_path, clock, window="Sat 02:00-04:00 Europe/Berlin") as (ports, request):
        ports.records.ask_cancel("r", "somebody")
        waiting.wait(ports, request)
        assert clock.time - at("2026-12-05T00:00Z") <= 1.0
        with pytest.raises(Refused, match="cancelled before it began"):
            waiting.begin(ports, request, fresh=True)


def test_the_time_of_day_at_which_it_is_given_up_is_the_next_one_after_it_began(tmp_path: Path) -> None:
    clock = Clock("2026-12-03T00:00Z", 48.9 * HOUR)  # from Thursday on
    options = {"cold": True, "window": "Sat 02:00-04:00 Europe/Berlin", "give_up_at": "03:45 Europe/Berlin"}
    with a_request(tmp_path, clock, **options) as (ports, request):
        waiting.wait(ports, request)
        waiting.begin(ports, request, fresh=True)
        assert utc(ports.records.facts("r")["give_up_at"]) == "2026-12-05 02:45"
        clock.time = at("2026-12-05T02:44:59Z")
        assert not waiting.stop_asked(ports, request)
        clock.time += 1
        assert waiting.stop_asked(ports, request) == "the clock (--give-up-at 03:45 Europe/Berlin)"


def test_whose_turn_comes_late_is_given_up_at_the_same_time_as_the_others(tmp_path: Path) -> None:
    clock = Clock("2026-12-05T00:50Z")
    options = {"cold": True, "window": "Sat 02:00-04:00 Europe/Berlin", "give_up_at": "03:30 Europe/Berlin"}
    with a_request(tmp_path, clock, **options) as (ports, request):
        waiting.wait(ports, request)
        clock.time = at("2026-12-05T02:40Z")  # its turn, at 03:40
        waiting.begin(ports, request, fresh=True)
        assert waiting.stop_asked(ports, request)


def test_what_has_less_time_left_than_was_foreseen_is_not_stopped(tmp_path: Path) -> None:
    clock = Clock("2026-12-05T02:50Z")
    with a_request(tmp_path, clock, cold=True, window="Sat 02:00-04:00 Europe/Berlin") as (ports, request):
        waiting.wait(ports, request)
        waiting.begin(ports, request, fresh=True)
        assert waiting.too_late(ports, request) == ""
        waiting.heed(ports, request, forecast(GIB, Rate(10 * MIB, "so"), 600.0, besides=5.0), "less")
        assert waiting.too_late(ports, request) == ""
        clock.time = at("2026-12-05T02:59Z")
        assert "it needs about 1 min 47 s" in waiting.too_late(ports, request)
        ports.records.keep_facts("r", {"needs": 0.0})
        assert waiting.too_late(ports, request) == ""
        clock.time = at("2026-12-05T03:00Z")
        assert waiting.too_late(ports, request)


def test_one_after_another_begins_and_who_is_cancelled_does_not_wait_for_its_turn(tmp_path: Path) -> None:
    turn = waiting.Turn()
    with a_request(tmp_path, Clock("2026-12-03T00:00Z")) as (ports, request):
        with turn.taken(ports, request):
            assert not turn._lock.acquire(blocking=False)
            ports.records.ask_cancel("r", "somebody")
            with turn.taken(ports, request):
                pass
            assert turn._lock.locked()
        assert not turn._lock.locked()


# Whether it fits


def test_what_fits_and_what_does_not() -> None:
    link = Rate(100 * MIB, "as the link was measured just now")
    assert forecast(10 * GIB, link, 120.0, besides=5.0).fits
    assert not forecast(10 * GIB, link, 100.0, besides=5.0).fits
    assert not forecast(10 * GIB, link, 120.0, besides=60.0).fits
    assert not forecast(10 * GIB, link, 120.0, besides=5.0, limit=50 * MIB).fits
    assert forecast(10 * GIB, link, 120.0, besides=5.0, limit=500 * MIB).fits
    assert not forecast(1, link, -1.0, besides=5.0).fits
    assert forecast(10 * GIB, None, 1.0, besides=5.0).fits
    assert "cannot be forecast" in forecast(10 * GIB, None, 1.0, besides=5.0).reason


def over_a_slow_link(ports: Ports, directory: Path) -> Ports:
    slow = FakeBetween(World.made(directory / "world.json", link=MIB))
    return replace(ports, hypervisor=lambda _: None, between=slow)  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize(("gibibytes", "fits"), [(0, True), (1, False)])
def test_what_is_copied_after_the_stop_counts_beside_what_the_last_pass_left(
    tmp_path: Path, gibibytes: int, fits: bool
) -> None:
    clock = Clock("2026-12-05T02:50Z")
    plan = plan_for(with_disk(DiskReach("vda", Reach.DIFFERENT, "not seen")), Options(warm=True))
    late = replace(plan.new_disks[0], target="vdb", travel=Travel.FILE, allocation=gibibytes * GIB)
    plan = replace(plan, new_disks=(*plan.new_disks, late))
    with a_request(tmp_path, clock, warm=True, window="Sat 02:00-04:00 Europe/Berlin") as (ports, request):
        ports.records.keep_facts("r", {"passes": [to_plain(Pass(1, "m", "", complete=True, seconds=2.0))]})
        waiting.wait(ports, request)
        with nullcontext() if fits else pytest.raises(Refused, match="it was not stopped: copying 1 GiB"):
            ahead.foresee(over_a_slow_link(ports, tmp_path), request, plan)


@pytest.mark.parametrize(
    ("waited", "alone", "options", "due_now"),
    [
        (True, False, {"at": "2026-12-05T02:00:00+01:00"}, True),
        (True, True, {"at": "2026-12-05T02:00:00+01:00"}, False),
        (True, True, {"window": "Sat 02:00-04:00 Europe/Berlin"}, True),
        (False, False, {"window": "Sat 02:00-04:00 Europe/Berlin"}, False),
        (False, False, {}, True),
    ],
)
def test_a_stop_is_due_once_the_rest_is_copied_and_its_time_has_come(
    tmp_path: Path, waited: bool, alone: bool, options: dict[str, str], due_now: bool
) -> None:
    """Else a last pass of more than ten minutes would end a move that another process had begun."""
    clock = Clock("2026-12-05T02:50Z")
    with a_request(tmp_path, clock, warm=True, **options) as (ports, request):
        ports.records.keep_facts("r", {"left_alone": alone} | ({"due_at": 1.0} if waited else {}))
        ahead._note_due(ports, request)
        assert (ports.records.facts("r").get("due_at") == clock.time) is due_now


def test_how_fast_a_warm_move_looked_through_its_disks_says_nothing_of_the_link(tmp_path: Path) -> None:
    clock = Clock("2026-12-05T02:50Z")
    copied = to_plain(CopyResult(GIB, GIB, MIB, MIB, 0, 1.0, 0.0, "", "", "tls"))
    with a_request(tmp_path, clock, cold=True) as (ports, request):
        for name, options in (("warm", Options(warm=True)), ("cold", Options(cold=True))):
            ports.records.add_request(Request(name, name, name, "a", "b", options, "me", clock.time), "slot0")
            ports.records.keep_facts(name, {"copies": {"vda": copied}})
            measured = waiting.measured(over_a_slow_link(ports, tmp_path), request)
            assert measured is not None
            assert measured.rate == (MIB if name == "warm" else GIB)


def test_the_zone_of_this_machine_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", ":Europe/Berlin")
    assert clock.zone() == BERLIN
    monkeypatch.delenv("TZ")
    assert clock.zone()
