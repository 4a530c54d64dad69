"""A finding: something an operator must, should or may want to know, always with its remedy."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much a finding weighs."""

    BLOCKER = "blocker"  # the move would fail or harm: refused
    WARNING = "warning"  # the move may go, at a risk that is named
    NOTE = "note"  # worth knowing, or could not be looked at


@dataclass(frozen=True)
class Finding:
    """One thing found.

    `code` is stable and documented in docs/findings.md; `what` names the thing, `why` the reason, `remedy` what to do.
    """

    code: str
    severity: Severity
    what: str
    why: str
    remedy: str = ""


def blocker(code: str, what: str, why: str, remedy: str) -> Finding:
    """A finding that refuses the move."""
    return Finding(code, Severity.BLOCKER, what, why, remedy)


def warning(code: str, what: str, why: str, remedy: str) -> Finding:
    """A finding that lets the move go at a named risk."""
    return Finding(code, Severity.WARNING, what, why, remedy)


def note(code: str, what: str, why: str, remedy: str = "") -> Finding:
    """A finding that is only worth knowing."""
    return Finding(code, Severity.NOTE, what, why, remedy)


def blockers(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Those that refuse the move."""
    return tuple(finding for finding in findings if finding.severity is Severity.BLOCKER)


_WEIGHT = {Severity.BLOCKER: 0, Severity.WARNING: 1, Severity.NOTE: 2}


def by_weight(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Blockers first, then warnings, then notes; otherwise in the order found."""
    return tuple(sorted(findings, key=lambda finding: _WEIGHT[finding.severity]))
