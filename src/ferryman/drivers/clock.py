"""This process' clock: the wall's time when it started, and from then on what has passed.

A machine's clock may be set, by hours and backwards, under a move. Durations and the order of what was noted must not
follow it: a timeout would be over at once, or never.
"""

import os
import time
from pathlib import Path

_BEGAN, _BEGAN_STEADY = time.time(), time.monotonic()


def now() -> float:
    """Seconds since the epoch; never backwards, and never a leap, within one process."""
    return _BEGAN + time.monotonic() - _BEGAN_STEADY


def wall() -> float:
    """The machine's clock as it stands, in seconds since the epoch; it may have been set since."""
    return time.time()


class SteadyClock:
    """Implements ports.Clock."""

    def now(self) -> float:
        return now()

    def wall(self) -> float:
        return wall()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def zone() -> str:
    """This machine's time zone by its name, such as Europe/Berlin; empty when nothing here names it."""
    if named := os.environ.get("TZ", "").removeprefix(":"):
        return named
    link = Path("/etc/localtime")
    if link.is_symlink() and "/zoneinfo/" in (place := str(link.readlink())):
        return place.partition("/zoneinfo/")[2]
    name = Path("/etc/timezone")
    return name.read_text().strip() if name.is_file() else "" if link.exists() else "UTC"
