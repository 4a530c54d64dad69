"""Backing a guest up: exactly the steps of plan/backup.py, each looking before it acts.

Until the folder has its name everything is put back by the undo rows; from then on it is a backup, whatever comes.
"""

from contextlib import suppress
from typing import Any

from ferryman.assess.backup import findings
from ferryman.errors import Blocked, DriverError, FerrymanError, NeedsAttention, RecordsUnusable, Refused
from ferryman.execute import undo, unmaking, windows
from ferryman.execute.observe import with_versions
from ferryman.execute.reading import (
    BY_ANOTHER,
    FROZEN,
    begin_backup,
    copied,
    copy_disks,
    end_backup,
    hold_images,
    reading,
    save_guest,
    stopped_by,
)
from ferryman.execute.retry import BETTER_BY_ITSELF
from ferryman.execute.runtime import step
from ferryman.execute.shelf import backups_at, folder_at, host_of, manifest_of
from ferryman.model.backup import (
    FORMAT,
    MANIFEST,
    BackedUpDisk,
    BackupMade,
    BackupPlace,
    BackupPlan,
    Manifest,
    SmallFile,
    place,
)
from ferryman.model.copy import CopyTask, Image
from ferryman.model.finding import Finding, blockers
from ferryman.model.outcome import Outcome, Status
from ferryman.model.phase import Phase
from ferryman.model.request import Kind, Request
from ferryman.plain import from_plain, to_json, to_plain
from ferryman.plan.backup import Seen, backup_plan, consistency
from ferryman.plan.chains import chain, folder_of, name_at, newest_whole, partial_name
from ferryman.ports import Ports


def carry_out(ports: Ports, request: Request) -> Outcome:
    """A request for a backup, once the guest is leased. Raises Refused when nothing was made."""
    plan = from_plain(BackupPlan, step("plan-backup", look_and_plan, ports, request))
    error = _made(ports, request, plan)
    return _ended(ports, request, error)


def before_move(ports: Ports, request: Request) -> None:
    """The same before a move changes anything. Raises NeedsAttention, or, when it was put back, Refused: or the kind of error by which it
    failed where that gets better by itself, so that the move is tried again."""
    plan = from_plain(BackupPlan, step("plan-backup", look_and_plan, ports, request))
    error = _made(ports, request, plan)
    ended = _ended(ports, request, error)
    if ended.status is not Status.SUCCEEDED:
        what = f"backup of guest {request.guest}, without which it is not moved"
        kind: type[FerrymanError] = next((one for one in BETTER_BY_ITSELF if type(error) is one), Refused)
        if ended.status is Status.NEEDS_ATTENTION:
            kind = NeedsAttention
        raise kind(what, ended.reason, ended.remedy or "ask again, or leave --backup-to away")
    step("move-on", _move_on, ports, request)


def _move_on(ports: Ports, request: Request) -> None:
    """The move is as young now as if it had just been asked for; a warm one may still have to wait for its stop."""
    if not (request.options.warm and request.options.waits):
        ports.records.keep_facts(request.id, {"due_at": ports.clock.now()})
    if request.options.warm:
        windows.note_at_work(ports, request)
    ports.records.enter(request.id, Phase.PREPARING)


def left(ports: Ports, request: Request) -> Outcome:
    """The end of a backup that an earlier process left."""
    return _ended(ports, request, Refused(f"backup of {request.guest}", "an earlier process left it", "ask again"))


def _made(ports: Ports, request: Request, plan: BackupPlan) -> Exception | None:
    """Why it was not made; None: it is complete."""
    try:
        step("make-folder", make_folder, ports, request, plan)
        if plan.running:
            step("begin-backup", begin_backup, ports, request, plan)
        elif plan.held:
            step("hold-images", hold_images, ports, request, plan)
        step("save-guest", save_guest, ports, request, plan)
        step("copy-to-backup", copy_disks, ports, request, plan)
        if plan.running:
            step("end-backup", end_backup, ports, request, plan)
        step("write-manifest", write_manifest, ports, request, plan)
    except RecordsUnusable:
        raise
    except Exception as error:
        return error
    return None


def _ended(ports: Ports, request: Request, error: Exception | None) -> Outcome:
    """A folder that has its name is a backup, whatever came after; of anything else nothing stays."""
    if error is None or step("look-at-backup", _looked, ports, request):
        plan = from_plain(BackupPlan, ports.records.facts(request.id)["backup_plan"])
        step("finish-backup", finish, ports, request, plan)
        return _succeeded(ports, request)
    if request.kind is Kind.BACKUP:
        step("enter-rolling-back", ports.records.enter, request.id, Phase.ROLLING_BACK)
    failures = step("undo-backup", undo.undo_all, ports, request)
    return unmaking.taken_back(ports, request, error, failures)


