"""Stopping a guest: asked by its agent and its power button, waited for, switched off only where that is allowed."""

from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from ferryman.errors import Busy, DriverError, Unreachable
from ferryman.execute import ahead, another, mark, undo, windows
from ferryman.execute.copying import other_guest
from ferryman.execute.follow import ASK_AGAIN, TOO_LATE, TransferEnd, not_ours_any_more, too_old
from ferryman.execute.patience import ended, place_at
from ferryman.execute.settle import look
from ferryman.model.phase import Phase
from ferryman.model.place import Place, Where
from ferryman.model.plan import Plan
from ferryman.model.request import Request
from ferryman.model.units import format_duration
from ferryman.ports import Console, Hypervisor, Ports, StopWay

LOOK_EVERY = 0.2  # seconds
AGENT_GETS = 0.5  # of the time, before the power button is pressed as well
_ON = (Where.RUNNING, Where.PAUSED, Where.HALTED)
SILENT_FOR = 60.0  # seconds without an answer of the source: then settling looks


class Then(StrEnum):
    """What is done next while a guest is asked to stop."""

    WAIT = "wait"
    PRESS = "press"  # the power button
    FORCE = "force"
    GIVE_UP = "give up"


@dataclass(frozen=True)
class Asked:
    """How the asking stands. Times are seconds since it began."""

    waited: float
    timeout: float
    by_agent: bool
    pressed: bool
    active: bool  # it executes, so that it could answer: a paused one cannot
    force_off: bool


def decide(asked: Asked) -> Then:
    """Pure. The agent goes first where there is one; the button follows when it has had its share of the time."""
    over = asked.waited >= asked.timeout or not asked.active
    if over:
        return Then.FORCE if asked.force_off else Then.GIVE_UP
    if not asked.pressed and (not asked.by_agent or asked.waited >= asked.timeout * AGENT_GETS):
        return Then.PRESS
    return Then.WAIT


def stop(ports: Ports, request: Request, plan: Plan, *, fresh: bool) -> TransferEnd:
    """Until the guest is off at the source. An end with a reason means: it shall be as it was."""
    if _begun(ports, request):
        end = _may_go_on(ports, request, plan, fresh=fresh)
    elif plan.ahead:  # until then a host that falls silent is waited for, and what was copied is not lost for it
        end = ended(ports, request, partial(_begin, ports, request, plan, fresh=fresh))
    else:
        end = _begin(ports, request, plan, fresh=fresh)
    if end.reason:
        return end
    source = ports.hypervisor(request.source)
    here = look(source, request.guest_uuid)
    ports.records.enter(request.id, Phase.STOPPING)
    end = _ask(ports, request, plan, source, here)
    if not end.reason:
        mark.renew(ports, request)
        if here.where in _ON:
            ahead.watched_to_its_end(ports, request)
        ahead.heed_run(ports, request, plan)
    return end


def _begun(ports: Ports, request: Request) -> bool:
    return any(act == undo.START_SOURCE for _, act, _ in ports.records.undo_acts(request.id))


def _begin(ports: Ports, request: Request, plan: Plan, *, fresh: bool) -> TransferEnd:
    """All that is looked at before it is asked; then its undo is there. Raises Unreachable."""
    records, source = ports.records, ports.hypervisor(request.source)
    if not fresh and too_old(ports, request):
        return TransferEnd(TOO_LATE, remedy=ASK_AGAIN)
    if (end := _not_wanted(ports, request)).reason:
        return end
    if (end := _elsewhere(place_at(ports, request, request.destination))).reason:
        return end
    if plan.ahead and (end := ahead.after_another(ports, request, plan)).reason:
        return end
    here = place_at(ports, request, request.source)
    if (end := _no_job(ports, request, here)).reason:
        return end
    if here.where not in _ON:
        return TransferEnd(f"it is {here.where.words} at the source, and was not stopped by this move")
    if why := windows.too_late(ports, request) or other_guest(ports, request, plan):
        return TransferEnd(why, remedy=ASK_AGAIN)
    records.keep_facts(request.id, {"stood_still": here.where is not Where.RUNNING})
    if plan.ahead:
        ahead.note_run(ports, request)
    if here.where is Where.RUNNING:
        _touch_console(ports, request, source)
    records.register_undo(request.id, undo.START_SOURCE, {"host": request.source})
    return TransferEnd("")


def _may_go_on(ports: Ports, request: Request, plan: Plan, *, fresh: bool) -> TransferEnd:
    """The same where an earlier process had begun."""
    if (end := _not_wanted(ports, request)).reason:
        return end
    if (end := _elsewhere(look(ports.hypervisor(request.destination), request.guest_uuid))).reason:
        return end
    here = look(ports.hypervisor(request.source), request.guest_uuid)
    if (end := _no_job(ports, request, here)).reason:
        return end
    if not fresh and here.where is not Where.OFF and too_old(ports, request):
        return TransferEnd(TOO_LATE, remedy=ASK_AGAIN)  # nobody expects it to be stopped now
    if plan.ahead and here.where in _ON:
        ahead.note_run(ports, request)
    return TransferEnd("")


