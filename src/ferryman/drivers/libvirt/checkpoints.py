"""What libvirt knows of a guest's checkpoints: read with everything in it, and made known again with a definition that is put back.

Their bitmaps lie in the images and stay there when libvirt forgets them.
"""

import re

import libvirt

from ferryman.drivers.libvirt.errors import code
from ferryman.model.guest import Checkpoint

_NO_BITMAP = re.compile(r"bitmap '[^']*' not found", re.IGNORECASE)


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


def delete(domain: libvirt.virDomain, name: str) -> None:
    """With its bitmaps; of a guest that is off libvirt can forget it only, and its bitmaps stay in the images. Gone already: nothing happens.

    A QEMU that was killed never wrote the bitmap that it made: then there is none, and libvirt has to be told to forget the rest.
    """
    try:
        checkpoint = domain.checkpointLookupByName(name)
    except libvirt.libvirtError as error:
        if code(error) != libvirt.VIR_ERR_NO_DOMAIN_CHECKPOINT:
            raise
        return
    if domain.isActive():
        try:
            checkpoint.delete(0)
            return
        except libvirt.libvirtError as error:
            if not _NO_BITMAP.search(error.get_error_message() or ""):
                raise
    checkpoint.delete(libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)
