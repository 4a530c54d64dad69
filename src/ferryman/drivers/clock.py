"""This process' clock: the wall's time when it started, and from then on what has passed.

A machine's clock may be set, by hours and backwards, under a move. Durations and the order of what was noted must not
follow it: a timeout would be over at once, or never.
"""

import time

_BEGAN, _BEGAN_STEADY = time.time(), time.monotonic()


def now() -> float:
    """Seconds since the epoch; never backwards, and never a leap, within one process."""
    return _BEGAN + time.monotonic() - _BEGAN_STEADY


class SteadyClock:
    """Implements ports.Clock."""

    def now(self) -> float:
        return now()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
