"""What libvirt knows of a guest's checkpoints: read with everything in it, and made known again with a definition that is put back.

Their bitmaps lie in the images and stay there when libvirt forgets them.
"""

import libvirt

from ferryman.model.guest import Checkpoint


def read(domain: libvirt.virDomain) -> tuple[Checkpoint, ...]:
    """All of them, each after the one it was made upon."""
    found = domain.listAllCheckpoints(libvirt.VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL)
    return tuple(Checkpoint(one.getName(), one.getXMLDesc(libvirt.VIR_DOMAIN_CHECKPOINT_XML_SECURE)) for one in found)


def make_known(domain: libvirt.virDomain, checkpoints: tuple[Checkpoint, ...]) -> None:
    """Tell libvirt of them. Those that it knows are left alone."""
    known = {one.getName() for one in domain.listAllCheckpoints()}
    for one in checkpoints:
        if one.name not in known:
            domain.checkpointCreateXML(one.xml, libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE)