def _looked(ports: Ports, request: Request) -> bool:
    """A place that does not answer tells nothing: as long as the folder may have its name nothing is undone. All was read by then."""
    if "backup" not in ports.records.facts(request.id):
        return False  # it was never to be given it
    try:
        return _is_there(ports, request)
    except DriverError as error:
        undo.release(ports, request)  # a failure of this stays registered
        raise NeedsAttention(f"backup of {request.guest}", f"whether it is complete is not known: {error.what}: {error.why}",
                             f"once that is there again: ferryman recover ({error.remedy})") from error  # fmt: skip


def _succeeded(ports: Ports, request: Request) -> Outcome:
    made = from_plain(BackupMade, ports.records.facts(request.id)["backup"])
    done = copied(ports, request).values()
    return Outcome(
        Status.SUCCEEDED,
        f"{request.guest} is backed up in {made.folder.words} ({made.consistency})"
        + (f"; not in it: {', '.join(made.not_in_it)}" if made.not_in_it else ""),
        transferred=sum(one.wire for one in done),
        job_seconds=sum(one.seconds + one.verify_seconds for one in done) or None,
    )


# What is looked at


def look_and_plan(ports: Ports, request: Request) -> Any:
    """Planned once: a step that runs again after a crash keeps the name. Raises Blocked."""
    noted = ports.records.facts(request.id).get("backup_plan")
    if noted is not None:
        return noted
    found, plan = observed(ports, request, _where(request))
    before = ports.records.report(request.id, with_samples=False).findings_before if request.kind is Kind.MOVE else ()
    ports.records.keep_findings(request.id, "before", [*(one for one in before if one not in found), *found])
    if against := blockers(found):
        raise Blocked(against[0].what, against[0].why, against[0].remedy)
    ports.records.keep_facts(request.id, {"backup_plan": to_plain(plan)})
    return to_plain(plan)


def _where(request: Request) -> BackupPlace:
    if request.kind is Kind.BACKUP:
        return BackupPlace(request.destination, request.folder)
    return place(request.options.backup_to)


def observed(ports: Ports, request: Request, into: BackupPlace) -> tuple[tuple[Finding, ...], BackupPlan]:
    """What speaks against it, and what will be done. Nothing is changed."""
    source = ports.hypervisor(request.source)
    guest = with_versions(source, source.guest(request.guest_uuid))
    own = into.below(folder_of(guest.name, guest.uuid))
    there = backups_at(ports, own)
    newest = newest_whole(guest.uuid, there)
    earlier = None if request.options.full else newest
    seen = Seen(
        guest=guest,
        pools=source.facts().pools,
        checkpoints=tuple(one.name for one in source.checkpoints(guest.uuid)),
        earlier=earlier,
        kept=tuple(disk.copy for disk in newest.manifest.disks if disk.copy) if newest and newest.manifest else (),
        chain=len(chain(earlier.name, there)) if earlier else 0,
        agent=guest.agent and source.can_freeze(guest.uuid),
        frozen=guest.agent and source.is_frozen(guest.uuid),
        unlike=() if guest.off or not guest.persistent else source.guest(guest.uuid, as_defined=True).unlike,
        moves=request.kind is Kind.MOVE,
        run="" if guest.off else source.run_of(guest.uuid),
    )
    plan = backup_plan(seen, request.options, place=own, name=name_at(ports.clock.wall(), there), request=request.id)
    scratch_room = {one: source.room(one) for one in sorted({disk.scratch for disk in plan.disks if disk.exported})}
    room = folder_at(ports, own).room()
    return findings(seen, plan, scratch_room=scratch_room, room=room), plan


# What is done


def make_folder(ports: Ports, request: Request, plan: BackupPlan) -> None:
    """Under a name that says that it is not complete, and whose it is."""
    stopped_by(ports, request)
    ports.records.enter(request.id, Phase.BACKING_UP)
    partial = partial_name(plan.name, request.id)
    ports.records.register_undo(request.id, unmaking.REMOVE_FOLDER, {"host": plan.place.host, "path": plan.place.path, "name": partial})  # fmt: skip
    folder_at(ports, plan.place).make(partial)
    ports.records.keep_facts(request.id, {unmaking.FOLDER: unmaking.MADE, "backup_at": ports.clock.wall()})


