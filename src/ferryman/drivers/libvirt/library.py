"""Which libvirt this machine has: the library and the binding of Python. Importing it fails where the library is missing."""

import importlib.metadata

import libvirt

from ferryman.drivers.libvirt.inventory import version


def versions() -> str:
    """Both versions in words."""
    library = ".".join(map(str, version(libvirt.getVersion())))
    return f"library {library}, binding {importlib.metadata.version('libvirt-python')}"
