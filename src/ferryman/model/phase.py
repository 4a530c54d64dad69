"""The phases of a request and which may follow which; the one table that progress, report and tests share."""

from enum import StrEnum


class Phase(StrEnum):
    """Where a move, a backup or a restore is, in the words the operator sees."""

    QUEUED = "queued"
    WAITING = "waiting"  # for its moment or window; nothing is changed yet, or only copied ahead
    PREPARING = "preparing"
    BACKING_UP = "backing up"  # of a move: first of all
    COPYING_AHEAD = "copying ahead"  # the guest runs
    STOPPING = "stopping"
    TRANSFERRING = "transferring"
    SWITCHING_OVER = "switching over"
    STARTING = "starting"  # at the destination, its network links down: it can still be put back
    COMPLETING = "completing"
    VERIFYING = "verifying"
    ROLLING_BACK = "rolling back"
    SUCCEEDED = "succeeded"
    REFUSED = "refused"  # nothing was changed
    FAILED = "failed"  # put back
    CANCELLED = "cancelled"  # put back because somebody asked
    NEEDS_ATTENTION = "needs attention"
    CLOSED = "closed"  # by a person, who has looked


FOLLOWS: dict[Phase, tuple[Phase, ...]] = {
    Phase.QUEUED: (Phase.PREPARING, Phase.REFUSED, Phase.CANCELLED, Phase.NEEDS_ATTENTION),
    Phase.WAITING: (
        Phase.PREPARING,
        Phase.ROLLING_BACK,  # what was copied ahead
        Phase.REFUSED,
        Phase.CANCELLED,
        Phase.NEEDS_ATTENTION,
    ),
    Phase.PREPARING: (
        Phase.WAITING,  # once it is known that nothing speaks against it now
        Phase.BACKING_UP,
        Phase.COPYING_AHEAD,
        Phase.STOPPING,
        Phase.TRANSFERRING,
        Phase.STARTING,
        Phase.ROLLING_BACK,
        Phase.REFUSED,
        Phase.CANCELLED,
        Phase.COMPLETING,
        Phase.NEEDS_ATTENTION,
    ),
    Phase.BACKING_UP: (
        Phase.PREPARING,  # of a move: the backup is complete
        Phase.COMPLETING,
        Phase.ROLLING_BACK,
        Phase.REFUSED,
        Phase.CANCELLED,
        Phase.NEEDS_ATTENTION,
    ),
    Phase.COPYING_AHEAD: (
        Phase.WAITING,  # for the window of the stop
        Phase.STOPPING,
        Phase.ROLLING_BACK,
        Phase.REFUSED,
        Phase.CANCELLED,
        Phase.NEEDS_ATTENTION,
    ),
    Phase.STOPPING: (
        Phase.TRANSFERRING,
        Phase.STARTING,
        Phase.ROLLING_BACK,
        Phase.REFUSED,
        Phase.CANCELLED,
        Phase.NEEDS_ATTENTION,
    ),
    # An abort can be accepted and the migration still succeed; a crash can hide the switchover.
    # Refused: the job that was met is another's, so nothing was asked for.
    Phase.TRANSFERRING: (
        Phase.SWITCHING_OVER,
        Phase.STARTING,
        Phase.ROLLING_BACK,
        Phase.COMPLETING,
        Phase.REFUSED,
        Phase.NEEDS_ATTENTION,
    ),
    Phase.STARTING: (Phase.COMPLETING, Phase.ROLLING_BACK, Phase.NEEDS_ATTENTION),
    # Before the destination runs, the hypervisor itself may still fall back.
    Phase.SWITCHING_OVER: (Phase.COMPLETING, Phase.ROLLING_BACK, Phase.NEEDS_ATTENTION),
    Phase.COMPLETING: (Phase.VERIFYING, Phase.NEEDS_ATTENTION),
    Phase.VERIFYING: (Phase.SUCCEEDED, Phase.NEEDS_ATTENTION),
    Phase.ROLLING_BACK: (Phase.FAILED, Phase.CANCELLED, Phase.NEEDS_ATTENTION),
    Phase.SUCCEEDED: (),
    Phase.REFUSED: (),
    Phase.FAILED: (),
    Phase.CANCELLED: (),
    # `recover` settles it: forward or back, or it stays; a person may close it.
    Phase.NEEDS_ATTENTION: (
        Phase.TRANSFERRING,
        Phase.COMPLETING,
        Phase.ROLLING_BACK,
        Phase.REFUSED,
        Phase.CANCELLED,
        Phase.CLOSED,
    ),
    Phase.CLOSED: (),
}

ENDS = frozenset(phase for phase, following in FOLLOWS.items() if not following) | {Phase.NEEDS_ATTENTION}


def may_follow(earlier: Phase, later: Phase) -> bool:
    """Whether `later` may come right after `earlier` (a phase entered again after a crash may follow itself)."""
    return later is earlier or later in FOLLOWS[earlier]
