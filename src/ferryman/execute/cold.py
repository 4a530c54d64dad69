"""Moving a guest stopped: exactly the steps of plan/cold.py, each looking before it acts. What goes ahead while it runs: execute/ahead.py.

Until its network links go up at the destination everything is put back by the undo rows; from then on there is only forward.
"""

import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import PurePath
from typing import Any

from ferryman.errors import DriverError, RecordsUnusable, Refused, Timeout
from ferryman.execute import ahead, definition, hooks, layers, live, mark, storage, undo
from ferryman.execute.copying import copy_disks, copy_saved, copy_tpm, forget_journals, results, still_untouched
from ferryman.execute.follow import TransferEnd, not_ours_any_more
from ferryman.execute.inspection import inspect
from ferryman.execute.patience import answered
from ferryman.execute.runtime import step
from ferryman.execute.settle import PATIENCE, Judge, confirm, look, settle
from ferryman.execute.stop import stop
from ferryman.model.guest import Snapshot
from ferryman.model.outcome import Figures, Outcome, Status
from ferryman.model.phase import Phase
from ferryman.model.place import Where
from ferryman.model.plan import Plan, Travel
from ferryman.model.request import Request
from ferryman.model.units import format_moment
from ferryman.plain import from_plain, to_plain
from ferryman.plan.cold import HEALTHY_FOR
from ferryman.ports import Console, Ports
from ferryman.verify.cold import judge_cold
from ferryman.verify.location import Action, Verdict

GOOD = TransferEnd("")
ANSWERS_WITHIN = 180.0  # seconds that a guest gets to boot until it answers as it did before


def make_ready(ports: Ports, request: Request, plan: Plan) -> None:
    """All that is made and looked at before anything is copied. Raises Refused when nothing was made."""
    step("save-definition", live.save_definition, ports, request)
    step("save-snapshots", save_snapshots, ports, request, plan)
    step("mark", mark.set_mark, ports, request)
    if plan.new_disks:
        step("make-volumes", storage.make_volumes, ports, request, plan)
    step("try-definition", try_definition, ports, request, plan)


def free_to_copy(ports: Ports, request: Request, plan: Plan) -> TransferEnd:
    """Wait for the end of another's job on the guest."""
    return from_plain(TransferEnd, step("free-to-copy", *_trial(ports, request, plan, ahead.free_to_copy)))


def copy_ahead(ports: Ports, request: Request, plan: Plan) -> TransferEnd:
    """Copy most of its disks while the guest runs."""
    return _no_job_left(ports, request, step("copy-ahead", *_trial(ports, request, plan, ahead.copy_ahead)))


def catch_up(ports: Ports, request: Request, plan: Plan) -> TransferEnd:
    """The same of what was written while something was waited for."""
    return _no_job_left(ports, request, step("catch-up", *_trial(ports, request, plan, ahead.catch_up)))


def _no_job_left(ports: Ports, request: Request, plain: Any) -> TransferEnd:
    """While a job of ours runs nobody can say who owns the guest."""
    end = from_plain(TransferEnd, plain)
    if end.reason:
        step("end-passes", ahead.end_passes, ports, request)
    return end


def carry_out(ports: Ports, request: Request, plan: Plan, *, fresh: bool) -> tuple[TransferEnd, Verdict]:
    """From a guest that is to be stopped to a verdict on who owns it. Raises Refused.

    What others would miss is taken away only now: where a window was waited for, all before may have been days ago. Nor would libvirt take
    the autostart away under any job but a backup.
    """
    if plan.ahead:
        end = _no_job_left(ports, request, step("free-to-stop", *_trial(ports, request, plan, ahead.free_to_stop)))
        if end.reason:
            return concluded(ports, request, plan, end)

    def take_away(name: str, act: Callable[..., None], *more: Any) -> None:
        """Each looks for itself what was done before. What was copied ahead is not lost for a libvirtd that restarts just then."""
        taken = partial(act, ports, request, *more)
        step(name, partial(answered, ports, request, taken) if plan.ahead else taken)

    if request.options.replace_definition:
        take_away("replace-definition", live.replace_definition)
    if plan.ejected:
        take_away("eject-media", storage.eject_media, plan)
    if plan.autostart:
        take_away("autostart-off", live.autostart_off, bool(plan.ahead))
    if plan.starts:
        step("tell-before-stop", hooks.before_stop, ports, request, fresh)
    return concluded(ports, request, plan, _brought(ports, request, plan, fresh=fresh))


