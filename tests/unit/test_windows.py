"""Moments and windows as they are written, and where clocks leap."""

from datetime import UTC, datetime

import pytest

from ferryman.app import times
from ferryman.drivers import clock
from ferryman.errors import BadInput
from ferryman.model.request import Options
from ferryman.plan.windows import due, lasting, moment, opening, parse_window, told, words

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
        # Clocks leap from 02:00 to 03:00: a time in between is the gap's end, also for what begins in that second.
        ("02:45", "2026-03-29T00:59:59Z", "2026-03-29 01:00"),
        ("02:45", "2026-03-29T01:00Z", "2026-03-29 01:00"),
        ("02:45", "2026-03-29T01:00:01Z", "2026-03-30 00:45"),
        ("03:00", "2026-03-29T01:00Z", "2026-03-30 01:00"),  # no clock leaps over that one: it is now
        ("03:30", "2026-03-29T01:00Z", "2026-03-29 01:30"),
        # Clocks go back from 03:00 to 02:00: 02:30 is the first of two, and has passed while the second one comes.
        ("02:30", "2026-10-25T00:00Z", "2026-10-25 00:30"),
        ("02:30", "2026-10-25T00:30Z", "2026-10-26 01:30"),
        ("02:30", "2026-10-25T00:45Z", "2026-10-26 01:30"),
        ("03:30", "2026-10-25T00:45Z", "2026-10-25 02:30"),
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


def test_in_the_night_in_which_clocks_leap_over_all_of_it_there_is_no_time_to_move(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It opens at the gap's end, and would be given up in that second: not a day later."""
    monkeypatch.setattr(clock, "wall", lambda: at("2026-03-28T12:00Z"))
    with pytest.raises(BadInput, match="not after the beginning"):
        times.timed(Options(cold=True), at="", window="Sun 02:00-04:00 Europe/Berlin", give_up_at="02:45 Europe/Berlin")


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


def test_the_zone_of_this_machine_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", ":Europe/Berlin")
    assert clock.zone() == BERLIN
    monkeypatch.delenv("TZ")
    assert clock.zone()
