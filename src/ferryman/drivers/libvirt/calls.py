"""Which calls on a guest are legal while a job runs on it. Any other would wait for 30 s and fail, so it is refused at once."""

from enum import StrEnum

from ferryman import errors


class Call(StrEnum):
    """The calls that ferryman makes on a guest."""

    LOOK = "look"
    DEFINITION = "read the definition"
    STATISTICS = "read job statistics"
    ABORT = "abort the job"
    MAX_DOWNTIME = "set the allowed downtime"
    MAX_SPEED = "set the bandwidth"
    MIRROR_SPEED = "set the speed of a mirror"
    MEDIUM = "change a medium"
    MIGRATE = "migrate"
    DEFINE = "define"
    UNDEFINE = "undefine"
    AUTOSTART = "set autostart"
    RESUME = "resume"
    MARK = "set metadata"
    DESTROY = "destroy"
    SHUTDOWN = "shut down"
    LIFECYCLE = "change what its end means"
    START = "start"
    LINK = "change a link"
    BACKUP = "begin a backup"
    CHECKPOINT = "remove a checkpoint"
    FREEZE = "freeze file systems"
    THAW = "thaw file systems"


# During a migration: seen on libvirt 11.3 (AUTOSTART and RESUME block until the job ends; MIGRATE fails with E55,
# MARK after 30 s with E68).
_LEGAL_DURING_JOB = frozenset(
    {
        Call.LOOK,
        Call.DEFINITION,
        Call.STATISTICS,
        Call.ABORT,
        Call.MAX_DOWNTIME,
        Call.MAX_SPEED,
        Call.MIRROR_SPEED,
        Call.DEFINE,
        Call.THAW,  # calls of the agent have a turn of their own
    }
)


# A backup lets through what changes the guest itself: seen on libvirt 9.0 and 11.3. What would end the guest stays out: the backup would end with it.
_LEGAL_DURING_BACKUP = _LEGAL_DURING_JOB | {Call.AUTOSTART, Call.MARK, Call.LIFECYCLE, Call.LINK, Call.CHECKPOINT, Call.RESUME, Call.MEDIUM}  # fmt: skip
_LEGAL = {"backup": _LEGAL_DURING_BACKUP}  # by the kind of job; of others the first table tells


def guard(call: Call, job: str, guest: str) -> None:
    """Raise errors.AlreadyRunning when this call must not be made while `job` runs (empty: none does)."""
    if job and call not in _LEGAL.get(job, _LEGAL_DURING_JOB):
        raise errors.AlreadyRunning(
            f"guest {guest}",
            f"cannot {call} while a job ({job}) runs on it",
            f"wait for its end: virsh domjobinfo {guest}",
        )
