"""How a guest is brought back from a backup: its place in the destination's pools, who it will be, and the steps with the undo of each."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from ferryman.model.backup import NVRAM, TPM, BackedUpDisk, BackupPlace, Manifest
from ferryman.model.guest import Guest
from ferryman.model.host import HostFacts, Machine, Pool
from ferryman.model.plan import Identity, NewDisk, Step, Travel
from ferryman.model.request import Format, Options
from ferryman.model.restore import RestorePlan
from ferryman.model.site import Ground
from ferryman.model.units import format_size
from ferryman.plan import disks, parts
from ferryman.plan.adaption import adapted_to
from ferryman.plan.backup import backed_up, left_out
from ferryman.plan.cold import tpm_state

RESTORE_STEPS = (
    "plan-restore",
    "make-volumes",
    "try-definition",
    "restore-files",
    "copy-from-backup",
    "define-restored",
    "finish-restore",
    "start-restored",
    "look-at-restored",
    "undo-restore",
)


@dataclass(frozen=True)
class Found:
    """What was looked at for a restore."""

    manifest: Manifest
    backup: BackupPlace
    lacking: tuple[str, ...]  # what is not in order of the backup, and of those that it stands upon
    guest: Guest  # as the backup's definition describes it
    there: HostFacts
    machine: Machine
    ground: Ground  # what is at the destination
    least: Mapping[str, int]  # bytes that each disk holds at least, by its target
    volumes: Mapping[str, tuple[str, ...]]  # names in each pool of the destination
    elsewhere: Mapping[str, str]  # where else the guest is by its UUID, or what could not be asked, by host


@dataclass(frozen=True)
class Berth:
    """Where a disk goes: to `pool`, or nowhere, because of `lacking`."""

    pool: Pool | None
    lacking: str = ""


def berth(disk: BackedUpDisk, there: HostFacts, options: Options) -> Berth:
    """The destination's pool for a disk: as mapped, else of the name that its own had, else of the same path."""
    directory, at = str(PurePosixPath(disk.source).parent), there.host.name
    wanted = options.map_pool.get(disk.pool) or options.map_pool.get(directory)
    named = wanted or disk.pool
    pool = next((one for one in there.pools if one.name == named), None)
    if pool is None and not wanted:
        pool = next((one for one in there.pools if one.path and one.path.rstrip("/") == directory), None)
    if pool is None:
        return Berth(None, f"{at} has no pool {named}" if named else f"{at} has no pool of directory {directory}")
    if not pool.active:
        return Berth(None, f"pool {pool.name} at {at} is not active")
    if pool.kind not in disks.MAKES_VOLUMES:
        return Berth(None, f"pool {pool.name} at {at} is of kind {pool.kind}, in which no volume can be made")
    return Berth(pool)


def restore_plan(found: Found, options: Options, *, uuid: str) -> RestorePlan:
    """What will be done; disks without a place are left out (assess refuses them). `uuid`: who it will be."""
    manifest, guest = found.manifest, found.guest
    identity = _identity(guest, options.name, uuid) if options.name else None
    used = {interface.source for interface in guest.interfaces}
    names = {file.name for file in manifest.files}
    plan = RestorePlan(
        guest=identity.name if identity else guest.name,
        uuid=uuid,
        backup=found.backup,
        destination=found.there.host.name,
        steps=(),
        new_disks=tuple(_new_disks(found, options)),
        digests={disk.target: disk.digest for disk in manifest.disks},
        files=manifest.files,
        adaption=adapted_to(found.machine, guest, found.there.libvirt_version),
        identity=identity,
        nvram=(identity.nvram if identity else guest.nvram) if NVRAM in names else "",
        tpm=_tpm(guest, uuid) if TPM in names else "",
        emptied=tuple(dict.fromkeys((*manifest.left_out, *left_out(guest)))),
        missing=_missing(manifest, guest),
        networks={old: new for old, new in options.map_network.items() if old in used and old != new},
        starts=options.start,
    )
    return _with_steps(plan)


