"""The CPU that fits several hosts, so that a guest made with it moves between all of them."""

from collections.abc import Sequence
from typing import TypeVar

from ferryman.app.site import Site
from ferryman.errors import BadInput, DriverError
from ferryman.model.cpu import CpuBaseline
from ferryman.model.host import Host

T = TypeVar("T")


def cpu_baseline(site: Site, names: Sequence[str]) -> CpuBaseline:
    """For those hosts (all, when none is named). Raises the first host's error: a baseline over fewer would be wrong."""
    from ferryman.assess.cpu import losses

    hosts = [site.host(name).name for name in names] or [host.name for host in site.hosts()]
    if not hosts:
        raise BadInput("cpu baseline", "no host is registered", "ferryman host add NAME URI")
    able = _answers(site.each(lambda hypervisor: hypervisor.virtualizations(), hosts))
    virtualization = next((one for one in ("kvm", "qemu") if all(one in can for can in able.values())), "")
    if not virtualization:
        told = "; ".join(f"{name} can {', '.join(can) or 'nothing'}" for name, can in able.items())
        raise BadInput("cpu baseline", f"the hosts have no kind of virtualization in common: {told}", "name hosts of one kind: ferryman cpu baseline HOST HOST")  # fmt: skip
    offers = {}
    for name, offer in _answers(site.each(lambda hypervisor: hypervisor.cpu_offer(virtualization), hosts)).items():
        if offer is None:
            raise BadInput(
                f"CPU of {name}",
                f"its emulator names no host model for {virtualization}",
                "leave it out: ferryman cpu baseline with the other hosts' names",
            )
        offers[name] = offer
    common = site.hypervisor(hosts[0]).cpu_baseline(virtualization, [offer.xml for offer in offers.values()])
    return CpuBaseline(common.xml, common.model, virtualization, losses(offers, common))


def _answers(asked: Sequence[tuple[Host, T | DriverError]]) -> dict[str, T]:
    answers = {}
    for host, answer in asked:
        if isinstance(answer, DriverError):
            raise answer
        answers[host.name] = answer
    return answers
