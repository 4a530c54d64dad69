"""How long the disks of a stopped guest take, from what was measured, and whether that fits into the time there is."""

from dataclasses import dataclass

from ferryman.model.copy import Rate
from ferryman.model.units import format_duration, format_size


@dataclass(frozen=True)
class Forecast:
    """Whether it fits, as far as can be said, and the sentence that says so."""

    fits: bool
    reason: str
    needed: float = 0.0  # seconds; 0: nobody knows


def forecast(size: int, rate: Rate | None, rest: float, *, besides: float, limit: int = 0) -> Forecast:
    """Whether `size` bytes get over within `rest` seconds. `besides`: seconds that it takes in any case; `limit`: bytes per second, 0 for none."""
    if rate is None:
        return Forecast(
            True, f"how long copying {format_size(size)} takes cannot be forecast: nothing was measured yet"
        )
    carried = min(rate.rate, limit or rate.rate)
    needed = size / carried + besides
    told = (
        f"copying {format_size(size)} needs about {format_duration(needed)} at {format_size(carried)}/s ({rate.seen})"
    )
    return Forecast(needed <= rest, f"{told}; there are {format_duration(max(rest, 0.0))}", needed)
