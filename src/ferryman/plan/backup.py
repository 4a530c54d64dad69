"""How a guest is backed up: what of each disk is read, upon which earlier backup it stands, and the steps with the undo of each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from ferryman.model.backup import (
    CHECKPOINT,
    Backup,
    BackupPlace,
    BackupPlan,
    Consistency,
    DiskToBackUp,
    Reading,
)
from ferryman.model.guest import Disk, Guest, Unlike
from ferryman.model.host import Pool
from ferryman.model.plan import Held, Step
from ferryman.model.request import Options
from ferryman.plan.ahead import scratch_directory
from ferryman.plan.cold import can_be_held, tpm_state

_MEDIA = ("cdrom", "floppy")

# The durable steps in the order they may run, by their stored names, beside those that all requests share.
BACKUP_STEPS = (
    "plan-backup",
    "make-folder",
    "hold-images",
    "begin-backup",
    "save-guest",
    "copy-to-backup",
    "end-backup",
    "write-manifest",
    "finish-backup",
    "move-on",
    "look-at-backup",
    "undo-backup",
)


@dataclass(frozen=True)
class Seen:
    """What was looked at for a backup."""

    guest: Guest
    pools: tuple[Pool, ...]  # of its host
    checkpoints: tuple[str, ...]  # each after the one it was made upon
    earlier: Backup | None  # the newest whole one in the same place; None: none is there, or none is wanted
    kept: tuple[str, ...] = ()  # copies whose journals the newest whole one left, wanted or not
    chain: int = 0  # so many backups it needs, itself counted
    agent: bool = False  # the guest's agent answers, and may freeze and thaw
    frozen: bool = False  # somebody else has its file systems frozen
    unlike: tuple[Unlike, ...] = ()  # what a running guest and its definition do not have alike
    moves: bool = False  # the guest is moved next, and a checkpoint would not travel
    run: str = ""  # token of the guest's present run; empty: it has none, or is off


def backup_plan(seen: Seen, options: Options, *, place: BackupPlace, name: str, request: str) -> BackupPlan:
    """What will be done. `place` is the guest's own folder, `name` that of the new backup in it."""
    guest = seen.guest
    running = not guest.off
    checkpoint = f"{CHECKPOINT}{request}" if running and guest.persistent and not seen.moves else ""
    disks = tuple(_disk(disk, seen, options, checkpoint) for disk in backed_up(guest))
    if not any(disk.remembers for disk in disks):
        checkpoint = ""
    held = () if running else tuple(_held(disk) for disk in backed_up(guest) if can_be_held(disk))
    plan = BackupPlan(
        guest=guest.name,
        uuid=guest.uuid,
        source=guest.host,
        place=place,
        name=name,
        disks=disks,
        steps=(),
        guest_runs=running,
        running=running and any(disk.exported for disk in disks),
        freezes=running and (seen.agent or seen.frozen),
        checkpoint=checkpoint,
        run=seen.run if any(disk.since for disk in disks) else "",
        older=tuple(one for one in seen.checkpoints if one.startswith(CHECKPOINT)) if running else (),
        held=held,
        nvram=guest.nvram,
        tpm=tpm_state(guest),
        left_out=left_out(guest),
        not_in_it=not_in_it(seen),
        superseded=seen.kept,
        chain=1 + (seen.chain if any(disk.upon for disk in disks) else 0),
    )
    return _with_steps(plan)


def backed_up(guest: Guest) -> tuple[Disk, ...]:
    """The disks whose content a backup holds; media in drives are no part of the guest."""
    return tuple(disk for disk in guest.disks if disk.source and disk.device not in _MEDIA)


def left_out(guest: Guest) -> tuple[str, ...]:
    """The drives that have a medium, which the backup does not hold."""
    return tuple(disk.target for disk in guest.disks if disk.source and disk.device in _MEDIA)


def not_in_it(seen: Seen) -> tuple[str, ...]:
    """What of the guest the backup does not hold; each in words."""
    guest = seen.guest
    media = [f"the medium in {target}" for target in left_out(guest)]
    snapshots = [f"snapshot {name}" for name in guest.snapshots]
    saved = ["saved memory"] if guest.managed_save and guest.off else []
    store = [f"firmware variables {guest.nvram_store}"] if guest.nvram_store else []
    return (*outside(seen), *media, *snapshots, *saved, *(f"state {path}" for path in guest.state_files), *store)


def outside(seen: Seen) -> tuple[str, ...]:
    """That part of it which is no state of the guest's own, or not yet."""
    disks = [
        f"disk {one.name} ({one.defined})" + (": the guest has it from its next start on" if not one.live else ": the guest has another one until its next start")
        for one in seen.unlike
        if one.kind == "disk" and one.defined
    ]  # fmt: skip
    attached = [
        f"the place of disk {one.name} ({one.live}) in the definition: it was attached to the running guest alone, and only its content is in it"
        for one in seen.unlike
        if one.kind == "disk" and not one.defined
    ]
    devices = [f"{one.kind} {one.name}" for one in seen.guest.host_devices]
    boot = [f"file {path} of the host, from which it boots" for path in seen.guest.boot_files]
    return (*disks, *attached, *devices, *boot)


