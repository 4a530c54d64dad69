"""What of a guest goes into a backup: its disks frozen for a moment and offered by QEMU, or held while they are off; the small files."""

import base64
from collections.abc import Callable
from dataclasses import replace

from ferryman.errors import DriverError, NoBase, NoBitmap, Refused, Stopped
from ferryman.execute import undo, unmaking, windows
from ferryman.execute.copying import Samples
from ferryman.execute.settle import look
from ferryman.execute.shelf import folder_at, host_of, small_file
from ferryman.model.backup import DEFINITION, NVRAM, TPM, BackupPlan, DiskToBackUp, Reading, SmallFile
from ferryman.model.backup_job import BackupDisk, BackupJob, offered
from ferryman.model.copy import CopyProgress, CopyResult, CopyTask, Image
from ferryman.model.place import Where
from ferryman.model.request import Kind, Request
from ferryman.plain import from_plain, to_plain
from ferryman.plan.backup import backed_up
from ferryman.plan.chains import partial_name
from ferryman.ports import Ports

LOOK_EVERY = 2.0  # seconds between two looks at that room
THAW_TRIES = 3
FROZEN, BY_ANOTHER = (
    "backup_frozen",
    "backup_frozen_by_another",
)  # facts: which of them held at the moment of the backup; None: not looked at yet
_FREEZER = "backup_freezer"  # a fact: which of them shall hold at it, if any


def stopped_by(ports: Ports, request: Request) -> None:
    """Raises Stopped when somebody has asked for cancel."""
    if by := ports.records.cancel_asked(request.id):
        raise Stopped(f"backup of {request.guest}", f"cancelled by {by}", "ask for it again")


# A guest that runs


def begin_backup(ports: Ports, request: Request, plan: BackupPlan) -> None:
    """Frozen if its agent can, offered, thawed. Run again after a crash: thawed first of all, then what runs is taken up."""
    records, source = ports.records, ports.hypervisor(request.source)
    stopped_by(ports, request)
    ours = any(act == unmaking.END_BACKUP for _, act, _ in records.undo_acts(request.id))
    if ours:
        try:
            if records.facts(request.id).get(FROZEN) is None and source.backup_running(request.guest_uuid, request.id):
                _note_frozen(ports, request)
        finally:
            _thaw(ports, request)
    if not source.backup_running(request.guest_uuid, request.id):
        _ask(ports, request, plan)
    _note_run(ports, request, plan)


def _ask(ports: Ports, request: Request, plan: BackupPlan) -> None:
    records, source = ports.records, ports.hypervisor(request.source)
    _as_planned(ports, request, plan)
    exported = [disk for disk in plan.disks if disk.exported]
    arguments = {
        "host": request.source,
        "checkpoint": plan.checkpoint,
        "images": [disk.source for disk in exported if disk.remembers],
        "scratch": [_scratch(disk, request) for disk in exported],
        "stood_still": look(source, request.guest_uuid).storage_failed,
    }
    records.register_undo(request.id, unmaking.END_BACKUP, arguments)
    if plan.checkpoint and not source.run_of(request.guest_uuid):
        source.name_run(request.guest_uuid, request.id)
    _begin(ports, request, plan, since=any(disk.since for disk in plan.disks if disk.exported))


def _note_run(ports: Ports, request: Request, plan: BackupPlan) -> None:
    """A token that was given before the job began, and is there while it runs, is that of the run whose bitmaps it tells of."""
    run, records = ports.hypervisor(request.source).run_of(request.guest_uuid), ports.records
    records.keep_facts(request.id, {"backup_run": run})
    if plan.run and run != plan.run:
        records.keep_decision(
            request.id, "everything is read and compared: the guest was started anew since it was planned"
        )
        records.keep_facts(request.id, {"backup_bitmaps": False})


def _begin(ports: Ports, request: Request, plan: BackupPlan, *, since: bool) -> None:
    """`since`: QEMU shall tell what was written since the earlier backup. If it cannot, everything is compared."""
    source, records = ports.hypervisor(request.source), ports.records
    records.keep_facts(request.id, {"backup_bitmaps": since, "backup_at": ports.clock.wall(), FROZEN: None, BY_ANOTHER: None})  # fmt: skip
    try:
        if plan.freezes:
            _freeze(ports, request)
        try:
            source.begin_backup(request.guest_uuid, _job(plan, request, since=since))
        except NoBitmap as error:
            if not since:
                raise
            records.keep_decision(request.id, f"everything is read and compared: QEMU cannot tell what was written since the earlier backup ({error.why})")  # fmt: skip
            records.keep_facts(request.id, {"backup_bitmaps": False})
            source.begin_backup(request.guest_uuid, _job(plan, request, since=False))
        _note_frozen(ports, request)
    finally:
        if plan.freezes:
            _thaw(ports, request)


