"""A plan: the steps of a move, the undo of each, and where the point of no return lies."""

from dataclasses import dataclass

from ferryman.model.request import Options


@dataclass(frozen=True)
class Step:
    """One step as the operator reads it."""

    name: str
    does: str
    undo: str  # what takes it back; empty: it changes nothing
    past_return: bool = False  # after the point of no return: only forward


@dataclass(frozen=True)
class Plan:
    """How the guest will be moved."""

    method: str  # live
    guest: str
    source: str
    destination: str
    steps: tuple[Step, ...]
    peer_uri: str
    migration_uri: str
    encrypted: bool
    persistent: bool
    autostart: bool


@dataclass(frozen=True)
class Order:
    """What the source's hypervisor is asked for."""

    peer_uri: str  # how the source's daemon reaches the destination's
    migration_uri: str  # where QEMU connects, such as tcp://b-migration: libvirt chooses the port
    persistent: bool
    options: Options  # encryption, rate, auto-converge
