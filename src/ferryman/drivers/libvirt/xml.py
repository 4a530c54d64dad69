"""Pure: libvirt's XML in, facts out. Elements we do not know are left alone."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from ferryman.model.guest import Disk, HostDevice, Interface, Unlike
from ferryman.model.mark import Mark

_SIZE = {"b": 1, "bytes": 1, "kb": 1000, "k": 1024, "kib": 1024, "mb": 1000**2, "m": 1024**2, "mib": 1024**2,
         "gb": 1000**3, "g": 1024**3, "gib": 1024**3, "tib": 1024**4, "t": 1024**4}  # fmt: skip


@dataclass(frozen=True)
class Definition:
    """What a domain's XML says. Sizes are bytes."""

    name: str
    uuid: str
    title: str
    virtualization: str
    architecture: str
    machine: str
    emulator: str
    vcpus: int
    memory: int
    cpu_mode: str
    cpu_xml: str
    disks: tuple[Disk, ...]
    interfaces: tuple[Interface, ...]
    host_devices: tuple[HostDevice, ...]
    hugepage_size: int
    nvram: str
    nvram_store: str
    tpm: str
    loader: str
    boot_files: tuple[str, ...]
    state_files: tuple[str, ...]
    pinned_cpus: tuple[int, ...]
    numa_nodes: tuple[int, ...]
    listens: tuple[str, ...]
    listen_networks: tuple[str, ...]
    watchdogs: tuple[str, ...]
    security_models: tuple[str, ...]
    secrets: tuple[str, ...]
    mark: Mark | None


def size(element: Element | None, default_unit: str = "KiB") -> int:
    """Bytes of an element such as <memory unit='MiB'>512</memory>; 0 when there is none."""
    if element is None or not (element.text or "").strip():
        return 0
    return int(float(element.text or 0) * _SIZE[element.get("unit", default_unit).lower()])


def definition(xml: str) -> Definition:
    """Read a domain's XML."""
    root = ElementTree.fromstring(xml)
    os_type, cpu, page = root.find("os/type"), root.find("cpu"), root.find("memoryBacking/hugepages/page")
    tpm = root.find("devices/tpm/backend")
    huge = root.find("memoryBacking/hugepages") is not None
    return Definition(
        name=_text(root, "name"),
        uuid=_text(root, "uuid"),
        title=_text(root, "title"),
        virtualization=root.get("type", ""),
        architecture="" if os_type is None else os_type.get("arch", ""),
        machine="" if os_type is None else os_type.get("machine", ""),
        emulator=_text(root, "devices/emulator"),
        vcpus=int(_text(root, "vcpu") or 1),
        memory=size(root.find("memory")),
        cpu_mode="" if cpu is None else cpu.get("mode", "custom" if cpu.find("model") is not None else ""),
        cpu_xml="" if cpu is None else ElementTree.tostring(cpu, encoding="unicode").strip(),
        disks=tuple(_disk(element) for element in root.findall("devices/disk")),
        interfaces=tuple(_interface(element) for element in root.findall("devices/interface")),
        host_devices=_host_devices(root),
        hugepage_size=(size(_with_text(page)) or 1) if huge else 0,
        nvram=_text(root, "os/nvram") or _file_of(root.find("os/nvram/source")),
        nvram_store="" if _file_of(root.find("os/nvram/source")) else source_of(root.find("os/nvram/source")),
        tpm="" if tpm is None else tpm.get("type", ""),
        loader=_text(root, "os/loader"),
        boot_files=tuple(path for name in ("kernel", "initrd", "dtb") if (path := _text(root, f"os/{name}"))),
        state_files=_state_files(root),
        pinned_cpus=_pinned_cpus(root),
        numa_nodes=_numbers(element.get("nodeset", "") for element in root.findall("numatune/*")),
        listens=_listens(root),
        listen_networks=_named_in(root.findall("devices/graphics/listen"), "network"),
        watchdogs=_named_in((one for one in root.findall("devices/watchdog") if one.get("action") == "reset"), "model"),
        security_models=_security_models(root),
        secrets=_secrets(root),
        mark=mark_in(root.find(f"metadata/{{{MARK_NAMESPACE}}}mark")),
    )


