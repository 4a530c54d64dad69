"""Can the volumes be made that the copied disks need: a pool for each, room for all of them, and what will not be as it was?"""

from collections.abc import Iterator

from ferryman.model.finding import Finding, blocker, note, warning
from ferryman.model.guest import Disk
from ferryman.model.host import Pool
from ferryman.model.request import Chain, Options
from ferryman.model.site import Site
from ferryman.model.units import MIB, format_size
from ferryman.plan import disks
from ferryman.plan.ahead import copied_ahead

# Beside the data: tables of the format and what the file system needs. An allowance, not a measurement.
OVERHEAD = 16 * MIB
# From this version on QEMU's mirror leaves zeroes of a raw target unallocated (10.1: "mirror: skip writing zeroes").
SPARSE_RAW_SINCE = (10, 1)


def findings(site: Site, options: Options) -> Iterator[Finding]:
    """One look at each disk that is to be copied, then at each pool."""
    wanted: dict[str, list[Disk]] = {}
    pools: dict[str, Pool] = {}
    for disk in disks.to_copy(site, options):
        placed = disks.placement(disk, site, options)
        if placed.pool is None:
            yield blocker("no-pool", _what(site, disk), placed.lacking,
                          "name another: --map-pool HERE=THERE; or make one there: virsh pool-define-as NAME dir --target DIRECTORY, then pool-build, pool-start, pool-autostart NAME")  # fmt: skip
            continue
        pools[placed.pool.name] = placed.pool
        wanted.setdefault(placed.pool.name, []).append(disk)
        yield from _disk(site, disk, placed.pool, options)
    for disk in disks.beyond_copying(site, options):
        yield blocker("copy-impossible", _what(site, disk), f"--copy-storage all asks for a copy, and storage of kind {disk.kind} is not a file or device of {site.source.host.name} that could be copied",
                      "--copy-storage auto leaves it where it is, for both hosts to use; or shut the guest down and copy the disk by hand: ferryman copy")  # fmt: skip
    for name, pool in pools.items():
        yield from _room(site, pool, wanted[name], options)
    if wanted and options.bandwidth and not options.stops:
        yield note("cap-shared", f"guest {site.guest.name}", f"disks and memory together get {format_size(options.bandwidth)}/s; holes of sparse disks count too",
                   "shape the link instead if the disks are mostly empty")  # fmt: skip


def _disk(site: Site, disk: Disk, pool: Pool, options: Options) -> Iterator[Finding]:
    what, at = _what(site, disk), site.destination.host.name
    if disk.target in {one.target for one in copied_ahead(site, options)}:
        carried = "most of it is copied while the guest runs, and what it wrote meanwhile while it stands still"
    elif options.stops:
        carried = "it is copied while the guest stands still"
    elif disk.read_only:
        carried = "its bytes are carried over by way of this machine beforehand"
    else:
        carried = "it is copied while the guest runs"
    yield note("disk-copied", what, f"{carried}, to pool {pool.name} at {at} ({format_size(disk.allocation)} of {format_size(disk.capacity)} are in use)",
               "the source's copy is removed at the end (--retire)" if options.retire else "the source's copy is kept until: ferryman retire ID")  # fmt: skip
    if disk.backing and not disk.read_only and disks.keeps_chain(site.guest, options):
        why = "--chain keep" if options.chain is Chain.KEEP else "its snapshots are made of them"
        yield note("chain-kept", what, f"its {len(disk.backing)} backing layers are copied as the files that they are ({why})",
                   "they need room for each layer, and stay at the source: other images may stand upon them")  # fmt: skip
    elif disk.backing and not disk.read_only:
        yield note("chain-flattened", what, f"its {len(disk.backing)} backing layers are copied into one image",
                   "nothing is lost; put all layers on storage that both hosts share if they must stay apart")  # fmt: skip
    yield from _format(site, disk, pool, options)
    if pool.kind == "logical":
        yield note("raw-allocated", what, f"a logical volume takes all {format_size(disk.capacity)} from the beginning, and whole extents: the guest may see a disk that is slightly larger",
                   "leave that much room in the volume group")  # fmt: skip
    elif _fully_allocated(site, disk, pool, options):
        yield note("raw-allocated", what, f"QEMU {'.'.join(map(str, site.destination.qemu_version))} may allocate all {format_size(disk.capacity)} of a raw copy",
                   "leave that much room; afterwards fallocate --dig-holes makes it sparse again while the guest is shut off")  # fmt: skip
    if not disk.read_only and not options.stops:
        yield note("no-image-lock", what, "its two copies have no lock in common: if a libvirtd dies in the switchover, nothing but libvirt stands between two running guests",
                   "do not restart libvirtd at either host during the move")  # fmt: skip
    if disk.sliced:
        yield blocker("copied-sliced", what, "its definition names a part of an image (<slices>): the whole of it would be copied, and the part not be known",
                      f"put that part into an image of its own while the guest is off (of a raw one: dd with skip= and count=), and name that: virsh edit {site.guest.name}; or put it on storage that both hosts share")  # fmt: skip
    if disk.shareable:
        yield blocker("copied-shareable", what, "it is marked shareable: another guest may be writing to it, and would go on writing to the old copy",
                      "put it on storage that both hosts share")  # fmt: skip


def _format(site: Site, disk: Disk, pool: Pool, options: Options) -> Iterator[Finding]:
    what, there = _what(site, disk), disks.format_there(disk, pool, site, options)
    if disks.kept_as_it_is(disk, site, options):
        yield blocker("not-converted", what, f"--format {options.format} asks for another format than {disk.format}, and what has snapshots inside, a chain to be kept or encryption is copied as the file that it is",
                      "leave --format away; or remove the snapshots first, or leave --chain keep away")  # fmt: skip
    elif there != disk.format:
        why = f"--format {options.format}" if options.format.value == there else f"pool {pool.name} holds nothing else"
        yield note("format-changed", what, f"it is {disk.format} here and will be {there} at {site.destination.host.name} ({why})",
                   "its definition there says so; its content is the same, and its digests prove it")  # fmt: skip


def _what(site: Site, disk: Disk) -> str:
    return f"disk {disk.target} ({disk.source}) of guest {site.guest.name}"


def _fully_allocated(site: Site, disk: Disk, pool: Pool, options: Options) -> bool:
    """QEMU's mirror does it, and a logical volume is; the copy engine leaves holes where they are."""
    if pool.kind == "logical":
        return True
    if options.stops:
        return False
    return disk.format == "raw" and not disk.read_only and site.destination.qemu_version[:2] < SPARSE_RAW_SINCE


def _room(site: Site, pool: Pool, wanted: list[Disk], options: Options) -> Iterator[Finding]:
    """Blocked when the data does not fit now; warned of when it would not fit once the guest has filled its disks."""
    what = f"room in pool {pool.name} at {site.destination.host.name}"
    least = OVERHEAD + sum(
        disk.capacity if _fully_allocated(site, disk, pool, options) else disk.allocation for disk in wanted
    )
    most = sum(max(disk.capacity, disk.allocation) for disk in wanted) + OVERHEAD
    free = site.ground.room.get(pool.name, pool.available)
    if free < least:
        yield blocker("no-room", what, f"{format_size(least)} are needed, {format_size(free)} are free",
                      "make room, or name another pool: --map-pool HERE=THERE")  # fmt: skip
    elif free < most:
        yield warning("room-tight", what, f"{format_size(free)} are free: enough for the data, not for full disks ({format_size(most)})",
                      "make room before the guest writes more")  # fmt: skip
