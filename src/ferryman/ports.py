"""What the outside world can do for us: drivers implement these Protocols, execute uses them, only app joins them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from ferryman.model.backup_job import BackupJob
from ferryman.model.copy import CopyProgress, CopyResult, CopyTask, Digest, Image
from ferryman.model.cpu import Cpu
from ferryman.model.filesystem import FileSystem
from ferryman.model.finding import Finding
from ferryman.model.guest import Guest, Snapshot
from ferryman.model.hook import Answer, Hook
from ferryman.model.host import Check, GuestOnHost, Host, HostFacts, ImageUsers, Machine
from ferryman.model.mark import Mark
from ferryman.model.outcome import Outcome, PhaseEntry, Report, UndoEntry, Versions
from ferryman.model.phase import Phase
from ferryman.model.place import Place
from ferryman.model.plan import Changes, Held, ImageFile, NewDisk, Order, Soundness, Volume
from ferryman.model.request import Request, Wish
from ferryman.model.sample import Sample
from ferryman.model.site import CpuComparison, Ground, LinkSpeed

NO_CHANGES = Changes()


class StopWay(StrEnum):
    """How a guest is asked to shut down."""

    AGENT = "guest agent"
    ACPI = "power button"


class Console(StrEnum):
    """What came of touching a guest's console."""

    ANSWERS = "answers"
    SILENT = "says nothing"
    BUSY = "is open for somebody else"
    NONE = "is not there"


class Transfer(Protocol):
    """A transfer asked for by this process. Its end proves nothing: only the hosts do."""

    @property
    def ended(self) -> bool:
        """Whether the blocking call returned."""
        ...

    @property
    def error(self) -> Exception | None:
        """What the call raised, translated; None while it runs or when it succeeded."""
        ...


