"""Which disks get a new volume at the destination, in which pool and by which name, and which media are taken out."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from ferryman.model.guest import Disk, Guest
from ferryman.model.host import HostFacts, Pool
from ferryman.model.plan import NewDisk, Travel
from ferryman.model.request import Chain, CopyStorage, Format, Options
from ferryman.model.site import DiskReach, Reach, Site

# Kinds of pools in which libvirt makes a volume of a size we name, and the formats it makes there (None: every one).
MAKES_VOLUMES: dict[str, tuple[str, ...] | None] = {"dir": None, "fs": None, "netfs": None, "logical": ("raw",)}
_REMOVABLE = ("cdrom", "floppy")
COPYABLE = ("file", "block")


@dataclass(frozen=True)
class Placement:
    """Where one disk goes: to `pool`, or nowhere, because of `lacking`."""

    disk: Disk
    pool: Pool | None
    lacking: str = ""


def to_copy(site: Site, options: Options) -> tuple[Disk, ...]:
    """The disks whose content does not reach the destination by itself, as far as the options let them be copied."""
    if options.rollback_loses_writes:
        return ()  # what lies there from earlier is what the guest gets
    return tuple(disk for disk in site.guest.disks if _is_copied(disk, site, options))


def ejected(site: Site, options: Options) -> tuple[Disk, ...]:
    """The removable media that are taken out of their drives."""
    if not options.eject:
        return ()
    return tuple(
        disk for disk in site.guest.disks if disk.source and disk.device in _REMOVABLE and not shared(disk, site)
    )


def _is_copied(disk: Disk, site: Site, options: Options) -> bool:
    if not disk.source or disk.kind not in COPYABLE or options.copy_storage is CopyStorage.NEVER:
        return False
    if disk in ejected(site, options):
        return False
    if options.copy_storage is CopyStorage.ALL:
        return not disk.read_only or not shared(disk, site)
    return _reach(disk, site) is Reach.DIFFERENT


def beyond_copying(site: Site, options: Options) -> tuple[Disk, ...]:
    """The disks that --copy-storage all means too, and that no path of the host opens."""
    if options.copy_storage is not CopyStorage.ALL or options.rollback_loses_writes:
        return ()
    return tuple(
        disk
        for disk in site.guest.disks
        if disk.source
        and disk.kind not in COPYABLE
        and not (disk.read_only and shared(disk, site))
        and disk not in ejected(site, options)
    )


def _reach(disk: Disk, site: Site) -> Reach:
    found: dict[str, DiskReach] = {one.target: one for one in site.ground.disks}
    return found[disk.target].reach if disk.target in found else Reach.UNPROVED


def shared(disk: Disk, site: Site) -> bool:
    """Whether the destination has the same storage."""
    return _reach(disk, site) in (Reach.SAME, Reach.NETWORK)


def placement(disk: Disk, site: Site, options: Options) -> Placement:
    """The destination's pool for a disk: as mapped, else of the same name, else of the same path."""
    at, there = site.destination.host.name, site.destination
    ours = pool_of(disk, site.source)
    directory = str(PurePosixPath(disk.source).parent)
    wanted = options.map_pool.get(ours.name if ours else "") or options.map_pool.get(directory)
    if wanted:
        pool = _named(there, wanted)
        lacking = "" if pool else f"{at} has no pool {wanted}, which {ours.name if ours else directory} is mapped to"
    else:
        pool = (_named(there, ours.name) if ours else None) or _at_path(there, directory)
        named = f"no pool named {ours.name} and none" if ours else "no pool"
        lacking = "" if pool else f"{at} has {named} of directory {directory}"
    if pool is None:
        return Placement(disk, None, lacking)
    if not pool.active:
        return Placement(disk, None, f"pool {pool.name} at {at} is not active")
    if pool.kind not in MAKES_VOLUMES:
        return Placement(disk, None, f"pool {pool.name} at {at} is of kind {pool.kind}, in which no volume can be made")
    formats, what = MAKES_VOLUMES[pool.kind], f"pool {pool.name} at {at} ({pool.kind})"
    if formats is not None and _travel(disk, site, options) is Travel.FILE:
        return Placement(disk, None, f"{what} holds no files, and this image travels as the file that it is")
    if formats is not None and format_there(disk, pool, site, options) not in formats:
        held = f"{what} holds {', '.join(formats)} volumes, not {disk.format}"
        return Placement(disk, None, f"{held}; a cold move converts it (--cold)")
    return Placement(disk, pool)