def write_manifest(ports: Ports, request: Request, plan: BackupPlan) -> None:
    """The point of no return: with its name the folder is a backup."""
    stopped_by(ports, request)
    if "backup" in ports.records.facts(request.id) and _is_there(ports, request):
        return  # run again after a crash
    if request.kind is Kind.BACKUP:
        ports.records.enter(request.id, Phase.COMPLETING)
    folder, partial = folder_at(ports, plan.place), partial_name(plan.name, request.id)
    manifest = _manifest(ports, request, plan, folder.sizes(partial))
    made = BackupMade(
        folder=plan.place.below(plan.name),
        consistency=manifest.consistency,
        upon=manifest.upon,
        chain=plan.chain,
        bytes=sum(disk.bytes for disk in manifest.disks) + sum(file.bytes for file in manifest.files),
        not_in_it=manifest.not_in_it,
    )
    ports.records.keep_facts(request.id, {"backup": to_plain(made)})
    folder.write(f"{partial}/{MANIFEST}", to_json(to_plain(manifest), indent=2).encode())
    folder.publish(partial, plan.name)


def _is_there(ports: Ports, request: Request) -> bool:
    """Whether this request's backup has its name. Raises DriverError when its place does not answer, or is not there."""
    facts = ports.records.facts(request.id)
    if "backup_plan" not in facts or facts.get(unmaking.FOLDER) == unmaking.REMOVED:
        return False
    plan = from_plain(BackupPlan, facts["backup_plan"])
    content = folder_at(ports, plan.place).read(f"{plan.name}/{MANIFEST}")
    return content is not None and manifest_of(content).request == request.id


def _manifest(ports: Ports, request: Request, plan: BackupPlan, sizes: dict[str, int]) -> Manifest:
    facts, done = ports.records.facts(request.id), copied(ports, request)
    disks = tuple(
        BackedUpDisk(
            target=disk.target,
            file=disk.file,
            bytes=sizes[disk.file],
            size=done[disk.target].size,
            digest=done[disk.target].source_digest,
            format=disk.format,
            source=disk.source,
            pool=disk.pool,
            reading=reading(ports, request, disk),
            upon=disk.upon,
            remembers=disk.remembers,
            copy=f"backup-{request.id}-{disk.target}",
        )
        for disk in plan.disks
    )
    return Manifest(
        format=FORMAT,
        guest=plan.guest,
        uuid=plan.uuid,
        host=plan.source,
        at=facts.get("backup_at", request.asked_at),
        ferryman=request.ferryman_version,
        request=request.id,
        consistency=consistency(plan, frozen=bool(facts.get(FROZEN)), by_another=bool(facts.get(BY_ANOTHER))),
        disks=disks,
        files=tuple(from_plain(SmallFile, one) for one in facts["backup_files"]),
        checkpoint=plan.checkpoint,
        run=facts.get("backup_run", "") if plan.checkpoint else "",
        not_in_it=plan.not_in_it,
        left_out=plan.left_out,
    )


def finish(ports: Ports, request: Request, plan: BackupPlan) -> None:
    """What only an incomplete backup needs goes. That the guest's host or the place fails now harms the backup no more."""
    records, source = ports.records, ports.hypervisor(request.source)
    if request.kind is Kind.BACKUP:
        if records.phase(request.id) is Phase.NEEDS_ATTENTION:  # tried again
            records.enter(request.id, Phase.COMPLETING)
        records.enter(request.id, Phase.VERIFYING)
    if plan.held and (why := undo.release(ports, request)):
        raise NeedsAttention(f"guest {request.guest}", f"it is backed up, and its images at {request.source} could not be let go: {why}",
                             f"once ssh to {request.source} works: ferryman recover lets them go")  # fmt: skip
    if plan.running:
        try:
            unmaking.end_job(ports, request)  # a crash may have come before it was ended
            unmaking.remove_scratch(ports, request)
        except DriverError as error:
            raise NeedsAttention(f"guest {request.guest}", f"it is backed up, and whether {request.source} still runs the job for it is not known: {error.why}",
                                 f"once {request.source} answers: ferryman recover ends it") from error  # fmt: skip
    undo.drop_all(ports, request)
    for name in plan.older:
        try:
            source.delete_checkpoint(request.guest_uuid, name)
        except DriverError as error:
            records.keep_decision(request.id, f"checkpoint {name} of an earlier backup stays: {error.why}; the next backup removes it")  # fmt: skip
    for copy in plan.superseded:
        with suppress(DriverError):
            ports.copier.forget(CopyTask(copy, Image(""), Image("")), host_of(ports, plan.place.host))
