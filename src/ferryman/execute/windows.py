"""Waiting for a moment or a window, and ending by the clock. What is waited for stands in the records, so a crash only interrupts it.

It is no DBOS.sleep: that cannot be woken by a cancel, and each short one would leave a row.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ferryman.errors import DriverError, Refused
from ferryman.execute.follow import TOO_OLD_TO_ASK
from ferryman.model.copy import CopyResult
from ferryman.model.phase import Phase
from ferryman.model.plan import Plan
from ferryman.model.request import Request
from ferryman.model.units import MIB
from ferryman.plain import from_plain, to_plain
from ferryman.plan.cold import HEALTHY_FOR
from ferryman.plan.forecast import Rate, forecast
from ferryman.plan.windows import Opening, due, moment, told
from ferryman.ports import Ports

LOOK_EVERY = 1.0  # seconds between two looks at the clock, and at whether somebody asked for cancel
TELLS_A_RATE = 64 * MIB  # copies of less say more about their beginning and end than about the link


def wait(ports: Ports, request: Request) -> None:
    """Until it may begin. Raises Refused when its moment passed while nobody waited."""
    ports.records.enter(request.id, Phase.WAITING)
    while True:
        found = _next(ports, request)
        while (left := found.opens - ports.clock.wall()) > 0:
            if ports.records.cancel_asked(request.id):
                return  # `begin` says so
            ports.clock.sleep(min(left, LOOK_EVERY))
        if found.closes is None:
            if not _at_work(ports, request, found):
                _not_missed(ports, request, found)
            return
        if ports.clock.wall() < found.closes:
            return  # else this machine slept


def _next(ports: Ports, request: Request) -> Opening:
    """What is waited for from now on; noted, and told when it is another than before."""
    records, found = ports.records, due(request.options, ports.clock.wall())
    before = _noted(ports, request)
    if found != before:
        passed = f"{told(request.options, before)} passed while nobody carried this out; " if before else ""
        begins = told(request.options, found)
        records.keep_facts(request.id, {"window": to_plain(found), "begins": begins})
        records.keep_decision(request.id, f"{passed}it begins at {begins}")
    return found


def _noted(ports: Ports, request: Request) -> Opening | None:
    noted = ports.records.facts(request.id).get("window")
    return None if noted is None else from_plain(Opening, noted)


def _at_work(ports: Ports, request: Request, found: Opening) -> bool:
    """Whether its moment came while it was copied ahead: then nobody missed it."""
    since = ports.records.facts(request.id).get("at_work_since")
    return since is not None and since <= found.opens


def _not_missed(ports: Ports, request: Request, found: Opening) -> None:
    if ports.clock.wall() - found.opens > TOO_OLD_TO_ASK:
        when = told(request.options, found)
        raise Refused(f"request {request.id}", f"it was to begin at {when}, and nobody carried it out then: more than ten minutes ago, so it was not begun",
                      f"ask again: ferryman migrate {request.guest} --to {request.destination}; ferryman serve waits without a terminal")  # fmt: skip


def begin(ports: Ports, request: Request, *, fresh: bool) -> bool:
    """Its turn has come: begin, unless the window is over (False: it waits for the next). Raises Refused."""
    if ports.records.cancel_asked(request.id):
        raise Refused(f"request {request.id}", "cancelled before it began")
    found = _noted(ports, request)
    assert found is not None
    if found.closes is not None and ports.clock.wall() >= found.closes:
        ports.records.keep_decision(request.id, "its turn did not come before the window closed")
        return False
    if found.closes is None and not fresh and not _at_work(ports, request, found):
        _not_missed(ports, request, found)
    ports.records.keep_facts(request.id, {"due_at": ports.clock.now()})
    note_give_up(ports, request)
    ports.records.enter(request.id, Phase.PREPARING)
    return True


class Turn:
    """Moves that waited are begun by one process one after another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @contextmanager
    def taken(self, ports: Ports, request: Request) -> Iterator[None]:
        """Until it is this request's turn, or somebody asked for its cancel. One that had begun before a crash does not wait again."""
        mine = False
        while not (mine or "due_at" in ports.records.facts(request.id) or ports.records.cancel_asked(request.id)):
            mine = self._lock.acquire(timeout=LOOK_EVERY)
        try:
            yield
        finally:
            if mine:
                self._lock.release()


# Ending by the clock


def note_give_up(ports: Ports, request: Request) -> None:
    """From its beginning on it is known at which moment a cold move is given up."""
    if request.options.give_up_at:
        at = moment(request.options.give_up_at, ports.clock.wall(), "UTC")
        ports.records.keep_facts(request.id, {"give_up_at": at})


def stop_asked(ports: Ports, request: Request) -> str:
    """Who wants it to end; empty when nobody does. Once its time is over the clock does, as a person would."""
    if request.options.give_up_at and not ports.records.cancel_asked(request.id):
        facts = ports.records.facts(request.id)
        begun = not request.options.waits or "due_at" in facts  # what is copied ahead of that has another end
        at = facts.get("give_up_at")
        if begun and at is not None and ports.clock.wall() >= at:
            ports.records.ask_cancel(request.id, f"the clock (--give-up-at {request.options.give_up_at})")
    return ports.records.cancel_asked(request.id)


# Before a guest is stopped


def foresee(ports: Ports, request: Request, plan: Plan) -> None:
    """Say whether its disks get over in the time there is. Raises Refused when they do not: the guest is not stopped then."""
    facts = ports.records.facts(request.id)
    ends = [end for end in (facts.get("window", {}).get("closes"), facts.get("give_up_at")) if end is not None]
    size = sum(disk.allocation for disk in plan.new_disks)
    if not ends or not size:
        return
    said = forecast(size, _measured(ports, request), min(ends) - ports.clock.wall(), besides=HEALTHY_FOR, limit=request.options.bandwidth)  # fmt: skip
    if not said.fits:
        raise Refused(f"guest {request.guest}", f"it was not stopped: {said.reason}",
                      "give it a longer --window or a later --give-up-at, or move less of it at once (--copy-storage)")  # fmt: skip
    ports.records.keep_decision(request.id, said.reason)


def _measured(ports: Ports, request: Request) -> Rate | None:
    """What the last copies between these hosts did; else the link is measured now, before it is used all the same."""
    for earlier in ports.records.requests(limit=1000):
        if (earlier.source, earlier.destination) != (request.source, request.destination) or earlier.options.bandwidth:
            continue
        copies = [from_plain(CopyResult, one) for one in ports.records.facts(earlier.id).get("copies", {}).values()]
        read, seconds = sum(one.read for one in copies), sum(_seconds(one, request) for one in copies)
        if read >= TELLS_A_RATE and seconds > 0:
            return Rate(read / seconds, f"as request {earlier.id} did")
    try:
        speed = ports.between.measure(ports.hypervisor(request.source), ports.hypervisor(request.destination))
    except DriverError:
        return None
    return Rate(speed.rate, "as the link was measured just now") if speed.rate else None


def _seconds(copied: CopyResult, request: Request) -> float:
    return copied.seconds + (copied.verify_seconds if request.options.verify != "none" else 0.0)
