"""A live migration, step by step: exactly the steps of plan/steps.py, each looking before it acts."""

from typing import Any

from ferryman.errors import Busy, NeedsAttention, Refused
from ferryman.execute import hooks, mark, storage, undo
from ferryman.execute.follow import TransferEnd, transfer
from ferryman.execute.runtime import step
from ferryman.execute.settle import PATIENCE, confirm, settle
from ferryman.model.phase import Phase
from ferryman.model.place import Where
from ferryman.model.plan import Plan
from ferryman.model.request import Request
from ferryman.plain import from_plain, to_plain
from ferryman.ports import Ports
from ferryman.verify.location import Action, Verdict, judge, judge_unasked

FORWARD = (Action.FORWARD, Action.FORWARD_OVER_HUSK)


def carry_out(ports: Ports, request: Request, plan: Plan, *, fresh: bool) -> tuple[TransferEnd, Verdict]:
    """From the saved definition to a verdict on who owns the guest. Raises Refused when nothing was asked for."""
    step("save-definition", save_definition, ports, request)
    step("mark", mark.set_mark, ports, request)
    if request.options.replace_definition:
        step("replace-definition", replace_definition, ports, request)
    if plan.ejected:
        step("eject-media", storage.eject_media, ports, request, plan)
    if plan.new_disks:
        step("make-volumes", storage.make_volumes, ports, request, plan)
        step("carry-media", storage.carry_media, ports, request, plan)
    if plan.autostart:
        step("autostart-off", autostart_off, ports, request)
    step("tell-before-stop", hooks.before_stop, ports, request, fresh)
    return watched(ports, request, plan, fresh=fresh)


def watched(
    ports: Ports, request: Request, plan: Plan, *, fresh: bool, may_ask: bool = True, patience: float = PATIENCE
) -> tuple[TransferEnd, Verdict]:
    """The transfer, then settling."""
    end = from_plain(TransferEnd, step("transfer", _transfer, ports, request, plan, fresh, may_ask))
    verdict = from_plain(Verdict, step("settle", _settle, ports, request, patience))
    if verdict.action in (Action.BACK_RESUME, Action.STALE) and not end.asked:
        # Nothing was asked for, so no migration of ours paused it.
        why = "the guest is paused at the source without a job; nothing was asked for, so this move did not pause it: it is left as it is"
        return end, Verdict(Action.BACK, why)
    return end, verdict


def _transfer(ports: Ports, request: Request, plan: Plan, fresh: bool, may_ask: bool) -> Any:
    return to_plain(transfer(ports, request, plan, fresh=fresh, may_ask=may_ask))


def _settle(ports: Ports, request: Request, patience: float) -> Any:
    asked = ports.records.asked_at(request.id) is not None
    return to_plain(settle(ports, request, patience=patience, judge=judge if asked else judge_unasked))


# Before the transfer


def save_definition(ports: Ports, request: Request) -> None:
    """Keep what the source has, so that no crash can lose the guest's definition."""
    source = ports.hypervisor(request.source)
    if not ports.records.definition(request.id, request.source):
        ports.records.keep_definition(request.id, request.source, source.definition(request.guest_uuid))


def replace_definition(ports: Ports, request: Request) -> None:
    """An inactive definition of the same UUID at the destination, left by older tools: saved, then removed."""
    destination = ports.hypervisor(request.destination)
    place = destination.place(request.guest_uuid)
    if place.where is Where.ABSENT:
        return
    if place.where is not Where.OFF:
        raise Refused(f"guest {request.guest} at {request.destination}", f"it is {place.where.words} there: only a definition that nobody uses is replaced",
                      f"look at {request.destination} with virsh list --all")  # fmt: skip
    if not ports.records.definition(request.id, request.destination):
        ports.records.keep_definition(request.id, request.destination, destination.definition(request.guest_uuid))
    undoing = {"host": request.destination, "autostart": place.autostart}
    ports.records.register_undo(request.id, undo.RESTORE_DEFINITION, undoing)
    destination.undefine(request.guest_uuid)


def autostart_off(ports: Ports, request: Request, waits: bool = False) -> None:
    """With autostart on, a source that reboots in the middle would start the guest a second time. `waits`: what follows waits for another's job."""
    source = ports.hypervisor(request.source)
    place = source.place(request.guest_uuid)
    if place.job and not waits:
        raise Busy(f"guest {request.guest}", f"another job ({place.job}) runs on it, which is not ours", f"wait for its end: virsh domjobinfo {request.guest}")  # fmt: skip
    if place.persistent and place.autostart:
        ports.records.register_undo(request.id, undo.RESTORE_AUTOSTART, {"host": request.source})
        source.set_autostart(request.guest_uuid, False)


# After it: forward, past the point of no return


