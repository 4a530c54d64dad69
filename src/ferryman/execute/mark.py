"""The mark in the guest's own metadata while it is moved: set before anything else, removed at the end wherever the guest is.

A running guest bears it live, so that it travels. One that is shut off bears it in its definition, and what is defined at the
destination was saved before: there it is gone with the source's definition.
"""

from dataclasses import replace

from ferryman.errors import Busy, DriverError, FerrymanError, Refused
from ferryman.execute import undo
from ferryman.execute.follow import due_at
from ferryman.model.mark import GRACE, Mark
from ferryman.model.phase import ENDS, Phase
from ferryman.model.place import Where
from ferryman.model.request import Request
from ferryman.model.units import format_moment
from ferryman.plan.windows import due
from ferryman.ports import Hypervisor, Ports, Records

TRIED_FOR = 20.0  # seconds: the destination's job may outlive the switchover a little, its libvirtd may be restarted
AGAIN = 60.0  # seconds at least between two tries to let it last longer


def is_over(records: Records, mark: Mark | None) -> bool:
    """Whether the mark is one of ours, of a request that has ended; one that needs attention has not."""
    if mark is None:
        return False
    try:
        return records.phase(records.request(mark.request).id) in ENDS - {Phase.NEEDS_ATTENTION}
    except FerrymanError:
        return False


def set_mark(ports: Ports, request: Request) -> None:
    """Tell every other operator. Raises Refused when somebody else has told us meanwhile, or works on the guest."""
    source = ports.hypervisor(request.source)
    place = source.place(request.guest_uuid)
    if place.where not in (Where.RUNNING, Where.OFF):
        return  # whoever moves it looks too, and says so
    if place.job:
        raise Busy(f"guest {request.guest}", f"another job ({place.job}) runs on it, which is not ours",
                   f"wait for its end: virsh domjobinfo {request.guest}")  # fmt: skip
    refuse_another(ports, request)
    ports.records.register_undo(request.id, undo.REMOVE_MARK, {"host": request.source})
    _write(ports, request)
    refuse_another(ports, request)  # two at the same moment: the later one stays


def set_again(ports: Ports, request: Request) -> None:
    """That of a guest which was started anew meanwhile went with its QEMU; any other lasts longer from now on. Raises Refused as above."""
    source = ports.hypervisor(request.source)
    absent = source.place(request.guest_uuid).where is Where.ABSENT
    found = None if absent else source.mark(request.guest_uuid)
    if found is None or found.request != request.id:
        set_mark(ports, request)
    else:
        prolong(ports, request)


def keep(ports: Ports, request: Request) -> None:
    """While it is worked at, or its turn is waited for, the mark lasts on: nobody knew how long that takes when it was set."""
    again = ports.records.facts(request.id).get("mark_again")
    if again is not None and ports.clock.wall() >= again:
        prolong(ports, request)


def prolong(ports: Ports, request: Request) -> None:
    """What is waited for comes later than it was thought when the mark was set. One of somebody else stays: before the stop it is refused.

    Nor does a libvirtd that is away, or another's job that keeps it from being set, end anything: that is said once, and it is tried again.
    """
    records, source, until = ports.records, ports.hypervisor(request.source), _until(ports, request)
    try:
        found = None if source.place(request.guest_uuid).where is Where.ABSENT else source.mark(request.guest_uuid)
        if found is not None and found.request == request.id and found.until < until:
            source.set_mark(request.guest_uuid, replace(found, until=until))
    except DriverError as error:
        if not records.facts(request.id).get("mark_runs_out"):
            records.keep_decision(request.id, f"the mark in the guest's metadata could not be made to last until {format_moment(until)}: {error.why}")  # fmt: skip
        records.keep_facts(request.id, {"mark_runs_out": True, "mark_again": ports.clock.wall() + AGAIN})
    else:
        _note(ports, request, until)


def renew(ports: Ports, request: Request) -> None:
    """The guest is off by now, and its live mark went with its QEMU: its definition bears it from here on."""
    try:
        _write(ports, request)
    except DriverError as error:
        ports.records.keep_decision(request.id, f"the mark went with the stopped guest, and its definition could not be marked: {error.why}")  # fmt: skip


def _write(ports: Ports, request: Request) -> None:
    until = _until(ports, request)
    ports.hypervisor(request.source).set_mark(request.guest_uuid, Mark(request.id, request.asked_by, request.asked_at, until))  # fmt: skip
    _note(ports, request, until)


def _note(ports: Ports, request: Request, until: float) -> None:
    """When it is time to let it last longer."""
    again = max(until - GRACE, ports.clock.wall() + AGAIN)
    ports.records.keep_facts(request.id, {"mark_runs_out": False, "mark_again": again})


def _until(ports: Ports, request: Request) -> float:
    """When nobody needs it any more. A warm move sets it before it waits for its time; the turn of any may come long after it was asked for."""
    begins = max(due_at(ports, request), ports.clock.wall())
    if request.options.waits and "due_at" not in ports.records.facts(request.id):
        begins = max(begins, due(request.options, ports.clock.wall()).opens)
    return begins + request.options.timeout + GRACE


def refuse_another(ports: Ports, request: Request) -> None:
    """Look at the mark again. Raises Refused when the source's guest bears one of somebody else's move."""
    found = ports.hypervisor(request.source).mark(request.guest_uuid)
    if found is not None and found.request != request.id and not is_over(ports.records, found):
        raise Refused(f"guest {request.guest}", f"request {found.request} of {found.by} marked it at {format_moment(found.since)}",
                      f"wait, or speak to {found.by}; if that move is over: ferryman unmark {request.guest}")  # fmt: skip


def remove_mark(ports: Ports, request: Request) -> None:
    """The guest is at the destination for good. A mark that stays is a nuisance, not a failure of the move: it is said."""
    destination = ports.hypervisor(request.destination)
    deadline = ports.clock.now() + TRIED_FOR
    while (why := _removed(destination, request)) is not None:
        if ports.clock.now() > deadline:
            words = f"the mark in the guest's metadata stays: {why}; ferryman unmark {request.guest} removes it"
            ports.records.keep_decision(request.id, words)
            return
        ports.clock.sleep(0.2)


def _removed(host: Hypervisor, request: Request) -> DriverError | None:
    """None when the mark is gone, else why not."""
    try:
        undo.take_mark_away(host, request)
    except DriverError as error:
        return error
    return None
