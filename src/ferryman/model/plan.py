"""A plan: the steps of a move, the undo of each, and where the point of no return lies."""

from dataclasses import dataclass, field
from enum import StrEnum

from ferryman.model.guest import SnapshotFile
from ferryman.model.request import Handshake, Options


@dataclass(frozen=True)
class Step:
    """One step as the operator reads it."""

    name: str
    does: str
    undo: str  # what takes it back; empty: it changes nothing
    past_return: bool = False  # after the point of no return: only forward


class Method(StrEnum):
    """How a guest gets to another host."""

    LIVE = "live"  # it runs, and goes on running
    DEFINITION = "definition"  # it is shut off and its disks are shared: only its definition moves
    COLD = "cold"  # it is stopped, its disks are copied, and it is started again
    WARM = "warm"  # the same, but most of its disks is copied before it is stopped

    @property
    def stops(self) -> bool:
        """Whether the guest, if it runs, is stopped for it."""
        return self in (Method.COLD, Method.WARM)


class Travel(StrEnum):
    """How the content of a disk gets to the destination."""

    MIRROR = "mirror"  # QEMU's own mirror, while the guest writes
    MEDIUM = "medium"  # read-only: its bytes are carried over beforehand
    COPY = "copy"  # while nobody writes: the content that the guest sees
    FILE = "file"  # while nobody writes: the bytes of the image file, with the snapshots in it


@dataclass(frozen=True)
class NewDisk:
    """A disk that gets a new volume at the destination. Sizes are bytes."""

    target: str  # vda
    source: str  # path at the source
    pool: str  # at the destination
    name: str  # the wanted name; a free one is taken when it is taken meanwhile
    format: str
    capacity: int
    allocation: int  # at the source
    travel: Travel
    directory: str = ""  # of the pool, where the copy itself makes the image
    converted_from: str = ""  # its format at the source, where that is another
    read_only: bool = False


@dataclass(frozen=True)
class Ahead:
    """A disk that is copied while its guest runs, pass by pass."""

    target: str
    source: str  # path of its image
    scratch: str  # directory at the source for what the guest overwrites during a pass
    remembers: bool  # its image keeps which blocks were written since a pass; else each pass reads all of it


@dataclass(frozen=True)
class ImageFile:
    """One image of a backing chain as it is on storage. Sizes are bytes."""

    path: str
    format: str
    allocation: int


@dataclass(frozen=True)
class Layer:
    """A file that a guest's disks and snapshots are made of, and where its copy is."""

    target: str  # the disk beside whose copy its copy goes
    source: str
    format: str
    path: str  # at the destination
    below: str = ""  # the source of the image that it stands upon
    found: bool = True  # False: a snapshot names it and it is gone, so that only its name changes


@dataclass(frozen=True)
class Volume:
    """A volume that was made."""

    target: str  # the disk it is for
    pool: str
    name: str
    path: str
    allocation: int | None = None  # bytes it takes once it is filled; None: not looked at
    format: str = ""  # where it is another than at the source


@dataclass(frozen=True)
class Adaption:
    """What of the virtual machine itself is changed, since it starts anew; empty: left as it is."""

    emulator: str = ""  # path at the destination
    machine: str = ""  # type
    cpu: str = ""  # host-model, or the name of a model
    watchdog: str = ""  # model of one that is left away


@dataclass(frozen=True)
class Identity:
    """Who a guest is, where another shall be made of its definition."""

    name: str
    uuid: str
    macs: tuple[str, ...]  # of its interfaces, in their order
    nvram: str = ""  # path of its variable store; empty: it has none, or keeps it


@dataclass(frozen=True)
class Changes:
    """In what the guest's definition at the destination differs from the one at the source."""

    volumes: tuple[Volume, ...] = ()
    networks: dict[str, str] = field(default_factory=dict)  # bridge or network names, old to new
    links_down: bool = False  # its interfaces are there, but nothing gets through
    adaption: Adaption = Adaption()
    ejected: tuple[str, ...] = ()  # drives whose medium the guest does not get
    paths: dict[str, str] = field(default_factory=dict)  # files that its snapshots name, old to new
    identity: Identity | None = None  # None: it stays who it is


@dataclass(frozen=True)
class Held:
    """An image at the source that is held, so that nothing can start the guest there while it is moved."""

    target: str
    path: str
    format: str
    shared: bool  # the destination uses it too: it must be let go before the guest starts there


@dataclass(frozen=True)
class Soundness:
    """Whether the own structure of an image is in order."""

    sound: bool
    words: str = ""  # what is wrong with it, or worth knowing


@dataclass(frozen=True)
class Plan:
    """How the guest will be moved."""

    method: Method
    guest: str
    source: str
    destination: str
    steps: tuple[Step, ...]
    handshake: Handshake
    peer_uri: str  # empty when the destination has none that other hosts could use
    migration_uri: str
    encrypted: bool
    persistent: bool
    autostart: bool
    new_disks: tuple[NewDisk, ...] = ()
    ejected: tuple[str, ...] = ()  # drives whose medium is taken out
    networks: dict[str, str] = field(default_factory=dict)  # bridge or network names, old to new, where they differ
    nvram: str = ""  # path of a variable store whose content travels while the file stays at the source; empty: none
    vouched: tuple[str, ...] = ()  # disks proved to be shared, where the source's libvirt cannot be told so
    starts: bool = False  # cold: it runs, so it is stopped and started again; one that is off stays off
    held: tuple[Held, ...] = ()  # cold
    tpm: str = ""  # cold: directory of the emulated TPM's state; empty: none
    adaption: Adaption = Adaption()  # cold
    take_back: str = (
        ""  # cold: the request whose definition and disks the guest gets back; empty: it takes its own along
    )
    snapshots: bool = False  # cold: libvirt knows snapshots of it
    snapshot_files: tuple[
        SnapshotFile, ...
    ] = ()  # cold: what these keep beside the disks' present images, to be copied too
    stays: dict[str, str] = field(
        default_factory=dict
    )  # cold: images that stay at the source without a copy, by target
    saved: str = ""  # cold: path of the guest's saved memory (managed save); empty: none
    ahead: tuple[Ahead, ...] = ()  # warm: what is copied while the guest runs
    reads_for: float = 0.0  # warm: forecast seconds for which it stands still while disks that do not remember are read

    @property
    def after_the_stop(self) -> tuple[NewDisk, ...]:
        """Disks of which all is copied while the guest stands still."""
        early = {disk.target for disk in self.ahead}
        early |= {new.target for new in self.new_disks if early and new.read_only and new.travel is Travel.COPY}
        return tuple(new for new in self.new_disks if new.target not in early)


@dataclass(frozen=True)
class Order:
    """What the source's hypervisor is asked for."""

    handshake: Handshake
    destination_uri: (
        str  # how whoever leads the handshake reaches the destination's daemon: peer URI, or ferryman's own
    )
    migration_uri: str  # where QEMU connects, such as tcp://b-migration: libvirt chooses the port
    persistent: bool
    options: Options  # encryption, auto-converge
    changes: Changes = Changes()
    mirrored: tuple[str, ...] = ()  # targets of the disks that are copied along
    bandwidth: int = 0  # bytes per second for memory; 0: no limit
    vouched: tuple[str, ...] = ()  # as in the plan: for these libvirt's own check of shared storage is passed over
