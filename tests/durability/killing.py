"""Killed at every step: which moments each run takes, and what the records must say of a move however it ended."""

import itertools
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ferryman.drivers.database.records import open_records
from ferryman.model.outcome import Report
from ferryman.model.phase import Phase, may_follow
from tests.durability.processes import carry
from tests.unit.sites import UUID

MOMENTS = ("before", "inside", "after")


def every_moment(steps: Sequence[str], *, turn: int = 0) -> list[Any]:
    """(step, moment) of each: one moment a step in each run, in turn, the others in the whole product."""
    return [
        pytest.param(step, moment, marks=[] if moment == MOMENTS[(number + turn) % len(MOMENTS)] else pytest.mark.whole)
        for number, step in enumerate(steps)
        for moment in MOMENTS
    ]


def killed_and_recovered(state: Path, what: str, moment: str) -> None:
    """Asked for, killed there, and led to its end by the next process."""
    died = carry(state, what, moment)
    assert died.returncode == -signal.SIGKILL, (died.returncode, died.stderr)
    recovered = carry(state, "recover")
    assert recovered.returncode == 0, recovered.stderr


def told(state: Path) -> Report:
    """The report of the only request. Its phases are legal, and the lease is kept just where somebody must look."""
    records = open_records(state)
    (request,) = records.requests()
    report = records.report(request.id)
    held = records.lease(UUID)
    records.engine.dispose()
    assert report.outcome is not None
    assert bool(held) is (report.outcome.status == "needs attention"), report.outcome
    phases = [Phase(entry.phase) for entry in report.phases]
    for earlier, later in itertools.pairwise(phases):
        assert may_follow(earlier, later), phases
    return report


def says(state: Path, words: str) -> bool:
    """Whether that is among the decisions of the only request by now."""
    records = open_records(state)
    (request,) = records.requests()
    found = any(words in one for one in records.decisions(request.id))
    records.engine.dispose()
    return found


def succeeded(state: Path) -> None:
    """It arrived, and nothing is left to be taken back."""
    report = told(state)
    assert report.outcome is not None
    assert report.outcome.status == "succeeded", report.outcome
    assert {entry.state for entry in report.undo} <= {"dropped"}
