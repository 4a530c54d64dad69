"""Hooks: what the operator wants told, or asked, at four moments of a move. They bear no secret: those stay with the driver."""

from dataclasses import dataclass
from enum import StrEnum


class Event(StrEnum):
    """The moments. docs/guide/notices.md says what each means for each way of moving."""

    BEFORE_STOP = "before-stop"  # of the guest; live: before the transfer is asked for. It may be refused here
    AFTER_START = "after-start"  # the guest runs at the destination, and was looked at there
    FAILURE = "failure"  # the move has ended, and the guest is where it was: refused, failed or cancelled
    ATTENTION = "attention"  # somebody has to look


class Ended(StrEnum):
    """How a try of a hook ended. The value is stored and shown."""

    GOOD = "ok"
    VETO = "veto"
    FAILED = "failed"
    TIMED_OUT = "timed out"


@dataclass(frozen=True)
class Hook:
    """A command of the operator's or a webhook. Times are seconds."""

    name: str
    on: tuple[Event, ...]
    command: tuple[str, ...] = ()  # a program of this machine and its arguments; no shell reads them
    webhook: str = ""  # URL
    time_limit: float = 30.0  # of one try
    tries: int = 3
    must_answer: bool = False  # before the stop: one that fails, or does not answer, stops the move too


@dataclass(frozen=True)
class Answer:
    """How one try ended, in the hook's own words where it has some."""

    ended: Ended
    words: str = ""
    again: bool = False  # another try may end otherwise


@dataclass(frozen=True)
class HookRun:
    """What became of a hook at one event, for the report."""

    hook: str
    event: Event
    event_id: str  # the same each time this event is told: receivers drop doubles by it
    ended: Ended
    tries: int
    words: str = ""
    at: float = 0.0  # seconds since the epoch, when it ended
