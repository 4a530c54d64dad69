"""How a move ended, and the report that tells it."""

from dataclasses import dataclass, field
from enum import StrEnum

from ferryman.model.backup import BackupMade
from ferryman.model.copy import CopyResult
from ferryman.model.finding import Finding
from ferryman.model.hook import HookRun
from ferryman.model.plan import Volume
from ferryman.model.request import Request, Wish
from ferryman.model.sample import Sample


class Status(StrEnum):
    """The ends of a move. The value is stored and shown."""

    SUCCEEDED = "succeeded"
    REFUSED = "refused"  # nothing was changed
    FAILED = "failed"  # put back: the guest is at the source as before
    CANCELLED = "cancelled"  # the same, because somebody asked
    NEEDS_ATTENTION = "needs attention"  # somebody has to look
    CLOSED = "closed"  # somebody has looked, and says so


@dataclass(frozen=True)
class PhaseEntry:
    """A phase that was entered, and when (seconds since the epoch)."""

    phase: str
    at: float


@dataclass(frozen=True)
class UndoEntry:
    """An undo act that was registered, and what became of it."""

    act: str
    detail: str
    state: str  # registered, done, dropped, failed
    error: str = ""


@dataclass(frozen=True)
class Round:
    """One pass of pre-copy. Sizes are bytes."""

    number: int
    started: float  # seconds since the job began
    duration: float
    sent: int
    remaining: int  # at its end
    dirty_rate: float | None
    bandwidth: float | None


@dataclass(frozen=True)
class Versions:
    """What ran where."""

    ferryman: str
    source_libvirt: str = ""
    source_qemu: str = ""
    destination_libvirt: str = ""
    destination_qemu: str = ""


@dataclass(frozen=True)
class Figures:
    """What a move cost. Durations are seconds, sizes bytes; None: not known."""

    downtime: float | None = None
    transferred: int | None = None
    seconds: float | None = None  # of the transfer


@dataclass(frozen=True)
class Outcome:
    """What a workflow returns. Durations are seconds, sizes bytes; None: not known, never guessed."""

    status: Status
    reason: str  # one sentence
    running_at: str = ""  # host name, empty when not known
    downtime: float | None = None  # as the hypervisor says
    blackout: float | None = None  # as a probe saw
    transferred: int | None = None
    job_seconds: float | None = None
    ended_at: float = 0.0
    remedy: str = ""
    error: str = ""  # class of the error that ended it (see errors.py); empty when none did


@dataclass(frozen=True)
class Try:
    """One of the requests that tried the same move, in the order of their attempts."""

    request: str
    attempt: int
    at: float  # seconds since the epoch
    phase: str
    reason: str = ""


@dataclass(frozen=True)
class KeptCopy:
    """A disk's image that stayed at the source. It is removed by `ferryman retire` only."""

    host: str
    path: str
    size: int  # bytes on the storage
    target: str  # the disk it was


@dataclass(frozen=True)
class Retired:
    """A kept copy that is there no more."""

    host: str
    path: str
    removed: bool  # False: it was gone already


@dataclass(frozen=True)
class Report:
    """Everything known of one request, read from the records."""

    request: Request
    outcome: Outcome | None  # None: not ended
    phase: str
    phases: tuple[PhaseEntry, ...] = ()
    samples: tuple[Sample, ...] = ()
    findings_before: tuple[Finding, ...] = ()
    findings_after: tuple[Finding, ...] = ()
    undo: tuple[UndoEntry, ...] = ()
    versions: Versions | None = None
    volumes: tuple[Volume, ...] = ()  # made at the destination
    left_to_retire: tuple[KeptCopy, ...] = ()
    decisions: tuple[str, ...] = field(default=())  # what was decided under way, each with its reason
    copies: dict[str, CopyResult] = field(default_factory=dict)  # by the disks' targets
    wishes: tuple[Wish, ...] = ()  # limits that were changed under way
    hooks: tuple[HookRun, ...] = ()
    tries: tuple[Try, ...] = ()  # all of this move; empty when it was tried once
    tried_again_as: str = ""  # the request that tries it anew
    begins: str = ""  # when one that waits begins, or began, in words
    backup: BackupMade | None = None  # that was made, by a request for it or before a move
    backup_copies: dict[str, CopyResult] = field(default_factory=dict)  # into it, by the disks' targets