class Hypervisor(Protocol):
    """One host's libvirtd. Every call is bounded in time, raises errors.DriverError, and reopens a dead connection."""

    host: Host

    def facts(self) -> HostFacts: ...
    def guests(self) -> tuple[GuestOnHost, ...]: ...
    def guest(self, name_or_uuid: str, *, as_defined: bool = False) -> Guest:
        """A guest as it runs; `as_defined`: as it would start anew, and in which devices that differs."""
        ...

    def place(self, uuid: str) -> Place:
        """Where the guest is, as this host says. Raises Unreachable; never answers from memory."""
        ...

    def definition(self, uuid: str) -> str:
        """The persistent definition with its secrets (XML); of a transient guest what would be one, without what only lives."""
        ...

    def define(self, definition: str, changes: Changes = NO_CHANGES) -> None:
        """Keep a definition, changed as said."""
        ...

    def described(self, definition: str) -> Guest:
        """A guest that is off, as a definition describes it; nothing is defined."""
        ...

    def try_definition(self, definition: str, changes: Changes) -> None:
        """Ask whether `define` and a start would be refused, without keeping anything. Raises DriverError with the reason."""
        ...

    def undefine(self, uuid: str, *, snapshots: bool = False) -> None:
        """Remove the definition only: NVRAM, TPM state and disks stay. `snapshots`: with what libvirt knows of them."""
        ...

    def set_autostart(self, uuid: str, on: bool) -> None: ...
    def resume(self, uuid: str) -> None: ...
    def destroy(self, uuid: str) -> None:
        """Stop this host's copy at once."""
        ...

    def ask_to_stop(self, uuid: str, way: StopWay) -> None:
        """Ask the guest to shut down. Returns at once: that it does is for `place` to say."""
        ...

    def let_it_end(self, uuid: str, on: bool) -> None:
        """Whether a running guest ends when it turns itself off or reboots. Off: as its definition says, which is left as it is."""
        ...

    def start(self, uuid: str, *, paused: bool = False) -> None:
        """Start it from its definition. `paused`: its CPUs wait for `resume`."""
        ...

    def watch(self, uuid: str, seconds: float) -> str:
        """Watch a running guest for so long; what befell it (it stopped, rebooted, crashed), empty when it just ran."""
        ...

    def agent_answers(self, uuid: str) -> bool:
        """Whether the guest's agent is connected and answers now."""
        ...

    def freeze(self, uuid: str) -> int:
        """Have the guest's agent freeze its file systems; returns how many. Raises DriverError when it cannot, or not in time."""
        ...

    def thaw(self, uuid: str) -> None:
        """Have it thaw them. None is frozen, or the guest does not run: nothing happens."""
        ...

    def console(self, uuid: str, *, starting: bool) -> Console:
        """Whether the running guest answers on its console; one that somebody has open is left alone.

        `starting`: it was just started, so that whatever it writes counts, and no key is to disturb that.
        """
        ...

    def snapshots(self, uuid: str) -> tuple[Snapshot, ...]:
        """What libvirt knows of the guest's snapshots, each after the one it was made upon."""
        ...

    def make_known(self, uuid: str, snapshots_of_it: Sequence[Snapshot], changes: Changes = NO_CHANGES) -> None:
        """Tell libvirt of snapshots whose data are in the images already."""
        ...

    def adapt_saved(self, path: str, changes: Changes) -> None:
        """Change the definition inside a file of saved memory."""
        ...

    def open_links(self, uuid: str, definition: str) -> None:
        """Give the running guest's interfaces the link states that the definition names."""
        ...

    def begin_backup(self, uuid: str, job: BackupJob) -> str:
        """Freeze what the running guest's disks hold and offer it; returns the path of the NBD socket at the host. Raises AlreadyRunning."""
        ...

    def backup_running(self, uuid: str) -> str:
        """The socket of our backup job that runs now; empty when none does."""
        ...

    def end_backup(self, uuid: str) -> None:
        """End it; its scratch files go. None of ours runs: nothing happens."""
        ...

    def checkpoints(self, uuid: str) -> tuple[str, ...]:
        """The names of the guest's checkpoints, each after the one it was made upon."""
        ...

    def delete_checkpoint(self, uuid: str, name: str) -> None:
        """Forget it, with its bitmaps, of a running guest. Gone already: nothing happens."""
        ...

    def volume_names(self, pool: str) -> tuple[str, ...]:
        """All names in a pool now, also of files that libvirt did not make."""
        ...

    def make_volume(self, disk: NewDisk, name: str) -> Volume:
        """A new, empty volume for that disk. Raises DriverError when the name is taken."""
        ...

    def volume_path(self, pool: str, name: str) -> str:
        """Where it is; empty when there is none."""
        ...

    def remove_volume(self, path: str) -> bool:
        """Remove the volume at that path; False: there was none."""
        ...

    def allocation(self, path: str) -> int | None:
        """Bytes that the volume at that path takes; None when there is none."""
        ...

    def users_of(self, path: str) -> ImageUsers:
        """The guests and snapshots of this host that stand upon the image at that path, whether they run or not."""
        ...

    def medium(self, uuid: str, target: str) -> tuple[str, str]:
        """What is in a drive now, and what its definition has there, as `insert` wants them; empty for nothing."""
        ...

    def eject(self, uuid: str, target: str) -> None:
        """Take the medium out of a drive, now and, where it is the same one there, in the definition."""
        ...

    def insert(self, uuid: str, target: str, live: str, config: str) -> None:
        """Put media back into their drive, now and in the definition, unless something is in it."""
        ...

    def read_file(self, path: str) -> bytes | None:
        """A small file of this host, such as a variable store; None when there is none."""
        ...

    def write_file(self, path: str, content: bytes) -> None:
        """Make or replace a small file in a directory that is there."""
        ...

    def remove_file(self, path: str) -> None:
        """Remove a file, if it is there."""
        ...

    # What is done at the host itself, because its libvirtd cannot

    def hold(self, request: str, images: Sequence[Held]) -> None:
        """Open each image so that no guest can start on it; outlives this process. Held already by us: nothing happens."""
        ...

    def held(self, request: str) -> tuple[str, ...]:
        """The targets that are held for that request now."""
        ...

    def release(self, request: str, targets: Sequence[str] = ()) -> None:
        """Let them go, all when none is named. Nothing held: nothing happens."""
        ...

    def pack(self, directory: str) -> str:
        """A small directory of the host with owners and modes, as text; empty when there is none."""
        ...

    def unpack(self, directory: str, packed: str, request: str) -> bool:
        """Put it in its place; True when what was there before is kept beside it under a name with the request's id."""
        ...

    def adopt(self, directory: str, request: str) -> bool:
        """What was unpacked for that request is the guest's own from now on; True when what was there before is beside it."""
        ...

    def remove_aside(self, path: str, request: str) -> bool:
        """Remove what was kept beside a file or directory under a name with that request's id; False: there was none."""
        ...

    def take_back(self, directory: str, request: str) -> None:
        """Remove what was unpacked for that request, and put back what was there before."""
        ...

    def move_file(self, path: str, to: str) -> None:
        """Give a file another name in its file system. Done already: nothing happens."""
        ...

    def image_chain(self, path: str, kind: str) -> tuple[ImageFile, ...]:
        """An image of that format and the layers below it, top first; empty when there is no such file."""
        ...

    def rebase(self, path: str, backing: str, backing_format: str) -> None:
        """Write into a qcow2 image's header where the layer below it is. Its content is not looked at."""
        ...

    def image_snapshots(self, path: str) -> tuple[str, ...]:
        """The snapshots inside a qcow2 image, whether or not libvirt knows them."""
        ...

    def remove_bitmap(self, path: str, name: str) -> None:
        """Take a bitmap out of a qcow2 image that nobody has open. Gone already: nothing happens."""
        ...

    def room(self, directory: str) -> int | None:
        """Bytes that are free in a directory's file system; None when there is no such directory."""
        ...

    def check_image(self, image: Held) -> Soundness:
        """Whether an image's own structure is sound; one whose format has none to check is."""
        ...

    def file_systems(self, images: Sequence[Held], within: float) -> tuple[FileSystem, ...] | None:
        """Look through the file systems in images that nobody writes to, for at most so many seconds; nothing in them is changed.

        None: this host has no program for that.
        """
        ...

    # What it can be

    def machine(self, guest: Guest) -> Machine:
        """Whether this host can be the guest's machine."""
        ...

    def compare_cpu(self, guest: Guest) -> CpuComparison: ...

    def mark(self, uuid: str) -> Mark | None:
        """The mark of a move in the guest's metadata: the live ones of a running guest, else its definition's."""
        ...

    def set_mark(self, uuid: str, wanted: Mark | None) -> None:
        """Set it in the live metadata of a running guest, in the definition of one that is off; None: take it away from both."""
        ...

    def virtualizations(self) -> tuple[str, ...]:
        """Of kvm and qemu, those that this host can do."""
        ...

    def cpu_offer(self, virtualization: str) -> Cpu | None:
        """The best migratable CPU that this host can give; None when it names none."""
        ...

    def cpu_baseline(self, virtualization: str, cpus: Sequence[str]) -> Cpu:
        """What fits all those <cpu> elements."""
        ...

    def start_migration(self, uuid: str, order: Order) -> Transfer:
        """Ask this host to send the guest. Returns at once: the blocking call has its own thread and connection."""
        ...

    def sample(self, uuid: str) -> Sample | None:
        """Statistics of the running migration at its source; None when no migration runs there."""
        ...

    def completed(self, uuid: str) -> Sample | None:
        """Statistics of the last completed migration, kept for the next reader; None when there are none."""
        ...

    def set_max_downtime(self, uuid: str, seconds: float) -> None:
        """The downtime that the running migration may cause."""
        ...

    def limit_mirrors(self, uuid: str, targets: Sequence[str], rate: int) -> None:
        """The bytes per second that each running mirror may send (0: no limit); those that do not run are left alone."""
        ...

    def memory_limit(self, uuid: str) -> int:
        """The bytes per second that memory may take of the line in the guest's migrations; 0: no limit."""
        ...

    def limit_memory(self, uuid: str, rate: int) -> None:
        """The bytes per second that memory may take of the line; 0: no limit."""
        ...

    def abort(self, uuid: str) -> None:
        """Ask the running job to stop. An answer proves nothing."""
        ...