def unlike(running: Definition, defined: Definition) -> tuple[Unlike, ...]:
    """The devices that a running guest and its definition do not have alike.

    Interfaces by their MAC alone: on a libvirt network they are written in another way while they run. Host devices by how
    many there are of a kind: a running guest names them by other addresses.
    """
    now, then = ({disk.target: disk for disk in one.disks} for one in (running, defined))
    disks = [
        Unlike("medium" if disk.device in ("cdrom", "floppy") else "disk", target, *sources)
        for target, disk in {**then, **now}.items()
        if (sources := tuple(one[target].source if target in one else "" for one in (now, then)))[0] != sources[1]
    ]
    here, there = (
        {one.mac: f"{one.kind} {one.source}".strip() for one in each.interfaces} for each in (running, defined)
    )
    interfaces = [Unlike("interface", mac, here.get(mac, ""), there.get(mac, "")) for mac in sorted(here.keys() ^ there.keys())]  # fmt: skip
    devices = _surplus(running, defined) + [
        replace(one, live="", defined=one.live) for one in _surplus(defined, running)
    ]
    return (*disks, *interfaces, *devices)


def _surplus(definition: Definition, other: Definition) -> list[Unlike]:
    """The host devices of those kinds of which the other has fewer; what is an interface too is told of as one."""
    macs = {one.mac for each in (definition, other) for one in each.interfaces}
    ours, theirs = ([one for one in each.host_devices if one.name not in macs] for each in (definition, other))
    more = Counter(one.kind for one in ours) - Counter(one.kind for one in theirs)
    return [Unlike(one.kind, one.name, one.name, "") for one in ours if more[one.kind] and one not in theirs]


MARK_NAMESPACE, MARK_PREFIX = "urn:ferryman:mark", "ferryman"
RUN_NAMESPACE = "urn:ferryman:run"


def mark_in(element: Element | None) -> Mark | None:
    """The mark of a move under way in a guest's metadata; None for none, or for one that is not ours to read."""
    if element is None:
        return None
    try:
        return Mark(element.get("request", ""), element.get("by", ""), float(element.get("since", "")), float(element.get("until", "")))  # fmt: skip
    except ValueError:
        return None


def mark_text(mark: Mark) -> str:
    """The element as libvirt's setMetadata wants it: it adds the namespace itself."""
    values = {"request": mark.request, "by": mark.by, "since": f"{mark.since:.0f}", "until": f"{mark.until:.0f}"}
    return ElementTree.tostring(Element("mark", values), encoding="unicode")


def read_mark(text: str) -> Mark | None:
    """The mark as libvirt's metadata() hands it out."""
    return mark_in(ElementTree.fromstring(text))


def run_text(token: str) -> str:
    """The element that names a run, as setMetadata wants it."""
    return ElementTree.tostring(Element("run", {"token": token}), encoding="unicode")


def read_run(text: str) -> str:
    """The token in it, as libvirt's metadata() hands it out."""
    return ElementTree.fromstring(text).get("token", "")


def number_set(text: str) -> set[int]:
    """The numbers in libvirt's "0-3,^2,7"."""
    chosen: set[int] = set()
    without: set[int] = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        first, _, last = part.lstrip("^").partition("-")
        (without if part.startswith("^") else chosen).update(range(int(first), int(last or first) + 1))
    return chosen - without


def _numbers(texts: Iterable[str]) -> tuple[int, ...]:
    return tuple(sorted(set().union(*map(number_set, texts))))


