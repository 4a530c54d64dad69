"""What of a stopped guest's machine must be another at the destination, and what shall be: emulator, machine type, CPU, watchdog."""

from ferryman.model.guest import Guest
from ferryman.model.host import Machine
from ferryman.model.plan import Adaption
from ferryman.model.request import Options
from ferryman.model.site import Site

# What libvirt writes by itself into the definition of every guest of a machine type, and since when it knows it. Where it
# does not, it refuses the definition for it. (Written by libvirt 11.3 for q35, refused by 9.0 as "unknown watchdog model".)
WATCHDOGS = {"itco": (9, 1)}


def adaption(site: Site, options: Options) -> Adaption:
    """Only what the destination does not have is changed by itself; the CPU only when it is asked for."""
    return adapted_to(site.machine, site.guest, site.destination.libvirt_version, cpu=options.cpu)


def adapted_to(machine: Machine, guest: Guest, libvirt: tuple[int, int, int], *, cpu: str = "") -> Adaption:
    """What a guest that starts anew needs to be that machine, at a host with that libvirt."""
    return Adaption(
        emulator=machine.emulator if not machine.has_emulator and machine.emulator != guest.emulator else "",
        machine=machine.instead if not machine.available else "",
        cpu=cpu,
        watchdog=next((one for one in guest.watchdogs if libvirt[:2] < WATCHDOGS.get(one, libvirt[:2])), ""),
    )
