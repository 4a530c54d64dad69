"""What a host's hypervisor can do for us."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from ferryman.model.backup_job import BackupJob
from ferryman.model.cpu import Cpu
from ferryman.model.filesystem import FileSystem
from ferryman.model.guest import Checkpoint, Guest, Snapshot
from ferryman.model.host import GuestOnHost, Host, HostFacts, ImageUsers, Machine
from ferryman.model.mark import Mark
from ferryman.model.place import Place
from ferryman.model.plan import Changes, Held, ImageFile, NewDisk, Order, Soundness, Volume
from ferryman.model.sample import Sample
from ferryman.model.site import CpuComparison

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

    def differing(self, uuid: str, earlier: str, ejected: Sequence[str]) -> tuple[str, ...]:
        """In what the guest's persistent definition differs from that earlier text of it, each element by its name; what ferryman
        keeps in its metadata does not count, nor do the drives of those targets."""
        ...

    def define(self, definition: str, changes: Changes = NO_CHANGES) -> None:
        """Keep a definition, changed as said."""
        ...

    def define_anew(self, definition: str, changes: Changes, wanted: Mark) -> None:
        """Keep the definition of a guest that this host has none of, with that mark; another's is never replaced. Run again after a crash: goes on."""
        ...

    def defined_for(self, uuid: str, request: str) -> bool:
        """Whether the guest's definition here is one that `define_anew` kept for that request."""
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

    def can_freeze(self, uuid: str) -> bool:
        """Whether the guest's agent answers now, and may freeze and thaw; while file systems are frozen many a one may not freeze."""
        ...

    def is_frozen(self, uuid: str) -> bool:
        """Whether the guest's agent says that its file systems are frozen now, whoever had them frozen."""
        ...

    def freeze(self, uuid: str) -> int:
        """Have the guest's agent freeze its file systems; returns how many. Raises DriverError when it cannot, or not in time."""
        ...

    def thaw(self, uuid: str) -> None:
        """Have it thaw them. None is frozen, or the guest does not run: nothing happens. Raises DriverError when its agent is not there."""
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

    def checkpoints(self, uuid: str) -> tuple[Checkpoint, ...]:
        """What libvirt knows of the guest's checkpoints, each after the one it was made upon."""
        ...

    def make_checkpoints_known(self, uuid: str, checkpoints_of_it: Sequence[Checkpoint]) -> None:
        """Tell libvirt of checkpoints whose bitmaps are in the images already."""
        ...

    def adapt_saved(self, path: str, changes: Changes) -> None:
        """Change the definition inside a file of saved memory."""
        ...

    def open_links(self, uuid: str, definition: str) -> None:
        """Give the running guest's interfaces the link states that the definition names."""
        ...

    def begin_backup(self, uuid: str, job: BackupJob) -> str:
        """Freeze what the running guest's disks hold and offer it; returns the path of the NBD socket at the host. Raises AlreadyRunning, and NoBitmap when a job cannot tell what was written since."""
        ...

    def backup_running(self, uuid: str, owner: str) -> str:
        """The socket of the backup job that runs now for that request; empty when none does, or another's."""
        ...

    def end_backup(self, uuid: str, owner: str) -> None:
        """End that request's job; its scratch files go. None of it runs: nothing happens."""
        ...

    def delete_checkpoint(self, uuid: str, name: str) -> None:
        """Forget it, with its bitmaps where the guest runs (else: `remove_bitmap`). Gone already: nothing happens."""
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

    def is_old(self, path: str) -> bool:
        """Whether a qcow2 image is of version 2, which keeps no bitmaps. Also of one that is in use."""
        ...

    def label(self, path: str, words: str) -> None:
        """Write words to an image, beside its content, for whoever finds it; empty: take them away."""
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

    def run_of(self, uuid: str) -> str:
        """The token of the guest's present run: as long as it is the same, so is its QEMU, or it was only put to sleep. Empty: it has none, or does not run."""
        ...

    def name_run(self, uuid: str, token: str) -> None:
        """Give the present run of the guest that token."""
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