def _pinned_cpus(root: Element) -> tuple[int, ...]:
    pins = [
        *root.findall("cputune/vcpupin"),
        *root.findall("cputune/emulatorpin"),
        *root.findall("cputune/iothreadpin"),
    ]
    return _numbers(element.get("cpuset", "") for element in [*root.findall("vcpu"), *pins])


def _text(root: Element, path: str) -> str:
    return (root.findtext(path) or "").strip()


def _file_of(source: Element | None) -> str:
    return "" if source is None else source.get("file", "")


def _with_text(page: Element | None) -> Element | None:
    """<page size='2048' unit='KiB'/> as an element whose text is its size."""
    if page is None:
        return None
    element = Element("size", {"unit": page.get("unit", "KiB")})
    element.text = page.get("size", "0")
    return element


def source_of(element: Element | None) -> str:
    """The name of a disk's source: a path, a device, pool/volume, or protocol:name@hosts."""
    if element is None:
        return ""
    if element.get("volume"):
        return f"{element.get('pool')}/{element.get('volume')}"
    if element.get("protocol"):
        hosts = ",".join(
            f"{host.get('name', '')}:{host.get('port', '')}".rstrip(":") for host in element.findall("host")
        )
        return f"{element.get('protocol')}:{element.get('name', '')}" + (f"@{hosts}" if hosts else "")
    for name in ("file", "dev", "dir", "path", "name"):
        if element.get(name):
            return element.get(name, "")
    return ""


def _disk(element: Element) -> Disk:
    driver, target = element.find("driver"), element.find("target")
    source = element.find("source")
    backing, layer = [], element.find("backingStore")
    while layer is not None and layer.find("source") is not None:
        backing.append(source_of(layer.find("source")))
        layer = layer.find("backingStore")
    return Disk(
        target="" if target is None else target.get("dev", ""),
        device=element.get("device", "disk"),
        kind=element.get("type", ""),
        source=source_of(source),
        format="raw" if driver is None else driver.get("type", "raw"),
        cache="" if driver is None else driver.get("cache", ""),
        read_only=element.find("readonly") is not None,
        shareable=element.find("shareable") is not None,
        backing=tuple(backing),
        pool="" if source is None else source.get("pool", ""),
        bus="" if target is None else target.get("bus", ""),
        sliced=element.find(".//slices") is not None,
        encrypted=element.find("encryption") is not None or element.find("source/encryption") is not None,
    )


def _interface(element: Element) -> Interface:
    kind = element.get("type", "")
    source, mac, model, link, guard = (element.find(name) for name in ("source", "mac", "model", "link", "filterref"))
    named = (
        ""
        if source is None
        else source.get(kind) or source.get("dev") or source.get("bridge") or source.get("path") or ""
    )
    return Interface(
        mac="" if mac is None else mac.get("address", "").lower(),
        kind=kind,
        source=named,
        model="" if model is None else model.get("type", ""),
        link_up=link is None or link.get("state") != "down",
        device=named if kind in ("bridge", "direct") else ("" if source is None else source.get("bridge", "")),
        portgroup="" if source is None else source.get("portgroup", ""),
        filter="" if guard is None else guard.get("filter", ""),
    )


_DEVICE_INTERFACES = {"vhostuser": "vhost-user", "vdpa": "vdpa", "hostdev": "pci"}


def _name_of(source: Element | None) -> str:
    """A host device's address, its UUID, or vendor:product of a USB device that is named by them."""
    if source is None:
        return "unnamed"
    if (address := source.find("address")) is not None:
        return address.get("uuid") or ":".join(value for key, value in address.attrib.items() if key != "type")
    ids = [element.get("id", "") for element in source if element.tag in ("vendor", "product")]
    return ":".join(ids) or "unnamed"


