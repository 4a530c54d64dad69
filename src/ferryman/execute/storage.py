"""Disks that get a new volume: made before the transfer, filled by QEMU's mirror or carried over, the old ones kept and named.

What was made is a fact of the request, noted volume by volume, so that a rolled-back move removes only what it made itself.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ferryman.errors import FerrymanError, Refused
from ferryman.execute import undo
from ferryman.model.plan import Changes, NewDisk, Plan, Travel, Volume
from ferryman.model.request import Request
from ferryman.plain import from_plain, to_plain
from ferryman.plan.bandwidth import NO_LIMIT, Stage, shares
from ferryman.plan.disks import free_name
from ferryman.ports import Ports

_ATTEMPTS = 3  # at a name that somebody else may take at the same moment


def changes(ports: Ports, request: Request, plan: Plan, *, links_down: bool = False) -> Changes:
    """In what the guest's definition at the destination differs: from the records, so that it is the same after a crash."""
    facts = ports.records.facts(request.id)
    volumes = tuple(from_plain(Volume, volume) for volume in facts.get("volumes", {}).values())
    paths = {layer["source"]: layer["path"] for layer in facts.get("layers", ())}
    # A cold move's definition was kept before the media were taken out; a way back has the one that the host had before.
    ejected = plan.ejected if plan.method.stops and not plan.take_back else ()
    return Changes(volumes, plan.networks, links_down, plan.adaption, ejected, paths)


def mirrored(plan: Plan) -> tuple[str, ...]:
    """The targets that QEMU copies."""
    return tuple(disk.target for disk in plan.new_disks if disk.travel is Travel.MIRROR)


# Before the transfer


def eject_media(ports: Ports, request: Request, plan: Plan) -> None:
    """Take out what the destination does not have."""
    source = ports.hypervisor(request.source)
    guest = source.guest(request.guest_uuid)
    for disk in guest.disks:
        if disk.target in plan.ejected and disk.source:
            live, config = source.medium(request.guest_uuid, disk.target)
            arguments = {"host": request.source, "target": disk.target, "live": live, "config": config}
            ports.records.register_undo(request.id, undo.INSERT_MEDIUM, arguments)
            source.eject(request.guest_uuid, disk.target)


def make_volumes(ports: Ports, request: Request, plan: Plan) -> None:
    """A volume for each new disk, under the planned name or, when that was taken meanwhile, the next free one."""
    make_each(ports, request, plan.new_disks)


def make_each(ports: Ports, request: Request, disks: Iterable[NewDisk]) -> None:
    """The same of the disks that are named."""
    for disk in disks:
        made = ports.records.facts(request.id).get("volumes", {})
        if disk.target not in made:
            volume = replace(_make(ports, request, disk), format=disk.format if disk.converted_from else "")
            ports.records.keep_facts(request.id, {"volumes": {**made, disk.target: to_plain(volume)}})


def _make(ports: Ports, request: Request, disk: NewDisk) -> Volume:
    destination = ports.hypervisor(request.destination)
    if (
        disk.travel is Travel.FILE
    ):  # a file of its own, which nobody has made before; what is there already is left alone
        name = free_name(disk.name, destination.volume_names(disk.pool))
        return Volume(disk.target, disk.pool, name, f"{disk.directory.rstrip('/')}/{name}")
    for attempt in range(_ATTEMPTS):
        name = free_name(disk.name, destination.volume_names(disk.pool))
        arguments = {"host": request.destination, "pool": disk.pool, "name": name, "target": disk.target}
        ports.records.register_undo(request.id, undo.REMOVE_VOLUME, arguments)
        try:
            return destination.make_volume(disk, name)
        except FerrymanError as error:
            if attempt + 1 == _ATTEMPTS or name not in destination.volume_names(disk.pool):
                raise Refused(f"volume {name} in pool {disk.pool} at {request.destination}", f"it could not be made: {error}",
                              "mend the pool, or name another: --map-pool HERE=THERE") from error  # fmt: skip
    raise AssertionError("the last attempt returns or raises")


def make_files_known(ports: Ports, request: Request, plan: Plan) -> None:
    """libvirt finds a volume that its pool names only where it made it, or has looked since: an image that was copied as a file is neither."""
    for pool in sorted({disk.pool for disk in plan.new_disks if disk.travel is Travel.FILE}):
        ports.hypervisor(request.destination).volume_names(pool)  # looks anew


def carry_media(ports: Ports, request: Request, plan: Plan) -> None:
    """The bytes of read-only images; done again from the beginning when it was interrupted."""
    made = {volume.target: volume for volume in changes(ports, request, plan).volumes}
    for disk in plan.new_disks:
        if disk.travel is Travel.MEDIUM:
            source, destination = ports.hypervisor(request.source), ports.hypervisor(request.destination)
            ports.between.carry(source, disk.source, destination, made[disk.target])


# During the transfer


def memory_cap(request: Request, plan: Plan) -> int:
    """Bytes per second for memory, fixed when the transfer is asked for; 0: no limit.

    Setting it under way instead would outlive the move: libvirt keeps that speed for the guest's next migration.
    """
    return _memory_share(request.options.bandwidth, len(mirrored(plan)))


