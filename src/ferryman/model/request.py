"""A request: what was asked for, by whom, with which options. Stored as plain values, so it can be carried on later."""

from dataclasses import dataclass, field
from enum import StrEnum

DEFAULT_TIMEOUT = 1800.0  # seconds
DEFAULT_STOP_TIMEOUT = 120.0  # seconds that a guest gets to shut down


class CopyStorage(StrEnum):
    """Which disks are copied to new volumes at the destination."""

    AUTO = "auto"  # those that are not the same storage at both hosts
    NEVER = "never"  # none: such a disk is a blocker
    ALL = "all"  # also those that both hosts share


class Chain(StrEnum):
    """What becomes of the layers below a disk that is copied by a cold move."""

    FLATTEN = "flatten"  # their content ends up in one image
    KEEP = "keep"  # each is copied as the file that it is


class Format(StrEnum):
    """What a disk that is copied by a cold move is at the destination."""

    SAME = "same"  # as at the source, where the pool there can hold that
    RAW = "raw"
    QCOW2 = "qcow2"


class Handshake(StrEnum):
    """Who leads the phases of a migration between the two libvirtds (begin, prepare, perform, finish, confirm)."""

    PEER = "peer"  # the source's libvirtd, which reaches the destination's: it outlives ferryman
    CARRIED = "carried"  # ferryman, over its own connections to both: it ends when ferryman does


class Kind(StrEnum):
    """What is asked for. The value is stored."""

    MOVE = "move"
    BACKUP = "backup"
    RESTORE = "restore"


@dataclass(frozen=True)
class Options:
    """What the operator chose. Rates are bytes per second, times are seconds; 0 means: no limit, or the default."""

    bandwidth: int = 0
    max_downtime: float = 0.0  # 0: the hypervisor's default (300 ms)
    timeout: float = DEFAULT_TIMEOUT
    insecure: bool = False  # allow memory to travel unencrypted
    replace_definition: bool = False  # an inactive definition of the same UUID at the destination is saved and replaced
    auto_converge: bool = True
    copy_storage: CopyStorage = CopyStorage.AUTO
    map_pool: dict[str, str] = field(
        default_factory=dict
    )  # pool (or directory) at the source -> pool at the destination
    map_network: dict[str, str] = field(default_factory=dict)  # bridge or network at the source -> at the destination
    eject: bool = False  # take removable media that the destination does not have out of their drives
    retire: bool = False  # once the guest runs at the destination, remove the source's copies of its disks
    handshake: Handshake | None = None  # None: peer where the source was seen to reach the destination, else carried
    probe: str = ""  # ADDRESS:PORT or ADDRESS that a client of the guest would use; empty: found by itself
    cold: bool = False  # stop the guest, copy its disks, start it at the destination
    warm: bool = False  # the same, but most of its disks is copied before it is stopped
    scratch: str = (
        ""  # directory at the source for what the guest overwrites while it is copied; empty: beside each image
    )
    stop_timeout: float = DEFAULT_STOP_TIMEOUT
    force_off: bool = False  # switch it off if it does not shut down within that time
    chain: Chain = Chain.FLATTEN
    format: Format = Format.SAME
    rollback_loses_writes: bool = (
        False  # go back to the disks that a cold move left at the destination, as they are there
    )
    cpu: str = ""  # the CPU that a guest which is moved cold gets: host-model, or a model's name; empty: its own
    via_ssh: bool = False  # the disks of a cold move go through ssh, by way of this machine
    verify: str = "full"  # how much of a copied disk is read back: see model/copy.py
    retry: int = 0  # so many more times, when it failed by what gets better by itself
    checks: tuple[
        str, ...
    ] = ()  # tcp:ADDRESS:PORT, http:URL or command:…, asked once the guest runs at the destination
    at: str = ""  # not before this moment, with its offset: 2026-12-05T22:00:00+01:00
    window: str = ""  # only within it: Sat,Sun 02:00-04:00 Europe/Berlin
    give_up_at: str = (
        ""  # a cold move whose copy is not done by then is put back: such a moment, or 03:45 Europe/Berlin
    )

    backup_to: str = ""  # a move: back it up there first
    full: bool = False  # a backup: one that stands upon no other
    name: str = ""  # a restore: a second guest of that name; empty: the same guest
    start: bool = False  # a restore: start it

    @property
    def stops(self) -> bool:
        """Whether the guest does not run while it gets to the other host."""
        return self.cold or self.warm

    @property
    def waits(self) -> bool:
        """Whether it does not begin at once."""
        return bool(self.at or self.window)


@dataclass(frozen=True)
class Wish:
    """A change of a limit that somebody asked for under way. None: that limit stays; a bandwidth of 0: no limit."""

    by: str
    at: float  # seconds since the epoch
    bandwidth: int | None = None  # bytes per second
    max_downtime: float | None = None  # seconds
    number: int = 0  # the row's
    applied: bool = False


@dataclass(frozen=True)
class Request:
    """One guest from one host to another; or to a folder, or from one: then that one's host is destination or source."""

    id: str
    guest_uuid: str
    guest: str  # its name when asked
    source: str
    destination: str
    options: Options = field(default_factory=Options)
    asked_by: str = ""
    asked_at: float = 0.0  # seconds since the epoch
    ferryman_version: str = ""
    retries: str = ""  # the request that failed and that this one tries again
    attempt: int = 1
    begin_at: float = 0.0  # seconds since the epoch; it waits until then
    kind: Kind = Kind.MOVE
    folder: str = ""  # a backup: the path where backups are kept; a restore: that of the backup
