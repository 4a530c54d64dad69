"""May the guest be backed up, and what will the backup not hold? Facts in, findings out."""

from collections.abc import Iterator, Mapping

from ferryman.model.backup import BackupPlan, DiskToBackUp, Reading
from ferryman.model.finding import Finding, blocker, by_weight, note, warning
from ferryman.model.guest import Disk
from ferryman.model.units import GIB, format_size
from ferryman.plan.backup import Seen, backed_up, kind_of, outside
from ferryman.plan.disks import COPYABLE

LEAST_SCRATCH = GIB // 4  # bytes free where QEMU keeps what the guest overwrites meanwhile


def findings(
    seen: Seen, plan: BackupPlan, *, scratch_room: Mapping[str, int | None], room: int | None
) -> tuple[Finding, ...]:
    """`scratch_room`: bytes free in each directory of scratch files; `room`: those where the backup goes. None: not told."""
    return by_weight((*_disks(seen), *_guest(seen, plan), *_how(seen, plan), *_room(seen, plan, scratch_room, room)))


def _named(disk: Disk, seen: Seen) -> str:
    return f"disk {disk.target} ({disk.source}) of guest {seen.guest.name}"


def _disks(seen: Seen) -> Iterator[Finding]:
    guest = seen.guest
    for disk in backed_up(guest):
        if disk.encrypted:
            yield blocker("backup-encrypted", _named(disk, seen), "it is encrypted, and in the backup its content would lie as only the guest sees it",
                          "back it up from within the guest; or, while it is off, copy its file as it is: ferryman copy --as-file")  # fmt: skip
        elif disk.kind == "vhostuser":
            yield blocker("backup-unreadable", _named(disk, seen), "another program keeps it, and QEMU does not read it itself",
                          "back it up where that program keeps it; or take the disk out of the guest meanwhile")  # fmt: skip
        elif (guest.off or disk.read_only) and disk.kind not in COPYABLE:
            yield blocker("backup-unreadable", _named(disk, seen), f"it is {disk.kind} storage, which QEMU opens by itself, and only while the guest runs",
                          f"start the guest, and ask again: virsh start {guest.name}")  # fmt: skip
        elif guest.off and not disk.capacity:
            yield blocker("backup-unreadable", _named(disk, seen), f"libvirt at {guest.host} does not find it, or does not say how large it is",
                          "look whether it is there; or take the disk out of the definition: virsh edit")  # fmt: skip
        if disk.sliced:
            yield note("backup-sliced", _named(disk, seen), "only a part of its image is what the guest sees: that part is backed up",
                       "restored, it is a disk of its own")  # fmt: skip


def _guest(seen: Seen, plan: BackupPlan) -> Iterator[Finding]:
    guest, what = seen.guest, f"guest {seen.guest.name}"
    for job in guest.jobs:
        yield blocker("backup-job", what, f"another job runs on it ({job.kind}{f' {job.detail}' if job.detail else ''}), and a guest has one at a time",
                      f"wait for its end: virsh domjobinfo {guest.name}")  # fmt: skip
    if plan.left_out:
        yield note("backup-media", what, f"the media in {', '.join(plan.left_out)} are not backed up", "a restored guest has those drives, and they are empty")  # fmt: skip
    for one in outside(seen):
        yield warning("backup-outside", what, f"not in the backup: {one}", "see to it in another way, or have it in order before: a disk by a restart of the guest")  # fmt: skip
    if guest.snapshots:
        yield note("backup-snapshots", what, f"its snapshots ({', '.join(guest.snapshots)}) are not backed up: what its disks hold now is",
                   "a restored guest has none")  # fmt: skip
    if guest.managed_save and guest.off:
        yield warning("backup-saved-memory", what, "it was put to sleep with its memory saved, and the backup holds its disks alone: restored, it starts as after a loss of power",
                      "wake it up and shut it down first")  # fmt: skip
    for path in guest.state_files:
        yield warning("backup-state", f"{path} of {what}", "it holds what the guest keeps in its memory device or TPM, and is not backed up",
                      "copy it yourself while the guest is off")  # fmt: skip
    if guest.nvram_store:
        yield warning("backup-state", f"firmware variables {guest.nvram_store} of {what}", "they are no file, and are not backed up",
                      "copy them yourself while the guest is off")  # fmt: skip
    if plan.place.host == guest.host:
        yield note("backup-same-host", what, f"{plan.place.words} is at the guest's own host", "what destroys that host destroys both")  # fmt: skip


def _how(seen: Seen, plan: BackupPlan) -> Iterator[Finding]:
    what = f"guest {seen.guest.name}"
    if plan.running and not plan.freezes:
        yield note("backup-not-frozen", what, "no guest agent answers that could freeze its file systems: the backup is as after a loss of power",
                   "install qemu-guest-agent in the guest, and give it its channel")  # fmt: skip
    if plan.running and seen.frozen:
        yield note("backup-frozen-already", what, "somebody else has its file systems frozen, perhaps for a snapshot: ferryman neither freezes nor thaws them then",
                   f"wait for its end; or, if nobody wants it any more: virsh domfsthaw {seen.guest.name}")  # fmt: skip
    for disk in plan.disks:
        if disk.reading is not Reading.BITMAP and disk.why:
            how = (
                "all of it is read, and what differs is written"
                if disk.reading is Reading.DIGESTS
                else "all of it is copied"
            )
            yield note("backup-compared", f"disk {disk.target} of {what}", f"{how}: {disk.why}")
        if plan.running and disk.exported and not disk.remembers:
            yield note(
                "backup-no-checkpoint",
                f"disk {disk.target} of {what}",
                f"the next backup has to read all of it: {_forgets(disk, seen)}",
            )


def _forgets(disk: DiskToBackUp, seen: Seen) -> str:
    if seen.moves:
        return "checkpoints do not travel, so none is made before a move"
    if not seen.guest.persistent:
        return "a guest without a definition keeps no checkpoints"
    image = next(one for one in seen.guest.disks if one.target == disk.target)
    return f"{kind_of(image)} images do not remember what was written"


def _room(seen: Seen, plan: BackupPlan, scratch_room: Mapping[str, int | None], room: int | None) -> Iterator[Finding]:
    allocated = {disk.target: disk.allocation for disk in seen.guest.disks}
    for directory, free in scratch_room.items():
        here = [disk for disk in plan.disks if disk.exported and disk.scratch == directory]
        most, what = sum(disk.capacity for disk in here), f"{directory} at {plan.source}"
        if free is None:
            yield blocker("backup-scratch", what, "there is no such directory, in which QEMU would keep what the guest overwrites meanwhile",
                          f"make it: mkdir -p {directory}")  # fmt: skip
        elif free < LEAST_SCRATCH:
            yield blocker("backup-scratch", what, f"{format_size(free)} are free there, where QEMU keeps what the guest overwrites while its backup is read",
                          f"make room: {format_size(LEAST_SCRATCH)} at least, {format_size(most)} if it may overwrite everything")  # fmt: skip
        elif free < most:
            yield note("backup-scratch-tight", what, f"{format_size(free)} are free there, and the guest might overwrite up to {format_size(most)} while its backup is read",
                       "ferryman ends a backup that runs out of that room, before the guest notices")  # fmt: skip
    needed = sum(allocated.get(disk.target, 0) for disk in plan.disks if disk.reading is Reading.FULL)
    if room is not None and room < needed:
        yield warning("backup-room", plan.place.words, f"{format_size(room)} are free there, and the disks take {format_size(needed)} where they are",
                      "make room, or name another place; what does not fit is taken back")  # fmt: skip
