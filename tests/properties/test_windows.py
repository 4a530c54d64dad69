"""Laws of windows, in any zone and at any time."""

from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from ferryman.plan.windows import Window, instant, moment, opening, parse_window

# Leaps of an hour and of half an hour, at midnight, over a whole day, and none.
ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Havana",
    "Pacific/Apia",
    "Asia/Kolkata",
    "UTC",
)
zones = st.sampled_from(ZONES)
clocks = st.builds(time, st.integers(0, 23), st.integers(0, 59))
moments = st.integers(0, 4_102_444_800).map(float)  # 1970 to 2100
windows = st.builds(
    Window, st.sets(st.integers(0, 6), min_size=1).map(lambda days: tuple(sorted(days))), clocks, clocks, zones
)
DAY = 86_400.0


@given(windows)
def test_what_is_told_of_a_window_is_read_as_the_same(window: Window) -> None:
    assert parse_window(str(window), "UTC") == window


@given(windows, moments)
def test_a_window_is_open_or_opens_and_then_closes(window: Window, now: float) -> None:
    found = opening(window, now)
    assert found.closes is not None
    assert found.opens < found.closes
    assert now < found.closes
    assert found.closes - found.opens <= 2 * DAY + 3600  # a day may be left out, or be 25 hours long
    assert opening(window, found.opens) == found or found.opens < now


@given(windows, moments)
def test_it_opens_at_its_time_by_the_clocks_there_unless_they_leap_over_it(window: Window, now: float) -> None:
    local = datetime.fromtimestamp(opening(window, now).opens, ZoneInfo(window.zone))
    if local.time() == window.opens:
        assert local.weekday() in window.days
        assert local.fold == 0
        return
    second_before = datetime.fromtimestamp(local.timestamp() - 1, ZoneInfo(window.zone))
    assert second_before.utcoffset() != local.utcoffset()
    assert second_before.replace(tzinfo=None) < local.replace(tzinfo=None, hour=window.opens.hour, minute=window.opens.minute) or local.date() != second_before.date()  # fmt: skip


@given(windows, moments, st.floats(0, 30 * DAY))
def test_later_it_opens_no_earlier(window: Window, now: float, passed: float) -> None:
    assert opening(window, now + passed).opens >= opening(window, now).opens


@given(st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)), st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)), zones)  # fmt: skip
def test_what_clocks_show_later_is_not_earlier(one: datetime, other: datetime, zone: str) -> None:
    earlier, later = sorted((one.replace(microsecond=0), other.replace(microsecond=0)))
    assert instant(earlier, ZoneInfo(zone)) <= instant(later, ZoneInfo(zone))


@given(moments, zones)
def test_any_moment_that_is_shown_once_is_found_again(at: float, zone: str) -> None:
    local = datetime.fromtimestamp(at, ZoneInfo(zone))
    found = instant(local.replace(tzinfo=None), ZoneInfo(zone))
    assert found == at if local.fold == 0 else found < at


@given(clocks, moments, zones)
def test_a_time_of_the_day_is_the_next_one(clock: time, now: float, zone: str) -> None:
    found = moment(f"{clock:%H:%M}", now, zone)
    assert now < found <= now + 2 * DAY + 3600
    assert moment(datetime.fromtimestamp(found, UTC).isoformat(), 0.0, zone) == found