def belonging(found: Found) -> tuple[BackedUpDisk, ...]:
    """The disks that the definition has too; one that was attached to the running guest alone has no place in it."""
    known = {disk.target for disk in found.guest.disks}
    return tuple(disk for disk in found.manifest.disks if disk.target in known)


def taken(disk: BackedUpDisk, pool: Pool, found: Found) -> int:
    """Bytes that the disk takes in a pool, as far as that is known: a logical volume is whole from the beginning."""
    return disk.size if pool.kind == "logical" else found.least.get(disk.target, disk.bytes)


def _missing(manifest: Manifest, guest: Guest) -> tuple[str, ...]:
    """Added to the definition while the guest ran without them; their images are those of the guest that was backed up."""
    there = {disk.target for disk in manifest.disks}
    return tuple(disk.target for disk in backed_up(guest) if disk.target not in there)


def _identity(guest: Guest, name: str, uuid: str) -> Identity:
    """The MACs follow from the UUID, so that asked twice they are the same."""
    digests = [hashlib.sha256(f"{uuid} {number}".encode()).hexdigest() for number in range(len(guest.interfaces))]
    macs = tuple(":".join(("52", "54", "00", one[:2], one[2:4], one[4:6])) for one in digests)
    nvram = f"{PurePosixPath(guest.nvram).parent}/{name}_VARS.fd" if guest.nvram else ""
    return Identity(name, uuid, macs, nvram)


def _tpm(guest: Guest, uuid: str) -> str:
    return tpm_state(replace(guest, uuid=uuid))


def _new_disks(found: Found, options: Options) -> list[NewDisk]:
    given: dict[str, set[str]] = {}
    made = []
    for disk in belonging(found):
        pool = berth(disk, found.there, options).pool
        if pool is None:
            continue
        there = _format_there(disk, pool, options)
        names = given.setdefault(pool.name, set(found.volumes.get(pool.name, ())))
        name = disks.free_name(_name(disk, there, found.guest, options), names)
        names.add(name)
        made.append(
            NewDisk(disk.target, found.backup.below(disk.file).path, pool.name, name, there, disk.size, taken(disk, pool, found), Travel.COPY,
                    pool.path, disk.format if there != disk.format else "")
        )  # fmt: skip
    return made


def _format_there(disk: BackedUpDisk, pool: Pool, options: Options) -> str:
    formats = disks.MAKES_VOLUMES[pool.kind]
    wanted = disk.format if options.format is Format.SAME else options.format.value
    return wanted if formats is None or wanted in formats else formats[0]


def _name(disk: BackedUpDisk, there: str, guest: Guest, options: Options) -> str:
    """That of the image; of a second guest its own name and the disk's."""
    if options.name:
        return f"{options.name}-{disk.target}.{there}"
    name = PurePosixPath(disk.source).name or f"{guest.name}-{disk.target}.{there}"
    return f"{name.removesuffix(f'.{disk.format}')}.{there}" if name.endswith(f".{disk.format}") else name


def _with_steps(plan: RestorePlan) -> RestorePlan:
    at = plan.destination
    steps = [parts.volume(disk, at) for disk in plan.new_disks]
    steps.append(
        Step("try-definition", f"have libvirt at {at} look through the definition, which it does not keep", "")
    )
    beside = [what for what in (plan.nvram and f"firmware variables ({plan.nvram})", plan.tpm and f"TPM state ({plan.tpm})") if what]  # fmt: skip
    if beside:
        steps.append(Step("restore-files", f"bring back {' and '.join(beside)}", "put back what was there before"))
    steps += [
        Step("copy-from-backup", f"copy {disk.target} ({format_size(disk.capacity)}), hold its digest against the manifest's, read it back", "it is removed with its volume")
        for disk in plan.new_disks
    ]  # fmt: skip
    who = f"as {plan.guest}, a guest of its own with UUID {plan.uuid}" if plan.identity else f"as {plan.guest}"
    steps.append(Step("define-restored", f"define it at {at} {who}, shut off", f"remove that definition at {at}"))
    if plan.starts:
        steps.append(Step("start-restored", f"start it at {at}, and watch it for some seconds", "", True))
    return replace(plan, steps=tuple(steps))
