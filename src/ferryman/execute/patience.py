"""How long a host that has fallen silent is waited for: by a copy while the guest stands still, as long as there is something to lose;
while the guest runs, as long as a daemon takes that is restarted.
"""

from collections.abc import Callable
from typing import TypeVar

from ferryman.errors import Unreachable
from ferryman.execute import windows
from ferryman.execute.follow import TransferEnd
from ferryman.execute.settle import PATIENCE, SLOW_INTERVAL, look
from ferryman.model.copy import CopyProgress
from ferryman.model.phase import Phase
from ferryman.model.place import Place, Where
from ferryman.model.request import Request
from ferryman.model.units import format_duration
from ferryman.ports import Ports

LEAST, MOST = 20.0, 600.0  # seconds
LOOK_EVERY = 5.0  # seconds between two looks at hosts while nothing moves
FALLS_SILENT = 5  # times that a host may while disks are copied ahead
T = TypeVar("T")


def waits_for(copied_for: float) -> float:
    """Pure. Seconds to wait for a host that copies were sent to for so long: what they took would be lost with them."""
    return min(max(copied_for, LEAST), MOST)


class Patience:
    """Watches one copy from its beginning. A destination whose libvirtd answers is waited for as long as the copier itself does."""

    def __init__(self, ports: Ports, request: Request, progress: Callable[[CopyProgress], None]) -> None:
        self._ports, self._request, self._progress = ports, request, progress
        now = ports.clock.now()
        begun = [entry.at for entry in ports.records.phases(request.id) if entry.phase == Phase.TRANSFERRING]
        self._began, self._moved_at, self._looked_at = min([now, *begun]), now, now
        self.over = ""  # why it is not waited for any more; empty: it is

    def moved(self, now: CopyProgress) -> None:
        """Something has arrived."""
        self._moved_at = self._ports.clock.now()
        self._progress(now)

    def ends(self) -> bool:
        """Whether the copy shall end: somebody has cancelled it, its time is over, or the destination alone does not answer any more."""
        if windows.stop_asked(self._ports, self._request):
            return True
        windows.note_at_work(self._ports, self._request)
        now = self._ports.clock.now()
        silent = now - self._moved_at
        if silent < waits_for(self._moved_at - self._began) or now - self._looked_at < LOOK_EVERY:
            return False
        self._looked_at = now
        here, there = (
            look(self._ports.hypervisor(host), self._request.guest_uuid)
            for host in (self._request.source, self._request.destination)
        )
        if there.where is Where.UNREACHABLE and here.where is not Where.UNREACHABLE:
            self.over = f"nothing has arrived for {format_duration(silent)}, and {self._request.destination} does not answer ({there.detail})"
        return bool(self.over)


def answered(ports: Ports, request: Request, act: Callable[[], T]) -> T:
    """What the act gives, which looks for itself what was done before: tried again when a host that did not answer, as one whose libvirtd
    is updated, answers again. Raises Unreachable when it stays silent, or somebody wants the end of it all.
    """
    for _ in range(FALLS_SILENT):
        try:
            return act()
        except Unreachable as error:
            ports.records.keep_decision(request.id, f"{error.what}: {error.why}: it is waited for, {format_duration(PATIENCE)} at most")  # fmt: skip
            if not _answer_again(ports, request):
                raise
    return act()


def ended(ports: Ports, request: Request, act: Callable[[], TransferEnd]) -> TransferEnd:
    """The same of an act that tells how it ended: whoever wants the end of it all meanwhile is named in it."""
    try:
        return answered(ports, request, act)
    except Unreachable:
        if by := windows.stop_asked(ports, request):
            return TransferEnd(f"cancelled by {by}", cancelled=True)
        raise


def place_at(ports: Ports, request: Request, host: str) -> Place:
    """Where the guest is. Raises Unreachable when the host does not say, for whatever reason: then there is something to wait for."""
    found = look(ports.hypervisor(host), request.guest_uuid)
    if found.where is Where.UNREACHABLE:
        raise Unreachable(f"host {host}", found.detail, "ferryman host check looks at it")
    return found


def _answer_again(ports: Ports, request: Request) -> bool:
    """Whether both hosts do, in time."""
    began = ports.clock.now()
    while ports.clock.now() - began < PATIENCE and not windows.stop_asked(ports, request):
        ports.clock.sleep(SLOW_INTERVAL)
        hosts = (request.source, request.destination)
        if all(look(ports.hypervisor(host), request.guest_uuid).where is not Where.UNREACHABLE for host in hosts):
            return True
    return False
