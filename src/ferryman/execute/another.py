"""A job of somebody else's on the guest, such as a nightly backup: it is waited for, within bounds, and never ended.

What is waited for stands in the records with its end, so a crash only interrupts it and no clock begins anew.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from ferryman.errors import AlreadyRunning, Busy, FerrymanError, Stopped
from ferryman.model.place import Where
from ferryman.model.request import Request
from ferryman.model.units import format_duration, format_moment
from ferryman.ports import Ports

T = TypeVar("T")

WITHIN = 600.0  # seconds for all such jobs together, where nothing else says until when there is time
LOOK_EVERY = 1.0  # seconds between two looks
_OFF = (Where.ABSENT, Where.OFF, Where.UNREACHABLE)


def job(ports: Ports, request: Request) -> str:
    """What works on the guest at its source and is not ours, in words; empty for nothing. While it is waited for, a host that does not answer tells nothing new."""
    source = ports.hypervisor(request.source)
    try:
        here = source.place(request.guest_uuid)
        if here.job:
            return "" if source.backup_running(request.guest_uuid, request.id) else here.job
        found = () if here.where in _OFF else source.guest(request.guest_uuid).jobs
    except FerrymanError:  # also a guest that has just gone
        return str(_noted(ports, request).get("job", ""))
    return ", ".join(f"{one.kind} {one.detail}".rstrip() for one in found)


def once_free(
    ports: Ports, request: Request, act: Callable[[], T], *, until: Callable[[float], float], asked: Callable[[], str]
) -> T:
    """What the act gives, once no job of another's is in its way. Raises Busy when there is no more time for it, and Stopped.

    `until`: up to when one that was first seen at that moment is waited for; `asked`: who wants an end of it all;
    it is asked again and again.
    """
    while True:
        found = job(ports, request)
        if not found:
            try:
                done = act()
            except (AlreadyRunning, Busy):  # it began between the look and the act
                found = "job"
            else:
                _over(ports, request)
                return done
        _wait_on(ports, request, found, until, asked)


def _wait_on(
    ports: Ports, request: Request, found: str, until: Callable[[float], float], asked: Callable[[], str]
) -> None:
    if by := asked():
        raise Stopped(f"guest {request.guest}", f"cancelled by {by}")
    now = ports.clock.wall()
    noted = _noted(ports, request) or _note(ports, request, found, now, until(now))
    if now >= noted["until"]:
        since = format_moment(noted["since"])
        raise Busy(f"guest {request.guest}", f"a job ({found}) that is not ours runs on it, seen since {since}, and there is no more time to wait for its end: the guest was not stopped",
                   f"virsh domjobinfo {request.guest} at {request.source} shows it; ask again once it has ended")  # fmt: skip
    ports.clock.sleep(LOOK_EVERY)


def patience_left(ports: Ports, request: Request) -> float:
    """Seconds of WITHIN that no job has taken yet: one after another, each with a gap before it, are not waited for without end."""
    return WITHIN - float(ports.records.facts(request.id).get("others_took", 0.0))


def let_pass(ports: Ports, request: Request) -> bool:
    """Wait for the end of what is in the way of taking something back. False: it does not end in time, which is counted once for all tries."""
    until = ports.records.facts(request.id).get("taken_back_until")
    if until is None:
        until = ports.clock.wall() + WITHIN
        ports.records.keep_facts(request.id, {"taken_back_until": until})
        ports.records.keep_decision(request.id, f"what is left to be taken back waits for the end of a job ({job(ports, request) or 'over by now'}) that is not ours, until {format_moment(until)} at most")  # fmt: skip
    while ports.clock.wall() < until:
        ports.clock.sleep(LOOK_EVERY)
        if not job(ports, request):
            return True
    return False


def _noted(ports: Ports, request: Request) -> dict[str, Any]:
    return dict(ports.records.facts(request.id).get("another", {}))


def _note(ports: Ports, request: Request, found: str, since: float, until: float) -> dict[str, Any]:
    noted = {"job": found, "since": since, "until": until}
    ports.records.keep_facts(request.id, {"another": noted})
    ports.records.keep_decision(request.id, f"a job ({found}) that is not ours runs on the guest, seen since {format_moment(since)}: it is waited for, until {format_moment(until)} at most")  # fmt: skip
    return noted


def _over(ports: Ports, request: Request) -> None:
    if noted := _noted(ports, request):
        took = max(ports.clock.wall() - noted["since"], 0.0)
        ports.records.keep_facts(request.id, {"another": {}, "others_took": WITHIN - patience_left(ports, request) + took})  # fmt: skip
        ports.records.keep_decision(request.id, f"the other's job ({noted['job']}) has ended, {format_duration(took)} after it was seen: on with it")  # fmt: skip
