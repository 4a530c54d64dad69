"""Which disks of a running guest are copied before it is stopped, and when there have been enough passes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from ferryman.model.copy import Rate
from ferryman.model.guest import Disk
from ferryman.model.plan import Ahead, Travel
from ferryman.model.request import Options
from ferryman.model.site import Site
from ferryman.model.units import MIB, format_duration, format_size
from ferryman.plan import disks

SMALL = 3.0  # seconds: after a pass that short, what is left takes about as long as stopping the guest
SHRINKS = 0.75  # of the pass before: one that takes longer than this tells that another gains nothing
MOST = 10  # passes
ASSUMED = Rate(100 * MIB, "assumed: no copy between these hosts was measured yet")
ELSEWHERE = "/var/lib/libvirt/images"  # scratch files of disks that are no files


@dataclass(frozen=True)
class Pass:
    """One pass over the disks, as it is noted. Its checkpoint bears the name of its moment."""

    number: int
    moment: str
    since: str  # the moment of the last complete pass before it; empty: everything is looked at
    complete: bool = False
    seconds: float = 0.0
    read: int = 0  # bytes, of all disks
    written: int = 0
    wire: int = 0
    run: str = ""  # token of the guest's run in which it was begun: what its bitmap tells holds within that alone
    resumed: bool = False  # by another process than began it: it took longer than its seconds say


@dataclass(frozen=True)
class More:
    """Whether one more pass is worth it, and why."""

    again: bool
    reason: str


def decide(done: Sequence[Pass]) -> More:
    """Pure. What the guest writes during a pass is what the next has to copy, so passes shrink until its writing keeps pace."""
    if not done:
        return More(True, "nothing is copied yet")
    last, took = done[-1], format_duration(done[-1].seconds)
    if len(done) >= MOST:
        return More(False, f"pass {last.number} took {took}; {MOST} passes are enough")
    if last.resumed:
        return More(True, f"pass {last.number} was interrupted, and more was written meanwhile than its {took} tell")
    if last.seconds <= SMALL:
        return More(False, f"pass {last.number} took {took}: what is left is as small")
    if len(done) > 1 and not done[-2].resumed and last.seconds > SHRINKS * done[-2].seconds:
        return More(False, f"pass {last.number} took {took}, the one before {format_duration(done[-2].seconds)}: it grows no smaller")  # fmt: skip
    return More(True, f"pass {last.number} took {took}: another is shorter")


@dataclass(frozen=True)
class Reading:
    """What is read while the guest stands still of disks that do not remember what was written; what differs is then sent, and is little."""

    size: int  # bytes of data
    rate: Rate

    @property
    def seconds(self) -> float:
        return self.size / self.rate.rate

    def __str__(self) -> str:
        return f"{format_size(self.size)}: about {format_duration(self.seconds)} at {format_size(self.rate.rate)}/s, {self.rate.seen}"


def read_again(site: Site, targets: Sequence[str]) -> Reading:
    """Of those disks."""
    size = sum(disk.allocation for disk in site.guest.disks if disk.target in targets)
    return Reading(size, site.read_again or ASSUMED)


def copied_ahead(site: Site, options: Options) -> tuple[Ahead, ...]:
    """The disks whose content QEMU can offer while it runs. What travels as a file, or is shared, is not among them."""
    if not options.warm:
        return ()
    wanted = {new.target for new in disks.new_disks(site, options) if new.travel is Travel.COPY and not new.read_only}
    in_definition_only = {one.name for one in site.guest.unlike if one.kind == "disk" and not one.live}
    return tuple(
        Ahead(disk.target, disk.source, scratch_directory(disk, options), disk.remembers)
        for disk in site.guest.disks
        if disk.target in wanted - in_definition_only  # QEMU does not have those yet
    )


def scratch_directory(disk: Disk, options: Options) -> str:
    """Beside the image, where room for guests' data is; or as asked."""
    if options.scratch:
        return options.scratch
    return str(PurePosixPath(disk.source).parent) if disk.kind == "file" else ELSEWHERE
