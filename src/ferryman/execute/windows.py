"""Waiting for a moment or a window, and ending by the clock. What is waited for stands in the records, so a crash only interrupts it.

It is no DBOS.sleep: that cannot be woken by a cancel, and each short one would leave a row.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ferryman.errors import DriverError, Refused
from ferryman.execute import another, mark, rates
from ferryman.execute.follow import TOO_OLD_TO_ASK, due_at
from ferryman.model.copy import Rate
from ferryman.model.phase import Phase
from ferryman.model.plan import Plan
from ferryman.model.request import Request
from ferryman.model.units import format_duration, format_moment
from ferryman.plain import from_plain, to_plain
from ferryman.plan.cold import HEALTHY_FOR
from ferryman.plan.forecast import Forecast, forecast
from ferryman.plan.windows import Opening, due, moment, told
from ferryman.ports import Ports

LOOK_EVERY = 1.0  # seconds between two looks at the clock, and at whether somebody asked for cancel
NOTED_EVERY = 3.0  # seconds between two notes that it is worked at


def wait(ports: Ports, request: Request) -> None:
    """Until it may begin. Raises Refused when its moment passed while nobody waited."""
    ports.records.enter(request.id, Phase.WAITING)
    while True:
        found, seen = _next(ports, request), ports.clock.wall()
        while (left := found.opens - (now := ports.clock.wall())) > 0 and now >= seen:
            if ports.records.cancel_asked(request.id):
                return  # `begin` says so
            seen = now
            ports.clock.sleep(min(left, LOOK_EVERY))
        if left > 0:
            continue  # the clock was set back: another window may come before this one
        if found.closes is None:
            _not_missed(ports, request, found)
            return
        if now < found.closes:
            return  # else this machine slept


def _next(ports: Ports, request: Request) -> Opening:
    """What is waited for from now on; noted, and told when it is another than before."""
    records, found = ports.records, due(request.options, ports.clock.wall())
    before = _noted(ports, request)
    if found != before:
        missed = before is not None and before.opens < found.opens
        passed = f"{told(request.options, before)} passed while nobody carried this out; " if before and missed else ""
        begins = told(request.options, found)
        records.keep_facts(request.id, {"window": to_plain(found), "begins": begins})
        records.keep_decision(request.id, f"{passed}it begins at {begins}")
        if request.options.warm:  # others set it when they begin
            mark.prolong(ports, request)
    return found


def _noted(ports: Ports, request: Request) -> Opening | None:
    noted = ports.records.facts(request.id).get("window")
    return None if noted is None else from_plain(Opening, noted)


def _expected(ports: Ports, request: Request, found: Opening) -> float:
    """Until when somebody saw to it: its moment, or later where that came while it was copied ahead."""
    facts = ports.records.facts(request.id)
    through = facts.get("at_work_since", found.opens + 1) <= found.opens
    return max(found.opens, facts.get("at_work_until", found.opens)) if through else found.opens


def note_at_work(ports: Ports, request: Request, *, fresh: bool = False) -> None:
    """That it is worked at, and since when without a break. Copying goes on after any; but nobody expects the stop any more after a long one.

    `fresh`: its turn has just come, however long after it was asked for.
    """
    records, now, wall = ports.records, ports.clock.now(), ports.clock.wall()
    facts, begun = records.facts(request.id), due_at(ports, request)  # what it waited for came between
    noted, noted_by_wall = facts.get("at_work_at", 0.0), facts.get("at_work_until", 0.0)
    if 0 <= now - noted < NOTED_EVERY:
        return
    # The one clock is another in each process, the other one may be set: a break is what both tell.
    broken = not fresh and min(now - max(noted, begun), wall - max(noted_by_wall, begun)) > TOO_OLD_TO_ASK
    since = {} if "at_work_since" in facts and not broken else {"at_work_since": wall}
    left_alone = broken or facts.get("left_alone", False)
    records.keep_facts(request.id, {"left_alone": left_alone, "at_work_at": now, "at_work_until": wall, **since})
    mark.keep(ports, request)


def _not_missed(ports: Ports, request: Request, found: Opening) -> None:
    if ports.clock.wall() - _expected(ports, request, found) > TOO_OLD_TO_ASK:
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
    if found.closes is None and not fresh:
        _not_missed(ports, request, found)
    ports.records.keep_facts(request.id, {"due_at": ports.clock.now(), "others_took": 0.0})
    note_give_up(ports, request, found.opens)
    ports.records.enter(request.id, Phase.PREPARING)
    return True


class Turn:
    """What one process does of its moves one after another, in the order in which they come: copying ahead, and beginning those that waited."""

    def __init__(self, begun: str, told: str) -> None:
        """`begun`: the fact of a request that had its turn before a crash, and does not wait again; `told`: what is said of one that waits."""
        self._line: list[str] = []  # ids of requests: the first one's turn it is
        self._begun, self._told = begun, told

    @contextmanager
    def taken(self, ports: Ports, request: Request, meanwhile: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Until it is this request's turn, or somebody wants its end; `meanwhile` is called again and again."""
        self._line.append(request.id)
        try:
            self._wait(ports, request, meanwhile)
            yield
        finally:
            self._line.remove(request.id)

    def _wait(self, ports: Ports, request: Request, meanwhile: Callable[[], None]) -> None:
        records, said = ports.records, False
        while not (self._line[0] == request.id or self._begun in records.facts(request.id) or stop_asked(ports, request)):  # fmt: skip
            if not said:
                records.keep_decision(request.id, self._told)
                said = True
            meanwhile()
            ports.clock.sleep(LOOK_EVERY)