def _host_devices(root: Element) -> tuple[HostDevice, ...]:
    found = [
        HostDevice(element.get("type", "") or element.get("mode", ""), _name_of(element.find("source")))
        for element in root.findall("devices/hostdev")
    ]
    for element in root.findall("devices/filesystem"):
        driver, source = element.find("driver"), element.find("source")
        kind = "virtiofs" if driver is not None and driver.get("type") == "virtiofs" else "9p"
        found.append(HostDevice(kind, source_of(source)))
    found += [
        HostDevice(_DEVICE_INTERFACES[element.get("type", "")], _interface(element).mac)
        for element in root.findall("devices/interface")
        if element.get("type") in _DEVICE_INTERFACES
    ]
    found += [HostDevice("shmem", element.get("name", "")) for element in root.findall("devices/shmem")]
    return tuple(found)


def _listens(root: Element) -> tuple[str, ...]:
    """Addresses of the host that graphics and serial lines are bound to. On a libvirt network it is that one's address."""
    graphics = root.findall("devices/graphics")
    bare = [one for one in graphics if one.find("listen") is None]
    own = [one for one in root.findall("devices/graphics/listen") if one.get("type") == "address"]
    bound = [one for one in root.findall("devices/*/source") if one.get("mode") == "bind" and one.get("service")]
    found = {*_named_in(bare, "listen"), *_named_in(own, "address"), *_named_in(bound, "host")}
    return tuple(sorted(found))


def _named_in(elements: Iterable[Element], attribute: str) -> tuple[str, ...]:
    return tuple(sorted({one.get(attribute, "") for one in elements} - {""}))


def _security_models(root: Element) -> tuple[str, ...]:
    """Those that the definition names by itself: a label beside "dynamic" is one that libvirt gave at the start."""
    labels = [one for one in root.iter("seclabel") if one.get("type") != "dynamic" or one.find("label") is None]
    return tuple(model for model in _named_in(labels, "model") if model != "none")


def _secrets(root: Element) -> tuple[str, ...]:
    """Those that open disks and storage, and those that a TPM's state is encrypted with."""
    named = {one.get("uuid") or one.get("usage") or "" for one in root.iter("secret")}
    return tuple(sorted({*named, *(one.get("secret", "") for one in root.iter("encryption"))} - {""}))


def _state_files(root: Element) -> tuple[str, ...]:
    """Non-volatile memory that is a file of the host, and the state of a TPM that is not where libvirt keeps it by itself."""
    memories = [_text(one, "source/path") for one in root.findall("devices/memory")]
    chip = root.find("devices/tpm/backend/source")
    own = "" if chip is None else chip.get("path", "")
    return tuple(path for path in (*memories, own) if path)


def pool_path(xml: str) -> tuple[str, str]:
    """(type, target path) of a storage pool."""
    root = ElementTree.fromstring(xml)
    return root.get("type", ""), _text(root, "target/path")


def backing_of(xml: str) -> str:
    """The path of the image that a storage volume is an overlay upon; empty when it is none."""
    return _text(ElementTree.fromstring(xml), "backingStore/path")


def network_bridge(xml: str) -> tuple[str, str]:
    """(bridge, forward mode) of a libvirt network; one that forwards nothing is "isolated"."""
    root = ElementTree.fromstring(xml)
    bridge, forward = root.find("bridge"), root.find("forward")
    return "" if bridge is None else bridge.get("name", ""), "isolated" if forward is None else forward.get(
        "mode", "nat"
    )


def portgroups(xml: str) -> tuple[str, ...]:
    """The names of a libvirt network's groups of ports."""
    return _named_in(ElementTree.fromstring(xml).findall("portgroup"), "name")


def interface_kind(xml: str) -> str:
    """What kind of thing a host's network interface is: bridge, ethernet, bond, …"""
    return ElementTree.fromstring(xml).get("type", "")


def block_device_wwns(xml: str) -> tuple[str, str]:
    """(device path, WWN) of a node device that is a disk; WWN empty when it has none."""
    root = ElementTree.fromstring(xml)
    wwn = root.findtext(".//wwn") or root.findtext(".//serial") or ""
    return root.findtext(".//capability/block") or "", wwn.strip()
