"""A backup of a guest: where it lies, what its manifest says of it, and how a new one will be made."""

import posixpath
from dataclasses import dataclass
from enum import StrEnum

from ferryman.model.host import THIS_MACHINE
from ferryman.model.plan import Held, Step

FORMAT = 1  # of the manifest; a newer ferryman may write another
MANIFEST, DEFINITION, NVRAM, TPM = "manifest.json", "definition.xml", "nvram", "tpm.tar"
PARTIAL = ".partial-"  # begins the name of a folder under way
CHECKPOINT = "ferryman-backup-"  # begins the name of each checkpoint that backups keep in a guest


class Consistency(StrEnum):
    """In which state the disks are. The value is stored and shown."""

    FROZEN = "frozen"  # by the guest's agent: its file systems are in order
    BY_ANOTHER = "frozen by another"  # before and after they were taken: their file systems are in order too
    CRASH = "crash-consistent"  # as after a loss of power
    OFF = "shut off"  # nobody wrote to them
    READ_ONLY = "read-only"  # nor may the guest, which runs


class Reading(StrEnum):
    """What of a disk is read and sent."""

    FULL = "full"  # all of it
    BITMAP = "bitmap"  # what QEMU noted as written since the earlier backup
    DIGESTS = "digests"  # all is read, and what differs from the earlier backup is sent


@dataclass(frozen=True)
class BackupPlace:
    """A directory that backups are kept in."""

    host: str  # registered name, or that of THIS_MACHINE
    path: str

    @property
    def words(self) -> str:
        """As it is typed."""
        return self.path if self.host == THIS_MACHINE.name else f"{self.host}:{self.path}"

    def below(self, name: str) -> "BackupPlace":
        """A folder in it; the place itself for ".", or for no name."""
        return self if name in ("", ".") else BackupPlace(self.host, f"{self.path.rstrip('/')}/{name}")


def place(text: str) -> BackupPlace:
    """What /FOLDER or HOST:/FOLDER stands for. Raises ValueError for anything else."""
    host, colon, path = ("", ":", text) if text.startswith("/") else text.partition(":")
    if not colon or not path.startswith("/"):
        raise ValueError("it is neither a path nor HOST:/PATH")
    return BackupPlace(host or THIS_MACHINE.name, posixpath.normpath(path))


@dataclass(frozen=True)
class BackedUpDisk:
    """One disk in a backup. Sizes are bytes."""

    target: str  # vda
    file: str  # in the backup's folder: a qcow2 image
    bytes: int  # of that file
    size: int  # that the guest sees
    digest: str  # of the whole disk, as docs/digest.md defines it
    format: str  # that it had at the guest's host
    source: str  # path that it had there
    pool: str = ""  # that it lay in
    reading: Reading = Reading.FULL
    upon: str = ""  # the earlier backup whose file of the same name this one stands upon; empty: it is whole by itself
    remembers: bool = False  # the checkpoint covers it
    copy: str = ""  # id of the copy that made it, whose journal knows what it holds


@dataclass(frozen=True)
class SmallFile:
    """A file of the backup that is no disk."""

    name: str
    sha256: str
    bytes: int
    path: str = ""  # where at the guest's host it is from


@dataclass(frozen=True)
class Manifest:
    """What a backup is. Written last: a folder without one is no backup."""

    format: int
    guest: str
    uuid: str
    host: str  # where the guest was
    at: float  # seconds since the epoch: when its disks were as they are here
    ferryman: str  # version
    request: str
    consistency: Consistency
    disks: tuple[BackedUpDisk, ...]
    files: tuple[SmallFile, ...]
    checkpoint: str = ""  # since which the guest's disks remember what is written; empty: none was made
    run: str = ""  # token of the run of the guest in which that was made: in another one it proves nothing
    left_out: tuple[str, ...] = ()  # drives whose medium is not in it
    not_in_it: tuple[str, ...] = ()  # what of the guest is not, each in words

    @property
    def upon(self) -> tuple[str, ...]:
        """The backups that it stands upon directly."""
        return tuple(dict.fromkeys(disk.upon for disk in self.disks if disk.upon))

    def disk(self, target: str) -> BackedUpDisk | None:
        """The disk of that name."""
        return next((disk for disk in self.disks if disk.target == target), None)


@dataclass(frozen=True)
class Backup:
    """A backup that lies somewhere, or a folder whose manifest cannot be read."""

    name: str  # of its folder, below the place that was looked at
    manifest: Manifest | None
    unreadable: str = ""  # why the manifest cannot be read
    sizes: dict[str, int] | None = None  # bytes of each file in it; None: not looked at


@dataclass(frozen=True)
class DiskToBackUp:
    """One disk, and how it will be read."""

    target: str
    source: str  # path at the guest's host
    format: str
    capacity: int
    pool: str
    reading: Reading
    exported: bool  # QEMU offers it while the guest runs; otherwise its image is read
    why: str = ""  # what is not possible, where less could have been read
    upon: str = ""  # name of the earlier backup
    base: str = ""  # the copy that made the earlier one
    since: str = ""  # the checkpoint since which it is told what was written
    remembers: bool = False  # the new checkpoint is made for it
    scratch: str = ""  # directory at the guest's host for what the guest overwrites while it is read

    @property
    def file(self) -> str:
        """Its name in the backup."""
        return f"{self.target}.qcow2"


@dataclass(frozen=True)
class BackupPlan:
    """How a guest will be backed up."""

    guest: str
    uuid: str
    source: str
    place: BackupPlace  # the guest's folder
    name: str  # of the new backup's folder in it
    disks: tuple[DiskToBackUp, ...]
    steps: tuple[Step, ...]
    running: bool  # QEMU offers its disks: it runs, and may write to one at least
    guest_runs: bool = False
    freezes: bool = False
    checkpoint: str = ""  # the new one; empty: none is made
    run: str = ""  # in which bitmaps tell what was written since the earlier backup; empty: none is asked
    older: tuple[str, ...] = ()  # checkpoints of earlier backups, removed once this one is complete
    held: tuple[Held, ...] = ()  # of a guest that is off
    nvram: str = ""  # path
    tpm: str = ""  # directory
    left_out: tuple[str, ...] = ()
    not_in_it: tuple[str, ...] = ()
    superseded: tuple[
        str, ...
    ] = ()  # copies into the newest one before: the next will stand upon this one, and go by its journals
    chain: int = 1  # so many backups must be there for this one, itself counted


@dataclass(frozen=True)
class BackupMade:
    """What the report says of a backup. Sizes are bytes."""

    folder: BackupPlace
    consistency: Consistency
    upon: tuple[str, ...]
    chain: int
    bytes: int  # of its own files
    not_in_it: tuple[str, ...] = ()  # what of the guest it does not hold