# Ending by the clock


def note_give_up(ports: Ports, request: Request, begins: float) -> None:
    """The moment at which it is given up: the first one after it may begin, also where its turn comes later."""
    if request.options.give_up_at:
        ports.records.keep_facts(request.id, {"give_up_at": moment(request.options.give_up_at, begins, "UTC")})


def not_over(ports: Ports, request: Request) -> None:
    """Raises Refused for one whose turn comes only after that moment: others went before it, or an earlier try."""
    at = ports.records.facts(request.id).get("give_up_at")
    if at is not None and ports.clock.wall() >= at:
        raise Refused(f"request {request.id}", f"its turn came after {format_moment(at)}, when it is given up (--give-up-at {request.options.give_up_at}): it was not begun",
                      f"ask again, with a later --give-up-at: ferryman migrate {request.guest} --to {request.destination}")  # fmt: skip


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
    size, rest = sum(disk.allocation for disk in plan.new_disks), time_left(ports, request)
    if size and rest is not None:
        said = forecast(size, measured(ports, request), rest, besides=HEALTHY_FOR, limit=request.options.bandwidth)
        heed(ports, request, said, "move less of it at once (--copy-storage)")


def time_left(ports: Ports, request: Request) -> float | None:
    """Seconds until it has to be done; None where nothing says so."""
    facts = ports.records.facts(request.id)
    ends = [end for end in (facts.get("window", {}).get("closes"), facts.get("give_up_at")) if end is not None]
    return min(ends) - ports.clock.wall() if ends else None


def waits_until(ports: Ports, request: Request, needs: float, seen: float) -> float:
    """Until when what needs so many seconds can wait for another's job that was first seen at that moment."""
    if request.options.waits and "due_at" not in ports.records.facts(request.id):  # its own time is still to come
        found = due(request.options, seen)
        return max(found.opens, seen) + another.WITHIN if found.closes is None else found.closes - needs
    rest = time_left(ports, request)
    return seen + another.patience_left(ports, request) if rest is None else ports.clock.wall() + rest - needs


def heed(ports: Ports, request: Request, said: Forecast, else_: str) -> None:
    """Note what is foreseen. Raises Refused when it does not fit; `else_` is what helps beside more time."""
    if not said.fits:
        raise Refused(f"guest {request.guest}", f"it was not stopped: {said.reason}",
                      f"give it a longer --window or a later --give-up-at, or {else_}")  # fmt: skip
    ports.records.keep_facts(request.id, {"needs": said.needed})
    ports.records.keep_decision(request.id, said.reason)


def too_late(ports: Ports, request: Request) -> str:
    """Why it shall not be stopped after all: hooks, or a crash, took of the time that was foreseen. Empty: nothing."""
    rest, needs = time_left(ports, request), ports.records.facts(request.id).get("needs", 0.0)
    if rest is None or (rest > 0 and needs <= rest):
        return ""
    return f"it was not stopped: it needs about {format_duration(needs)}, and by now there are {format_duration(max(rest, 0.0))}"


def measured(ports: Ports, request: Request) -> Rate | None:
    """What the last copies between these hosts did; else the link is measured now, before it is used all the same."""
    read_back = request.options.verify != "none"
    if earlier := rates.copied(ports.records, request.source, request.destination, read_back=read_back):
        return earlier
    try:
        speed = ports.between.measure(ports.hypervisor(request.source), ports.hypervisor(request.destination))
    except DriverError:
        return None
    return Rate(speed.rate, "as the link was measured just now") if speed.rate else None