def _scratch(disk: DiskToBackUp, request: Request) -> str:
    return f"{disk.scratch.rstrip('/')}/{undo.SCRATCH.format(request=request.id, target=disk.target)}"


def _job(plan: BackupPlan, request: Request, *, since: bool) -> BackupJob:
    disks = tuple(
        BackupDisk(disk.target, _scratch(disk, request), disk.since if since else "", disk.remembers)
        for disk in plan.disks
        if disk.exported
    )
    return BackupJob(request.id, disks, plan.checkpoint)


def _freeze(ports: Ports, request: Request) -> None:
    """The undo is registered before. What somebody else froze, for a snapshot of its own, is left alone."""
    records, source = ports.records, ports.hypervisor(request.source)
    theirs = source.is_frozen(request.guest_uuid)
    records.keep_facts(request.id, {_FREEZER: BY_ANOTHER if theirs else ""})
    if theirs:
        records.keep_decision(
            request.id, "somebody else has its file systems frozen: ferryman neither freezes nor thaws them"
        )
        return
    if not source.can_freeze(request.guest_uuid):  # nothing is frozen, and nobody would thaw
        records.keep_decision(request.id, "its file systems are not frozen, so the backup is as after a loss of power: its agent does not answer any more")  # fmt: skip
        return
    records.register_undo(request.id, unmaking.THAW, {"host": request.source})
    records.keep_facts(request.id, {"backup_thawed": False, _FREEZER: FROZEN})
    try:
        count = source.freeze(request.guest_uuid)
    except DriverError as error:
        records.keep_facts(request.id, {_FREEZER: ""})
        records.keep_decision(request.id, f"its file systems are not frozen, so the backup is as after a loss of power: {error.why}")  # fmt: skip
        return
    records.keep_decision(request.id, f"its agent froze {count} file systems for the moment of the backup")


def _note_frozen(ports: Ports, request: Request) -> None:
    """Once QEMU offers that moment: what is frozen still was so all the time. Agents thaw by themselves after a while, and people do.

    Once only: what is frozen, or not any more, at a later look tells nothing of that moment.
    """
    freezer = ports.records.facts(request.id).get(_FREEZER, "")
    lasted = bool(freezer) and ports.hypervisor(request.source).is_frozen(request.guest_uuid)
    ports.records.keep_facts(request.id, {one: lasted and freezer == one for one in (FROZEN, BY_ANOTHER)})
    if freezer and not lasted:
        ports.records.keep_decision(request.id, "its agent does not say that its file systems were still frozen at the moment of the backup, which is as after a loss of power")  # fmt: skip


def _thaw(ports: Ports, request: Request) -> None:
    """Whatever came before. Raises DriverError when its agent does not do it; then that is still to be undone.

    A Windows agent says "frozen" until it is told to thaw, though VSS gave up after ten seconds: that the first try fails is all that tells.
    """
    if ports.records.facts(request.id).get("backup_thawed", True):
        return
    said = ""
    for attempt in range(THAW_TRIES):
        try:
            ports.hypervisor(request.source).thaw(request.guest_uuid)
            break
        except DriverError as error:
            if attempt + 1 == THAW_TRIES:
                raise
            said = said or error.why
            ports.clock.sleep(1.0)
    ports.records.keep_facts(request.id, {"backup_thawed": True} | ({FROZEN: False} if said else {}))
    if said:
        ports.records.keep_decision(request.id, f"whether its file systems were frozen until then is not known, so the backup is as after a loss of power: its agent thawed them at a further try only ({said})")  # fmt: skip


def end_backup(ports: Ports, request: Request, plan: BackupPlan) -> None:
    """QEMU offers nothing any more; the guest's host has its room back, and a guest that found none in the last moment goes on."""
    source = ports.hypervisor(request.source)
    off = source.place(request.guest_uuid).where in (Where.ABSENT, Where.OFF)
    # Its QEMU crashed, also where the guest was started anew since.
    if off or not source.backup_running(request.guest_uuid, request.id):
        ports.records.keep_facts(request.id, {unmaking.JOB_GONE: True})
    unmaking.end_job(ports, request)


# A guest that is off


def hold_images(ports: Ports, request: Request, plan: BackupPlan) -> None:
    """Nothing can start it until its disks are copied. Raises Refused when somebody was faster."""
    source = ports.hypervisor(request.source)
    ports.records.register_undo(request.id, undo.RELEASE_IMAGES, {"host": request.source, "for": "backup"})
    source.hold(request.id, plan.held)
    here = look(source, request.guest_uuid)
    if here.where is not Where.OFF:
        raise Refused(f"guest {request.guest}", f"it is {here.where.words} by now: somebody started it", "ask for the backup again: it is then made while the guest runs")  # fmt: skip
    ports.records.keep_facts(request.id, {"backup_at": ports.clock.wall()})