def consistency(plan: BackupPlan, *, frozen: bool, by_another: bool = False) -> Consistency:
    """In which state the disks are."""
    if not plan.guest_runs:
        return Consistency.OFF
    if not plan.running:
        return Consistency.READ_ONLY
    if frozen:
        return Consistency.FROZEN
    return Consistency.BY_ANOTHER if by_another else Consistency.CRASH


def _held(disk: Disk) -> Held:
    return Held(disk.target, disk.source, "raw" if disk.encrypted else disk.format, shared=False)


def _disk(disk: Disk, seen: Seen, options: Options, checkpoint: str) -> DiskToBackUp:
    guest = seen.guest
    exported = not guest.off and not disk.read_only
    reading, why, since = _reading(disk, seen, exported=exported)
    before = seen.earlier.manifest.disk(disk.target) if seen.earlier and seen.earlier.manifest else None
    stands = reading is not Reading.FULL and before is not None and seen.earlier is not None
    pool = next((one.name for one in seen.pools if one.path and _in(disk.source, one.path)), "")
    return DiskToBackUp(
        target=disk.target,
        source=disk.source,
        format=disk.format,
        capacity=disk.capacity,
        pool=disk.pool or pool,
        reading=reading,
        exported=exported,
        why=why,
        upon=seen.earlier.name if stands and seen.earlier else "",
        base=before.copy if stands and before else "",
        since=since,
        scratch=scratch_directory(disk, options) if exported else "",
        remembers=bool(checkpoint) and disk.remembers and exported,
    )


def _reading(disk: Disk, seen: Seen, *, exported: bool) -> tuple[Reading, str, str]:
    """(what is read, why no less, the checkpoint since which it is known what was written)."""
    manifest = seen.earlier.manifest if seen.earlier else None
    before = manifest.disk(disk.target) if manifest else None
    if manifest is None or before is None:
        return Reading.FULL, "no earlier backup in this place has it" if manifest else "", ""
    if disk.capacity < before.size:
        return Reading.FULL, "it is smaller than in the earlier backup", ""
    if disk.capacity > before.size:
        return Reading.DIGESTS, "it is larger than in the earlier backup", ""
    if disk.source != before.source:  # its bitmap may be one of another disk, which bore that name at the time
        return Reading.DIGESTS, f"its image was {before.source} in the earlier backup", ""
    if not disk.remembers:
        return Reading.DIGESTS, f"{kind_of(disk)} images do not remember what was written", ""
    if not before.remembers or not manifest.checkpoint:
        return Reading.DIGESTS, "the earlier backup made no checkpoint for it", ""
    if manifest.checkpoint not in seen.checkpoints:
        return Reading.DIGESTS, f"checkpoint {manifest.checkpoint} of the earlier backup is gone", ""
    if not exported or not manifest.run or manifest.run != seen.run:
        # A bitmap knows nothing of an image that was made smaller and larger again, or replaced by an older copy of itself.
        return (
            Reading.DIGESTS,
            "the guest was off since the earlier backup, and what befell its image then no bitmap tells for certain",
            "",
        )
    return Reading.BITMAP, "", manifest.checkpoint


def kind_of(disk: Disk) -> str:
    """What its image is, for people."""
    return f"{disk.format} (compat 0.10)" if disk.old else disk.format


def _in(path: str, directory: str) -> bool:
    return str(PurePosixPath(path).parent) == directory.rstrip("/")


def _with_steps(plan: BackupPlan) -> BackupPlan:
    return replace(plan, steps=tuple(_steps(plan)))


def _steps(plan: BackupPlan) -> Sequence[Step]:
    at = plan.source
    steps = [Step("make-folder", f"make folder {plan.place.below(plan.name).words}, under another name until it is complete", "remove it")]  # fmt: skip
    if plan.running:
        frozen = "have its agent freeze the file systems for a moment, and " if plan.freezes else ""
        steps.append(
            Step("begin-backup", f"{frozen}have QEMU at {at} offer what {_names(plan)} hold now", "end that, and thaw the file systems")
        )  # fmt: skip
    elif plan.held:
        steps.append(
            Step("hold-images", f"hold the images at {at}, so that nothing can start the guest", "let them go")
        )
    beside = "".join(f", {what}" for what in (plan.nvram and "firmware variables", plan.tpm and "TPM state") if what)
    steps.append(Step("save-guest", f"write the definition{beside} into it, and read them back", ""))
    steps += [
        Step("copy-to-backup", f"copy {disk.target} into it: {_how(disk)}; read back what was written", "")
        for disk in plan.disks
    ]
    if plan.running:
        steps.append(Step("end-backup", "have QEMU stop offering them", ""))
    steps.append(Step("write-manifest", "write the manifest, and give the folder its name", "", True))
    if plan.older:
        steps.append(
            Step("finish-backup", f"remove the checkpoints of earlier backups ({', '.join(plan.older)})", "", True)
        )
    return steps


def _names(plan: BackupPlan) -> str:
    return ", ".join(disk.target for disk in plan.disks if disk.exported)


def _how(disk: DiskToBackUp) -> str:
    why = f" ({disk.why})" if disk.why else ""
    match disk.reading:
        case Reading.FULL:
            return f"all of it{why}"
        case Reading.BITMAP:
            return f"what was written since backup {disk.upon}, upon which it stands"
        case Reading.DIGESTS:
            return f"all is read{why}, and what differs from backup {disk.upon} is written, upon which it stands"
