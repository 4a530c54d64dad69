"""A guest as observed at the host where it was found."""

from dataclasses import dataclass
from enum import StrEnum

from ferryman.model.mark import Mark


class State(StrEnum):
    """What a guest is doing, in libvirt's words."""

    RUNNING = "running"
    BLOCKED = "blocked"
    PAUSED = "paused"
    SHUTTING_DOWN = "shutting down"
    SHUT_OFF = "shut off"
    CRASHED = "crashed"
    SUSPENDED = "suspended"  # by the guest's own power management
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Disk:
    """One disk, CD-ROM or floppy drive."""

    target: str  # vda
    device: str  # disk, cdrom, floppy, lun
    kind: str  # file, block, network, dir, nvme, vhostuser, …; volume: of a pool, and not found there
    source: str  # path, device, URI-like name; empty: an empty drive
    format: str
    cache: str  # as written; empty: the hypervisor's default
    read_only: bool
    shareable: bool
    capacity: int = 0  # bytes the guest sees; 0 unknown
    allocation: int = 0  # bytes on the storage
    backing: tuple[str, ...] = ()  # sources of the layers below, top first
    pool: str = ""  # of a volume
    bus: str = ""  # virtio, scsi, sata, …
    sliced: bool = False  # only a part of its image, or of one below, is what the guest sees
    encrypted: bool = False  # QEMU opens it with a secret; nobody else can
    old: bool = False  # a qcow2 image of version 2 (compat 0.10), looked at where it matters

    @property
    def bypasses_cache(self) -> bool:
        """Whether QEMU writes and reads past the host's page cache, so that another host sees no stale pages."""
        return self.cache in ("none", "directsync")

    @property
    def remembers(self) -> bool:
        """Whether its image can keep bitmaps, which tell what was written."""
        return self.format == "qcow2" and not self.old


@dataclass(frozen=True)
class Interface:
    """One network interface."""

    mac: str
    kind: str  # network, bridge, direct, hostdev, vhostuser, user, ethernet, vdpa
    source: str  # network or bridge name, or the device
    model: str
    link_up: bool = True
    device: str = ""  # the host's device that carries its segment: a bridge, or the device below a macvtap
    network_mode: str = ""  # of a libvirt network: bridge, nat, route, open, isolated, …
    portgroup: str = ""  # of a libvirt network
    filter: str = ""  # name of the libvirt network filter that guards it


@dataclass(frozen=True)
class HostDevice:
    """Something of the host's hardware or services that the guest holds."""

    kind: str  # pci, usb, scsi, mdev, vhost-user, virtiofs, 9p, shmem, …
    name: str  # an address or a source


@dataclass(frozen=True)
class Job:
    """A job that runs on the guest now."""

    kind: str  # libvirt's operation: outgoing migration, backup, snapshot, …, or "block job on vda"
    detail: str = ""


@dataclass(frozen=True)
class Unlike:
    """A device that a running guest and its definition do not have alike."""

    kind: str  # disk, medium (in a drive), interface, or a host device's kind
    name: str  # target, MAC address, or a host device's name
    live: str  # what it is now; empty: it is in the definition only
    defined: str  # what it is from the next start on; empty: it was plugged in live only


@dataclass(frozen=True)
class Snapshot:
    """What libvirt knows of one snapshot."""

    name: str
    xml: str
    current: bool  # the next one is made upon it


@dataclass(frozen=True)
class SnapshotFile:
    """An image, or a file with saved memory, that a snapshot names."""

    snapshot: str  # its name
    target: str  # vda; empty: saved memory
    kind: str  # file, block, network, …
    source: str
    format: str = "raw"


@dataclass(frozen=True)
class Checkpoint:
    """What libvirt knows of one checkpoint: since when which bitmaps note what is written."""

    name: str
    xml: str


@dataclass(frozen=True)
class Guest:
    """All that assess and plan need to know of one guest. Sizes are bytes.

    What its definition says is that of the running guest, or, asked `as_defined`, what it will be from its next start on.
    """

    uuid: str
    name: str
    host: str  # registered name of the host where it was found
    state: State
    persistent: bool
    autostart: bool
    xml: str  # live definition, with secrets left out
    inactive_xml: str  # persistent definition; the live one for a transient guest
    architecture: str
    virtualization: str  # kvm or qemu
    machine: str
    emulator: str
    vcpus: int
    memory: int  # configured
    memory_used: int  # resident now
    cpu_mode: str  # custom, host-model, host-passthrough, maximum, or empty
    cpu_xml: str  # the expanded live <cpu> element; empty when there is none
    disks: tuple[Disk, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    host_devices: tuple[HostDevice, ...] = ()
    hugepage_size: int = 0  # 0: none asked for; 1: the host's default size
    snapshots: tuple[str, ...] = ()
    external_snapshots: tuple[str, ...] = ()  # of these, those that keep a part in files of their own
    snapshot_files: tuple[SnapshotFile, ...] = ()  # all that they name, the disks' present images among them
    checkpoints: tuple[str, ...] = ()
    managed_save: bool = False
    nvram: str = ""  # path of the variable store
    nvram_store: str = ""  # the device or network storage that is its variable store, where that is no file
    loader: str = ""  # path of the firmware
    boot_files: tuple[str, ...] = ()  # kernel, initial RAM disk, device tree, where it boots from the host's files
    state_files: tuple[str, ...] = ()  # of its non-volatile memory, and of a TPM whose place its definition chooses
    pinned_cpus: tuple[int, ...] = ()  # CPUs of the host that its definition names
    numa_nodes: tuple[int, ...] = ()  # NUMA nodes of the host that its memory is bound to
    tpm: str = ""  # backend: emulator, passthrough, external
    listens: tuple[str, ...] = ()  # addresses that its definition has its consoles listen on
    listen_networks: tuple[str, ...] = ()  # libvirt networks on whose address they listen
    watchdogs: tuple[str, ...] = ()  # models of those that reset it, as the ones do that libvirt adds by itself
    security_models: tuple[str, ...] = ()  # that its definition names: apparmor, selinux, …
    secrets: tuple[str, ...] = ()  # UUIDs or usages of libvirt's secrets that its definition names
    title: str = ""
    unlike: tuple[Unlike, ...] = ()  # looked at where it was asked for as it is defined
    jobs: tuple[Job, ...] = ()
    mark: Mark | None = None  # somebody moves it, or did
    agent: bool = False  # its guest agent is connected
    addresses: tuple[str, ...] = ()  # IP addresses as far as they could be learned

    @property
    def off(self) -> bool:
        """Whether nothing of it is active and it was stopped in order."""
        return self.state is State.SHUT_OFF

    @property
    def runs(self) -> bool:
        """Whether the guest executes now."""
        return self.state in (State.RUNNING, State.BLOCKED)
