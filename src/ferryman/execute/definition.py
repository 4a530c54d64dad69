"""Moving a shut-off guest by its definition alone: exactly the steps of plan/definition.py, each looking before it acts.

Until the source's definition is removed, everything is put back by the undo rows; from then on there is only forward.
"""

from functools import partial
from typing import Any

from ferryman.errors import DriverError, NeedsAttention, Refused
from ferryman.execute import live, mark, storage, undo
from ferryman.execute.follow import ASK_AGAIN, TOO_LATE, TransferEnd, not_ours_any_more, too_old
from ferryman.execute.runtime import step
from ferryman.execute.settle import PATIENCE, Judge, confirm, look, settle
from ferryman.model.outcome import Outcome, Status
from ferryman.model.phase import Phase
from ferryman.model.place import Where
from ferryman.model.plan import Plan
from ferryman.model.request import Request
from ferryman.plain import from_plain, to_plain
from ferryman.ports import Ports
from ferryman.verify.definition import judge_definition
from ferryman.verify.location import Action, Verdict


def carry_out(ports: Ports, request: Request, plan: Plan, *, fresh: bool) -> tuple[TransferEnd, Verdict]:
    """From the saved definition to a verdict on who owns the guest. Raises Refused when nothing was made."""
    step("save-definition", live.save_definition, ports, request)
    step("mark", mark.set_mark, ports, request)
    if request.options.replace_definition:
        step("replace-definition", live.replace_definition, ports, request)
    if plan.autostart:
        step("autostart-off", live.autostart_off, ports, request)
    if plan.nvram:
        step("copy-nvram", copy_nvram, ports, request, plan)
    end = from_plain(TransferEnd, step("define-destination", define_destination, ports, request, plan, fresh))
    verdict = settled(ports, request, put_back=bool(end.reason))
    if verdict.action is Action.BACK and not end.reason:
        end = _why_back(ports, request)
    return end, verdict


def _why_back(ports: Ports, request: Request) -> TransferEnd:
    by = ports.records.cancel_asked(request.id)
    return TransferEnd(f"cancelled by {by}" if by else "it was not moved", cancelled=bool(by))


def settled(ports: Ports, request: Request, *, put_back: bool = False, patience: float = PATIENCE) -> Verdict:
    """What the pair of places says. `put_back`: something spoke against it, so two definitions mean back."""
    return from_plain(Verdict, step("settle", _settle, ports, request, put_back, patience))


def left(ports: Ports, request: Request, *, patience: float) -> tuple[TransferEnd, Verdict]:
    """The end of a move that an earlier process left."""
    verdict = settled(ports, request, patience=patience)
    by = ports.records.cancel_asked(request.id)
    return TransferEnd(f"cancelled by {by}" if by else "left by an earlier process", cancelled=bool(by)), verdict


def _settle(ports: Ports, request: Request, put_back: bool, patience: float) -> Any:
    back = put_back or bool(ports.records.cancel_asked(request.id))
    return to_plain(settle(ports, request, patience=patience, judge=_judge(ports, request, put_back=back)))


def _judge(ports: Ports, request: Request, *, put_back: bool) -> Judge:
    past = ports.records.asked_at(request.id) is not None
    return partial(judge_definition, made=made(ports, request), put_back=put_back and not past, past=past)


def made(ports: Ports, request: Request) -> bool:
    """Whether the destination's definition is this move's: the undo is registered before it is made."""
    return any(act == undo.REMOVE_NEW_DEFINITION for _, act, _ in ports.records.undo_acts(request.id))


# Until the point of no return


def copy_nvram(ports: Ports, request: Request, plan: Plan) -> None:
    """The firmware's variables."""
    content = ports.hypervisor(request.source).read_file(plan.nvram)
    if content is not None:  # a guest that never ran: its firmware makes them at the first start
        put_file(ports, request, plan.nvram, content)


def put_file(ports: Ports, request: Request, path: str, content: bytes) -> None:
    """A variable store at the destination, read back before anybody relies on it. What was there is kept beside."""
    destination = ports.hypervisor(request.destination)
    there = destination.read_file(path)
    if there == content:
        return
    registered = {act for _, act, _ in ports.records.undo_acts(request.id)}
    if not registered & {undo.REMOVE_FILE, undo.RESTORE_FILE}:
        where = {"host": request.destination, "path": path}
        if there is None:
            ports.records.register_undo(request.id, undo.REMOVE_FILE, where)
        else:
            before = f"{path}.before-{request.id}"
            destination.write_file(before, there)
            ports.records.register_undo(request.id, undo.RESTORE_FILE, {**where, "before": before})
            ports.records.keep_decision(request.id, f"kept what {request.destination} had as {path}: {before}")
    destination.write_file(path, content)
    if destination.read_file(path) != content:
        raise Refused(f"firmware variables {path}", f"{request.destination} does not read back what was written",
                      f"look whether its file system is full or read-only: df and dmesg at {request.destination}")  # fmt: skip


