"""A CPU that fits several hosts, and what each of them would give up for it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cpu:
    """A CPU as libvirt describes it."""

    xml: str  # the <cpu> element
    model: str
    features: tuple[str, ...]  # everything it has, the model's own features too


@dataclass(frozen=True)
class HostLoss:
    """What a guest on one host would not see of its CPU."""

    host: str
    model: str  # what the host could give alone
    loses: tuple[str, ...]


@dataclass(frozen=True)
class CpuBaseline:
    """The CPU that fits all: libvirt's <cpu> element, to be put into a guest's definition."""

    xml: str
    model: str
    virtualization: str  # kvm or qemu
    losses: tuple[HostLoss, ...]