def forward(ports: Ports, request: Request, plan: Plan, verdict: Verdict) -> None:
    """Make the destination the only owner. Each act looks at both hosts again. Raises NeedsAttention when they changed."""
    step("enter-completing", ports.records.enter, request.id, Phase.COMPLETING)
    if verdict.action is Action.FORWARD_OVER_HUSK:
        step("destroy-husk", destroy_husk, ports, request)
    step("undefine-source", undefine_source, ports, request)
    if plan.persistent:
        step("keep-definition", keep_definition, ports, request, plan)
    if plan.autostart:
        step("autostart-on", autostart_on, ports, request)
    if plan.new_disks or plan.nvram:
        step("note-left", note_left, ports, request, plan)
    step("unmark", mark.remove_mark, ports, request)
    step("drop-undo", drop_undo, ports, request)


def destroy_husk(ports: Ports, request: Request) -> None:
    """A paused copy that no job works on, beside a running destination: a daemon died in the handshake's last phases."""
    found = confirm(ports, request, *FORWARD)
    if found is None:
        raise changed(request)
    if found.action is Action.FORWARD_OVER_HUSK:
        ports.hypervisor(request.source).destroy(request.guest_uuid)
        ports.records.keep_decision(request.id, f"destroyed the stalled copy at {request.source}: {found.reason}")


def undefine_source(ports: Ports, request: Request) -> None:
    """Libvirt removes the source's definition itself when all goes well; whatever is left goes here, files stay."""
    source = ports.hypervisor(request.source)
    if source.place(request.guest_uuid).where is Where.ABSENT:
        return
    if confirm(ports, request, Action.FORWARD) is None:
        raise changed(request)
    if source.place(request.guest_uuid).where is Where.OFF:
        source.undefine(request.guest_uuid)


def keep_definition(ports: Ports, request: Request, plan: Plan) -> None:
    """A persistent guest stays persistent, also when the handshake broke before libvirt wrote the definition.

    One that somebody else moved meanwhile is not on the disks that were made for it: what it runs on is kept.
    """
    _still_there(ports, request)
    destination = ports.hypervisor(request.destination)
    place = destination.place(request.guest_uuid)
    if place.where is Where.RUNNING and not place.persistent:
        if ports.records.asked_at(request.id) is None:
            destination.define(destination.definition(request.guest_uuid))
            return
        xml = ports.records.definition(request.id, request.source)
        destination.define(xml, storage.changes(ports, request, plan))


def autostart_on(ports: Ports, request: Request) -> None:
    """Autostart does not travel."""
    _still_there(ports, request)
    destination = ports.hypervisor(request.destination)
    place = destination.place(request.guest_uuid)
    if place.where in (Where.RUNNING, Where.OFF) and place.persistent and not place.autostart:
        destination.set_autostart(request.guest_uuid, True)


def note_left(ports: Ports, request: Request, plan: Plan) -> None:
    """Name what stays at the source; not if the guest is back on it."""
    _still_there(ports, request)
    storage.remove_unused(ports, request)
    storage.note_left(ports, request, plan)


def drop_undo(ports: Ports, request: Request) -> None:
    """What was registered is not taken back any more, unless somebody has taken the guest back meanwhile: then it is."""
    _still_there(ports, request)
    undo.drop_all(ports, request)


def _still_there(ports: Ports, request: Request) -> None:
    """Only while the destination owns the guest: one that went on to a third host has left a stale definition at most."""
    if confirm(ports, request, Action.FORWARD, Action.STOPPED_AT_DESTINATION) is None:
        raise changed(request)


def changed(request: Request) -> NeedsAttention:
    """The places are not any more what they were when it was decided."""
    return NeedsAttention(
        f"guest {request.guest}", "somebody else moved, started or stopped it between two looks",
        "look at both hosts with virsh list --all, then ferryman recover",
    )  # fmt: skip


# After it: back


def back(ports: Ports, request: Request, verdict: Verdict) -> None:
    """Put everything back. Raises NeedsAttention when something could not be."""
    step("enter-rolling-back", ports.records.enter, request.id, Phase.ROLLING_BACK)
    if verdict.action is Action.BACK_RESUME:
        step("resume-source", resume_source, ports, request)
    failures = step("undo", undo.undo_all, ports, request)
    if failures:
        raise NeedsAttention(f"guest {request.guest}", "; ".join(failures), "mend the cause, then ferryman recover")


def resume_source(ports: Ports, request: Request) -> None:
    """The only copy stands paused, nobody works on it, and the destination never ran it."""
    if confirm(ports, request, Action.BACK_RESUME) is not None:
        ports.hypervisor(request.source).resume(request.guest_uuid)
        ports.records.keep_decision(
            request.id,
            f"resumed the guest at {request.source}: the only copy stood paused, and {request.destination} never ran it",
        )
