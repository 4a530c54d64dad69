"""How a cap on the whole transfer is shared between the disks' mirrors and memory."""

from dataclasses import dataclass
from enum import StrEnum

from ferryman.model.units import format_size

# While memory flows the mirrors only carry what the guest writes; starved, they would never let the switchover come.
MIRRORS_BESIDE_MEMORY = 0.25


class Stage(StrEnum):
    """What mostly flows."""

    DISKS = "disks"  # the first copy of the disks: libvirt starts memory after it
    MEMORY = "memory"


@dataclass(frozen=True)
class Shares:
    """Bytes per second for each of the mirrors and for memory, with the reason."""

    each_mirror: int
    memory: int
    reason: str


NO_LIMIT = Shares(0, 0, "no limit any more, for disks and memory")


def shares(bandwidth: int, mirrors: int, stage: Stage) -> Shares:
    """The parts of `bandwidth` (bytes per second; 0: no limit) that keep the sum below it at each stage."""
    if not bandwidth:
        return Shares(0, 0, f"no limit for {mirrors} disks and memory")
    disks = bandwidth if stage is Stage.DISKS else int(bandwidth * MIRRORS_BESIDE_MEMORY)
    memory = bandwidth - int(bandwidth * MIRRORS_BESIDE_MEMORY)
    each = max(1, disks // mirrors)
    return Shares(
        each,
        memory,
        f"{format_size(each)}/s for {'the disk' if mirrors == 1 else f'each of {mirrors} disks'} now, {format_size(memory)}/s for memory later"
        if stage is Stage.DISKS
        else f"{format_size(memory)}/s for memory now, {format_size(each)}/s for what the guest writes to {'the disk' if mirrors == 1 else f'each of {mirrors} disks'}",
    )
