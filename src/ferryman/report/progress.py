"""How far a transfer is: never backwards, never past 100 %, and "unknown" where nothing honest can be said."""

from collections.abc import Iterable
from dataclasses import dataclass

from ferryman.model.sample import Sample

# Until the destination runs the guest, nothing is complete: what is shown stays below this.
BEFORE_SWITCHOVER = 0.99


@dataclass(frozen=True)
class Progress:
    """What the terminal shows. Sizes are bytes, times seconds; None: unknown."""

    fraction: float | None
    remaining: int | None
    left: float | None  # estimated time to the switchover


UNKNOWN = Progress(None, None, None)


def advance(earlier: Progress, sample: Sample) -> Progress:
    """The progress after one more sample."""
    if sample.setup or not sample.processed:
        return Progress(earlier.fraction, None, None)
    now = sample.processed / (sample.processed + sample.remaining)
    fraction = min(max(now, earlier.fraction or 0.0), BEFORE_SWITCHOVER)
    return Progress(fraction, sample.remaining, time_left(sample))


def time_left(sample: Sample) -> float | None:
    """Remaining bytes over what the link gains on the guest; None when the guest dirties as fast as the link carries.

    In the first pass the dirty rate is not known to the hypervisor yet: then the rate alone counts.
    """
    if not sample.memory_rate or sample.memory_rate < 1:  # less than a byte a second is no rate
        return None
    gain = sample.memory_rate - (sample.dirty_rate or 0.0)
    if gain <= 0.05 * sample.memory_rate:
        return None
    return sample.remaining / gain


def overall(samples: Iterable[Sample]) -> Progress:
    """The progress after all those samples."""
    progress = UNKNOWN
    for sample in samples:
        progress = advance(progress, sample)
    return progress
