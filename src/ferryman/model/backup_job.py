"""A backup job of the hypervisor: what a running guest's disks hold at one moment, offered to be read while the guest goes on writing."""

from dataclasses import dataclass
from urllib.parse import quote

from ferryman.model.copy import Image


@dataclass(frozen=True)
class BackupDisk:
    """One disk of a job, offered under its target as name."""

    target: str  # vda
    scratch: str  # path at the guest's host: what the guest overwrites while the job runs is kept there until its end
    since: str = ""  # the checkpoint since which the job tells what was written; empty: it tells of nothing
    remembers: bool = True  # the job's checkpoint is made for this disk too: only qcow2 can

    @property
    def bitmap(self) -> str:
        """The name of the offered bitmap of what was written since; empty when there is none."""
        return f"backup-{self.target}" if self.since else ""


@dataclass(frozen=True)
class BackupJob:
    """What a host is asked for. One job runs on a guest at a time."""

    owner: str  # the request that it is made for: another's job is left alone
    disks: tuple[BackupDisk, ...]
    checkpoint: str = (
        ""  # from this moment on the guest's disks remember under this name what is written; empty: they do not
    )


def offered(target: str, socket: str) -> Image:
    """One disk of a job, as an image to copy from. The socket's path has the guest's name in it, which may have a blank."""
    return Image(f"nbd+unix:///{target}?socket={quote(socket)}")