def concluded(ports: Ports, request: Request, plan: Plan, end: TransferEnd) -> tuple[TransferEnd, Verdict]:
    """What the pair of places says after that end; the last moment at which a cancel counts."""
    verdict = settled(ports, request, plan, put_back=bool(end.reason))
    if verdict.action is Action.FORWARD and (by := step("enter-completing", enter_completing, ports, request)):
        end = TransferEnd(f"cancelled by {by}", cancelled=True)
        verdict = settled(ports, request, plan, put_back=True)
    if verdict.action is Action.BACK and not end.reason:
        end = _why_back(ports, request)
    return end, verdict


def _brought(ports: Ports, request: Request, plan: Plan, *, fresh: bool) -> TransferEnd:
    """From the running guest to one that runs unseen at the destination. An end with a reason ends the row of steps."""

    tried = partial(_trial, ports, request, plan)
    end = GOOD
    if plan.starts:
        end = _then(end, lambda: step("stop", *tried(stop, fresh=fresh)))
    if plan.held:
        end = _then(end, lambda: step("hold", *tried(hold)))
    if plan.nvram:
        end = _then(end, lambda: step("copy-nvram", *tried(copy_nvram)))
    if plan.tpm:
        end = _then(end, lambda: step("copy-tpm", *tried(copy_tpm)))
    if plan.saved:
        end = _then(end, lambda: step("copy-saved", *tried(copy_saved)))
    if plan.new_disks:
        end = _then(end, lambda: step("copy-disks", *tried(copy_disks)))
    end = _then(end, lambda: step("arrive", *tried(arrive)))
    end = _then(end, lambda: step("leave", *tried(leave)))
    if plan.starts:
        end = _then(end, lambda: step("start", *tried(start)))
        end = _then(end, lambda: step("health", *tried(health)))
    return end


def _trial(ports: Ports, request: Request, plan: Plan, act: Callable[..., TransferEnd], **more: Any) -> tuple[Any, ...]:
    return _tried, ports, request, partial(act, ports, request, plan, **more)


def _then(end: TransferEnd, following: Callable[[], Any]) -> TransferEnd:
    return end if end.reason else from_plain(TransferEnd, following())


def _tried(ports: Ports, request: Request, act: Callable[[], TransferEnd]) -> Any:
    """A step before the point of no return: whatever goes wrong in it, the guest shall be put back."""
    if by := ports.records.cancel_asked(request.id):
        return to_plain(TransferEnd(f"cancelled by {by}", cancelled=True))
    try:
        return to_plain(act())
    except (DriverError, Refused) as error:
        return to_plain(TransferEnd(f"{error.what}: {error.why}", str(error), error.remedy, kind=type(error).__name__))
    except RecordsUnusable:
        raise  # without records nothing can be put back
    except Exception as error:  # a fault of ours, and the guest is off: it is put back all the same
        fault = f"a fault in ferryman: {type(error).__name__}: {error}"
        at = traceback.extract_tb(error.__traceback__)[-1]
        ports.records.keep_decision(request.id, f"{fault} (in {at.name}, {PurePath(at.filename).name} line {at.lineno})")  # fmt: skip
        return to_plain(TransferEnd(fault, fault, "please report it, with what ferryman show says of this request"))


def _why_back(ports: Ports, request: Request) -> TransferEnd:
    by = ports.records.cancel_asked(request.id)
    return TransferEnd(f"cancelled by {by}" if by else "it was not moved", cancelled=bool(by))


def left(ports: Ports, request: Request, plan: Plan, *, patience: float) -> tuple[TransferEnd, Verdict]:
    """The end of a move that an earlier process left: put back, unless its links were up already."""
    if plan.ahead:
        step("end-passes", ahead.end_passes, ports, request)
    verdict = settled(ports, request, plan, put_back=True, patience=patience)
    by = ports.records.cancel_asked(request.id)
    return TransferEnd(f"cancelled by {by}" if by else "left by an earlier process", cancelled=bool(by)), verdict


