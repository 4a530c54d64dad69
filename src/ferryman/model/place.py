"""Where a guest is, as one host answers; pairs of these are what ownership is decided from."""

from dataclasses import dataclass
from enum import StrEnum


class Where(StrEnum):
    """What one host says of one guest."""

    ABSENT = "absent"  # the host answered and knows nothing of it
    OFF = "off"  # defined, not active
    RUNNING = "running"
    PAUSED = "paused"  # active, its CPUs stopped: an incoming copy, or one that was just handed over
    HALTED = "halted"  # active, its CPUs stopped by somebody or by an error of its storage: no migration did that
    STALLED = "stalled"  # paused without any job for STALLED_AFTER seconds: nobody is working on it any more
    UNREACHABLE = "unreachable"  # the host did not answer: that is not "gone"

    @property
    def words(self) -> str:
        """For people, after "it is"."""
        return _WORDS.get(self, self.value)


_WORDS = {
    Where.ABSENT: "not known",
    Where.OFF: "shut off",
    Where.HALTED: "standing still (stopped by somebody or by its storage)",
    Where.STALLED: "paused without a job",
    Where.UNREACHABLE: "out of reach",
}


STALLED_AFTER = 5.0  # seconds; only a settling look, which watches for that long, says "stalled"


@dataclass(frozen=True)
class Place:
    """One look at one host for one guest."""

    where: Where
    persistent: bool = False  # a definition is kept at the host
    autostart: bool = False
    job: str = ""  # the running job's kind, empty for none
    detail: str = ""  # libvirt's reason of the state, or why the host is unreachable
    storage_failed: bool = False  # halted by an error of its storage, such as one that is full


ABSENT = Place(Where.ABSENT)
