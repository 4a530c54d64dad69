"""Would this host take that definition? libvirt is asked for the QEMU command line of it, and keeps nothing.

For that it reads and validates the definition with what its own QEMU can, as when a guest is defined and started. Bridges,
filters, addresses, images and labels it does not look at: assess does. (Tried with 9.0 and 11.3: 0.1 s, and nothing is left.)
"""

import libvirt

from ferryman.drivers.libvirt.errors import code
from ferryman.drivers.libvirt.refusals import translate_refusal

# Under these libvirt says that the definition itself is not to be had there. Others come of the asking alone, or of a volume
# that is still to be copied.
_OF_THE_DEFINITION = (
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
    libvirt.VIR_ERR_XML_ERROR,
    libvirt.VIR_ERR_XML_DETAIL,
    libvirt.VIR_ERR_XML_INVALID_SCHEMA,
    libvirt.VIR_ERR_NO_NETWORK,
    libvirt.VIR_ERR_NO_SECRET,
    libvirt.VIR_ERR_NO_STORAGE_POOL,
)


def try_definition(link: libvirt.virConnect, xml: str, what: str, uri: str) -> None:
    """Raises errors.DriverError with libvirt's reason against it."""
    try:
        link.domainXMLToNative("qemu-argv", xml)
    except libvirt.libvirtError as error:
        if code(error) in _OF_THE_DEFINITION:
            raise translate_refusal(error, what, uri) from error