def settled(
    ports: Ports, request: Request, plan: Plan, *, put_back: bool = False, patience: float = PATIENCE
) -> Verdict:
    """What the pair of places says. `put_back`: something spoke against it."""
    return from_plain(Verdict, step("settle", _settle, ports, request, plan, put_back, patience))


def _settle(ports: Ports, request: Request, plan: Plan, put_back: bool, patience: float) -> Any:
    back = put_back or bool(ports.records.cancel_asked(request.id))
    return to_plain(settle(ports, request, patience=patience, judge=_judge(ports, request, plan, put_back=back)))


def _judge(ports: Ports, request: Request, plan: Plan, *, put_back: bool) -> Judge:
    past = ports.records.asked_at(request.id) is not None
    return partial(judge_cold, made=definition.made(ports, request), put_back=put_back and not past,
                   past=past, starts=plan.starts)  # fmt: skip


# Until the point of no return


def save_snapshots(ports: Ports, request: Request, plan: Plan) -> None:
    """Keep what libvirt knows of them. Raises Refused for one in an image that it does not know, and for files that cannot be copied."""
    source = ports.hypervisor(request.source)
    for disk in plan.new_disks:
        if (
            disk.travel is Travel.COPY
            and (disk.converted_from or disk.format) == "qcow2"
            and (names := source.image_snapshots(disk.source))
        ):
            raise Refused(f"disk {disk.target} ({disk.source})", f"snapshots are in it that libvirt does not know ({', '.join(names)}): they would not come along",
                          f"once the guest is off: qemu-img snapshot -d NAME {disk.source}; or move it live")  # fmt: skip
    layers.look(ports, request, plan)
    if plan.snapshots:
        ports.records.keep_facts(request.id, {"snapshots": to_plain(source.snapshots(request.guest_uuid))})


def try_definition(ports: Ports, request: Request, plan: Plan) -> None:
    """What the destination would not take is refused before anything stands still. Raises DriverError."""
    changes = storage.changes(ports, request, plan, links_down=plan.starts)
    try:
        ports.hypervisor(request.destination).try_definition(_wanted(ports, request, plan), changes)
    except Timeout as error:  # no answer speaks against nothing: the start will tell
        ports.records.keep_decision(request.id, f"the definition was not tried at {request.destination}: {error.why}")


def hold(ports: Ports, request: Request, plan: Plan) -> TransferEnd:
    """From here on a start of the guest at its source fails, whoever asks for it."""
    source = ports.hypervisor(request.source)
    if (
        plan.ahead
    ):  # undone once the images are let go, and before the guest is started again: then nobody has them open
        ports.records.register_undo(request.id, undo.END_PASSES, {"host": request.source, "again": True})
    ports.records.register_undo(request.id, undo.RELEASE_IMAGES, {"host": request.source})
    source.hold(request.id, plan.held)
    here = look(source, request.guest_uuid)
    if here.where is not Where.OFF:
        return TransferEnd(f"it is {here.where.words} at the source: somebody started it")
    ahead.heed_run(ports, request, plan)
    if ports.records.facts(request.id).get("forced_off"):
        for image in plan.held:
            seen = source.check_image(image)
            told = f"{'sound' if seen.sound else 'damaged'} after it was switched off"
            ports.records.keep_decision(
                request.id, f"image of {image.target}: {told}{f': {seen.words}' if seen.words else ''}"
            )
    return GOOD


def copy_nvram(ports: Ports, request: Request, plan: Plan) -> TransferEnd:
    """As for a guest that moves by its definition."""
    definition.copy_nvram(ports, request, plan)
    return GOOD


