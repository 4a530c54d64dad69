"""Phases with their durations and the rounds of pre-copy, from what was recorded."""

from collections.abc import Sequence
from dataclasses import dataclass

from ferryman.model.outcome import PhaseEntry, Round
from ferryman.model.sample import Sample


@dataclass(frozen=True)
class Stretch:
    """A phase with its duration in seconds; None for the last one of a migration that has not ended."""

    phase: str
    at: float
    duration: float | None


def stretches(phases: Sequence[PhaseEntry]) -> tuple[Stretch, ...]:
    """Each phase with how long it lasted. The last phase is an end and lasts nothing."""
    following = [entry.at for entry in phases[1:]] + [None]
    return tuple(
        Stretch(entry.phase, entry.at, None if end is None else end - entry.at)
        for entry, end in zip(phases, following, strict=True)
    )


def rounds(samples: Sequence[Sample]) -> tuple[Round, ...]:
    """The passes over memory. A round begins where the hypervisor's iteration number grows; sizes are bytes."""
    groups: dict[int, list[Sample]] = {}
    for sample in samples:
        if not sample.setup:
            groups.setdefault(sample.iteration, []).append(sample)
    result: list[Round] = []
    sent_before, started = 0, 0.0
    for number, group in groups.items():
        last = group[-1]
        rates = [sample.memory_rate for sample in group if sample.memory_rate]
        result.append(
            Round(
                number=number,
                started=started,
                duration=max(last.elapsed - started, 0.0),
                sent=max(last.processed - sent_before, 0),
                remaining=last.remaining,
                dirty_rate=last.dirty_rate,
                bandwidth=sum(rates) / len(rates) if rates else None,
            )
        )
        sent_before, started = last.processed, last.elapsed
    return tuple(result)
