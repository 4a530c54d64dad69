"""The files that a guest's disks and snapshots are made of: the images, the layers below them, and what snapshots keep beside.

Looked at before the guest is stopped, so that what cannot come along refuses the move; noted once nobody can change them.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import zip_longest
from pathlib import PurePosixPath

from ferryman.errors import Refused
from ferryman.model.plan import ImageFile, Layer, NewDisk, Plan, Travel, Volume
from ferryman.model.request import Request
from ferryman.model.units import format_size
from ferryman.plain import from_plain, to_plain
from ferryman.plan.disks import free_name
from ferryman.plan.snapshots import home
from ferryman.ports import Ports


def look(ports: Ports, request: Request, plan: Plan) -> None:
    """Raises Refused for a file that could not be copied, and where there is no room for more than the disks' own images."""
    needed: dict[str, dict[str, int]] = {disk.pool: {} for disk in plan.new_disks}
    images = {disk.source for disk in plan.new_disks}
    for disk, chain in _chains(ports, request, plan):
        for file in chain:
            if not file.path.startswith("/"):
                raise Refused(f"{file.path}, a layer of disk {disk.target}", "it is no file of the host, so its bytes cannot be copied as they are",
                              f"flatten it: virsh blockpull {request.guest} {disk.target} --wait")  # fmt: skip
            needed[disk.pool][file.path] = file.allocation
    destination = ports.hypervisor(request.destination)
    for name, sizes in needed.items():
        if sizes.keys() <= images:
            continue  # assess has looked
        destination.volume_names(name)  # libvirt remembers what was free when it looked last
        free = next((pool.available for pool in destination.facts().pools if pool.name == name), 0)
        if sum(sizes.values()) > free:
            raise Refused(f"room in pool {name} at {request.destination}", f"its disks with all layers and snapshots take {format_size(sum(sizes.values()))}, {format_size(free)} are free",
                          "make room, or name another pool: --map-pool HERE=THERE")  # fmt: skip


def noted(ports: Ports, request: Request, plan: Plan) -> tuple[Layer, ...]:
    """All of them, the disks' own images first, each once, with free names at the destination; noted before anything is made."""
    if before := known(ports, request):
        return before
    volumes = ports.records.facts(request.id)["volumes"]
    made = {target: from_plain(Volume, one) for target, one in volumes.items()}
    layers = {
        disk.source: Layer(disk.target, disk.source, disk.format, made[disk.target].path) for disk in plan.new_disks
    }
    taken = {volume.name for volume in made.values()}
    for pool in {disk.pool for disk in plan.new_disks}:
        taken |= set(ports.hypervisor(request.destination).volume_names(pool))
    for disk, chain in _chains(ports, request, plan):
        for file, below in zip_longest(chain, chain[1:]):
            if file.path not in layers:
                place = _place(disk, file.path, taken)
                layers[file.path] = Layer(disk.target, file.path, file.format, place)
            layers[file.path] = replace(layers[file.path], below=below.path if below else "")
    for one in plan.snapshot_files:
        if one.source not in layers:  # libvirt has removed it when somebody went back to another snapshot
            disk = home(one.target, plan.new_disks)
            path = _place(disk, one.source, taken)
            layers[one.source] = Layer(disk.target, one.source, one.format, path, found=False)
    ports.records.keep_facts(request.id, {"layers": [to_plain(one) for one in layers.values()]})
    return tuple(layers.values())


def known(ports: Ports, request: Request) -> tuple[Layer, ...]:
    """What was noted so far."""
    return tuple(from_plain(Layer, one) for one in ports.records.facts(request.id).get("layers", ()))


def _chains(ports: Ports, request: Request, plan: Plan) -> Iterator[tuple[NewDisk, tuple[ImageFile, ...]]]:
    """Each chain of files, top first, and the disk that it goes along with. Two may end alike; what is gone has none."""
    source = ports.hypervisor(request.source)
    seen: set[str] = set()
    tops = [(disk, disk.source, disk.format) for disk in plan.new_disks if disk.travel is Travel.FILE]
    beside = [(home(one.target, plan.new_disks), one.source, one.format) for one in plan.snapshot_files]
    for disk, path, kind in (*tops, *beside):
        if path not in seen:
            chain = source.image_chain(path, kind)
            seen |= {file.path for file in chain}
            yield disk, chain


def _place(disk: NewDisk, path: str, taken: set[str]) -> str:
    """A free name beside the copy of a disk; taken from then on."""
    name = free_name(PurePosixPath(path).name, taken)
    taken.add(name)
    return f"{disk.directory.rstrip('/')}/{name}"
