"""How a guest is brought back from a backup."""

from dataclasses import dataclass, field

from ferryman.model.backup import BackupPlace, SmallFile
from ferryman.model.plan import Adaption, Identity, NewDisk, Step


@dataclass(frozen=True)
class RestorePlan:
    """What will be made of a backup. Paths are those at the destination."""

    guest: str  # the name that it gets
    uuid: str
    backup: BackupPlace  # the backup's own folder
    destination: str
    steps: tuple[Step, ...]
    new_disks: tuple[NewDisk, ...]  # each from its image in the backup
    digests: dict[str, str]  # by the disks' targets: what its image in the backup must hold
    files: tuple[SmallFile, ...]
    adaption: Adaption
    identity: Identity | None = None  # None: the guest that was backed up
    nvram: str = ""  # path; empty: it has none, or none is in the backup
    tpm: str = ""  # directory; likewise
    emptied: tuple[str, ...] = ()  # drives
    missing: tuple[str, ...] = ()  # disks of its definition that the backup does not hold: it comes back without them
    networks: dict[str, str] = field(default_factory=dict)  # bridge or network names, old to new
    starts: bool = False
