"""A guest defined where there is none of its UUID: libvirt by itself replaces a definition of the same name and UUID, whoever made it.

It refuses where the name is another. So the guest is defined under a name that nobody else gives, marked, and then given its own.
"""

import libvirt

from ferryman.drivers.libvirt import mark, verbatim
from ferryman.drivers.libvirt.errors import code
from ferryman.model.mark import Mark


def define(link: libvirt.virConnect, xml: str, wanted: Mark) -> None:
    """Run again after a crash it goes on; one that has its name, or another by now, stays as it is. Raises libvirtError where the UUID or the name is somebody else's."""
    document = verbatim.read(xml)
    element, uuid = document.root.find("name"), document.root.findtext("uuid", "")
    assert element is not None, "a definition without a name is none"
    name = element.text or ""
    first = _first_name(wanted.request)
    if is_ours(link, uuid, wanted.request) and link.lookupByUUIDString(uuid).name() != first:
        return
    element.text = first
    domain = link.defineXML(verbatim.write(document))
    mark.write(domain, wanted)
    domain.rename(name)


def is_ours(link: libvirt.virConnect, uuid: str, request: str) -> bool:
    """Whether the guest of that UUID was defined here for that request."""
    try:
        domain = link.lookupByUUIDString(uuid)
    except libvirt.libvirtError as error:
        if code(error) == libvirt.VIR_ERR_NO_DOMAIN:
            return False
        raise
    found = mark.read(domain)
    return domain.name() == _first_name(request) or (found is not None and found.request == request)


def _first_name(request: str) -> str:
    return f"ferryman-restore-{request}"
