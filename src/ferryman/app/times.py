"""When a move begins and when it is given up: as typed on this machine, made to mean the same on any."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from ferryman.drivers import clock
from ferryman.errors import BadInput
from ferryman.model.request import Options
from ferryman.plan import windows

T = TypeVar("T")


def timed(options: Options, *, at: str, window: str, give_up_at: str) -> Options:
    """The options with these times, which may be empty. Raises BadInput naming the option."""
    now, zone = clock.wall(), windows.known(clock.zone())
    if at and window:
        raise BadInput("--at", "a window says already when it may begin", "leave --at or --window away")
    if give_up_at and not options.stops:
        raise BadInput(
            "--give-up-at", "a live move is put back by its timeout", "add --cold or --warm, or use --timeout"
        )
    if at:
        begins = _read("--at", lambda: windows.moment(at, now, zone), zone)
        if begins <= now:
            raise BadInput("--at", f"'{at}' is past", "name a later moment, or leave it away to begin at once")
        options = replace(options, at=windows.in_zone(begins, zone))
    if window:
        found = _read("--window", lambda: windows.parse_window(window, zone), zone)
        _read("--window", lambda: windows.opening(found, now), zone)
        options = replace(options, window=str(found))
    if give_up_at:
        options = replace(options, give_up_at=_read("--give-up-at", lambda: windows.lasting(give_up_at, zone), zone))
        begins = windows.due(options, now).opens if options.waits else now
        if windows.moment(options.give_up_at, begins, zone) <= max(begins, now):
            raise BadInput("--give-up-at", f"'{give_up_at}' is not after the beginning", "name a later moment")
    return options


_REMEDIES = {
    "--at": "such as 22:00, 2026-12-05T22:00 or 2026-12-05T22:00+01:00",
    "--window": "such as 'Sat,Sun 02:00-04:00 Europe/Berlin', 'Mon-Fri 22:00-04:00' or '02:00-04:00'",
    "--give-up-at": "such as 03:45 or 2026-12-05T03:45",
}


def _read(option: str, read: Callable[[], T], zone: str) -> T:
    try:
        return read()
    except ValueError as error:
        if not zone:
            raise BadInput(option, "this machine does not say what its time zone is", "name it behind the time, such as Europe/Berlin") from error  # fmt: skip
        raise BadInput(option, str(error), _REMEDIES[option]) from error


def begins(options: Options) -> str:
    """When a move that is asked for now begins, for people; empty: at once."""
    return windows.told(options, windows.due(options, clock.wall())) if options.waits else ""