def _still_untouched(ports: Ports, request: Request, plan: BackupPlan) -> None:
    """A host that restarted has lost its holds: then somebody may have started the guest, and stopped it again. Raises Refused."""
    source, what, remedy = ports.hypervisor(request.source), f"guest {request.guest}", "ask for the backup again"
    here = look(source, request.guest_uuid)
    if here.where is not Where.OFF:
        raise Refused(
            what, f"it is {here.where.words} by now: its disks may have been copied at different moments", remedy
        )
    if lost := {image.target for image in plan.held} - set(source.held(request.id) if plan.held else ()):
        raise Refused(what, f"{', '.join(sorted(lost))} was not held all the time at {request.source}: it may have been written to", remedy)  # fmt: skip


# Both


def _as_planned(ports: Ports, request: Request, plan: BackupPlan) -> None:
    """Its disks are those of the plan, which may be days old. Raises Refused."""
    now = {disk.target: disk.source for disk in backed_up(ports.hypervisor(request.source).guest(request.guest_uuid))}
    planned = {disk.target: disk.source for disk in plan.disks}
    others = [
        f"{target} is {now.get(target) or 'none'}, and was {planned.get(target) or 'none'}"
        for target in sorted(now.keys() | planned.keys())
        if now.get(target) != planned.get(target)
    ]
    if others:
        raise Refused(f"guest {request.guest}", f"its disks are others by now: {'; '.join(others)}", "ask for the backup again")  # fmt: skip


def save_guest(ports: Ports, request: Request, plan: BackupPlan) -> None:
    """Definition, firmware variables and TPM state, each read back when it was written."""
    stopped_by(ports, request)
    source, folder = ports.hypervisor(request.source), folder_at(ports, plan.place)
    partial = partial_name(plan.name, request.id)
    contents = {DEFINITION: (source.definition(request.guest_uuid).encode(), "")}
    if not plan.running:  # and now nobody starts it
        _as_planned(ports, request, plan)
    if plan.nvram and (variables := source.read_file(plan.nvram)) is not None:
        contents[NVRAM] = (variables, plan.nvram)
    if plan.tpm and (packed := source.pack(plan.tpm)):
        contents[TPM] = (base64.b64decode(packed), plan.tpm)
    saved: list[SmallFile] = []
    for name, (content, path) in contents.items():
        folder.write(f"{partial}/{name}", content)
        saved.append(small_file(name, content, path))
    ports.records.keep_facts(request.id, {"backup_files": to_plain(saved)})


def copy_disks(ports: Ports, request: Request, plan: BackupPlan) -> None:
    """One after another; what is done is noted, so that a later process goes on behind it."""
    for number, disk in enumerate(plan.disks, 1):
        done = copied(ports, request)
        if disk.target in done:
            continue
        later = sum(one.capacity for one in plan.disks[number:])
        samples = Samples(ports, request, number, later, before=done.values(), paused=not plan.running)
        # The rounds of a move are those of the move itself.
        result = _copied(ports, request, plan, disk, samples.take if request.kind is Kind.BACKUP else lambda _: None)
        result = _as_it_lies(ports, request, plan, disk, result)
        ports.records.keep_facts(request.id, {"backup_copies": to_plain({**done, disk.target: result})})
    if not plan.guest_runs:
        _still_untouched(ports, request, plan)


def _cancelled(ports: Ports, request: Request) -> bool:
    """Asked again and again: a warm move that is backed up first is worked at meanwhile."""
    if request.options.warm:
        windows.note_at_work(ports, request)
    return bool(ports.records.cancel_asked(request.id))


def copied(ports: Ports, request: Request) -> dict[str, CopyResult]:
    """What was copied into the backup so far, by the disks' targets."""
    done = ports.records.facts(request.id).get("backup_copies", {})
    return {target: from_plain(CopyResult, one) for target, one in done.items()}


