"""A host: how it is registered, and what was observed of it."""

from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Host:
    """A registered host and its four addresses; empty means: take the default that the properties below derive."""

    name: str
    uri: str  # control: how ferryman reaches its libvirtd
    peer_uri: str = ""  # how another host's libvirtd reaches it
    migration_address: str = ""  # where QEMU's data connections go; empty: the address of the peer URI
    ssh: str = ""  # user@address for what libvirt cannot do; empty: derived from the URI, or none for a local one
    maintenance: bool = False  # no guest is moved to it
    maintenance_reason: str = ""

    @property
    def is_local(self) -> bool:
        """Whether the control URI speaks to this machine's own libvirtd."""
        return not urlsplit(self.uri).hostname

    @property
    def address(self) -> str:
        """The host part of the control URI; empty for the local host."""
        return urlsplit(self.uri).hostname or ""

    @property
    def effective_peer_uri(self) -> str:
        """The peer URI, by default the control URI without what is only meaningful on the controller (its query).

        Empty for the local host: qemu:///system means another host's own libvirtd there.
        """
        return self.peer_uri or ("" if self.is_local else self.uri.split("?")[0])

    @property
    def effective_migration_address(self) -> str:
        """Where QEMU's data connections go, by default the address of the peer URI; empty for a local host without one."""
        return self.migration_address or urlsplit(self.effective_peer_uri).hostname or self.address

    @property
    def effective_ssh(self) -> str:
        """The ssh target; empty when there is none (the local host)."""
        if self.ssh or self.is_local:
            return self.ssh
        user = urlsplit(self.uri).username
        return f"{user or 'root'}@{self.address}"


THIS_MACHINE = Host("this machine", "qemu:///system")  # no registered host has a blank in its name


@dataclass(frozen=True)
class Pool:
    """An active or inactive storage pool."""

    name: str
    kind: str  # libvirt's type: dir, fs, netfs, logical, …
    active: bool
    autostart: bool
    path: str  # target path; empty where the kind has none
    available: int  # bytes


@dataclass(frozen=True)
class Network:
    """A libvirt network."""

    name: str
    active: bool
    bridge: str
    autostart: bool = True
    mode: str = ""  # libvirt's forward mode; isolated when there is none
    portgroups: tuple[str, ...] = ()


@dataclass(frozen=True)
class GuestOnHost:
    """A guest in a host's list: enough for `ferryman guests` and for clashes of name, UUID and MAC."""

    uuid: str
    name: str
    state: str  # model.guest.State value
    persistent: bool
    autostart: bool
    macs: tuple[str, ...]
    vcpus: int
    memory_used: int  # bytes of host memory QEMU holds (balloon "rss"); 0 when shut off or unknown
    memory_configured: int  # bytes
    disks: tuple[str, ...]  # images (of a volume its path), empty string for an empty drive
    networks: tuple[str, ...]  # bridge or network names
    nvram: str = ""  # path of the variable store


@dataclass(frozen=True)
class ImageUsers:
    """Who stands upon an image at its host."""

    named: tuple[str, ...] = ()  # guests, running or not, and snapshots of theirs
    unknown: tuple[str, ...] = ()  # images that could not be looked at, each with whose it is and why


@dataclass(frozen=True)
class Machine:
    """What the emulator of a host can be: from its domain capabilities for one machine type."""

    emulator: str
    machine: str  # canonical machine type asked about
    available: bool
    why_not: str = ""  # libvirt's sentence when not available
    instead: str = ""  # when it is not available: the newest type of its family that is
    has_emulator: bool = True  # the guest's own emulator path works there
    max_vcpus: int = 0  # 0: not said
    loaders: tuple[str, ...] = ()  # firmware files that it offers
    tpm_backends: tuple[str, ...] | None = None  # None: not said


@dataclass(frozen=True)
class HostFacts:
    """What was observed of a host. Versions are (major, minor, release); times are seconds since the epoch."""

    host: Host
    hostname: str
    uuid: str
    libvirt_version: tuple[int, int, int]
    qemu_version: tuple[int, int, int]
    architecture: str
    cpus: int
    memory_total: int  # bytes
    memory_free: int  # bytes, free plus reclaimable
    cpu_ids: tuple[int, ...] = ()  # numbers of its CPUs; empty: not known
    numa_nodes: tuple[int, ...] = ()  # numbers of its NUMA nodes; empty: not known
    hugepages_free: dict[int, int] = field(default_factory=dict)  # page size in bytes -> free pages
    pools: tuple[Pool, ...] = ()
    networks: tuple[Network, ...] = ()
    guests: tuple[GuestOnHost, ...] = ()
    filters: tuple[str, ...] | None = None  # libvirt's network filters there; None: not looked at
    security_models: tuple[str, ...] = ()  # that libvirt there labels guests by
    secrets: tuple[str, ...] | None = None  # UUIDs and usages of libvirt's secrets there; None: not looked at

    def guest(self, uuid: str) -> GuestOnHost | None:
        """The guest of that UUID in the list."""
        return next((guest for guest in self.guests if guest.uuid == uuid), None)


class Answer(StrEnum):
    """The answers of a check."""

    GOOD = "good"
    WARNING = "warning"  # good today
    MISSING = "missing"
    OPTIONAL = "optional"  # not there, and moves work without it, at a cost that the remedy names
    NOT_CHECKED = "not checked"


@dataclass(frozen=True)
class Check:
    """One line of `host check`: a thing looked at, with the answer and, where something is missing, the remedy."""

    host: str
    thing: str
    answer: Answer
    detail: str
    remedy: str = ""