def _memory_share(bandwidth: int, mirrors: int) -> int:
    return shares(bandwidth, mirrors, Stage.MEMORY).memory if bandwidth and mirrors else bandwidth


def note_speed(ports: Ports, request: Request) -> None:
    """The speed that libvirt keeps for the guest, before anything is asked for: under way it answers with the transfer's own."""
    rate = ports.hypervisor(request.source).memory_limit(request.guest_uuid)
    ports.records.keep_facts(request.id, {"speed_before": rate})


class Caps:
    """The operator's bandwidth, shared between running mirrors and memory; mirrors are set anew when the shares change."""

    def __init__(self, ports: Ports, request: Request, plan: Plan) -> None:
        self._ports, self._request, self._targets = ports, request, mirrored(plan)
        self._bandwidth: int | None = request.options.bandwidth or None  # None: never limited; 0: no limit any more
        self._set: Any = None

    def tune(self, bandwidth: int) -> None:
        """Another limit from now on; 0: none. Memory's share is set at once, and put back if the guest stays where it is."""
        self._bandwidth, self._set = bandwidth, None
        source, guest = self._ports.hypervisor(self._request.source), self._request.guest_uuid
        rate = self._ports.records.facts(self._request.id).get("speed_before", 0)
        before = {"host": self._request.source, "rate": rate}
        if not any(act == undo.RESTORE_SPEED for _, act, _ in self._ports.records.undo_acts(self._request.id)):
            self._ports.records.register_undo(self._request.id, undo.RESTORE_SPEED, before)
        source.limit_memory(guest, _memory_share(bandwidth, len(self._targets)))

    def apply(self, *, mirroring: bool) -> None:
        """`mirroring`: the disks' first copy still runs, so memory does not flow yet."""
        if not self._targets or self._bandwidth is None:
            return
        stage = Stage.DISKS if mirroring else Stage.MEMORY
        wanted = shares(self._bandwidth, len(self._targets), stage) if self._bandwidth else NO_LIMIT
        if wanted == self._set:
            return
        source = self._ports.hypervisor(self._request.source)
        source.limit_mirrors(self._request.guest_uuid, self._targets, wanted.each_mirror)
        self._set = wanted
        self._ports.records.keep_decision(self._request.id, wanted.reason)


# After it


def remove_unused(ports: Ports, request: Request) -> None:
    """A guest that came there without our doing (moved by somebody while we stood still) does not use the volumes made for it.

    They are surely empty only if no transfer was asked for: after one, a disk that is not in use now may hold the newest data.
    """
    records, destination = ports.records, ports.hypervisor(request.destination)
    made = records.facts(request.id).get("volumes", {})
    disks = {disk.target: disk.source for disk in destination.guest(request.guest_uuid).disks}
    used = {*disks.values(), *(path for guest in destination.guests() for path in guest.disks)}
    for target, volume in made.items():
        path = volume["path"]
        if path in used:
            continue
        if records.asked_at(request.id) is None and disks.get(target, "").startswith("/"):
            there = destination.remove_volume(path)
            made = {kept: one for kept, one in made.items() if kept != target}
            records.keep_facts(request.id, {"volumes": made})
            done = "removed" if there else "gone already:"
            text = f"{done} {path} at {request.destination}: it was made for {target}, and the guest does not use it"
        else:
            text = f"left as it is: {path} at {request.destination}, made for {target}, which the guest does not use now; look whether it is of use"
        records.keep_decision(request.id, text)


def name_unnoted(ports: Ports, request: Request) -> None:
    """A volume that was made in the very moment when ferryman was killed is noted by nobody: its undo alone knows of it."""
    made = ports.records.facts(request.id).get("volumes", {}).values()
    noted = {(volume["pool"], volume["name"]) for volume in made}
    for _, act, arguments in ports.records.undo_acts(request.id):
        if act != undo.REMOVE_VOLUME or (arguments["pool"], arguments["name"]) in noted:
            continue
        if ports.hypervisor(arguments["host"]).volume_path(arguments["pool"], arguments["name"]):
            undo.leave(ports, request, arguments)


def note_left(ports: Ports, request: Request, plan: Plan) -> None:
    """The source's copies stay, named with their sizes, until somebody retires them; the new ones are named with theirs."""
    name_unnoted(ports, request)
    source = ports.hypervisor(request.source)
    if plan.nvram:
        ports.records.keep_decision(
            request.id,
            f"left as it is: the firmware's variables {plan.nvram} at {request.source}, which are not used any more",
        )
    left: list[dict[str, Any]] = []
    for target, path in {**{disk.target: disk.source for disk in plan.new_disks}, **plan.stays}.items():
        size = source.allocation(path)
        if size is None:
            text = f"not found: {path} at {request.source}, the image of {target} before the move; it is not named among what is left to retire"
            ports.records.keep_decision(request.id, text)
        else:
            left.append({"host": request.source, "path": path, "size": size, "target": target})
    destination = ports.hypervisor(request.destination)
    made = ports.records.facts(request.id).get("volumes", {})
    filled = {
        target: {**volume, "allocation": destination.allocation(volume["path"])} for target, volume in made.items()
    }
    ports.records.keep_facts(request.id, {"left_to_retire": left, "volumes": filled})