def arrive(ports: Ports, request: Request, plan: Plan) -> TransferEnd:
    """Define the guest where it shall be. A guest that will be started gets its links down."""
    records, destination = ports.records, ports.hypervisor(request.destination)
    holder = records.lease(request.guest_uuid)
    if holder != request.id:
        raise not_ours_any_more(request, holder)
    records.enter(request.id, Phase.STARTING)
    here, there = look(ports.hypervisor(request.source), request.guest_uuid), look(destination, request.guest_uuid)
    match here.where, there.where:
        case Where.OFF, Where.OFF if definition.made(ports, request):
            pass  # run again after a crash
        case Where.OFF, Where.ABSENT:
            pass
        case _:
            return TransferEnd(f"the guest is {here.where.words} at the source, {there.where.words} at the destination")
    records.register_undo(request.id, undo.REMOVE_NEW_DEFINITION, {"host": request.destination})
    changes = storage.changes(ports, request, plan, links_down=plan.starts)
    storage.make_files_known(ports, request, plan)
    destination.define(_wanted(ports, request, plan), changes)
    if plan.snapshots:
        told = records.facts(request.id).get("snapshots", ())
        as_it_was = replace(changes, links_down=False)  # who goes back to a snapshot later shall find its links up
        destination.make_known(request.guest_uuid, [from_plain(Snapshot, one) for one in told], as_it_was)
    if plan.saved:
        destination.adapt_saved(plan.saved, changes)
    return GOOD


def _wanted(ports: Ports, request: Request, plan: Plan) -> str:
    """The definition that the guest gets: its own, or the one that it had there before."""
    if plan.take_back:
        return ports.records.definition(plan.take_back, request.destination)
    return ports.records.definition(request.id, request.source)


def leave(ports: Ports, request: Request, plan: Plan) -> TransferEnd:
    """Remove the source's definition alone, so that nothing can start the guest there once its images are let go."""
    records, source = ports.records, ports.hypervisor(request.source)
    here, there = look(source, request.guest_uuid), look(ports.hypervisor(request.destination), request.guest_uuid)
    begun = any(act == undo.DEFINE_SOURCE for _, act, _ in records.undo_acts(request.id))
    match here.where, there.where:
        case Where.ABSENT, Where.OFF if begun:
            pass  # run again after a crash
        case Where.OFF, Where.OFF:
            # Copied by a process that died, maybe hours ago: the source's host may have restarted since.
            if (end := still_untouched(ports, request, plan)).reason:
                return end
            records.register_undo(request.id, undo.DEFINE_SOURCE, {"host": request.source})
            _put_saved_aside(ports, request, plan)
            records.keep_facts(request.id, {"checkpoints": to_plain(source.checkpoints(request.guest_uuid))})
            source.undefine(request.guest_uuid, snapshots=plan.snapshots)
        case _:
            return TransferEnd(f"the guest is {here.where.words} at the source, {there.where.words} at the destination")
    now = source.place(request.guest_uuid)
    if now.where is not Where.ABSENT:
        if not now.persistent:  # started between the look and the act: it runs there, and is given its definition back
            source.define(records.definition(request.id, request.source))
            undo.make_known_again(ports, request)
        return TransferEnd(f"somebody started it at the source: it is {now.where.words} there")
    if shared := [image.target for image in plan.held if image.shared]:
        source.release(request.id, shared)
    return GOOD


def _put_saved_aside(ports: Ports, request: Request, plan: Plan) -> None:
    """libvirt removes no definition beside a saved memory, or it removes both: under another name it is kept."""
    if plan.saved:
        aside = f"{plan.saved}.left-{request.id}"
        ports.records.register_undo(
            request.id, undo.MOVE_BACK, {"host": request.source, "path": plan.saved, "to": aside}
        )
        ports.hypervisor(request.source).move_file(plan.saved, aside)
        ports.records.keep_decision(request.id, f"the saved memory stays at {request.source} as {aside}: remove it once it is not wanted any more")  # fmt: skip


def start(ports: Ports, request: Request, plan: Plan) -> TransferEnd:
    """Start it where it shall be. It is the only definition there is."""
    records, destination = ports.records, ports.hypervisor(request.destination)
    here, there = look(ports.hypervisor(request.source), request.guest_uuid), look(destination, request.guest_uuid)
    if here.where is not Where.ABSENT:
        return TransferEnd(f"the guest is {here.where.words} at the source by now")
    if there.where not in (Where.OFF, Where.RUNNING):
        return TransferEnd(f"the guest is {there.where.words} at the destination")
    records.register_undo(request.id, undo.STOP_DESTINATION, {"host": request.destination})
    if there.where is Where.RUNNING:  # run again after a crash, or somebody was faster: its links are down all the same
        _end_at_a_reboot(ports, request, True)
        return GOOD
    if plan.take_back:
        records.keep_decision(request.id, f"the disks that were left at {request.destination} are written to from now on, also if the move is put back: then they are as after a loss of power")  # fmt: skip
    destination.start(request.guest_uuid)
    _end_at_a_reboot(ports, request, True)
    return GOOD


