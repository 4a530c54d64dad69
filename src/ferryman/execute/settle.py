"""Where a move ends: both hosts are asked until the pair of places is plain, then forward, back, or "needs attention"."""

from collections.abc import Callable

from ferryman.errors import DriverError, Unreachable
from ferryman.model.place import STALLED_AFTER, Place, Where
from ferryman.model.request import Request
from ferryman.ports import Hypervisor, Ports
from ferryman.verify.location import Action, Verdict, judge

PATIENCE = 90.0  # seconds for odd pairs: longer than two of libvirt's keepalives (27–30 s each)
LATER = (
    10.0  # the same when it was looked at before: libvirt's own timeouts are over, only a stall wants time to be seen
)
INTERVAL = 0.1  # seconds between looks, at first
SLOW_INTERVAL = 1.0  # later
Judge = Callable[[Place, Place], Verdict]  # what a pair of places means, for the way the guest goes


def look(hypervisor: Hypervisor, uuid: str) -> Place:
    """One look; a host that does not answer is a place of its own."""
    try:
        return hypervisor.place(uuid)
    except Unreachable as error:
        return Place(Where.UNREACHABLE, detail=error.why)
    except DriverError as error:
        return Place(Where.UNREACHABLE, detail=str(error))


class Settling:
    """A series of looks at one guest, which notices a copy that stays paused without a job."""

    def __init__(self, ports: Ports, request: Request) -> None:
        self.ports, self.request = ports, request
        self._paused_since: dict[str, float] = {}

    def places(self) -> tuple[Place, Place]:
        """The source's answer and the destination's, paused told from stalled."""
        return self._look(self.request.source), self._look(self.request.destination)

    def _look(self, host: str) -> Place:
        place = look(self.ports.hypervisor(host), self.request.guest_uuid)
        if place.where is not Where.PAUSED or place.job:
            self._paused_since.pop(host, None)
            return place
        now = self.ports.clock.now()
        since = self._paused_since.setdefault(host, now)
        if now - since < STALLED_AFTER:
            return place
        return Place(Where.STALLED, place.persistent, place.autostart, "", place.detail)


def settle(ports: Ports, request: Request, *, patience: float = PATIENCE, judge: Judge = judge) -> Verdict:
    """Look until the same plain verdict came twice in a row, at most `patience` seconds; then the last verdict, plain or not."""
    settling = Settling(ports, request)
    began = ports.clock.now()
    earlier: Verdict | None = None
    while True:
        verdict = judge(*settling.places())
        if verdict.plain and earlier is not None and earlier.action is verdict.action:
            return verdict
        waited = ports.clock.now() - began
        if waited > patience and not (verdict.plain and earlier is not None and not earlier.plain):
            return _impatient(verdict, waited)  # one that has just become plain is looked at once more
        earlier = verdict
        ports.clock.sleep(INTERVAL if waited < 5 else SLOW_INTERVAL)


def _impatient(verdict: Verdict, waited: float) -> Verdict:
    if verdict.action is not Action.WAIT:
        return Verdict(Action.ATTENTION, verdict.reason, verdict.remedy or "ferryman recover looks again")
    return Verdict(Action.ATTENTION, f"{verdict.reason}; unchanged for {waited:.0f} s", verdict.remedy)


def confirm(ports: Ports, request: Request, *actions: Action, judge: Judge = judge) -> Verdict | None:
    """Look again right before an act: a verdict that was recorded is a note. Returns it if it is one of `actions`.

    None as well when the lease is no longer ours: then the guest is another request's business.
    """
    if ports.records.lease(request.guest_uuid) != request.id:
        return None
    settling = Settling(ports, request)
    deadline = ports.clock.now() + STALLED_AFTER + 2
    while True:
        verdict = judge(*settling.places())
        if verdict.action in actions:
            return verdict
        if verdict.action is not Action.WAIT or ports.clock.now() > deadline:
            return None
        ports.clock.sleep(INTERVAL)
