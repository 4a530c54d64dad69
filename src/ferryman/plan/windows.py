"""When a move may begin: moments and weekly windows as people write them, in their time zone, as seconds since the epoch.

Clocks there leap twice a year. What begins in a gap begins at the gap's end; what is shown twice is meant the first time.
How long a window is open is counted in real seconds.
"""

import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

from ferryman.model.phase import Phase
from ferryman.model.request import Options, Request

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_SEARCHED = 60  # days: a window may lie in a gap, and is not open at all then

_CLOCK = r"(\d{1,2}):(\d{2})"
_WINDOW = re.compile(rf"\s*(?:([a-z][a-z,\s-]*?)[\s,]+)?{_CLOCK}\s*-\s*{_CLOCK}(?:\s+(\S+))?\s*", re.IGNORECASE)
_TIME_OF_DAY = re.compile(rf"\s*{_CLOCK}(?:\s+(\S+))?\s*")
_DATE_AND_TIME = re.compile(r"\s*(\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2})?(?:Z|[+-]\d{2}:?\d{2})?)(?:\s+(\S+))?\s*")


@dataclass(frozen=True)
class Window:
    """A time of the week. Days count from Monday, 0, and are those on which it opens."""

    days: tuple[int, ...]
    opens: time
    closes: time  # of the next day, unless it is later than `opens`
    zone: str

    def __str__(self) -> str:
        days = "" if len(self.days) == len(DAYS) else ",".join(DAYS[day] for day in self.days) + " "
        return f"{days}{self.opens:%H:%M}-{self.closes:%H:%M} {self.zone}"


@dataclass(frozen=True)
class Opening:
    """From when to when something may begin, in seconds since the epoch."""

    opens: float
    closes: float | None  # None: it stays open


def parse_window(text: str, zone: str) -> Window:
    """A window from "Sat,Sun 02:00-04:00 Europe/Berlin"; `zone`, where it names none. Raises ValueError naming what is wrong."""
    match = _WINDOW.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text}' is not a window: write days, times and a time zone")
    days, *clocks, named = match.groups()
    opens, closes = _clock(*clocks[:2]), _clock(*clocks[2:])
    return Window(_days(days) if days else tuple(range(len(DAYS))), opens, closes, _zone(named or zone).key)


def _days(text: str) -> tuple[int, ...]:
    found: set[int] = set()
    for part in re.split(r"[,\s]+", text.strip()):
        first, _, last = part.partition("-")
        begin, end = _day(first), _day(last or first)
        found |= {(begin + number) % len(DAYS) for number in range((end - begin) % len(DAYS) + 1)}
    return tuple(sorted(found))


def _day(text: str) -> int:
    names = [name for name in DAYS if text[:3].capitalize() == name]
    if not names:
        raise ValueError(f"'{text}' is no day of the week: write {', '.join(DAYS)}")
    return DAYS.index(names[0])


def _clock(hours: str, minutes: str) -> time:
    if (hours, minutes) == ("24", "00"):
        return time(0)
    try:
        return time(int(hours), int(minutes))
    except ValueError:
        raise ValueError(f"{hours}:{minutes} is no time of a day") from None


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"'{name}' is no time zone that this machine knows") from None


def known(zone: str) -> str:
    """That name, where moments can be reckoned by it; a machine may have rules of its own in place of one (TZ=CET-1CEST)."""
    try:
        return _zone(zone).key
    except ValueError:
        return ""


def opening(window: Window, now: float) -> Opening:
    """The time that it is open now, or the next one."""
    zone = _zone(window.zone)
    today = datetime.fromtimestamp(now, zone).date()
    for number in range(-2, _SEARCHED):
        day = today + timedelta(days=number)
        if day.weekday() in window.days:
            found = _of_day(window, day, zone)
            if found.closes is not None and found.opens < found.closes and found.closes > now:
                return found
    raise ValueError(f"the window {window} does not open within {_SEARCHED} days")


def _of_day(window: Window, day: date, zone: ZoneInfo) -> Opening:
    last = day if window.closes > window.opens else day + timedelta(days=1)
    return Opening(
        instant(datetime.combine(day, window.opens), zone), instant(datetime.combine(last, window.closes), zone)
    )