def _not_wanted(ports: Ports, request: Request) -> TransferEnd:
    """Raises Refused when the guest is not ours any more."""
    if by := windows.stop_asked(ports, request):
        return TransferEnd(f"cancelled by {by}", cancelled=True)
    holder = ports.records.lease(request.guest_uuid)
    if holder != request.id:
        raise not_ours_any_more(request, holder)
    return TransferEnd("")


def _elsewhere(there: Place) -> TransferEnd:
    if there.where is not Where.ABSENT:
        return TransferEnd(f"the guest is {there.where.words} at the destination: it is not stopped for that")
    return TransferEnd("")


def _no_job(ports: Ports, request: Request, here: Place) -> TransferEnd:
    if job := here.job or another.job(ports, request):
        return TransferEnd(f"a job ({job}) runs on it, which is not ours", remedy=f"virsh domjobinfo {request.guest} shows it; ask again once it has ended", kind=Busy.__name__)  # fmt: skip
    return TransferEnd("")


def _ask(ports: Ports, request: Request, plan: Plan, source: Hypervisor, here: Place) -> TransferEnd:
    records, began = ports.records, ports.clock.now()
    by_agent = here.where is Where.RUNNING and _ask_agent(ports, request, source)
    if here.where is Where.RUNNING:
        _let_no_reboot_through(ports, request, source)
    pressed, answered_at = False, began
    while here.where is not Where.OFF:
        now = ports.clock.now()
        if here.where is Where.ABSENT:
            return TransferEnd("it is gone from the source")
        if here.where is not Where.UNREACHABLE:
            answered_at = now
        elif now - answered_at > SILENT_FOR:
            return TransferEnd(f"the source does not answer any more: {here.detail}", kind=Unreachable.__name__)
        if by := windows.stop_asked(ports, request):
            return TransferEnd(f"cancelled by {by}", cancelled=True)
        active = here.where not in (Where.PAUSED, Where.HALTED, Where.STALLED)
        match decide(Asked(now - began, request.options.stop_timeout, by_agent, pressed, active, request.options.force_off)):  # fmt: skip
            case Then.PRESS:
                pressed = _tried(ports, request, source, StopWay.ACPI)
            case Then.FORCE:
                _force(ports, request, source, now - began)
            case Then.GIVE_UP:
                why = f"it did not shut down within {format_duration(request.options.stop_timeout)}" if active else f"it is {here.where.words}, and cannot answer"  # fmt: skip
                return TransferEnd(why, remedy=f"shut it down from inside, or give it longer (--stop-timeout), or let it be switched off (--force-off): ferryman migrate {request.guest} --cold")  # fmt: skip
        ports.clock.sleep(LOOK_EVERY)
        here = look(source, request.guest_uuid)
    took = ports.clock.now() - began
    if "stopped_at" not in records.facts(request.id):
        records.keep_facts(request.id, {"stopped_at": ports.clock.now()})
        records.keep_decision(request.id, f"{plan.guest} is shut off at {request.source} after {format_duration(took)}")
    return TransferEnd("")


def _touch_console(ports: Ports, request: Request, source: Hypervisor) -> None:
    """One that answers now must answer at the destination too."""
    try:
        seen = source.console(request.guest_uuid, starting=False)
    except DriverError as error:
        ports.records.keep_decision(request.id, f"its console was not tried: {error.why}")
        return
    ports.records.keep_facts(request.id, {"console_before": seen is Console.ANSWERS})
    if seen is Console.BUSY:
        ports.records.keep_decision(request.id, f"its console {seen} at {request.source}, so it was not tried")


def _ask_agent(ports: Ports, request: Request, source: Hypervisor) -> bool:
    if not source.agent_answers(request.guest_uuid):
        return False
    ports.records.keep_facts(request.id, {"agent_before": True})
    return _tried(ports, request, source, StopWay.AGENT)


def _tried(ports: Ports, request: Request, source: Hypervisor, way: StopWay) -> bool:
    if "asked_to_stop" not in ports.records.facts(request.id):  # whoever puts it back must know: it may obey late
        ports.records.keep_facts(request.id, {"asked_to_stop": ports.clock.now()})
    try:
        source.ask_to_stop(request.guest_uuid, way)
    except DriverError as error:
        ports.records.keep_decision(request.id, f"it could not be asked by its {way}: {error.why}")
    else:
        ports.records.keep_decision(request.id, f"asked it by its {way} to shut down")
    return True


def _let_no_reboot_through(ports: Ports, request: Request, source: Hypervisor) -> None:
    """A guest that reboots instead of shutting down is stopped at that moment: that is what it was asked for."""
    ports.records.register_undo(request.id, undo.LET_REBOOT, {"host": request.source})
    try:
        source.let_it_end(request.guest_uuid, True)
    except DriverError as error:
        ports.records.keep_decision(request.id, f"a guest that reboots instead of shutting down goes on: {error.why}")


def _force(ports: Ports, request: Request, source: Hypervisor, waited: float) -> None:
    ports.records.keep_facts(request.id, {"forced_off": True})
    ports.records.keep_decision(request.id, f"switched it off after {format_duration(waited)}, as --force-off allows")
    source.destroy(request.guest_uuid)
