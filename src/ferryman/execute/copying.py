"""The disks of a stopped guest, copied one after another; what is done is noted, so that a later process goes on behind it.

Of a disk that was copied ahead (execute/ahead.py) only what was written since its last pass is left.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace

from ferryman.errors import DriverError, NoBitmap, Stopped
from ferryman.execute import layers, undo, windows
from ferryman.execute.follow import ASK_AGAIN, TransferEnd
from ferryman.execute.patience import Patience
from ferryman.execute.settle import look
from ferryman.model.copy import CopyProgress, CopyResult, CopyTask, Image
from ferryman.model.phase import Phase
from ferryman.model.place import Where
from ferryman.model.plan import Layer, NewDisk, Plan, Travel, Volume
from ferryman.model.request import Request
from ferryman.model.sample import Sample
from ferryman.model.units import format_size
from ferryman.plain import from_plain, to_plain
from ferryman.ports import Ports
from ferryman.verify.packed import same_files

SAMPLE_EVERY = 0.5  # seconds
OFF = "off"  # the moment of the last pass: one more of the same disk, whose length counts as in those before
SECTOR = 512  # bytes
SAVED = "memory"  # the name of what is not a disk


def copy_disks(ports: Ports, request: Request, plan: Plan) -> TransferEnd:
    """Copy what is not copied yet. An end with a reason means: the guest shall stay where it is."""
    ports.records.enter(request.id, Phase.TRANSFERRING)
    files = layers.noted(ports, request, plan)
    work = _work(ports, request, plan, files)
    for number, (name, task) in enumerate(work, 1):
        if name not in results(ports, request):
            later = sum(disk.capacity for disk in plan.new_disks if disk.target in dict(work[number:]))
            end = _copy(ports, request, _rest(ports, request, plan, task, name), name, Samples(ports, request, number, later).take)  # fmt: skip
            if end.reason:
                return end
    _join(ports, request, files)  # also of what was copied before a crash: it may lack this
    return still_untouched(ports, request, plan)


def copy_unwritten(ports: Ports, request: Request, plan: Plan) -> TransferEnd:
    """Copy the images that no guest writes to: they need not wait until it is stopped. Asked again, one that is as it was is there at once."""
    for number, disk in enumerate(plan.new_disks, 1):
        if disk.read_only and disk.travel is Travel.COPY:
            task = task_of(ports, request, plan, disk.target)
            end = _copy(ports, request, task, disk.target, Samples(ports, request, number, 0, paused=False).take)
            if end.reason:
                return end
    return TransferEnd("")


def task_of(ports: Ports, request: Request, plan: Plan, target: str) -> CopyTask:
    """The copy of that disk to the volume that was made for it."""
    disk = next(one for one in plan.new_disks if one.target == target)
    return _task(request, disk, from_plain(Volume, ports.records.facts(request.id)["volumes"][target]))


def _rest(ports: Ports, request: Request, plan: Plan, task: CopyTask, name: str) -> CopyTask:
    """What is left to be done of a copy: its image remembers what was written since the last pass, or all of it is compared."""
    disk = next((one for one in plan.ahead if one.target == name), None)
    facts = ports.records.facts(request.id)
    if disk is None or not facts.get("last_pass"):
        return task
    verify = "written" if task.verify == "full" else task.verify
    told_by = facts.get("rest_told_by", "") if disk.remembers else ""
    return replace(task, moment=OFF, bitmap=told_by, verify=verify)


def _work(ports: Ports, request: Request, plan: Plan, files: tuple[Layer, ...]) -> list[tuple[str, CopyTask]]:
    """The copies to be made, each under its name: first what the disks' images stand upon, or stands beside them."""
    made = ports.records.facts(request.id).get("volumes", {})
    names = [(f"{file.target}.{number}", file) for number, file in enumerate(_beside(plan, files), 1)]
    return [
        *((name, _file_task(request, name, file.source, file.path)) for name, file in names),
        *((disk.target, _task(request, disk, from_plain(Volume, made[disk.target]))) for disk in plan.new_disks if disk.target in made),
    ]  # fmt: skip