def _end_at_a_reboot(ports: Ports, request: Request, on: bool) -> None:
    """Until its links go up a guest that reboots there ends: so no reboot is missed between two looks."""
    try:
        ports.hypervisor(request.destination).let_it_end(request.guest_uuid, on)
    except DriverError as error:
        ports.records.keep_decision(request.id, f"what a reboot of the guest at {request.destination} does could not be set: {error.why}")  # fmt: skip


def health(ports: Ports, request: Request, plan: Plan) -> TransferEnd:
    """It must run for some seconds before anybody sees it, and answer by its agent and its console if it did before."""
    destination, facts = ports.hypervisor(request.destination), ports.records.facts(request.id)
    if befell := destination.watch(request.guest_uuid, HEALTHY_FOR):
        return _befallen(request, befell)
    deadline = ports.clock.now() + ANSWERS_WITHIN
    ways: dict[str, Callable[[], bool]] = {
        "agent": partial(destination.agent_answers, request.guest_uuid),
        "console": partial(_console_answers, ports, request),
    }
    for name, answers in ways.items():
        while facts.get(f"{name}_before") and not answers():
            if befell := destination.watch(request.guest_uuid, 1.0):
                return _befallen(request, befell)
            if ports.clock.now() > deadline:
                return TransferEnd(f"its {name} answered before, and does not at {request.destination} within {ANSWERS_WITHIN:.0f} s", remedy=f"look at its console there while it starts: virsh console {request.guest}")  # fmt: skip
            if by := ports.records.cancel_asked(request.id):
                return TransferEnd(f"cancelled by {by}", cancelled=True)
    return GOOD


def _befallen(request: Request, befell: str) -> TransferEnd:
    return TransferEnd(f"after its start at {request.destination} {befell}", remedy=f"why: /var/log/libvirt/qemu/{request.guest}.log at {request.destination}")  # fmt: skip


def _console_answers(ports: Ports, request: Request) -> bool:
    """Somebody who has it open sees for themselves."""
    seen = ports.hypervisor(request.destination).console(request.guest_uuid, starting=True)
    if seen is Console.BUSY:
        ports.records.keep_decision(request.id, f"its console {seen} at {request.destination}, so it was not tried")
    return seen in (Console.ANSWERS, Console.BUSY)


def enter_completing(ports: Ports, request: Request) -> str:
    """The last moment at which a cancel counts: who asked for one. Else the phase is entered that refuses any later one."""
    records = ports.records
    if records.asked_at(request.id) is None and (by := records.cancel_asked(request.id)):
        return by
    records.enter(request.id, Phase.COMPLETING)
    return ""


# Past it


def forward(ports: Ports, request: Request, plan: Plan) -> None:
    """Make the destination the only owner. Raises NeedsAttention when the places changed meanwhile."""
    step("enter-completing", ports.records.enter, request.id, Phase.COMPLETING)
    step("open", open_links, ports, request, plan)
    if plan.autostart:
        step("autostart-on", live.autostart_on, ports, request)
    if plan.held:
        step("release", release, ports, request, plan)
    if any(disk.remembers for disk in plan.ahead):
        step("forget-passes", ahead.forget_passes, ports, request, plan)
    step("note-left", note_left, ports, request, plan)
    step("drop-undo", live.drop_undo, ports, request)


def open_links(ports: Ports, request: Request, plan: Plan) -> None:
    """The point of no return: from here on the guest may be seen, and its disks at the source are the older ones."""
    records, destination = ports.records, ports.hypervisor(request.destination)
    if confirm(ports, request, Action.FORWARD, judge=_judge(ports, request, plan, put_back=False)) is None:
        raise live.changed(request)
    ours = definition.made(ports, request)
    records.mark_asked(request.id)
    if by := records.cancel_asked(request.id):
        records.keep_decision(request.id, f"the cancel by {by} came too late: the guest is at {request.destination}, and there is only forward")  # fmt: skip
    if not plan.starts or not ours or "opened_at" in records.facts(request.id):
        return  # what somebody else brought there is theirs to set up; what was opened may have been set up anew since
    text = _wanted(ports, request, plan)
    if destination.place(request.guest_uuid).where is Where.RUNNING:
        _end_at_a_reboot(ports, request, False)
        destination.open_links(request.guest_uuid, text)
    destination.define(text, storage.changes(ports, request, plan))
    records.keep_facts(request.id, {"opened_at": ports.clock.now()})