def _copied(ports: Ports, request: Request, plan: BackupPlan, disk: DiskToBackUp, progress: Callable[[CopyProgress], None]) -> CopyResult:  # fmt: skip
    task = _task(ports, request, plan, disk)
    arguments = {"host": plan.place.host, "copy": task.id, "path": task.destination.location}
    ports.records.register_undo(request.id, unmaking.DISCARD_BACKUP_COPY, arguments)
    watch = _Watch(ports, request, plan)
    here, there = ports.hypervisor(request.source).host, host_of(ports, plan.place.host)
    try:
        return ports.copier.copy(task, here, there, progress=progress, cancelled=watch.ends)
    except Stopped:
        stopped_by(ports, request)
        raise Refused(f"disk {disk.target} of {request.guest}", watch.over, "make room there, and ask again") from None
    except (NoBitmap, NoBase) as error:
        lost = _NO_BITMAP if isinstance(error, NoBitmap) else _NO_BASE
        before = ports.records.facts(request.id).get(lost, ())
        if disk.target in before:
            raise
        ports.records.keep_facts(request.id, {lost: [*before, disk.target]})
        ports.records.keep_decision(request.id, f"all of {disk.target} is read and compared: {error.what}: {error.why}")
        return _copied(ports, request, plan, disk, progress)


# Facts that name the disks of which less is known than was planned with.
_NO_BITMAP, _NO_BASE = "backup_without_bitmap", "backup_without_base"


def _lost(ports: Ports, request: Request, disk: DiskToBackUp) -> tuple[bool, bool]:
    """Whether it cannot be told what was written, nor what the earlier backup holds."""
    facts = ports.records.facts(request.id)
    no_base = disk.target in facts.get(_NO_BASE, ())
    told = facts.get("backup_bitmaps", True)
    return not told or no_base or disk.target in facts.get(_NO_BITMAP, ()), no_base


SECTOR = 512  # bytes


def _as_it_lies(ports: Ports, request: Request, plan: BackupPlan, disk: DiskToBackUp, result: CopyResult) -> CopyResult:
    """A raw file may end within a sector, a qcow2 image does not: then the digest is that of the image in the backup."""
    if result.size % SECTOR == 0:
        return result
    image = _destination(plan, request, disk)
    found = ports.copier.digest(image, host_of(ports, plan.place.host), progress=lambda _: None, cancelled=lambda: _cancelled(ports, request))  # fmt: skip
    return replace(result, size=found.size, source_digest=found.digest, destination_digest=found.digest)


def _destination(plan: BackupPlan, request: Request, disk: DiskToBackUp) -> Image:
    return Image(plan.place.below(f"{partial_name(plan.name, request.id)}/{disk.file}").path, "qcow2")


def _task(ports: Ports, request: Request, plan: BackupPlan, disk: DiskToBackUp) -> CopyTask:
    no_bitmap, no_base = _lost(ports, request, disk)
    wanted, moment = request.options, ""
    if disk.exported:
        socket = ports.hypervisor(request.source).backup_running(request.guest_uuid, request.id)
        if not socket:
            raise Refused(f"disk {disk.target} of {request.guest}", "its QEMU does not offer it any more: the guest was stopped, or its backup job ended",
                          "ask for the backup again")  # fmt: skip
        image, moment = offered(disk.target, socket), request.id
        told = f"backup-{disk.target}" if disk.since else ""
    else:
        image, told = Image(disk.source, disk.format), ""
    return CopyTask(
        id=f"backup-{request.id}-{disk.target}",
        source=image,
        destination=_destination(plan, request, disk),
        verify="written" if disk.upon else "full",
        bandwidth=wanted.bandwidth,
        via_ssh=wanted.via_ssh or None,
        insecure=wanted.insecure,
        bitmap="" if no_bitmap else told,
        moment=moment,
        base="" if no_base else disk.base,
        backing=f"../{disk.upon}/{disk.file}" if disk.upon else "",
    )


def reading(ports: Ports, request: Request, disk: DiskToBackUp) -> Reading:
    """How it was read in the end."""
    lost = _lost(ports, request, disk)[0]
    return Reading.DIGESTS if disk.reading is Reading.BITMAP and lost else disk.reading


class _Watch:
    """Whether a copy shall end: somebody has cancelled it, or the room for what the guest overwrites runs out. Then the guest comes first."""

    def __init__(self, ports: Ports, request: Request, plan: BackupPlan) -> None:
        self._ports, self._request = ports, request
        self._directories = sorted({disk.scratch for disk in plan.disks if disk.exported})
        self._looked_at = ports.clock.now()
        self.over = ""  # why it ends; empty: it goes on

    def ends(self) -> bool:
        if _cancelled(self._ports, self._request):
            return True
        now = self._ports.clock.now()
        if not self.over and now - self._looked_at >= LOOK_EVERY:
            self._looked_at = now
            if full := unmaking.without_room(self._ports.hypervisor(self._request.source), self._directories):
                self.over = f"{full} at {self._request.source} has no room left for what the guest overwrites meanwhile"
            elif unmaking.stands_still(self._ports, self._request):
                self.over = f"an error of its storage made the guest stand still; what it overwrites meanwhile is kept in {', '.join(self._directories)}"
            if self.over:
                unmaking.end_job(self._ports, self._request)
        return bool(self.over)