def _beside(plan: Plan, files: tuple[Layer, ...]) -> list[Layer]:
    """What is to be copied and is no disk's own image."""
    images = {disk.source for disk in plan.new_disks}
    return [file for file in files if file.found and file.source not in images]


def _file_task(request: Request, name: str, source: str, destination: str) -> CopyTask:
    """The bytes of a file as they are."""
    return CopyTask(
        id=f"{request.id}-{name}",
        source=Image(source),
        destination=Image(destination),
        as_file=True,
        verify=request.options.verify,
        bandwidth=request.options.bandwidth,
        via_ssh=request.options.via_ssh or None,
        insecure=request.options.insecure,
    )


def _join(ports: Ports, request: Request, files: tuple[Layer, ...]) -> None:
    """Each image names the layer below it by where that is now."""
    destination, by_source = ports.hypervisor(request.destination), {file.source: file for file in files}
    for file in files:
        if file.below:
            below = by_source[file.below]
            destination.rebase(file.path, below.path, below.format)


def copy_saved(ports: Ports, request: Request, plan: Plan) -> TransferEnd:
    """The saved memory of a guest that was put to sleep: the bytes of its file, under the same name."""
    if SAVED in results(ports, request):
        return TransferEnd("")
    return _copy(ports, request, _file_task(request, "saved", plan.saved, plan.saved), SAVED, lambda _: None)


def copy_tpm(ports: Ports, request: Request, plan: Plan) -> TransferEnd:
    """The TPM's state, read back before anybody relies on it. What the destination had there is kept beside."""
    source, destination = ports.hypervisor(request.source), ports.hypervisor(request.destination)
    packed = source.pack(plan.tpm)
    if not packed:  # a guest that never ran: its TPM is made at the first start
        return TransferEnd("")
    ports.records.register_undo(request.id, undo.TAKE_BACK_DIRECTORY, {"host": request.destination, "path": plan.tpm})
    if destination.unpack(plan.tpm, packed, request.id):
        text = f"kept what {request.destination} had as {plan.tpm}: {plan.tpm}.before-{request.id}"
        ports.records.keep_decision(request.id, text)
    if not same_files(destination.pack(plan.tpm), packed):
        return TransferEnd(f"TPM state {plan.tpm}: {request.destination} does not read back what was written",
                           remedy=f"look whether its file system is full or read-only: df and dmesg at {request.destination}")  # fmt: skip
    return TransferEnd("")


def _copy(
    ports: Ports, request: Request, task: CopyTask, name: str, progress: Callable[[CopyProgress], None]
) -> TransferEnd:
    """One copy, its undo registered before and its result noted under that name."""
    if by := windows.stop_asked(ports, request):
        return TransferEnd(f"cancelled by {by}", cancelled=True)
    arguments = {"host": request.destination, "copy": task.id, "path": task.destination.location}
    ports.records.register_undo(request.id, undo.DISCARD_COPY, arguments)
    patience = Patience(ports, request, progress)
    try:
        result = _carried(ports, request, task, patience)
    except Stopped as error:
        if patience.over:
            return TransferEnd(f"{name} was not copied: {patience.over}", str(error), f"ask again once {request.destination} is back")  # fmt: skip
        return TransferEnd(f"cancelled by {ports.records.cancel_asked(request.id)}", str(error), cancelled=True)
    except DriverError as error:
        return TransferEnd(
            f"{name} was not copied: {error.what}: {error.why}", str(error), error.remedy, kind=type(error).__name__
        )
    done = ports.records.facts(request.id).get("copies", {})
    ports.records.keep_facts(request.id, {"copies": {**done, name: to_plain(result)}})
    return TransferEnd("")


