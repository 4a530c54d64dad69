"""What of a stopped guest's machine must be another at the destination, and what shall be: emulator, machine type, CPU."""

from ferryman.model.guest import Guest
from ferryman.model.host import Machine
from ferryman.model.plan import Adaption
from ferryman.model.request import Options
from ferryman.model.site import Site


def adaption(site: Site, options: Options) -> Adaption:
    """Only what the destination does not have is changed by itself; the CPU only when it is asked for."""
    return adapted_to(site.machine, site.guest, cpu=options.cpu)


def adapted_to(machine: Machine, guest: Guest, *, cpu: str = "") -> Adaption:
    """What a guest that starts anew needs to be that machine."""
    return Adaption(
        emulator=machine.emulator if not machine.has_emulator and machine.emulator != guest.emulator else "",
        machine=machine.instead if not machine.available else "",
        cpu=cpu,
    )
