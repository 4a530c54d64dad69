"""Pure: a guest's definition as it must be at the destination. What is not named in the changes travels as it is."""

from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from ferryman.drivers.libvirt import verbatim
from ferryman.model.plan import Adaption, Changes, Identity, Volume


def adapted(xml: str, changes: Changes) -> str:
    """The definition with its copied disks on their new volumes and its interfaces on the networks of the new names, their links down if wanted."""
    if changes == Changes():
        return xml
    document = verbatim.read(xml)
    adapt(document.root, changes)
    return verbatim.write(document)


def adapt(root: Element, changes: Changes) -> None:
    """The same, of a definition that was read, such as one inside of something else."""
    _adapt_machine(root, changes.adaption)
    if changes.identity is not None:
        _become(root, changes.identity)
    volumes = {volume.target: volume for volume in changes.volumes}
    for disk in root.findall("devices/disk"):
        target = disk.find("target")
        if target is not None and target.get("dev") in volumes:
            _move_disk(disk, volumes[target.get("dev", "")])
        if target is not None and target.get("dev") in changes.ejected:
            _take_out(root, disk)
    for interface in root.findall("devices/interface"):
        _rename(interface, changes.networks)
        if changes.links_down:
            _take_link_down(interface)


def _adapt_machine(root: Element, adaption: Adaption) -> None:
    """The machine itself, where it is a guest that starts anew."""
    emulator, kind = root.find("devices/emulator"), root.find("os/type")
    if adaption.emulator and emulator is not None:
        emulator.text = adaption.emulator
    if adaption.machine and kind is not None:
        kind.set("machine", adaption.machine)
    if adaption.cpu:
        _set_cpu(root, adaption.cpu)
    devices = root.find("devices")
    if adaption.watchdog and devices is not None:
        for one in devices.findall(f"watchdog[@model='{adaption.watchdog}'][@action='reset']"):
            devices.remove(one)


def _become(root: Element, identity: Identity) -> None:
    """Another guest: whoever tells guests apart by name, UUID, MAC or what their firmware says shall see two."""
    for tag, text in (("name", identity.name), ("uuid", identity.uuid)):
        if (one := root.find(tag)) is None:
            one = ElementTree.SubElement(root, tag)
        one.text = text
    for entry in root.findall("sysinfo/system/entry"):
        if entry.get("name") == "uuid":  # libvirt wants it to be the guest's own
            entry.text = identity.uuid
    generation = root.find("genid")
    if generation is not None:  # without a text libvirt makes a new one
        generation.text = None
    store = root.find("os/nvram")
    if identity.nvram and store is not None:
        source = store.find("source")
        if source is not None:
            source.set("file", identity.nvram)
        else:
            store.text = identity.nvram
    for interface, mac in zip(root.findall("devices/interface"), identity.macs, strict=False):
        element = interface.find("mac")
        if element is None:
            element = ElementTree.SubElement(interface, "mac")
        element.set("address", mac)


def _set_cpu(root: Element, wanted: str) -> None:
    """Topology, NUMA cells and cache stay: they say how many CPUs there are, not which."""
    cpu = root.find("cpu")
    if cpu is None:
        cpu = ElementTree.SubElement(root, "cpu")
    for child in [child for child in cpu if child.tag in ("model", "vendor", "feature", "maxphysaddr")]:
        cpu.remove(child)
    cpu.attrib.clear()
    if wanted == "host-model":
        cpu.attrib.update({"mode": "host-model", "check": "partial"})
        return
    cpu.attrib.update({"mode": "custom", "match": "exact", "check": "partial"})
    model = Element("model", {"fallback": "forbid"})
    model.text = wanted
    cpu.insert(0, model)


def _move_disk(disk: Element, volume: Volume) -> None:
    """The new volume as the source; layers below it stay behind, since their content is in it."""
    source = disk.find("source")
    if source is None:
        return
    kept = {name: source.get(name, "") for name in ("startupPolicy",) if source.get(name)}
    children = [child for child in source if child.tag in ("encryption", "seclabel")]
    source.clear()
    if disk.get("type") == "volume":
        source.attrib.update({"pool": volume.pool, "volume": volume.name, **kept})
    else:
        kind = "block" if volume.path.startswith("/dev/") else "file"
        disk.set("type", kind)
        source.attrib.update({"dev" if kind == "block" else "file": volume.path, **kept})
    source.extend(children)
    if volume.format:
        _set_format(disk, volume.format)
    for layer in disk.findall("backingStore"):
        disk.remove(layer)


def _set_format(disk: Element, kind: str) -> None:
    driver = disk.find("driver")
    if driver is None:  # raw, says QEMU of a disk that names nothing
        driver = ElementTree.SubElement(disk, "driver", {"name": "qemu"})
    driver.set("type", kind)


def _take_out(root: Element, disk: Element) -> None:
    """A drive's medium; of a disk, which is nothing without its image, the disk itself."""
    devices = root.find("devices")
    if disk.get("device", "disk") in ("cdrom", "floppy") or devices is None:
        _empty(disk)
    else:
        devices.remove(disk)


def _empty(drive: Element) -> None:
    for medium in [child for child in drive if child.tag in ("source", "backingStore")]:
        drive.remove(medium)
    drive.set("type", "file")  # of an empty drive; a volume without a pool is none


def _take_link_down(interface: Element) -> None:
    link = interface.find("link")
    if link is None:
        link = ElementTree.SubElement(interface, "link")
    link.set("state", "down")


def _rename(interface: Element, networks: dict[str, str]) -> None:
    source = interface.find("source")
    name = interface.get("type", "")
    if source is not None and name in ("bridge", "network") and source.get(name) in networks:
        source.set(name, networks[source.get(name, "")])
        for stale in ("bridge", "portid"):  # what libvirt adds to a live definition about the old network
            if name == "network" and stale in source.attrib:
                del source.attrib[stale]
