"""The mark of a move in a guest's own metadata: read, set, taken away, by libvirt's calls for metadata."""

import libvirt

from ferryman.drivers.libvirt import xml
from ferryman.drivers.libvirt.errors import code
from ferryman.model.mark import Mark


def read(domain: libvirt.virDomain) -> Mark | None:
    """What the running guest bears, or the definition of one that does not run."""
    try:
        return xml.read_mark(domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, xml.MARK_NAMESPACE))
    except libvirt.libvirtError as error:
        if code(error) == libvirt.VIR_ERR_NO_DOMAIN_METADATA:
            return None
        raise


def write(domain: libvirt.virDomain, mark: Mark | None) -> None:
    """Set it where `read` looks; None: take it away everywhere, for a marked guest may have been started since."""
    active, persistent = bool(domain.isActive()), bool(domain.isPersistent())
    flags = libvirt.VIR_DOMAIN_AFFECT_LIVE if active else 0
    if persistent and (mark is None or not active):
        flags |= libvirt.VIR_DOMAIN_AFFECT_CONFIG
    text = None if mark is None else xml.mark_text(mark)
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, text, xml.MARK_PREFIX, xml.MARK_NAMESPACE, flags)
