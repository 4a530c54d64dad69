"""Bringing a guest back from a backup: exactly the steps of plan/restore.py, each looking before it acts.

Nothing is defined before each disk was held against the manifest; until then everything is taken back by the undo rows.
"""

import base64
import hashlib
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ferryman.assess.restore import findings
from ferryman.errors import (
    Blocked,
    DriverError,
    FerrymanError,
    Mismatch,
    NeedsAttention,
    RecordsUnusable,
    Refused,
    Stopped,
)
from ferryman.execute import mark, storage, undo, unmaking
from ferryman.execute.copying import Samples, results
from ferryman.execute.definition import put_file
from ferryman.execute.runtime import step
from ferryman.execute.settle import look
from ferryman.execute.shelf import backups_at, damaged, folder_at, host_of, layers_wrong
from ferryman.model.backup import DEFINITION, NVRAM, TPM, BackupPlace
from ferryman.model.copy import CopyTask, Image
from ferryman.model.finding import Finding, blockers
from ferryman.model.mark import GRACE, Mark
from ferryman.model.outcome import Outcome, Status
from ferryman.model.phase import Phase
from ferryman.model.place import Where
from ferryman.model.plan import Changes, NewDisk, Volume
from ferryman.model.request import Request
from ferryman.model.restore import RestorePlan
from ferryman.plain import from_plain, to_plain
from ferryman.plan.chains import lacking, least
from ferryman.plan.cold import HEALTHY_FOR
from ferryman.plan.restore import Found, restore_plan
from ferryman.ports import Ports
from ferryman.verify.packed import same_files


def carry_out(ports: Ports, request: Request) -> Outcome:
    """A request for a restore, once the guest's UUID is leased. Raises Refused when nothing was made."""
    plan = from_plain(RestorePlan, step("plan-restore", look_and_plan, ports, request))
    return _ended(ports, request, plan, _made(ports, request, plan))


def left(ports: Ports, request: Request) -> Outcome:
    """The end of a restore that an earlier process left: what is defined stays, anything else goes."""
    plan = from_plain(RestorePlan, ports.records.facts(request.id)["restore_plan"])
    there = step("look-at-restored", _is_defined, ports, request, plan)
    why = "an earlier process left it"
    if ports.records.facts(request.id).get("restored"):
        why = f"it was brought back at {plan.destination}, and its definition was removed since: its disks are as they were left"
    error = None if there else Refused(f"restore of {request.guest}", why, "ask again")
    return _ended(ports, request, replace(plan, starts=False), error)


def _made(ports: Ports, request: Request, plan: RestorePlan) -> Exception | None:
    """Why it was not brought back; None: it is defined."""
    try:
        step("make-volumes", storage.make_each, ports, request, plan.new_disks)
        step("try-definition", try_definition, ports, request, plan)
        step("restore-files", restore_files, ports, request, plan)
        step("copy-from-backup", copy_disks, ports, request, plan)
        step("define-restored", define, ports, request, plan)
    except (RecordsUnusable, NeedsAttention):
        raise
    except Exception as error:
        return error
    return None


def _ended(ports: Ports, request: Request, plan: RestorePlan, error: Exception | None) -> Outcome:
    if error is None:
        return _forward(ports, request, plan)
    step("enter-rolling-back", ports.records.enter, request.id, Phase.ROLLING_BACK)
    failures = step("undo-restore", take_back, ports, request, plan)
    return unmaking.taken_back(ports, request, error, failures)


def take_back(ports: Ports, request: Request, plan: RestorePlan) -> list[str]:
    """What could not be. A guest that was defined once may have gone on with all that was made for it. Raises NeedsAttention."""
    if any(entry.act == undo.REMOVE_NEW_DEFINITION for entry in ports.records.undo_entries(request.id)):
        others = {host: why for host, why in _elsewhere(ports, request).items() if host != plan.destination}
        if others:
            raise NeedsAttention(f"guest {plan.guest} ({request.guest_uuid})", f"it was brought back at {plan.destination}, and may have been moved on by somebody: "
                                 f"{'; '.join(f'{host}: {why}' for host, why in others.items())}; so nothing that was made for it is taken back",
                                 f"where it is right as it is: ferryman close {request.id}; else, once none of those hosts has it: ferryman recover")  # fmt: skip
    return undo.undo_all(ports, request)


