"""The disks of a stopped guest, copied one after another; what is done is noted, so that a later process goes on behind it."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import PurePosixPath

from ferryman.errors import DriverError, Stopped
from ferryman.execute import undo, windows
from ferryman.execute.follow import TransferEnd
from ferryman.execute.patience import Patience
from ferryman.execute.settle import look
from ferryman.model.copy import CopyProgress, CopyResult, CopyTask, Image
from ferryman.model.phase import Phase
from ferryman.model.place import Where
from ferryman.model.plan import Layer, NewDisk, Plan, Travel, Volume
from ferryman.model.request import Request
from ferryman.model.sample import Sample
from ferryman.plain import from_plain, to_plain
from ferryman.plan.disks import free_name
from ferryman.ports import Ports

SAMPLE_EVERY = 0.5  # seconds
SAVED = "memory"  # the name of what is not a disk


def copy_disks(ports: Ports, request: Request, plan: Plan) -> TransferEnd:
    """Copy what is not copied yet. An end with a reason means: the guest shall stay where it is."""
    ports.records.enter(request.id, Phase.TRANSFERRING)
    made = {target: from_plain(Volume, one) for target, one in ports.records.facts(request.id)["volumes"].items()}
    for number, disk in enumerate(plan.new_disks, 1):
        layers = _layers(ports, request, disk) if disk.travel is Travel.FILE else ()
        if disk.target not in results(ports, request):
            for depth, layer in reversed(list(enumerate(layers, 1))):
                end = _copy_layer(ports, request, f"{disk.target}.{depth}", layer)
                if end.reason:
                    return end
            task = _task(request, disk, made[disk.target])
            end = _copy(ports, request, task, disk.target, _Samples(ports, request, plan, number).take)
            if end.reason:
                return end
        _join(ports, request, made[disk.target].path, layers)  # also of one copied before a crash: it may lack this
    return still_untouched(ports, request, plan)


def _layers(ports: Ports, request: Request, disk: NewDisk) -> tuple[Layer, ...]:
    """The layers below a disk, top first, each with a free name at the destination; noted before anything is made."""
    noted = ports.records.facts(request.id).get("layers", {})
    if disk.target not in noted:
        chain = ports.hypervisor(request.source).image_chain(disk.source)[1:]
        made = ports.records.facts(request.id)["volumes"].values()
        taken = {*ports.hypervisor(request.destination).volume_names(disk.pool), *(one["name"] for one in made)}
        taken |= {PurePosixPath(one["path"]).name for others in noted.values() for one in others}
        found: list[Layer] = []
        for path, kind in chain:
            name = free_name(PurePosixPath(path).name, taken)
            taken.add(name)
            found.append(Layer(path, kind, f"{disk.directory.rstrip('/')}/{name}"))
        noted = {**noted, disk.target: to_plain(found)}
        ports.records.keep_facts(request.id, {"layers": noted})
    return tuple(from_plain(Layer, one) for one in noted[disk.target])


def _copy_layer(ports: Ports, request: Request, name: str, layer: Layer) -> TransferEnd:
    if name in results(ports, request):
        return TransferEnd("")
    return _copy(ports, request, _file_task(request, name, layer.source, layer.path), name, lambda _: None)


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


def _join(ports: Ports, request: Request, top: str, layers: tuple[Layer, ...]) -> None:
    """Each image names the layer below it by where that is now."""
    destination = ports.hypervisor(request.destination)
    for upper, below in zip([top, *(layer.path for layer in layers)], layers, strict=False):
        destination.rebase(upper, below.path, below.format)


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
    if destination.pack(plan.tpm) != packed:
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
    source, destination = ports.hypervisor(request.source).host, ports.hypervisor(request.destination).host
    patience = Patience(ports, request, progress)
    try:
        result = ports.copier.copy(task, source, destination, progress=patience.moved, cancelled=patience.ends)
    except Stopped as error:
        if patience.over:
            return TransferEnd(f"{name} was not copied: {patience.over}", str(error), f"ask again once {request.destination} is back")  # fmt: skip
        return TransferEnd(f"cancelled by {ports.records.cancel_asked(request.id)}", str(error), cancelled=True)
    except DriverError as error:
        return TransferEnd(f"{name} was not copied: {error.what}: {error.why}", str(error), error.remedy)
    done = ports.records.facts(request.id).get("copies", {})
    ports.records.keep_facts(request.id, {"copies": {**done, name: to_plain(result)}})
    return TransferEnd("")


def results(ports: Ports, request: Request) -> dict[str, CopyResult]:
    """What was copied so far, by the disks' targets and SAVED."""
    done = ports.records.facts(request.id).get("copies", {})
    return {target: from_plain(CopyResult, one) for target, one in done.items()}


def forget_journals(ports: Ports, request: Request, plan: Plan) -> None:
    """The copies are complete: their ids are free again. A journal that stays is no harm."""
    host = ports.hypervisor(request.destination).host
    made = {
        target: from_plain(Volume, one) for target, one in ports.records.facts(request.id).get("volumes", {}).items()
    }
    tasks = [_task(request, disk, made[disk.target]) for disk in plan.new_disks if disk.target in made]
    for target, layers in ports.records.facts(request.id).get("layers", {}).items():
        for depth, layer in enumerate(layers, 1):
            tasks.append(_file_task(request, f"{target}.{depth}", layer["source"], layer["path"]))
            ports.records.keep_decision(request.id, f"a layer of {target} stays at {request.source} as {layer['source']}: other images may stand upon it, so it is not retired")  # fmt: skip
    for task in [*tasks, *([_file_task(request, "saved", plan.saved, plan.saved)] if plan.saved else [])]:
        with suppress(DriverError):
            ports.copier.forget(task, host)


def still_untouched(ports: Ports, request: Request, plan: Plan) -> TransferEnd:
    """A host that restarted has lost its holds: then somebody may have started the guest, and stopped it again."""
    source = ports.hypervisor(request.source)
    here = look(source, request.guest_uuid)
    if here.where is not Where.OFF:
        return TransferEnd(f"it is {here.where.words} at the source by now: what was copied is not what it has")
    lost = {image.target for image in plan.held} - set(source.held(request.id) if plan.held else ())
    if lost:
        return TransferEnd(f"{', '.join(sorted(lost))} was not held all the time at {request.source}: it may have been written to")  # fmt: skip
    return TransferEnd("")


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


class _Samples:
    """The engine's progress as samples: one disk is one round."""

    def __init__(self, ports: Ports, request: Request, plan: Plan, number: int) -> None:
        self._ports, self._request, self._number = ports, request, number
        before = results(ports, request).values()
        self._before = sum(result.size for result in before)
        self._later = sum(disk.capacity for disk in plan.new_disks[number:])
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
            disk_processed=self._before + now.done, disk_remaining=now.total - now.done + self._later, guest_paused=True,
        )  # fmt: skip
        self._ports.records.keep_sample(self._request.id, sample)
