"""Preparing a machine: what was seen of it, what is wished for, and the changes that lead there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

TLS_PORT = 16514
RENEW_WITHIN = 30 * 86400.0  # seconds: a certificate that ends sooner is renewed, and `host check` warns of it


class Service(StrEnum):
    """Whose certificates. Each has an authority of its own: who takes QEMU's key must not be able to command libvirtd."""

    LIBVIRT = "libvirt"
    QEMU = "qemu"


class End(StrEnum):
    """Which end of a connection a certificate is shown at."""

    SERVER = "server"
    CLIENT = "client"


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    service: Service
    end: End
    certificate: str
    key: str


@dataclass(frozen=True)
class Places:
    """Where a machine keeps certificates."""

    authorities: Mapping[Service, str]
    pairs: tuple[Pair, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(path for service in self.authorities for path in self.of(service))

    def of(self, service: Service) -> tuple[str, ...]:
        """Those of one service."""
        pairs = [pair for pair in self.pairs if pair.service is service]
        return (self.authorities[service], *(path for pair in pairs for path in (pair.certificate, pair.key)))


_LIBVIRT_CLIENT = Pair(Service.LIBVIRT, End.CLIENT, "/etc/pki/libvirt/clientcert.pem", "/etc/pki/libvirt/private/clientkey.pem")  # fmt: skip
HOST_PLACES = Places(
    {Service.LIBVIRT: "/etc/pki/CA/cacert.pem", Service.QEMU: "/etc/pki/qemu/ca-cert.pem"},
    (
        Pair(Service.LIBVIRT, End.SERVER, "/etc/pki/libvirt/servercert.pem", "/etc/pki/libvirt/private/serverkey.pem"),
        _LIBVIRT_CLIENT,
        Pair(Service.QEMU, End.SERVER, "/etc/pki/qemu/server-cert.pem", "/etc/pki/qemu/server-key.pem"),
        Pair(Service.QEMU, End.CLIENT, "/etc/pki/qemu/client-cert.pem", "/etc/pki/qemu/client-key.pem"),
    ),
)


def controller_places(home: str) -> Places:
    """Where ferryman's own machine keeps its client certificate: root's place, or a user's (with a `home`)."""
    if not home:
        return Places({Service.LIBVIRT: HOST_PLACES.authorities[Service.LIBVIRT]}, (_LIBVIRT_CLIENT,))
    own = f"{home}/.pki/libvirt"
    return Places(
        {Service.LIBVIRT: f"{own}/cacert.pem"},
        (Pair(Service.LIBVIRT, End.CLIENT, f"{own}/clientcert.pem", f"{own}/clientkey.pem"),),
    )


@dataclass(frozen=True)
class Certificate:
    """What a certificate says, and whether the authority in force signed it."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    ends_at: float  # seconds since the epoch
    usages: frozenset[str]  # of "key encipherment", "digital signature", "server", "client"
    key_digest: str  # SHA-256 of the public key
    trusted: bool


@dataclass(frozen=True)
class File:
    """A file that was seen. Of a private key `text` is empty and `key_digest` tells its public half."""

    path: str
    mode: int
    owner: str
    group: str
    text: str = ""
    key_digest: str = ""


class Manager(StrEnum):
    """How libvirtd is started at a host."""

    SOCKETS = "sockets"  # systemd, by socket activation
    SERVICE = "service"  # systemd, without its sockets
    ARGUMENTS = "arguments"  # a daemon without systemd
    OTHER = "other"  # not known here


@dataclass(frozen=True)
class MachineState:
    """What was seen of a machine."""

    name: str
    is_root: bool
    hostname: str
    owner: str = "root:root"  # of what is put there; "-": whoever we are
    full_name: str = ""  # as `hostname -f` says
    generator: str = ""  # the program that can make keys; empty: none
    qemu_user: str = ""  # whom QEMU runs as, by the accounts that there are
    qemu_group: str = ""
    manager: Manager = Manager.OTHER
    manager_detail: str = ""
    arguments: str = ""  # libvirtd's command line
    listens: bool = False  # on the TLS port
    knows_shared_filesystems: bool = False
    special: frozenset[str] = frozenset()  # services with a directory /etc/pki/libvirt-… of their own
    absent: tuple[str, ...] = ()  # directories asked for that are not there
    files: Mapping[str, File] = field(default_factory=dict)
    certificates: Mapping[str, Certificate] = field(default_factory=dict)  # path -> what it says
    trusting: frozenset[Service] = frozenset()  # services whose authority file holds the authority in force
    guests: tuple[str, ...] = ()  # that run
    jobs: tuple[str, ...] = ()  # sentences: what must not be disturbed
    preparations: Mapping[str, str] = field(default_factory=dict)  # directory -> staged, begun, done, undone, reverted


@dataclass(frozen=True)
class Wish:
    """What a machine shall have. `authorities`: the names of those that sign."""

    now: float
    names: tuple[str, ...]
    authorities: Mapping[Service, str]
    migration_address: str = ""
    migration_address_given: bool = (
        True  # registered as such; False: derived, and no reason to change somebody's setting
    )
    shared_directories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """A file of this preparation is put there as a whole."""

    name: str
    path: str
    mode: str
    owner: str


@dataclass(frozen=True)
class Access:
    """Mode and owner are set."""

    path: str
    mode: str
    owner: str


@dataclass(frozen=True)
class Setting:
    """One setting of a configuration file, the rest as it was."""

    path: str
    key: str
    value: str
    separator: str = " = "


@dataclass(frozen=True)
class Listen:
    """systemd's TLS socket is enabled and started."""


@dataclass(frozen=True)
class Restart:
    """libvirtd is started anew, with more arguments where it is no service."""

    manager: Manager
    more: tuple[str, ...] = ()


Act = Place | Access | Setting | Listen | Restart


@dataclass(frozen=True)
class Change:
    """One change of a machine: what, why, its undo, and how it is done."""

    what: str
    why: str
    undo: str
    act: Act


@dataclass(frozen=True)
class Changes:
    """All that a machine needs; `new_keys` are the services that need a key and a certificate first."""

    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()
    new_keys: tuple[Service, ...] = ()


class Result(StrEnum):
    """How a preparation ended at a machine."""

    NOTHING = "nothing to change"
    PLANNED = "would be changed"
    DONE = "changed"
    BY_HAND = "to be prepared by hand"
    REVERTED = "put back as it was before"


@dataclass(frozen=True)
class Prepared:
    """What came of one machine. `kept_in`: the directory there that holds what was replaced."""

    machine: str
    result: Result
    changes: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()
    kept_in: str = ""
    guests: int = 0  # running ones whose QEMU is the same process as before
    by_hand: str = ""