def _forward(ports: Ports, request: Request, plan: RestorePlan) -> Outcome:
    """It is defined: whatever fails from here on, nothing of it is taken back."""
    try:
        step("finish-restore", finish, ports, request, plan)
        why = step("start-restored", start, ports, request, plan) if plan.starts else ""
        return _succeeded(ports, request, plan, why)
    except (RecordsUnusable, NeedsAttention):
        raise
    except FerrymanError as error:
        raise NeedsAttention(error.what, error.why, error.remedy or "ferryman recover carries on") from error


def _succeeded(ports: Ports, request: Request, plan: RestorePlan, why: str) -> Outcome:
    done, at = results(ports, request).values(), plan.destination
    figures: dict[str, Any] = {
        "transferred": sum(one.wire for one in done),
        "job_seconds": sum(one.seconds + one.verify_seconds for one in done) or None,
    }
    if why:
        return Outcome(Status.NEEDS_ATTENTION, f"{plan.guest} is brought back at {at}, and does not run: {why}", "",
                       remedy=f"why: /var/log/libvirt/qemu/{plan.guest}.log at {at}; then virsh start {plan.guest}, and ferryman recover", **figures)  # fmt: skip
    runs = plan.starts or look(ports.hypervisor(at), request.guest_uuid).where is Where.RUNNING
    how, running_at = ("and runs", at) if runs else ("shut off", "")
    return Outcome(Status.SUCCEEDED, f"{plan.guest} is brought back at {at}, {how}", running_at, **figures)


# What is looked at


def look_and_plan(ports: Ports, request: Request) -> Any:
    """Planned once. Raises Blocked."""
    noted = ports.records.facts(request.id).get("restore_plan")
    if noted is not None:
        return noted
    found, plan = observed(ports, request)
    ports.records.keep_findings(request.id, "before", found)
    if against := blockers(found):
        raise Blocked(against[0].what, against[0].why, against[0].remedy)
    ports.records.keep_facts(request.id, {"restore_plan": to_plain(plan)})
    return to_plain(plan)


def observed(ports: Ports, request: Request) -> tuple[tuple[Finding, ...], RestorePlan]:
    """What speaks against it, and what will be done. Nothing is changed. Raises Refused for what is no backup."""
    parent, _, name = request.folder.rpartition("/")
    above = BackupPlace(request.source, parent or "/")
    beside = backups_at(ports, above)
    backup = above.below(name)
    if name not in beside or beside[name].manifest is None:
        raise Refused(f"backup {backup.words}", beside[name].unreadable if name in beside else "there is none: it has no manifest",
                      f"ferryman backups {above.words} lists what is there")  # fmt: skip
    manifest = beside[name].manifest
    assert manifest is not None
    wrong = (*lacking(name, beside), *damaged(ports, backup, manifest.files))
    wrong = wrong or layers_wrong(ports, above, name, beside)
    if any(DEFINITION in why for why in wrong):
        raise Refused(f"backup {backup.words}", "; ".join(wrong), f"take another one: ferryman backups {above.words} lists them")  # fmt: skip
    destination = ports.hypervisor(request.destination)
    guest = destination.described(_content(ports, backup, DEFINITION).decode())
    there = destination.facts()
    found = Found(
        manifest=manifest,
        backup=backup,
        lacking=wrong,
        guest=guest,
        there=there,
        machine=destination.machine(guest),
        ground=ports.between.around(guest, destination),
        least={disk.target: least(name, disk.target, beside) for disk in manifest.disks},
        volumes={pool.name: destination.volume_names(pool.name) for pool in there.pools if pool.active},
        elsewhere={} if request.options.name else _elsewhere(ports, request),
    )
    plan = restore_plan(found, request.options, uuid=request.guest_uuid)
    return findings(found, plan, request.options), plan


def _content(ports: Ports, backup: BackupPlace, name: str) -> bytes:
    """A small file of the backup."""
    content = folder_at(ports, backup).read(name)
    if content is None:
        raise Refused(f"backup {backup.words}", f"its {name} is not there any more", "take another backup")
    return content


def _planned(ports: Ports, plan: RestorePlan, name: str) -> bytes:
    """The same, which is what it was when it was planned. Raises Refused."""
    content = _content(ports, plan.backup, name)
    if hashlib.sha256(content).hexdigest() != next(file.sha256 for file in plan.files if file.name == name):
        raise Refused(f"backup {plan.backup.words}", f"its {name} was changed meanwhile", f"look whether it is in order: ferryman backups {plan.backup.words} --verify")  # fmt: skip
    return content