def release(ports: Ports, request: Request, plan: Plan) -> None:
    """What was switched off is looked through first. A source that does not answer now keeps its holds, and the act that lets them go: the move's end says so."""
    inspect(ports, request, plan)
    if why := undo.release(ports, request):
        ports.records.keep_decision(request.id, f"the images at {request.source} could not be let go: {why}")


def without_holds(ports: Ports, request: Request, outcome: Outcome) -> Outcome:
    """The end as it is told: a move whose images are still held needs somebody who looks."""
    if outcome.status is not Status.SUCCEEDED or not undo.held(ports, request):
        return outcome
    held = f"{outcome.reason}; its images at {request.source} are still held by qemu-nbd, so that they keep their room and nothing can start on them"
    return replace(outcome, status=Status.NEEDS_ATTENTION, reason=held, remedy=f"once ssh to {request.source} works: ferryman recover lets them go")  # fmt: skip


def note_left(ports: Ports, request: Request, plan: Plan) -> None:
    """Name what stays, and forget what only a way back would have needed: marks, and journals of copies that are complete."""
    if plan.new_disks or plan.saved or plan.stays or (plan.nvram and plan.starts):
        live.note_left(ports, request, plan)
        _mark_what_stays(ports, request, plan)
        forget_journals(ports, request, plan)
    if aside := _put_aside(ports, request):
        ports.records.keep_facts(request.id, {"set_aside": aside})
        for one in aside:
            ports.records.keep_decision(request.id, f"left as it is: {one['path']} at {one['host']}, what was there before; ferryman retire {request.id} removes it")  # fmt: skip


def _mark_what_stays(ports: Ports, request: Request, plan: Plan) -> None:
    """An image that is kept says so itself, to whoever finds it without our records. One that the guest got back does not any more."""
    when = format_moment(ports.clock.now())
    words = f"kept by ferryman: guest {request.guest} went to {request.destination} at {when} (request {request.id} of {request.asked_by}); ferryman retire {request.id} removes it"  # fmt: skip
    kept = {(request.source, one["path"]): words for one in ports.records.facts(request.id).get("left_to_retire", ())}
    before = ports.records.facts(plan.take_back).get("left_to_retire", ()) if plan.take_back else ()
    for (host, path), text in {**kept, **{(request.destination, one["path"]): "" for one in before}}.items():
        try:
            ports.hypervisor(host).label(path, text)
        except DriverError as error:
            ports.records.keep_decision(request.id, f"not marked: {path} at {host}: {error.why}")


def _put_aside(ports: Ports, request: Request) -> list[dict[str, str]]:
    """What the destination had where the guest's firmware variables and TPM state are now."""
    found: list[dict[str, str]] = []
    for _, act, arguments in ports.records.undo_acts(request.id):
        host = arguments["host"]
        if act == undo.RESTORE_FILE:
            found.append({"host": host, "path": arguments["before"]})
        if act == undo.TAKE_BACK_DIRECTORY and ports.hypervisor(host).adopt(arguments["path"], request.id):
            found.append({"host": host, "path": f"{arguments['path']}.before-{request.id}"})
    return found


def figures(ports: Ports, request: Request) -> Figures:
    """The guest was not to be reached by our doing from its stop until its links went up."""
    facts, copied = ports.records.facts(request.id), results(ports, request).values()
    off = facts["opened_at"] - facts["stopped_at"] if {"opened_at", "stopped_at"} <= facts.keys() else None
    passes = [one for one in ahead.noted(ports, request) if one.complete]
    wire = sum(one.wire for one in copied) + sum(one.wire for one in passes)
    seconds = sum(one.seconds + one.verify_seconds for one in copied) + sum(one.seconds for one in passes)
    return Figures(off, wire, seconds or None)
