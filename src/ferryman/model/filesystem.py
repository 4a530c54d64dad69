"""The file systems in a guest's images, and what was found when somebody looked through them."""

from dataclasses import dataclass
from enum import StrEnum


class Condition(StrEnum):
    """How a file system was found."""

    SOUND = "sound"  # or put right by its own program without a question, as when the guest starts
    DAMAGED = "damaged"  # somebody has to decide
    UNKNOWN = "not looked at"  # of a kind that has no check, or there was no time


@dataclass(frozen=True)
class FileSystem:
    """One of them."""

    name: str  # vda1; /dev/GROUP/VOLUME of a logical volume
    kind: str  # ext4, xfs, ntfs, …
    condition: Condition
    detail: str = ""