def _elsewhere(ports: Ports, request: Request) -> dict[str, str]:
    """Which hosts have a guest of that UUID, and which do not say: a guest that runs twice loses its data."""
    found = {}
    for host in ports.records.hosts():
        place = look(ports.hypervisor(host.name), request.guest_uuid)
        if place.where is Where.UNREACHABLE:
            found[host.name] = f"whether it has the guest is not known: {place.detail}"
        elif place.where is not Where.ABSENT:
            found[host.name] = f"it is {place.where.words} there"
    return found


# Until it is defined


def _stopped_by(ports: Ports, request: Request) -> None:
    if by := ports.records.cancel_asked(request.id):
        raise Stopped(f"restore of {request.guest}", f"cancelled by {by}", "ask for it again")


def _changes(ports: Ports, request: Request, plan: RestorePlan) -> Changes:
    made = ports.records.facts(request.id).get("volumes", {}).values()
    volumes = tuple(from_plain(Volume, one) for one in made)
    return Changes(
        volumes, plan.networks, adaption=plan.adaption, ejected=(*plan.emptied, *plan.missing), identity=plan.identity
    )


def try_definition(ports: Ports, request: Request, plan: RestorePlan) -> None:
    """What the destination would not take is refused before anything is copied. Raises DriverError."""
    _stopped_by(ports, request)
    text = _planned(ports, plan, DEFINITION).decode()
    ports.hypervisor(plan.destination).try_definition(text, _changes(ports, request, plan))


def restore_files(ports: Ports, request: Request, plan: RestorePlan) -> None:
    """Firmware variables and TPM state, read back; what the destination had there is kept beside."""
    destination = ports.hypervisor(plan.destination)
    if plan.nvram:
        put_file(ports, request, plan.nvram, _planned(ports, plan, NVRAM))
    if not plan.tpm:
        return
    packed = base64.encodebytes(_planned(ports, plan, TPM)).decode()
    ports.records.register_undo(request.id, undo.TAKE_BACK_DIRECTORY, {"host": plan.destination, "path": plan.tpm})
    if destination.unpack(plan.tpm, packed, request.id):
        text = f"kept what {plan.destination} had as {plan.tpm}: {plan.tpm}.before-{request.id}"
        ports.records.keep_decision(request.id, text)
    if not same_files(destination.pack(plan.tpm), packed):
        raise Refused(f"TPM state {plan.tpm}", f"{plan.destination} does not read back what was written",
                      f"look whether its file system is full or read-only: df and dmesg at {plan.destination}")  # fmt: skip


def copy_disks(ports: Ports, request: Request, plan: RestorePlan) -> None:
    """One after another. Raises Mismatch for an image in the backup that is not what the manifest says."""
    ports.records.enter(request.id, Phase.TRANSFERRING)
    for number, disk in enumerate(plan.new_disks, 1):
        done = results(ports, request)
        if disk.target in done:
            continue
        later = sum(one.capacity for one in plan.new_disks[number:])
        samples = Samples(ports, request, number, later, before=done.values(), paused=True)
        task = _task(ports, request, plan, disk)
        ports.records.register_undo(request.id, undo.DISCARD_COPY, {"host": plan.destination, "copy": task.id, "path": task.destination.location})  # fmt: skip
        try:
            result = ports.copier.copy(
                task, host_of(ports, plan.backup.host), ports.hypervisor(plan.destination).host, progress=samples.take,
                cancelled=lambda: bool(ports.records.cancel_asked(request.id)),
            )  # fmt: skip
        except Stopped:
            _stopped_by(ports, request)
            raise
        if result.source_digest != plan.digests[disk.target]:
            raise Mismatch(f"disk {disk.target} in backup {plan.backup.words}", f"it is damaged: its digest is {result.source_digest}, and its manifest says {plan.digests[disk.target]}",
                           f"take another one; ferryman backups --verify {plan.backup.words} looks through all that it stands upon")  # fmt: skip
        ports.records.keep_facts(request.id, {"copies": to_plain({**done, disk.target: result})})


def _task(ports: Ports, request: Request, plan: RestorePlan, disk: NewDisk) -> CopyTask:
    volume = ports.records.facts(request.id)["volumes"][disk.target]
    return CopyTask(
        id=f"{request.id}-{disk.target}",
        source=Image(disk.source, "qcow2"),
        destination=Image(volume["path"], disk.format),
        bandwidth=request.options.bandwidth,
        existing="overwrite",
        via_ssh=request.options.via_ssh or None,
        insecure=request.options.insecure,
    )