def _carried(ports: Ports, request: Request, task: CopyTask, patience: Patience) -> CopyResult:
    source, destination = ports.hypervisor(request.source).host, ports.hypervisor(request.destination).host

    def copied(task: CopyTask) -> CopyResult:
        return ports.copier.copy(task, source, destination, progress=patience.moved, cancelled=patience.ends)

    try:
        return copied(task)
    except NoBitmap as error:  # a QEMU that crashed leaves none that could be relied on
        ports.records.keep_decision(request.id, f"{error.what}: {error.why}: all of it is compared")
        return copied(replace(task, bitmap=""))


def results(ports: Ports, request: Request) -> dict[str, CopyResult]:
    """What was copied so far, by the disks' targets and SAVED."""
    done = ports.records.facts(request.id).get("copies", {})
    return {target: from_plain(CopyResult, one) for target, one in done.items()}


def forget_journals(ports: Ports, request: Request, plan: Plan) -> None:
    """The copies are complete: their ids are free again. A journal that stays is no harm."""
    host = ports.hypervisor(request.destination).host
    files = layers.known(ports, request)
    tasks = [task for _, task in _work(ports, request, plan, files)]
    for file in _beside(plan, files):
        ports.records.keep_decision(request.id, f"{file.source}, a layer or snapshot of {file.target}, stays at {request.source}: other images may stand upon it, so it is not retired")  # fmt: skip
    for task in [*tasks, *([_file_task(request, "saved", plan.saved, plan.saved)] if plan.saved else [])]:
        with suppress(DriverError):
            ports.copier.forget(task, host)


def still_untouched(ports: Ports, request: Request, plan: Plan) -> TransferEnd:
    """A host that restarted has lost its holds: then somebody may have started the guest, and stopped it again."""
    source = ports.hypervisor(request.source)
    here = look(source, request.guest_uuid)
    if here.where is not Where.OFF:
        return TransferEnd(f"it is {here.where.words} at the source by now: what was copied is not what it has")
    if (  # told first: it also gives the guest other images
        plan.snapshots
        and list(to_plain(source.snapshots(request.guest_uuid))) != ports.records.facts(request.id)["snapshots"]
    ):
        return TransferEnd("its snapshots at the source are others by now: somebody made, removed or went back to one")
    if why := other_storage(ports, request, plan):
        return TransferEnd(why, remedy=ASK_AGAIN)
    lost = {image.target for image in plan.held} - set(source.held(request.id) if plan.held else ())
    if lost:
        return TransferEnd(f"{', '.join(sorted(lost))} was not held all the time at {request.source}: it may have been written to")  # fmt: skip
    if why := other_definition(ports, request, plan):
        return TransferEnd(why, remedy=ASK_AGAIN)
    return TransferEnd("")


def other_guest(ports: Ports, request: Request, plan: Plan) -> str:
    """How the guest at the source differs from what was planned and kept; empty when it does not."""
    return other_storage(ports, request, plan) or other_definition(ports, request, plan)


def other_definition(ports: Ports, request: Request, plan: Plan) -> str:
    """How its definition or autostart differ from those that the destination gets; empty when they do not.

    What somebody changed while the move waited or copied would be nowhere once the source's definition is gone.
    """
    source = ports.hypervisor(request.source)
    kept = ports.records.definition(request.id, request.source)
    if others := source.differing(request.guest_uuid, kept, plan.ejected) if kept else ():
        return f"its definition at the source is another by now: {', '.join(others)}"
    on = source.place(request.guest_uuid).autostart
    ours = any(act == undo.RESTORE_AUTOSTART for _, act, _ in ports.records.undo_acts(request.id))
    if on != plan.autostart and not (ours and not on):
        return f"its autostart at the source was switched {'on' if on else 'off'} meanwhile"
    return ""


