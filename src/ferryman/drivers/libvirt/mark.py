"""What ferryman keeps in a guest's own metadata, by libvirt's calls for them: the mark of a move, and the token of a run."""

import libvirt

from ferryman.drivers.libvirt import xml
from ferryman.drivers.libvirt.errors import code
from ferryman.model.mark import Mark


def read(domain: libvirt.virDomain) -> Mark | None:
    """What the running guest bears, or the definition of one that does not run."""
    text = _metadata(domain, xml.MARK_NAMESPACE, 0)
    return xml.read_mark(text) if text else None


def write(domain: libvirt.virDomain, mark: Mark | None) -> None:
    """Set it where `read` looks; None: take it away everywhere, for a marked guest may have been started since."""
    active, persistent = bool(domain.isActive()), bool(domain.isPersistent())
    flags = libvirt.VIR_DOMAIN_AFFECT_LIVE if active else 0
    if persistent and (mark is None or not active):
        flags |= libvirt.VIR_DOMAIN_AFFECT_CONFIG
    text = None if mark is None else xml.mark_text(mark)
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, text, xml.MARK_PREFIX, xml.MARK_NAMESPACE, flags)


def run(domain: libvirt.virDomain) -> str:
    """The token of this run of the guest. It is in the live metadata alone; one that its definition bears too tells nothing of a run."""
    if not domain.isActive() or (
        domain.isPersistent() and _metadata(domain, xml.RUN_NAMESPACE, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    ):
        return ""
    text = _metadata(domain, xml.RUN_NAMESPACE, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    return xml.read_run(text) if text else ""


def name_run(domain: libvirt.virDomain, token: str) -> None:
    """Give this run of the guest its token, which ends with its QEMU. Put to sleep (managedsave) it goes into the saved file, and is there again
    in the QEMU that wakes it: so do the bitmaps, which QEMU stores in the image before it ends, and nobody may write to that meanwhile."""
    domain.setMetadata(
        libvirt.VIR_DOMAIN_METADATA_ELEMENT,
        xml.run_text(token),
        xml.MARK_PREFIX,
        xml.RUN_NAMESPACE,
        libvirt.VIR_DOMAIN_AFFECT_LIVE,
    )


def _metadata(domain: libvirt.virDomain, namespace: str, flags: int) -> str:
    """The element; empty when there is none."""
    try:
        return str(domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, namespace, flags))
    except libvirt.libvirtError as error:
        if code(error) == libvirt.VIR_ERR_NO_DOMAIN_METADATA:
            return ""
        raise