def define_destination(ports: Ports, request: Request, plan: Plan, fresh: bool) -> Any:
    """Define the guest where it shall be. An end with a reason means: it shall stay where it is."""
    return to_plain(_define(ports, request, plan, fresh=fresh))


def _define(ports: Ports, request: Request, plan: Plan, *, fresh: bool) -> TransferEnd:
    records = ports.records
    if (by := records.cancel_asked(request.id)) != "":
        return TransferEnd(f"cancelled by {by}", cancelled=True)
    ours = made(ports, request)
    if not ours and not fresh and too_old(ports, request):
        return TransferEnd(TOO_LATE, remedy=ASK_AGAIN)
    holder = records.lease(request.guest_uuid)
    if holder != request.id:
        raise not_ours_any_more(request, holder)
    destination = ports.hypervisor(request.destination)
    places = (look(ports.hypervisor(request.source), request.guest_uuid), look(destination, request.guest_uuid))
    match places[0].where, places[1].where:
        case Where.OFF, Where.OFF if ours:
            return TransferEnd("")  # run again after a crash
        case Where.OFF, Where.ABSENT:
            pass
        case here, there:
            return TransferEnd(f"the guest is {here.words} at the source, {there.words} at the destination")
    mark.refuse_another(ports, request)  # libvirt has no job here that would tell two apart
    records.register_undo(request.id, undo.REMOVE_NEW_DEFINITION, {"host": request.destination})
    try:
        destination.define(records.definition(request.id, request.source), storage.changes(ports, request, plan))
    except DriverError as error:
        return TransferEnd(
            f"{request.destination} did not take the definition: {error.why}",
            str(error),
            error.remedy,
            kind=type(error).__name__,
        )
    return TransferEnd("")


# Past it


def forward(ports: Ports, request: Request, plan: Plan) -> Outcome:
    """Make the destination the only owner. Raises NeedsAttention when the places changed meanwhile."""
    step("enter-completing", ports.records.enter, request.id, Phase.COMPLETING)
    step("undefine-source", undefine_source, ports, request)
    if plan.autostart:
        step("autostart-on", live.autostart_on, ports, request)
    step("drop-undo", undo.drop_all, ports, request)
    return from_plain(Outcome, step("verify", verify, ports, request, plan))


def undefine_source(ports: Ports, request: Request) -> None:
    """The definition only: disks and variables stay, and libvirt refuses while snapshots or a saved memory exist."""
    source = ports.hypervisor(request.source)
    if source.place(request.guest_uuid).where is Where.ABSENT and ports.records.asked_at(request.id) is not None:
        return  # by us
    if confirm(ports, request, Action.FORWARD, judge=_judge(ports, request, put_back=False)) is None:
        raise _changed(request)
    ports.records.mark_asked(request.id)  # from here on an error is not "nothing was changed"
    if source.place(request.guest_uuid).where is Where.OFF:
        source.undefine(request.guest_uuid)
    left = source.place(request.guest_uuid)
    if left.where is not Where.ABSENT:
        # Started between the look and the act: it runs there, without a definition, and is given it back.
        if not left.persistent:
            source.define(ports.records.definition(request.id, request.source))
        raise _changed(request)


def _changed(request: Request) -> NeedsAttention:
    return NeedsAttention(
        f"guest {request.guest}", "somebody else moved, started or removed it between two looks",
        "look at both hosts with virsh list --all, then ferryman recover",
    )  # fmt: skip


def verify(ports: Ports, request: Request, plan: Plan) -> Any:
    """Both hosts once more: the end is what they say."""
    ports.records.enter(request.id, Phase.VERIFYING)
    source = look(ports.hypervisor(request.source), request.guest_uuid)
    destination = look(ports.hypervisor(request.destination), request.guest_uuid)
    active = request.destination if destination.where is Where.RUNNING else ""
    if source.where is not Where.ABSENT or destination.where in (Where.ABSENT, Where.UNREACHABLE):
        return to_plain(
            Outcome(
                Status.NEEDS_ATTENTION,
                f"the guest is {source.where.words} at the source and {destination.where.words} at the destination",
                active,
                remedy="look at both hosts with virsh list --all, then ferryman recover",
            )
        )
    if plan.nvram:
        text = f"left at {request.source}: {plan.nvram}, the firmware's variables as they were"
        ports.records.keep_decision(request.id, text)
    return to_plain(
        Outcome(Status.SUCCEEDED, f"{request.destination} has the guest, {destination.where.words}", active)
    )