class Between(Protocol):
    """What can only be looked at from both hosts at once."""

    def look(self, guest: Guest, source: Hypervisor, destination: Hypervisor) -> Ground:
        """Each disk's reach, proved by a marker where one can be made, the ways, the bridges; nothing is left behind."""
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


class Records(Protocol):
    """The database of this machine. Times are seconds since the epoch. Every write is durable when the call returns."""

    def hosts(self) -> tuple[Host, ...]: ...
    def add_host(self, host: Host) -> None: ...
    def remove_host(self, name: str) -> None: ...

    def keep_maps(self, source: str, destination: str, pools: Mapping[str, str], networks: Mapping[str, str]) -> None:
        """Remember names for these two hosts."""
        ...

    def add_request(self, request: Request, slot: str) -> None: ...
    def add_retry(self, request: Request) -> None:
        """One that tries another again: that one names it from now on. Written down already: nothing happens."""
        ...

    def request(self, id_or_prefix: str) -> Request: ...
    def requests(self, *, limit: int = 50, open_only: bool = False) -> tuple[Request, ...]:
        """Newest first; `open_only`: not ended, or needing attention."""
        ...

    def slot(self, request_id: str) -> str: ...
    def enter(self, request_id: str, phase: Phase) -> None: ...
    def phase(self, request_id: str) -> Phase: ...
    def phases(self, request_id: str) -> tuple[PhaseEntry, ...]:
        """All that were entered, in order."""
        ...

    def take_lease(self, guest_uuid: str, request_id: str) -> str:
        """Take it, or keep it if it is ours; returns the id of the request that holds it."""
        ...

    def lease(self, guest_uuid: str) -> str: ...
    def drop_lease(self, guest_uuid: str, request_id: str) -> None: ...

    def mark_asked(self, request_id: str) -> None: ...
    def asked_at(self, request_id: str) -> float | None: ...
    def ask_cancel(self, request_id: str, by: str) -> None: ...
    def cancel_asked(self, request_id: str) -> str:
        """Who asked for cancel; empty when nobody did."""
        ...

    def ask_tune(self, request_id: str, wish: Wish) -> None: ...
    def wishes(self, request_id: str) -> tuple[Wish, ...]:
        """All that were asked for, the oldest first."""
        ...

    def mark_applied(self, wish: Wish) -> None: ...

    def register_undo(self, request_id: str, act: str, arguments: Mapping[str, Any]) -> None:
        """Written before the act. Registering the same act with the same arguments again changes nothing."""
        ...

    def undo_acts(self, request_id: str) -> tuple[tuple[int, str, dict[str, Any]], ...]:
        """(number, act, arguments) of those still registered or failed, last first."""
        ...

    def close_undo(self, number: int, state: str, error: str = "") -> None: ...
    def undo_entries(self, request_id: str) -> tuple[UndoEntry, ...]: ...

    def keep_sample(self, request_id: str, sample: Sample) -> None: ...
    def samples(self, request_id: str) -> tuple[Sample, ...]: ...
    def last_sample(self, request_id: str) -> Sample | None: ...
    def keep_definition(self, request_id: str, host: str, xml: str) -> None: ...
    def definition(self, request_id: str, host: str) -> str: ...
    def keep_findings(self, request_id: str, moment: str, findings: Sequence[Finding]) -> None: ...
    def keep_versions(self, request_id: str, versions: Versions) -> None: ...
    def keep_decision(self, request_id: str, text: str) -> None: ...
    def keep_facts(self, request_id: str, facts: Mapping[str, Any]) -> None:
        """Merge plain values observed at admission (persistence, autostart, bridges, addresses) that later steps need."""
        ...

    def facts(self, request_id: str) -> dict[str, Any]: ...
    def keep_outcome(self, request_id: str, outcome: Outcome) -> None: ...
    def report(self, request_id: str, *, with_samples: bool = True) -> Report: ...


class Folder(Protocol):
    """A directory that backups are kept in; all names are below it, and need not be there."""

    def manifests(self) -> dict[str, tuple[bytes, dict[str, int]]]:
        """The manifests in it, up to two folders deep, each with the bytes of the files beside it, by their folders; none: it is not there."""
        ...

    def make(self, name: str) -> None:
        """Make a folder, which others may not enter. There already: nothing happens."""
        ...

    def read(self, name: str) -> bytes | None:
        """A small file; None when there is none."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Make or replace a small file; it is on storage when this returns."""
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

    def remove(self, partial: str, request: str) -> None:
        """Remove a folder that is under way for that request; another is refused. None there: nothing happens."""
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
        survived. Raises errors.DriverError: Stopped, SourceChanged, Mismatch, Insecure, NoWay, Unreachable among them."""
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
