"""The site: everything observed for one request, from which assess and plan decide without looking again."""

from dataclasses import dataclass, field
from enum import StrEnum

from ferryman.model.copy import Rate
from ferryman.model.guest import Guest
from ferryman.model.host import HostFacts, Machine


class Reach(StrEnum):
    """Whether a disk's storage at the source is the same storage at the destination."""

    SAME = "same"  # proved: a marker made at one end was seen at the other, or one WWN at both
    NETWORK = "network"  # network storage named by the same address: the same as far as the name says
    DIFFERENT = "different"  # proved: the marker was not seen
    UNPROVED = "unproved"  # could not be tried


@dataclass(frozen=True)
class DiskReach:
    """How one disk of the guest is reached at the destination."""

    target: str
    reach: Reach
    how: str  # what was tried and seen
    declared_shared: bool | None = None  # libvirt takes it as shared where it can be told so; None: not looked at
    declarable: bool | None = None  # libvirt at the source can be told so; None: not looked at
    layers: tuple["DiskReach", ...] = ()  # of its backing chain, `target` being the layer's path


class CpuMatch(StrEnum):
    """libvirt's own comparison of the guest's CPU with what the destination's emulator can give."""

    IDENTICAL = "identical"
    SUPERSET = "superset"  # the destination can give more
    INCOMPATIBLE = "incompatible"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class CpuComparison:
    """The comparison, with the exact features that the destination lacks."""

    match: CpuMatch
    missing: tuple[str, ...] = ()
    detail: str = ""


@dataclass(frozen=True)
class TransportFacts:
    """The ways between the two hosts, each tried from where it is used. None: not looked at (`detail` says why)."""

    peer_uri: str  # empty: the destination has none that another host could use
    peer_reachable: bool | None  # the source itself opened the destination's control port
    peer_detail: str
    migration_address: str  # empty: none is known
    migration_reachable: bool | None  # the source itself reached the migration address
    migration_detail: str
    source_tls: bool | None  # QEMU's certificates are in place at the source
    destination_tls: bool | None
    tls_detail: str = ""


@dataclass(frozen=True)
class Segment:
    """Where at the destination the frames were heard that the source sent out of one of its devices."""

    device: str  # at the source
    heard: tuple[str, ...] | None  # devices at the destination; None: not looked at (`detail` says why)
    detail: str = ""


@dataclass(frozen=True)
class LinkSpeed:
    """A measured speed, bytes per second; None: could not be measured (`detail` says why)."""

    rate: float | None
    detail: str = ""


@dataclass(frozen=True)
class Clocks:
    """How far the destination's clock is ahead of the source's, in seconds, and how well that is known."""

    skew: float
    uncertainty: float


@dataclass(frozen=True)
class EndTools:
    """What a host has of what copying and holding disks needs there: a way in by ssh, and packages."""

    lacks: tuple[str, ...] = ()  # Debian's names of packages
    unreached: str = ""  # why it could not be visited by ssh; empty: it was


@dataclass(frozen=True)
class Ground:
    """What lies between the two hosts, looked at from both."""

    disks: tuple[DiskReach, ...]
    transport: TransportFacts
    bridges: tuple[str, ...] | None  # names of those the destination has; None: not looked at
    bridges_detail: str = ""  # why not
    volumes: dict[str, tuple[str, ...]] = field(default_factory=dict)  # names in each active pool of the destination
    room: dict[str, int] = field(default_factory=dict)  # bytes free in them, where they were looked at anew
    segments: tuple[Segment, ...] = ()
    lock_managers: tuple[str, str] | None = (
        None  # libvirt's setting at source and destination, "" for none; None: not looked at
    )
    clocks: Clocks | None = None
    lacking: tuple[str, ...] | None = (
        None  # of the files the guest needs, those the destination lacks; None: not looked at
    )
    addresses: tuple[str, ...] | None = None  # IP addresses of the destination; None: not looked at
    link: LinkSpeed | None = None  # None: nobody asked for it
    copy_packages: tuple[EndTools, EndTools] | None = (
        None  # what copies need, at source and destination; None: not asked
    )
    nvram: DiskReach | None = None  # the directory of the guest's variable store; None: it has none


@dataclass(frozen=True)
class KeptMove:
    """The cold move that brought the guest where it is, and what it left where it came from."""

    request: str
    since: float  # seconds since the epoch: what was written from then on is not in those disks
    lacking: tuple[str, ...]  # of the images that it left, those that are gone


@dataclass(frozen=True)
class Site:
    """One guest, the host it is on, the host it may go to, and what is between them."""

    guest: Guest
    source: HostFacts
    destination: HostFacts
    machine: Machine
    cpu: CpuComparison
    ground: Ground
    observed_at: float  # seconds since the epoch
    kept: KeptMove | None = None  # None: there is none, or nobody asked
    scratch: dict[str, int | None] = field(
        default_factory=dict
    )  # bytes free in directories of the source, where a warm move needs them; None: there is no such directory
    scratch_beside: dict[str, int] = field(
        default_factory=dict
    )  # of these, bytes of other guests' disks that are copied ahead now
    read_again: Rate | None = (
        None  # how fast disks were looked through between these hosts; None: nobody knows, or asked
    )
    mark_is_over: bool = False  # our own records know the request of the guest's mark, and that it has ended
