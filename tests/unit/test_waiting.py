"""Waiting for a moment, a window, a turn or another's job, by an injected clock; and whether what is left fits."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ferryman.drivers.database.records import open_records
from ferryman.errors import Refused
from ferryman.execute import ahead, cold, mark
from ferryman.execute import windows as waiting
from ferryman.execute.follow import TransferEnd
from ferryman.execute.request import Fulfilment
from ferryman.model.copy import CopyResult, Rate
from ferryman.model.host import Host
from ferryman.model.mark import Mark
from ferryman.model.phase import Phase
from ferryman.model.plan import Travel
from ferryman.model.request import Options, Request
from ferryman.model.site import DiskReach, Reach
from ferryman.model.units import GIB, MIB
from ferryman.plain import to_plain
from ferryman.plan.ahead import Pass
from ferryman.plan.forecast import forecast
from ferryman.plan.method import plan_for
from ferryman.ports import Ports
from tests.durability.fake_hypervisor import FakeHypervisor
from tests.durability.fakes import FakeBetween
from tests.durability.world import World
from tests.unit.sites import with_disk
from tests.unit.test_windows import at, utc

HOUR = 3600.0


class Clock:
    """Time passes by sleeping; a machine that is suspended sleeps longer than it wanted to, so long in each of its next sleeps.

    `time` is the machine's, which may be set. That of the process is steady, and is what the machine's was when it started: an hour behind.
    """

    def __init__(self, begins: str, *suspended: float) -> None:
        self.time, self.behind, self.suspended, self.slept = at(begins), HOUR, list(suspended), 0
        self.set_at, self.set_to = float("inf"), 0.0  # when somebody sets it, and to what

    def now(self) -> float:
        return self.time - self.behind

    def wall(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept += 1
        self.time += seconds + (self.suspended.pop(0) if self.suspended else 0.0)
        if self.time >= self.set_at:
            self.set(self.set_to)
            self.set_at = float("inf")

    def set(self, to: float) -> None:
        """Somebody sets the machine's clock."""
        self.behind += to - self.time
        self.time = to


@contextmanager
def a_request(directory: Path, clock: Clock, **options: Any) -> Iterator[tuple[Ports, Request]]:
    """A request in records of its own, and a guest at home; nothing else of the world is there."""
    records, home = open_records(directory), FakeHypervisor(Host("a", ""), World.made(directory / "world.json"))
    request = Request("r", "uuid", "web", "a", "b", Options(**options), "me", clock.now())
    records.add_request(request, "slot0")
    yield Ports(records, lambda _: home, None, None, clock, None), request  # type: ignore[arg-type]
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


def test_the_mark_of_a_warm_move_lasts_until_the_window_that_it_waits_for_then(tmp_path: Path) -> None:
    clock = Clock("2026-12-05T00:59:50Z", 3 * HOUR, 20.9 * HOUR)
    with a_request(tmp_path, clock, warm=True, window="Sat,Sun 02:00-04:00 Europe/Berlin") as (ports, request):
        mark.set_mark(ports, request)
        waiting.wait(ports, request)
        assert utc(clock.time) == "2026-12-06 01:00"
        borne = ports.hypervisor("a").mark("uuid")
        assert borne is not None
        assert borne.until > clock.time + request.options.timeout


def test_a_mark_of_somebody_else_is_not_prolonged(tmp_path: Path) -> None:
    clock, theirs = Clock("2026-12-05T00:59:50Z"), Mark("theirs", "them", 0.0, 1.0)
    with a_request(tmp_path, clock, warm=True, window="Sat 02:00-04:00 Europe/Berlin") as (ports, request):
        ports.hypervisor("a").set_mark("uuid", theirs)
        mark.prolong(ports, request)
        assert ports.hypervisor("a").mark("uuid") == theirs


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


@pytest.mark.parametrize(
    ("asked", "given_up"),
    [
        ("2026-03-28T12:00Z", "2026-03-29 01:00"),  # in the gap, as the opening: no time at all
        ("2026-10-24T12:00Z", "2026-10-25 00:45"),  # the first of two
    ],
)
def test_it_is_given_up_in_the_night_in_which_clocks_leap(tmp_path: Path, asked: str, given_up: str) -> None:
    clock = Clock(asked)
    options = {"cold": True, "window": "Sun 02:00-04:00 Europe/Berlin", "give_up_at": "02:45 Europe/Berlin"}
    with a_request(tmp_path, clock, **options) as (ports, request):
        waiting.wait(ports, request)
        waiting.begin(ports, request, fresh=True)
        assert utc(ports.records.facts("r")["give_up_at"]) == given_up
        clock.time = at(f"{given_up.replace(' ', 'T')}Z")
        assert waiting.stop_asked(ports, request)


def test_whose_turn_comes_late_is_given_up_at_the_same_time_as_the_others(tmp_path: Path) -> None:
    clock = Clock("2026-12-05T00:50Z")
    options = {"cold": True, "window": "Sat 02:00-04:00 Europe/Berlin", "give_up_at": "03:30 Europe/Berlin"}
    with a_request(tmp_path, clock, **options) as (ports, request):
        waiting.wait(ports, request)
        clock.time = at("2026-12-05T02:40Z")  # its turn, at 03:40
        waiting.begin(ports, request, fresh=True)
        assert waiting.stop_asked(ports, request)


def asked_for_in_the_night(ports: Ports, **options: Any) -> Request:
    """A cold move at 02:00, to be given up at 03:30; others of the same command go before it."""
    request = Request("later", "uuid", "mail", "a", "b", Options(cold=True, **options), "me", at("2026-12-05T01:00Z"))
    ports.records.add_request(request, "slot0")
    return request


