"""Which files of external snapshots come along with a guest whose disks are copied, and which could not."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from ferryman.model.guest import Disk, SnapshotFile
from ferryman.model.plan import NewDisk
from ferryman.model.request import Options
from ferryman.model.site import Reach, Site
from ferryman.plan import disks


def along(site: Site, options: Options) -> tuple[SnapshotFile, ...]:
    """What is to be copied beside the disks' present images and the layers below them: each path once."""
    copied = {disk.target for disk in disks.to_copy(site, options)}
    wanted = {one.source: one for one in _beside(site) if (one.target in copied if one.target else copied)}
    return tuple(wanted.values())


def obstacles(site: Site, options: Options) -> Iterator[tuple[SnapshotFile, str]]:
    """The files that would not be at the destination, each with the reason; each path once."""
    present = {disk.target: disk for disk in site.guest.disks}
    copied = disks.to_copy(site, options)
    told: set[str] = set()
    for one in _beside(site):
        if one.source not in told and (why := _obstacle(one, site, options, present, copied)):
            told.add(one.source)
            yield one, why


def home(target: str, new: tuple[NewDisk, ...]) -> NewDisk:
    """The disk beside whose copy the copy of a file goes: its own, for saved memory the first."""
    return next((disk for disk in new if disk.target == target), new[0])


def _beside(site: Site) -> Iterator[SnapshotFile]:
    if site.guest.external_snapshots:  # internal ones lie in the disks' present images
        images = {disk.source for disk in site.guest.disks}
        yield from (one for one in site.guest.snapshot_files if one.source not in images)


def _obstacle(
    one: SnapshotFile, site: Site, options: Options, present: dict[str, Disk], copied: tuple[Disk, ...]
) -> str:
    disk, at = present.get(one.target), site.destination.host.name
    if one.target and disk is None:
        return f"the guest has no disk {one.target} any more, so it has no place at {at}"
    if one.target and disk not in copied:
        return (
            ""
            if _reached(one, site)
            else f"it lies apart from disk {one.target}, and it is not known whether {at} has it"
        )
    if not copied:
        return "" if _reached(one, site) else f"no disk is copied, and it is not known whether {at} has it"
    if one.kind != "file":
        return f"it is of kind {one.kind}, and only files are copied as they are"
    beside = home(one.target, disks.new_disks(site, options)) if disks.new_disks(site, options) else None
    pool = next((pool for pool in site.destination.pools if beside is not None and pool.name == beside.pool), None)
    if pool is not None and pool.kind == "logical":
        return f"pool {pool.name} at {at} is of kind logical, which has no files"
    return ""


def _reached(one: SnapshotFile, site: Site) -> bool:
    """Whether it lies where a disk lies that both hosts share."""
    shared = [disk for disk in site.guest.disks if disks.shared(disk, site)]
    layers = {layer.target for reach in site.ground.disks for layer in reach.layers if layer.reach is Reach.SAME}
    if one.kind == "network":
        return any(disk.kind == "network" for disk in shared if disk.target == one.target)
    directories = {str(PurePosixPath(path).parent) for path in (*(disk.source for disk in shared), *layers)}
    return str(PurePosixPath(one.source).parent) in directories