def format_there(disk: Disk, pool: Pool, site: Site, options: Options) -> str:
    """What the disk is at the destination. While its guest runs, or as the bytes of its file, it stays what it is."""
    if _travel(disk, site, options) is not Travel.COPY:
        return disk.format
    formats = MAKES_VOLUMES.get(pool.kind)
    if formats is not None:
        return disk.format if disk.format in formats else formats[0]
    return disk.format if options.format is Format.SAME or disk.read_only else options.format.value


def pool_of(disk: Disk, host: HostFacts) -> Pool | None:
    """The pool at a host that a disk's image lies in."""
    return _named(host, disk.pool) if disk.pool else _at_path(host, str(PurePosixPath(disk.source).parent))


def _named(host: HostFacts, name: str) -> Pool | None:
    return next((pool for pool in host.pools if pool.name == name), None)


def _at_path(host: HostFacts, path: str) -> Pool | None:
    return next((pool for pool in host.pools if pool.active and pool.path.rstrip("/") == path.rstrip("/")), None)


def new_disks(site: Site, options: Options) -> tuple[NewDisk, ...]:
    """What is to be made at the destination; disks without a place are left out (assess refuses them)."""
    return tuple(_new_disks(site, options))


def _new_disks(site: Site, options: Options) -> Iterator[NewDisk]:
    given: dict[str, set[str]] = {}
    for disk in to_copy(site, options):
        pool = placement(disk, site, options).pool
        if pool is None:
            continue
        names = given.setdefault(pool.name, set(site.ground.volumes.get(pool.name, ())))
        there = format_there(disk, pool, site, options)
        name = free_name(_name(disk, there), names)
        names.add(name)
        yield NewDisk(
            disk.target, disk.source, pool.name, name, there, disk.capacity, disk.allocation,
            _travel(disk, site, options), pool.path, disk.format if there != disk.format else "", disk.read_only,
        )  # fmt: skip


def _name(disk: Disk, there: str) -> str:
    """That of the image; an ending that names its format follows the format."""
    name = PurePosixPath(disk.source).name
    ends_in = f".{disk.format}"
    return f"{name.removesuffix(ends_in)}.{there}" if name.endswith(ends_in) else name


def keeps_chain(guest: Guest, options: Options) -> bool:
    """Whether the layers below a copied disk stay the files that they are: wanted, or named by snapshots."""
    return options.stops and (options.chain is Chain.KEEP or bool(guest.external_snapshots))


def _travel(disk: Disk, site: Site, options: Options) -> Travel:
    if not options.stops:
        return Travel.MEDIUM if disk.read_only else Travel.MIRROR
    # A snapshot inside an image is not in the content that the guest sees, nor is the border to a layer below.
    as_it_is = bool(site.guest.snapshots) or keeps_chain(site.guest, options)
    as_it_is = as_it_is and disk.format == "qcow2" and not disk.read_only
    return Travel.FILE if as_it_is or disk.encrypted else Travel.COPY  # what is encrypted is opened by its guest alone


def kept_as_it_is(disk: Disk, site: Site, options: Options) -> bool:
    """Whether another format was asked for a disk that travels as the bytes of its file."""
    other = options.format not in (Format.SAME, disk.format)
    return other and not disk.read_only and options.stops and _travel(disk, site, options) is Travel.FILE


def free_name(name: str, taken: Collection[str]) -> str:
    """The name itself, or with the lowest free number before its ending: web.qcow2, web-2.qcow2, web-3.qcow2, …

    A number that an earlier move gave is counted on, so that names do not grow: web-2.qcow2 is followed by web-3.qcow2.
    """
    if name not in taken:
        return name
    path = PurePosixPath(name)
    stem, _, number = path.stem.rpartition("-")
    if not (stem and number.isdigit() and f"{stem}{path.suffix}" in taken):
        stem = path.stem
    return next(one for one in (f"{stem}-{n}{path.suffix}" for n in range(2, len(taken) + 3)) if one not in taken)


def networks(guest: Guest, options: Options) -> dict[str, str]:
    """The bridges and networks of the guest whose names change, old to new."""
    used = {interface.source for interface in guest.interfaces}
    return {old: new for old, new in options.map_network.items() if old in used and old != new}


def local_nvram(site: Site) -> str:
    """The variable store that must be copied; empty when there is none, or both hosts see the same."""
    if site.ground.nvram is None or site.ground.nvram.reach is not Reach.DIFFERENT:
        return ""
    return site.guest.nvram
