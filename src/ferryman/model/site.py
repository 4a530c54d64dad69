"""The site: everything observed for one request, from which assess and plan decide without looking again."""

from dataclasses import dataclass, field
from enum import StrEnum

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

    peer_uri: str
    peer_reachable: bool | None  # the source itself opened the destination's control port
    peer_detail: str
    migration_address: str
    migration_reachable: bool | None  # the source itself reached the migration address
    migration_detail: str
    source_tls: bool | None  # QEMU's certificates are in place at the source
    destination_tls: bool | None
    tls_detail: str = ""


@dataclass(frozen=True)
class Ground:
    """What lies between the two hosts, looked at from both."""

    disks: tuple[DiskReach, ...]
    transport: TransportFacts
    bridges: tuple[str, ...] | None  # names of those the destination has; None: not looked at
    bridges_detail: str = ""  # why not
    volumes: dict[str, tuple[str, ...]] = field(default_factory=dict)  # names in each active pool of the destination


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
