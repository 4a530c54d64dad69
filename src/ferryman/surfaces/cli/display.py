"""A migration under way: a live picture in a terminal, plain lines elsewhere, or one JSON event a line."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ferryman.app import Moves, View
from ferryman.model.finding import Severity
from ferryman.model.outcome import Round
from ferryman.model.phase import Phase
from ferryman.model.sample import Sample
from ferryman.model.units import format_duration, format_size
from ferryman.plain import to_json, to_plain
from ferryman.report.progress import UNKNOWN, Progress, advance
from ferryman.report.timeline import rounds
from ferryman.surfaces.cli import render

if TYPE_CHECKING:
    from rich.console import Group


def event(kind: str, request_id: str, content: Any) -> None:
    """One JSON event on a line of its own, with the request it belongs to."""
    print(to_json({"event": kind, "request": request_id, **to_plain(content)}), flush=True)


def events(moves: Moves, request_id: str) -> View:
    """Print an event for each phase, sample and decision, and one for the end; returns the last view."""
    told_sample, told_phases, told_decisions = None, 0, 0
    event("request", request_id, moves.view(request_id).request)
    for view in moves.follow(request_id):
        if view.sample is not None and view.sample != told_sample:
            told_sample = view.sample
            event("sample", request_id, view.sample)
        for entry in moves.records.phases(request_id)[told_phases:]:
            told_phases += 1
            event("phase", request_id, entry)
        for text in moves.records.decisions(request_id)[told_decisions:]:
            told_decisions += 1
            event("decision", request_id, {"text": text})
    report = moves.show(request_id)
    if report.outcome is not None:
        after = to_plain(report.findings_after)
        event("end", request_id, {**to_plain(report.outcome), "findings_after": after})
    return view


class _Samples:
    """All samples of a request so far; each look reads only what is new."""

    def __init__(self, moves: Moves, request_id: str) -> None:
        self._moves, self._request_id, self._number = moves, request_id, 0
        self.all: list[Sample] = []

    def look(self) -> list[Sample]:
        """Those that are new."""
        found = self._moves.records.samples_after(self._request_id, self._number)
        if found:
            self._number = found[-1][0]
        new = [sample for _, sample in found]
        self.all += new
        return new


def live(moves: Moves, request_id: str, *, forewarned: bool) -> View:
    """Draw the migration until it ends; returns the last view. Who was not `forewarned` is told what may go wrong."""
    warnings = _Warnings(moves, request_id, forewarned)
    return _drawn(moves, request_id, warnings) if sys.stdout.isatty() else _lines(moves, request_id, warnings)


class _Warnings:
    """What was found before the move and is more than a note; told once, as soon as it is known."""

    def __init__(self, moves: Moves, request_id: str, told: bool) -> None:
        self._moves, self._request_id, self._told = moves, request_id, told

    def tell(self, phase: Phase) -> None:
        """Nothing is known while it is queued and prepared."""
        if self._told or phase in (Phase.QUEUED, Phase.PREPARING):
            return
        self._told = True
        found = self._moves.show(self._request_id).findings_before
        render.findings([finding for finding in found if finding.severity is not Severity.NOTE])
        sys.stdout.flush()


def _lines(moves: Moves, request_id: str, warnings: _Warnings) -> View:
    """Without a terminal: a line for each phase, and for each round when it is over."""
    told_rounds = told_phases = told_decisions = 0
    samples = _Samples(moves, request_id)
    print(f"request {request_id}", flush=True)
    for view in moves.follow(request_id):
        warnings.tell(view.phase)
        phases = moves.records.phases(view.request.id)
        transferring = phases[-1].phase in (Phase.QUEUED, Phase.PREPARING, Phase.TRANSFERRING)
        samples.look()
        done = rounds(samples.all)
        for one in done[told_rounds : len(done) - 1 if transferring else len(done)]:
            told_rounds += 1
            print(f"  {round_line(one)}", flush=True)
        for entry in phases[told_phases:]:
            told_phases += 1
            print(entry.phase, flush=True)
        for text in moves.records.decisions(request_id)[told_decisions:]:
            told_decisions += 1
            print(f"  decided: {text}", flush=True)
    return view


def round_line(one: Round) -> str:
    """One round in words; what the hypervisor does not say is "unknown"."""
    rate = f"{format_size(one.bandwidth)}/s" if one.bandwidth is not None else "unknown"
    dirty = f"{format_size(one.dirty_rate)}/s" if one.dirty_rate is not None else "unknown"
    return (
        f"round {one.number}: sent {format_size(one.sent)} in {format_duration(one.duration)}, "
        f"remaining {format_size(one.remaining)}, bandwidth {rate}, dirty rate {dirty}"
    )


def _drawn(moves: Moves, request_id: str, warnings: _Warnings) -> View:
    from rich.live import Live

    progress, arrived = UNKNOWN, False
    samples = _Samples(moves, request_id)
    with Live(refresh_per_second=8, redirect_stderr=True) as screen:
        for view in moves.follow(request_id):
            warnings.tell(view.phase)
            for sample in samples.look():
                progress = advance(progress, sample)
            arrived = arrived or view.phase in (Phase.COMPLETING, Phase.VERIFYING, Phase.SUCCEEDED)
            decided = moves.records.decisions(view.request.id)[-3:] if view.decisions else ()
            screen.update(_picture(view, progress, samples.all, arrived=arrived, decided=decided))
    return view


def _picture(
    view: View, progress: Progress, samples: Sequence[Sample], *, arrived: bool, decided: Sequence[str]
) -> "Group":
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    request = view.request
    head = Text.assemble(
        (request.guest, "bold"),
        f"  {request.source} → {request.destination}   ",
        (str(view.phase), "cyan"),
        f"   request {request.id}",
    )
    fraction = 1.0 if arrived else progress.fraction
    bar = ProgressBar(total=1.0, completed=fraction or 0.0, width=50, pulse=fraction is None and not view.ended)
    share = f"{fraction:.0%}" if fraction is not None else "unknown"
    left = f"about {format_duration(progress.left)} left" if progress.left is not None else "time left unknown"
    table = Table(box=None, pad_edge=False)
    for name in ("round", "time", "sent", "remaining", "dirty rate", "bandwidth"):
        table.add_column(name, justify="right")
    for one in rounds(samples)[-8:]:
        table.add_row(str(one.number), format_duration(one.duration), format_size(one.sent), format_size(one.remaining),
                      f"{format_size(one.dirty_rate)}/s" if one.dirty_rate is not None else "unknown",
                      f"{format_size(one.bandwidth)}/s" if one.bandwidth is not None else "unknown")  # fmt: skip
    return Group(head, bar, Text(share if arrived or view.ended else f"{share}, {left}"), table, *map(Text, decided))