def other_storage(ports: Ports, request: Request, plan: Plan) -> str:
    """How the guest's disks and snapshots at the source differ from what was planned; empty when they do not.

    A snapshot to a file of its own, or a block job, gives a running guest another image, and what it writes goes there; what was attached
    has no copy. Neither is in the definition that the destination gets. The volume that was made for a disk has no room for what it grew by.
    """
    planned = ports.records.facts(request.id).get("disks")
    if planned is None:  # left by an earlier version
        return ""
    guest = ports.hypervisor(request.source).guest(request.guest_uuid, as_defined=True)
    if guest.snapshots and not plan.snapshots:
        return f"it has snapshots at the source by now: {', '.join(guest.snapshots)}"
    now = {disk.target: disk.source for disk in guest.disks}
    pairs = {one: (now.get(one, ""), planned.get(one, "")) for one in (now.keys() | planned.keys()) - set(plan.ejected)}
    others = [
        f"{target} is {here or 'none'}, and was {before or 'none'}"
        for target, (here, before) in sorted(pairs.items())
        if here != before
    ]
    sizes = {disk.target: disk.capacity for disk in guest.disks if disk.source and disk.capacity}
    others += [
        f"{disk.target} holds {format_size(sizes[disk.target])}, and held {format_size(disk.capacity)}"
        for disk in plan.new_disks
        if disk.target in sizes and _sized(disk) and _sectors(sizes[disk.target]) != _sectors(disk.capacity)
    ]
    return f"its disks at the source are others by now: {'; '.join(others)}" if others else ""


def _sized(disk: NewDisk) -> bool:
    """Whether libvirt tells the same size of it while its guest runs and while it is off: of other formats it takes the file's."""
    return disk.travel is Travel.COPY and (disk.converted_from or disk.format) in ("raw", "qcow2")


def _sectors(size: int) -> int:
    """QEMU rounds the end of a raw file up to one; libvirt does not, while the guest is off."""
    return -(-size // SECTOR)


def _task(request: Request, disk: NewDisk, volume: Volume) -> CopyTask:
    """The volume was made for this disk alone, so anything in it may be written over; the file of an image is made by the copy."""
    as_file = disk.travel is Travel.FILE
    return CopyTask(
        id=f"{request.id}-{disk.target}",
        source=Image(disk.source, disk.converted_from or disk.format),
        destination=Image(volume.path, disk.format),
        verify=request.options.verify,
        bandwidth=request.options.bandwidth,
        existing="refuse" if as_file else "overwrite",
        as_file=as_file,
        via_ssh=request.options.via_ssh or None,
        insecure=request.options.insecure,
    )


class Samples:
    """The engine's progress as samples: one disk, or one pass over it, is one round."""

    def __init__(self, ports: Ports, request: Request, number: int, later: int, *, paused: bool = True, before: Iterable[CopyResult] | None = None) -> None:  # fmt: skip
        """`later`: bytes of the disks that are copied after this one; `paused`: the guest stands still; `before`: what was copied already,
        where that is not the disks of a move."""
        self._ports, self._request, self._number, self._later = ports, request, number, later
        self._paused = paused
        done = results(ports, request).values() if before is None else before
        self._before = sum(result.size for result in done)
        self._began = ports.clock.now()
        last = ports.records.last_sample(request.id)
        self._elapsed = last.elapsed if last else 0.0
        self._kept = 0.0
        self._last: CopyProgress | None = None

    def take(self, now: CopyProgress) -> None:
        at = self._ports.clock.now()
        if at - self._kept < SAMPLE_EVERY or now.phase == "verifying":
            return
        passed, before = at - (self._kept or self._began), self._last.done if self._last else 0
        rate = (now.done - before) / passed if passed > 0 and now.done >= before else None
        self._kept, self._last = at, now
        sample = Sample(
            at=at, elapsed=self._elapsed + at - self._began, setup=False, memory_total=0, memory_processed=0, memory_remaining=0,
            memory_rate=rate, dirty_rate=None, iteration=self._number, disk_total=self._before + now.total + self._later,
            disk_processed=self._before + now.done, disk_remaining=now.total - now.done + self._later, guest_paused=self._paused,
        )  # fmt: skip
        self._ports.records.keep_sample(self._request.id, sample)
