"""How things look in a terminal: tables, findings, plans, reports. Words only; rich is imported where it draws."""

import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from ferryman.model.backup import BackupMade
from ferryman.model.copy import CopyResult
from ferryman.model.finding import Finding, Severity, blockers
from ferryman.model.hook import Hook, HookRun
from ferryman.model.host import Answer, Check
from ferryman.model.outcome import Outcome, Report, Status
from ferryman.model.phase import Phase
from ferryman.model.plan import Method, Plan, Step
from ferryman.model.request import Handshake, Kind, Request
from ferryman.model.units import format_duration, format_size
from ferryman.plain import to_json, to_plain
from ferryman.report.limits import limits
from ferryman.report.timeline import rounds, stretches

# Exit codes of a migration's end; refused and "a blocker was found" share one.
EXIT_CODES = {
    Status.SUCCEEDED: 0,
    Status.REFUSED: 3,
    Status.FAILED: 4,
    Status.CANCELLED: 4,
    Status.NEEDS_ATTENTION: 5,
    Status.CLOSED: 0,
}


def as_json(value: Any) -> None:
    """Print one JSON document."""
    print(to_json(to_plain(value), indent=2))


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A plain table, columns as wide as they need."""
    lines = [tuple(headers), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def checks(lines: Iterable[Check]) -> None:
    """What `host check` found."""
    for one in lines:
        check(one)


_MARKS = {Severity.BLOCKER: "BLOCKER", Severity.WARNING: "warning", Severity.NOTE: "note   "}


def findings(found: Sequence[Finding]) -> None:
    """Each finding: what, why, remedy."""
    for finding in found:
        print(f"{_MARKS[finding.severity]}  {finding.what}: {finding.why}  [{finding.code}]")
        if finding.remedy:
            print(f"         remedy: {finding.remedy}")


def verdict(guest: str, to: str, found: Sequence[Finding]) -> None:
    """Whether the guest may go, in one line."""
    against = len(blockers(found))
    others = len(found) - against
    rest = f"{others} more finding{'s' if others > 1 else ''} above" if others else ""
    if against:
        told = f"{against} blocker{'s' if against > 1 else ''}{f', {rest}' if rest else ''}"
        print(f"{guest} may NOT move to {to}: {told}")
    else:
        print(f"{guest} may move to {to}{f', with {rest}' if rest else ': nothing speaks against it'}")


def check(line: Check) -> None:
    """One line of a check, with the remedy where something is missing."""
    print(f"{line.host:<10} {line.answer:<12} {line.thing}: {line.detail}", flush=True)
    if line.remedy and line.answer is not Answer.GOOD:
        print(f"{'':<23} remedy: {line.remedy}")


_RETURN = {
    Method.LIVE: "the guest runs at the destination",
    Method.DEFINITION: "the source's definition is gone",
    Method.COLD: "the guest's network links are up at the destination",
    Method.WARM: "the guest's network links are up at the destination",
}


def plan(planned: Plan, *, begins: str = "") -> None:
    """The steps with the undo of each, and the point of no return; `begins`: when, if not at once."""
    if planned.method is Method.LIVE:
        print(f"plan: move {planned.guest} live from {planned.source} to {planned.destination}")
        print(f"  memory goes to {planned.migration_uri}, {'encrypted' if planned.encrypted else 'NOT ENCRYPTED'}")
        if planned.handshake is Handshake.CARRIED:
            print("  ferryman carries the handshake between the two libvirtds: it must run until the end")
    elif planned.method.stops:
        how = "stopped, and started again there" if planned.starts else "which is shut off and stays so"
        print(f"plan: move {planned.guest} {planned.method} ({how}) from {planned.source} to {planned.destination}")
        if not planned.encrypted:
            print("  disks go NOT ENCRYPTED")
    else:
        print(
            f"plan: move the definition of {planned.guest}, which is shut off, from {planned.source} to {planned.destination}"
        )
    if begins and planned.ahead:
        print(f"  copying begins at once; the guest is stopped at {begins}")
    elif begins:
        print(f"  begins at {begins}; both hosts are looked at again then")
    forward = _RETURN[planned.method]
    if planned.method.stops and not planned.starts:
        forward = _RETURN[Method.DEFINITION]
    steps(planned.steps, forward)


def steps(planned: Sequence[Step], forward: str) -> None:
    """Each with its undo; `forward`: what holds once there is only forward."""
    passed = False
    for number, step in enumerate(planned, 1):
        if step.past_return and not passed:
            print(f"  ---- point of no return: once {forward}, only forward ----")
            passed = True
        undo = f"   (undo: {step.undo})" if step.undo else ""
        print(f"  {number}. {step.does}{undo}")


def outcome(ended: Outcome) -> None:
    """How it ended, in a few lines."""
    print(f"{ended.status}: {ended.reason}")
    if ended.remedy:
        print(f"  remedy: {ended.remedy}")
    figures = []
    if ended.job_seconds is not None:
        figures.append(f"transfer {format_duration(ended.job_seconds)}")
    if ended.downtime is not None:
        figures.append(f"downtime {format_duration(ended.downtime)}")
    if ended.blackout is not None:
        figures.append(f"blackout {format_duration(ended.blackout)}")
    if ended.transferred is not None:
        figures.append(f"{format_size(ended.transferred)} sent")
    if figures:
        print(f"  {', '.join(figures)}")


_WAYS = {
    "tls": "encrypted, from host to host",
    "plain": "NOT ENCRYPTED, from host to host",
    "ssh": "by ssh, through this machine",
    "local": "on one host",
}


def copy(target: str, copied: CopyResult) -> None:
    """What was copied of a disk, how it went, and its proof."""
    again = f", {format_size(copied.sent_again)} of them again after {copied.attempts - 1} cuts" if copied.attempts > 1 else ""  # fmt: skip
    print(f"copy of {target}: {format_size(copied.size)} in {format_duration(copied.seconds)}, {format_size(copied.wire)} on the wire{again} ({_WAYS.get(copied.way, copied.way)})")  # fmt: skip
    if copied.destination_digest:
        same = "the same at both ends" if copied.destination_digest == copied.source_digest else "NOT THE SAME as the source's"  # fmt: skip
        print(f"  digest {copied.destination_digest}: {same}, read back in {format_duration(copied.verify_seconds)}")
    else:
        print(f"  digest {copied.source_digest} at the source; not read back")


def hooks(set_up: Sequence[Hook]) -> None:
    """Who will be told of a move."""
    if set_up:
        told = [f"{one.name} ({', '.join(one.on)})" for one in set_up]
        print(f"  hooks: {'; '.join(told)}")


def hook(run: HookRun) -> None:
    """What became of a hook."""
    tries = "1 try" if run.tries == 1 else f"{run.tries} tries"
    print(f"hook {run.hook} ({run.event}): {run.ended} after {tries}{f': {run.words}' if run.words else ''}")


def standstills(ended: Outcome | None) -> tuple[str, str]:
    """Downtime and blackout for a table."""
    figures = (ended.downtime, ended.blackout) if ended else (None, None)
    downtime, blackout = (format_duration(figure) if figure is not None else "-" for figure in figures)
    return downtime, blackout


def state(told: Report) -> str:
    """The phase for a table; of one that waits also until when."""
    until = told.begins.partition(" (")[0]
    return f"{told.phase} for {until}" if told.phase == Phase.WAITING and until else told.phase


def report(told: Report) -> None:
    """Everything that is known of one request."""
    request = told.request
    print(f"request {request.id}: {_what(request)}")
    print(f"  asked by {request.asked_by} with {_options(request.options)}")
    for one in told.tries:
        here = ", this one" if one.request == request.id else ""
        print(
            f"  try {one.attempt}: {one.phase} (request {one.request}{here}){f': {one.reason}' if one.reason else ''}"
        )
    if told.versions:
        versions = told.versions
        print(f"  ferryman {versions.ferryman}; {request.source}: libvirt {versions.source_libvirt}, QEMU {versions.source_qemu}; "
              f"{request.destination}: libvirt {versions.destination_libvirt}, QEMU {versions.destination_qemu}")  # fmt: skip
    if told.outcome:
        outcome(told.outcome)
    else:
        print(f"{told.phase}: not ended")
        if told.phase == Phase.WAITING:
            print(f"  begins at {told.begins}")
    print("phases:")
    for stretch in stretches(told.phases):
        print(
            f"  {stretch.phase:<16} {format_duration(stretch.duration) if stretch.duration is not None else ''}".rstrip()
        )
    if passes := rounds(told.samples):
        print("rounds:")
        rows = [
            (str(one.number), format_duration(one.duration), format_size(one.sent), format_size(one.remaining),
             f"{format_size(one.dirty_rate)}/s" if one.dirty_rate is not None else "unknown",
             f"{format_size(one.bandwidth)}/s" if one.bandwidth is not None else "unknown")
            for one in passes
        ]  # fmt: skip
        table(
            ("  round", "duration", "sent", "remaining", "dirty rate", "bandwidth"),
            [("  " + row[0], *row[1:]) for row in rows],
        )
    for moment, found in (("before", told.findings_before), ("after", told.findings_after)):
        if found:
            print(f"findings {moment}:")
            findings(found)
    for decision in told.decisions:
        print(f"decided: {decision}")
    for wish in told.wishes:
        when = "" if wish.applied else " (not set: the transfer was over, or has not begun)"
        print(f"tuned by {wish.by} at {time.strftime('%T', time.localtime(wish.at))}: {limits(wish)}{when}")
    for run in told.hooks:
        hook(run)
    for entry in told.undo:
        state = "not needed" if entry.state == "dropped" else entry.state
        print(f"undo {entry.act}: {state}{f' ({entry.error})' if entry.error else ''}")
    for volume in told.volumes:
        taken = "" if volume.allocation is None else f", {format_size(volume.allocation)} allocated"
        print(f"disk {volume.target}: {volume.path} at {request.destination}{taken}")
    for target, copied in told.copies.items():
        copy(target, copied)
    if told.backup is not None:
        backup(told.backup)
        for target, copied in told.backup_copies.items():
            copy(target, copied)
    if request.kind is Kind.MOVE:
        print(f"left to retire: {left_to_retire(told) or 'nothing'}")


def _what(request: Request) -> str:
    """What was asked for."""
    guest = f"{request.guest} ({request.guest_uuid})"
    if request.kind is Kind.BACKUP:
        return f"backup of {guest} at {request.source} to {request.folder} at {request.destination}"
    if request.kind is Kind.RESTORE:
        return f"{guest} brought back from {request.folder} at {request.source} to {request.destination}"
    return f"{guest} from {request.source} to {request.destination}"


def backup(made: BackupMade) -> None:
    """Where it lies, what it needs, and in which state the disks are."""
    upon = f"stands upon {', '.join(made.upon)}, one of {made.chain} that are needed for it" if made.upon else "stands by itself"  # fmt: skip
    print(f"backup {made.folder.words}: {made.consistency}, {upon}, {format_size(made.bytes)}")


def left_to_retire(told: Report) -> str:
    """The images that stay at the source, with their sizes; empty when there are none."""
    left = [f"{one.path} ({format_size(one.size)})" for one in told.left_to_retire]
    return f"kept at {told.left_to_retire[0].host}: {', '.join(left)}" if left else ""


def _options(options: Any) -> str:
    from ferryman.model.request import Options

    default = to_plain(Options())
    chosen = {name: value for name, value in to_plain(options).items() if value != default[name]}
    return " ".join(_option(name, value) for name, value in chosen.items()) or "default options"


_UNITS = {
    "bandwidth": lambda value: f"{format_size(value)}/s",
    "max_downtime": format_duration,
    "timeout": format_duration,
}


def _option(name: str, value: Any) -> str:
    """As it is typed, with units."""
    option = f"--{name.replace('_', '-')}"
    if value is True:
        return option
    if isinstance(value, dict):
        return " ".join(f"{option} {here}={there}" for here, there in value.items())
    told = _UNITS[name](value) if name in _UNITS else value
    return f"{option} {told}"


def error_lines(text: str) -> None:
    """Something for the operator that is not the command's answer."""
    print(text, file=sys.stderr)
