"""What the outside world can do for us: drivers implement these Protocols, execute uses them, only app joins them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ferryman.model.copy import CopyProgress, CopyResult, CopyTask, Digest, Image
from ferryman.model.guest import Guest
from ferryman.model.hook import Answer, Hook
from ferryman.model.host import Check, Host
from ferryman.model.plan import Volume
from ferryman.model.site import Ground, LinkSpeed
from ferryman.ports.hypervisor import NO_CHANGES, Console, Hypervisor, StopWay, Transfer
from ferryman.ports.records import Records


class Between(Protocol):
    """What can only be looked at from both hosts at once."""

    def look(self, guest: Guest, source: Hypervisor, destination: Hypervisor) -> Ground:
        """Each disk's reach, proved by a marker where one can be made, the ways, the bridges; nothing is left behind."""
        ...

    def around(self, guest: Guest, host: Hypervisor) -> Ground:
        """Of that what is at one host alone, for a guest that is nowhere yet: bridges, addresses, files; the rest is not looked at."""
        ...

    def carry(self, source: Hypervisor, path: str, destination: Hypervisor, volume: Volume) -> int:
        """Carry a read-only image's bytes to a volume made for them, by way of this machine; returns how many."""
        ...

    def measure(self, source: Hypervisor, destination: Hypervisor) -> LinkSpeed:
        """How fast data gets from one to the other's migration address, by a transfer of a second at most: it disturbs."""
        ...

    def check(self, host: Hypervisor, others: Sequence[Hypervisor], *, measure_link: bool = False) -> tuple[Check, ...]:
        """What `host check` prints: what the host lacks to be a source or a destination."""
        ...


class Watcher(Protocol):
    """A client's view of the guest, taken all through a transfer."""

    def stop(self) -> None: ...
    @property
    def blackout(self) -> float | None:
        """The longest time without an answer, in seconds; None when nothing ever answered."""
        ...


class Network(Protocol):
    """Looking at guests from outside, telling the network where they are, and operators what becomes of them."""

    def watch(self, probe: str) -> Watcher: ...
    def answers(self, probe: str, within: float) -> bool | None:
        """Whether ADDRESS[:PORT] answers within that many seconds; None: this machine may not send echoes."""
        ...

    def check(self, check: str, within: float) -> str:
        """Try an operator's check (tcp:, http:, command:) until it is good; empty when it was, else what was seen last."""
        ...

    def tell(self, hook: Hook, facts: Mapping[str, Any]) -> Answer:
        """Try an operator's hook once, with those facts as JSON. Never raises, and never takes longer than its time limit."""
        ...

    def address_of(self, macs: Sequence[str]) -> str:
        """An IP address that this machine's own neighbour table knows for one of those MACs; empty when none."""
        ...

    def mac_of(self, probe: str) -> str:
        """The MAC that this machine's own neighbour table has for the probe's address; empty when it is not on its link."""
        ...

    def announce(self, host: Host, macs_by_bridge: Sequence[tuple[str, str]]) -> str:
        """Send the guest's MACs out of the host's bridges so that switches learn it; empty when done, else why not."""
        ...


class Folder(Protocol):
    """A directory that backups are kept in; all names are below it, and need not be there."""

    def manifests(self) -> dict[str, tuple[bytes, dict[str, int]]]:
        """The manifests in it, up to two folders deep, each with the bytes of the files beside it, by their folders; none: it is not there."""
        ...

    def make(self, name: str) -> None:
        """Make a folder, which others may not enter. There already: nothing happens."""
        ...

    def read(self, name: str) -> bytes | None:
        """A small file; None when there is none. Raises DriverError when the directory itself is not there: it may not be mounted."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Make or replace a small file; it is on storage, and was read back, when this returns."""
        ...

    def sizes(self, name: str) -> dict[str, int]:
        """The bytes of each file in a folder."""
        ...

    def layers(self, name: str) -> tuple[str, ...]:
        """The paths of a qcow2 image and of what it stands upon, the uppermost first. Raises DriverError for what is none."""
        ...

    def publish(self, partial: str, name: str) -> None:
        """Give a folder its name for good. Done already: nothing happens."""
        ...

    def remove(self, partial: str, request: str) -> bool:
        """Remove a folder that is under way for that request; another is refused. None there: nothing happens. False: the directory itself
        is not there, and may not be mounted."""
        ...

    def leave(self) -> None:
        """Remove the directory itself if nothing is in it."""
        ...

    def room(self) -> int | None:
        """Bytes that are free there; None: the host does not tell."""
        ...


class Copier(Protocol):
    """Copying a disk from host to host. A copy's id names it: what was done of it stays, and asked for again it goes on."""

    def copy(
        self,
        task: CopyTask,
        source: Host,
        destination: Host,
        *,
        progress: Callable[[CopyProgress], None],
        cancelled: Callable[[], bool],
    ) -> CopyResult:
        """Carry it out, or on, until source and destination are proved to be the same; a complete one answers at once. Cuts are
        survived. Raises errors.DriverError: Stopped, SourceChanged, Mismatch, NoBitmap, Insecure, NoWay, Unreachable among them."""
        ...

    def discard(self, task: CopyTask, destination: Host) -> None:
        """Remove the journal, and the image, complete or not, unless it was there before this copy."""
        ...

    def forget(self, task: CopyTask, destination: Host) -> None:
        """Remove the journal of a copy: the image stays, and the id is free for another."""
        ...

    def digest(
        self, image: Image, host: Host, *, progress: Callable[[CopyProgress], None], cancelled: Callable[[], bool]
    ) -> Digest:
        """Read an image, with all that it stands upon, past the page cache. Raises errors.DriverError, Stopped among them."""
        ...

    def folder(self, host: Host, path: str) -> Folder:
        """A directory of a host, or of this machine; nothing is asked yet."""
        ...


class Clock(Protocol):
    """Time, so that tests need not wait."""

    def now(self) -> float: ...
    def wall(self) -> float:
        """The machine's clock as it stands, which may have been set since: moments that people name are held against it."""
        ...

    def sleep(self, seconds: float) -> None: ...


@dataclass(frozen=True)
class Ports:
    """All of the outside world that a workflow may touch."""

    records: Records
    hypervisor: Callable[[str], Hypervisor]  # by registered host name; raises NotFound
    between: Between
    network: Network
    clock: Clock
    copier: Copier
    hooks: tuple[Hook, ...] = ()  # those of the operator's settings here and now


__all__ = [
    "NO_CHANGES", "Between", "Clock", "Console", "Copier", "Hypervisor", "Network", "Ports", "Records", "StopWay", "Transfer", "Watcher",
]  # fmt: skip