def define(ports: Ports, request: Request, plan: RestorePlan) -> None:
    """The hosts are asked once more: the copy may have taken long. Run again after a crash it goes on, whoever cancels it then."""
    if _is_ours(ports, request, plan):
        _complete(ports, request, plan)
        return
    _stopped_by(ports, request)
    elsewhere = {} if plan.identity else _elsewhere(ports, request)
    there = look(ports.hypervisor(plan.destination), request.guest_uuid).where
    if elsewhere or there is not Where.ABSENT:
        where = "; ".join(f"{host}: {why}" for host, why in elsewhere.items()) or f"it is {there.words} there"
        raise Refused(f"guest {plan.guest} ({request.guest_uuid})", f"somebody brought it meanwhile: {where}", "bring the backup back as a second guest: --name NEW")  # fmt: skip
    _keep_definition(ports, request, plan)


def _keep_definition(ports: Ports, request: Request, plan: RestorePlan) -> None:
    text = _planned(ports, plan, DEFINITION)
    ports.records.register_undo(request.id, undo.REMOVE_NEW_DEFINITION, {"host": plan.destination})
    wanted = Mark(request.id, request.asked_by, request.asked_at, ports.clock.wall() + GRACE)
    ports.hypervisor(plan.destination).define_anew(text.decode(), _changes(ports, request, plan), wanted)


def _is_ours(ports: Ports, request: Request, plan: RestorePlan) -> bool:
    """Whether it is defined by this request. Raises NeedsAttention where the host does not say: what may be in use already is not taken back."""
    if not any(act == undo.REMOVE_NEW_DEFINITION for _, act, _ in ports.records.undo_acts(request.id)):
        return False  # it was never asked for, or is taken back
    try:
        return ports.hypervisor(plan.destination).defined_for(request.guest_uuid, request.id)
    except DriverError as error:
        raise _not_known(plan, error) from error


def _complete(ports: Ports, request: Request, plan: RestorePlan) -> None:
    """One that was left between its definition and its name is given that. Raises NeedsAttention: none of it is taken back."""
    try:
        if plan.guest not in [one.name for one in ports.hypervisor(plan.destination).guests() if one.uuid == request.guest_uuid]:  # fmt: skip
            _keep_definition(ports, request, plan)
    except (DriverError, Refused) as error:
        raise NeedsAttention(error.what, f"{plan.guest} has not got its name at {plan.destination} yet: {error.why}",
                             error.remedy or "mend the cause, then ferryman recover") from error  # fmt: skip


def _is_defined(ports: Ports, request: Request, plan: RestorePlan) -> bool:
    """By this request, so that all of it is there."""
    if not ports.records.facts(request.id).get("restored"):
        ours = _is_ours(ports, request, plan)
        if ours:
            _complete(ports, request, plan)
        return ours
    try:
        return ports.hypervisor(plan.destination).place(request.guest_uuid).where is not Where.ABSENT
    except DriverError as error:
        raise _not_known(plan, error) from error


def _not_known(plan: RestorePlan, error: DriverError) -> NeedsAttention:
    return NeedsAttention(f"guest {plan.guest}", f"whether it is defined at {plan.destination} is not known: {error.why}",
                          f"see to it that {plan.destination} answers, then ferryman recover")  # fmt: skip


# From then on


def finish(ports: Ports, request: Request, plan: RestorePlan) -> None:
    """Nothing is taken back any more; what only a way back would have needed is forgotten."""
    records, destination = ports.records, ports.hypervisor(plan.destination)
    records.enter(request.id, Phase.COMPLETING)
    records.keep_facts(request.id, {"restored": True})
    storage.name_unnoted(ports, request)
    undo.drop_all(ports, request)
    try:
        if plan.tpm:
            destination.adopt(plan.tpm, request.id)
    except DriverError as error:
        records.keep_decision(request.id, f"{plan.tpm}/.ferryman-{request.id} stays at {plan.destination}, which says whose TPM state it was until now: {error.why}; it can be removed")  # fmt: skip
    mark.remove_mark(ports, request)
    for disk in plan.new_disks:
        with suppress(DriverError):
            ports.copier.forget(_task(ports, request, plan, disk), destination.host)
    records.enter(request.id, Phase.VERIFYING)


def start(ports: Ports, request: Request, plan: RestorePlan) -> str:
    """Why it does not run; empty when it does, for some seconds at least."""
    destination = ports.hypervisor(plan.destination)
    try:
        if destination.place(request.guest_uuid).where is Where.OFF:
            destination.start(request.guest_uuid)
        return destination.watch(request.guest_uuid, HEALTHY_FOR)
    except DriverError as error:
        return error.why