def moment(text: str, after: float, zone: str) -> float:
    """The moment of "2026-12-05 22:00", of the same with an offset or a zone, or of "22:00", which is the next one after
    `after`, or `after` itself where that is the end of a gap which swallows it. `zone`, where it names none. Raises ValueError naming what is wrong."""
    if match := _DATE_AND_TIME.fullmatch(text):
        try:
            read = datetime.fromisoformat(match[1])
        except ValueError as error:
            raise ValueError(f"'{text}' is no moment: {error}") from None
        if read.tzinfo is not None:
            return read.timestamp()
        return instant(read, _zone(match[2] or zone))
    if match := _TIME_OF_DAY.fullmatch(text):
        there, clock = _zone(match[3] or zone), _clock(match[1], match[2])
        today = datetime.fromtimestamp(after, there).date()
        days = (today + timedelta(days=number) for number in range(-1, _SEARCHED))
        found = (instant(datetime.combine(day, clock), there) for day in days)
        # Where `after` is a gap's end, a time within the gap is that moment, and not the one of the day after.
        return next(at for at in found if at > after or (at == after and _clocks_leap_over(clock, at, there)))
    raise ValueError(f"'{text}' is no moment: write a time of the day, or a date and a time")


def lasting(text: str, zone: str) -> str:
    """The same moment in words that mean the same on any machine; a time of the day stays one. Raises ValueError."""
    if match := _TIME_OF_DAY.fullmatch(text):
        return f"{_clock(match[1], match[2]):%H:%M} {_zone(match[3] or zone).key}"
    return in_zone(moment(text, 0.0, zone), zone)


def in_zone(at: float, zone: str) -> str:
    """A moment with its offset, such as 2026-12-05T22:00:00+01:00; in UTC where no zone is named."""
    return datetime.fromtimestamp(at, _zone(zone or "UTC")).isoformat(timespec="seconds")


def instant(local: datetime, zone: ZoneInfo) -> float:
    """When clocks there show that time: the first time of two, the end of the gap that swallows it."""
    first, second = (local.replace(tzinfo=zone, fold=fold).timestamp() for fold in (0, 1))
    return first if second >= first else _leap(zone, second, first)


def _clocks_leap_over(clock: time, at: float, zone: ZoneInfo) -> bool:
    """Whether that time of the day, which means that moment, is shown by no clock there."""
    return datetime.fromtimestamp(at, zone).time() != clock


def _leap(zone: ZoneInfo, before: float, after: float) -> float:
    """The second in which clocks there leap, between a moment before it and one after it."""
    offset = datetime.fromtimestamp(after, zone).utcoffset()
    while after - before > 1:
        middle = (before + after) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == offset:
            after = middle
        else:
            before = middle
    return after


# Of a request


def due(options: Options, now: float) -> Opening:
    """From when to when a request may begin, as it stands now."""
    if options.window:
        return opening(parse_window(options.window, ""), now)
    return Opening(datetime.fromisoformat(options.at).timestamp(), None)


def announced(request: Request, phase: Phase, *, came: bool, now: float) -> float | None:
    """The moment of which its users can be told: that of its window, unless that came, or of its next try. None: nobody knows one."""
    at = request.begin_at if phase is Phase.QUEUED else 0.0
    if request.options.waits and not came:  # also while it is copied ahead of that
        at = due(request.options, now).opens
    return at if at > now else None


def told(options: Options, found: Opening) -> str:
    """For people: "Sat 2026-12-05 02:00 CET (window Sat 02:00-04:00 Europe/Berlin)"."""
    if not options.window:
        return words(found.opens, datetime.fromisoformat(options.at).tzinfo)
    return f"{words(found.opens, _zone(parse_window(options.window, '').zone))} (window {options.window})"


def words(at: float, zone: tzinfo | None) -> str:
    """A moment for people there: "Sat 2026-12-05 22:00 CET"."""
    local = datetime.fromtimestamp(at, zone)
    return f"{DAYS[local.weekday()]} {local:%Y-%m-%d %H:%M}{f':{local:%S}' if local.second else ''} {local:%Z}".rstrip()