def test_without_a_window_it_counts_from_when_it_was_asked_for(tmp_path: Path) -> None:
    clock = Clock("2026-12-05T02:00Z")
    with a_request(tmp_path, clock) as (ports, _):
        request = asked_for_in_the_night(ports, give_up_at="03:30 Europe/Berlin")
        Fulfilment(ports, lambda _: None).admit(request)
        assert utc(ports.records.facts("later")["give_up_at"]) == "2026-12-05 02:30"


def test_whose_turn_comes_only_after_it_is_not_moved_through_the_day(tmp_path: Path) -> None:
    clock = Clock("2026-12-05T02:30:05Z")  # the guest before it was given up at 03:30:00
    with a_request(tmp_path, clock) as (ports, _):
        request = asked_for_in_the_night(ports, give_up_at="03:30 Europe/Berlin")
        with pytest.raises(Refused, match=r"its turn came after 2026-12-05 02:30:00 UTC, when it is given up"):
            Fulfilment(ports, lambda _: None).admit(request)


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


def test_another_job_is_waited_for_until_what_is_left_would_not_fit_any_more(tmp_path: Path) -> None:
    clock = Clock("2026-12-05T00:00Z")
    with a_request(tmp_path, clock, warm=True, window="Sat 02:00-04:00 Europe/Berlin", give_up_at="03:30 Europe/Berlin") as (ports, request):  # fmt: skip
        assert waiting.waits_until(ports, request, 60.0, clock.time) == at("2026-12-05T02:59Z")
        waiting.wait(ports, request)
        waiting.begin(ports, request, fresh=True)
        assert waiting.waits_until(ports, request, 60.0, clock.time) == at("2026-12-05T02:29Z")


def test_without_an_end_of_its_time_it_is_waited_for_ten_minutes(tmp_path: Path) -> None:
    clock = Clock("2026-12-05T00:00Z")
    with a_request(tmp_path, clock, warm=True, at="2026-12-05T02:00+00:00") as (ports, request):
        assert waiting.waits_until(ports, request, 60.0, clock.time) == at("2026-12-05T02:10Z")
        ports.records.keep_facts("r", {"due_at": clock.time})
        assert waiting.waits_until(ports, request, 60.0, at("2026-12-05T02:05Z")) == at("2026-12-05T02:15Z")


def test_they_begin_in_the_order_in_which_they_came_and_who_is_cancelled_does_not_wait(tmp_path: Path) -> None:
    turn, clock, order = waiting.Turn("due_at", "it waits"), Clock("2026-12-03T00:00Z"), list[str]()
    with a_request(tmp_path, clock) as (ports, request), ExitStack() as first, ExitStack() as second:
        others = [replace(request, id=name) for name in ("second", "third")]
        for one in others:
            ports.records.add_request(one, "slot0")
        first.enter_context(turn.taken(ports, request))
        ports.records.ask_cancel("third", "somebody")
        with turn.taken(ports, others[1]):
            order.append("third")

        def waits() -> None:
            order.append("waits")
            first.close()

        second.enter_context(turn.taken(ports, others[0], waits))
        assert order == ["third", "waits"]
        assert turn._line == ["second"]
    assert turn._line == []


def test_the_clock_ends_the_waiting_for_a_turn_too(tmp_path: Path) -> None:
    turn, clock = waiting.Turn("passes", "it waits"), Clock("2026-12-03T00:00Z")
    with a_request(tmp_path, clock, warm=True, give_up_at="2026-12-03T00:10Z") as (ports, request):
        waiting.note_give_up(ports, request, clock.time)
        with turn.taken(ports, replace(request, id="other")), turn.taken(ports, request):
            assert utc(clock.time) == "2026-12-03 00:10"
        assert "--give-up-at" in ports.records.cancel_asked("r")


def test_who_waits_for_its_turn_is_told_once_and_works_at_it_meanwhile(tmp_path: Path) -> None:
    """A warm move that waits for the copies of others for longer than ten minutes is not one that was left alone."""
    turn, clock = waiting.Turn("passes", "it waits"), Clock("2026-12-03T00:00Z")
    with a_request(tmp_path, clock, warm=True, at="2026-12-05T02:00:00+01:00") as (ports, request):
        turn._line.append("other")
        looks: list[float] = []

        def look() -> None:
            looks.append(clock.time)
            waiting.note_at_work(ports, request)
            clock.time += 500.0
            if len(looks) == 3:
                turn._line.remove("other")

        with turn.taken(ports, request, look):
            assert len(looks) == 3
        waiting.note_at_work(ports, request)
        assert not ports.records.facts("r")["left_alone"]
        assert ports.records.facts("r")["at_work_since"] == looks[0]
        assert ports.records.report("r").decisions.count("it waits") == 1


def test_only_one_is_copied_ahead_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_for(with_disk(DiskReach("vda", Reach.DIFFERENT, "not seen")), Options(warm=True))
    with a_request(tmp_path, Clock("2026-12-03T00:00Z"), warm=True) as (ports, request):
        fulfilment, taken = Fulfilment(ports, lambda _: None), list[bool]()

        def copy_ahead(*_: object) -> TransferEnd:
            taken.append(fulfilment._ahead._line == ["r"])
            return TransferEnd("it stays where it is")

        monkeypatch.setattr(cold, "make_ready", lambda *_: None)
        monkeypatch.setattr(cold, "free_to_copy", lambda *_: cold.GOOD)
        monkeypatch.setattr(cold, "copy_ahead", copy_ahead)
        monkeypatch.setattr(cold, "concluded", lambda *_: (None, None))
        monkeypatch.setattr(Fulfilment, "conclude", lambda *_: None)
        fulfilment._move_stopped(request, plan)
        assert taken == [True]
        assert fulfilment._ahead._line == []


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
        assert (ports.records.facts("r").get("due_at") == clock.now()) is due_now


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
