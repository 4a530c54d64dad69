"""Rounds, phases and progress, from samples."""

from dataclasses import replace

from ferryman.model.outcome import PhaseEntry
from ferryman.model.sample import Sample
from ferryman.report.progress import UNKNOWN, advance, overall, time_left
from ferryman.report.timeline import rounds, stretches

START = Sample(0.0, 0.0, True, 1000, 0, 1000, None, None, 0)


def sample(elapsed: float, sent: int, remaining: int, iteration: int, rate: float | None = 100.0, dirty: float | None = None) -> Sample:  # fmt: skip
    return replace(START, elapsed=elapsed, setup=False, memory_processed=sent, memory_remaining=remaining,
                   iteration=iteration, memory_rate=rate, dirty_rate=dirty)  # fmt: skip


SERIES = (
    START,
    sample(1, 400, 600, 1),
    sample(2, 900, 100, 1),
    sample(3, 1100, 300, 2, dirty=50.0),
    sample(4, 1400, 20, 3, rate=300.0, dirty=20.0),
)


def test_a_round_begins_where_the_iteration_grows() -> None:
    first, second, third = rounds(SERIES)
    assert (first.number, first.sent, first.remaining, first.duration, first.dirty_rate) == (1, 900, 100, 2, None)
    assert (second.sent, second.started, second.duration, second.dirty_rate) == (200, 2, 1, 50.0)
    assert (third.sent, third.remaining, third.bandwidth) == (300, 20, 300.0)


def test_phases_last_until_the_next() -> None:
    told = stretches((PhaseEntry("queued", 10), PhaseEntry("preparing", 12), PhaseEntry("refused", 15)))
    assert [(one.phase, one.duration) for one in told] == [("queued", 2), ("preparing", 3), ("refused", None)]


def test_progress_never_runs_backwards_though_the_guest_writes() -> None:
    before = overall(SERIES[:3])
    after = advance(before, SERIES[3])
    assert before.fraction == after.fraction == 0.9
    assert after.remaining == 300


def test_progress_stays_below_all_until_the_destination_runs() -> None:
    fraction = advance(UNKNOWN, sample(5, 1000, 0, 4)).fraction
    assert fraction is not None
    assert fraction < 1


def test_what_is_not_known_is_unknown() -> None:
    assert advance(UNKNOWN, START) == UNKNOWN
    assert time_left(sample(1, 1, 100, 1, rate=None)) is None
    assert time_left(sample(1, 1, 100, 2, rate=100.0, dirty=100.0)) is None  # it dirties as fast as the link carries
    assert time_left(sample(1, 1, 100, 2, rate=100.0, dirty=50.0)) == 2.0
