"""Pure: what a host and its emulator can, read from libvirt's capabilities XML."""

from dataclasses import dataclass
from xml.etree import ElementTree


@dataclass(frozen=True)
class HostCapabilities:
    """Of the host itself."""

    uuid: str
    cpu_ids: tuple[int, ...]
    numa_nodes: tuple[int, ...]
    security_models: tuple[str, ...]


def host_capabilities(xml: str) -> HostCapabilities:
    """Read virConnectGetCapabilities."""
    root = ElementTree.fromstring(xml)
    cells = root.findall("host/topology/cells/cell")
    return HostCapabilities(
        uuid=(root.findtext("host/uuid") or "").strip(),
        cpu_ids=tuple(sorted({int(cpu.get("id", "0")) for cell in cells for cpu in cell.findall("cpus/cpu")})),
        numa_nodes=tuple(sorted({int(cell.get("id", "0")) for cell in cells})),
        security_models=tuple(model.text or "" for model in root.findall("host/secmodel/model")),
    )


@dataclass(frozen=True)
class EmulatorCapabilities:
    """Of an emulator as one machine type. `tpm_backends` None: this libvirt does not say."""

    emulator: str
    max_vcpus: int
    loaders: tuple[str, ...]
    tpm_backends: tuple[str, ...] | None
    host_model: str  # the <cpu> element of its host model; empty when it has none
    model: str  # the name in it


def emulator_capabilities(xml: str) -> EmulatorCapabilities:
    """Read virConnectGetDomainCapabilities."""
    root = ElementTree.fromstring(xml)
    vcpu, tpm = root.find("vcpu"), root.find("devices/tpm")
    backends = None
    if tpm is not None:
        values = tpm.findall("enum[@name='backendModel']/value")
        backends = tuple(value.text or "" for value in values) if tpm.get("supported") == "yes" else ()
    mode = root.find("cpu/mode[@name='host-model']")
    element, model = "", ""
    if mode is not None and mode.get("supported") == "yes" and mode.find("model") is not None:
        cpu = ElementTree.Element("cpu", {"mode": "custom", "match": "exact"})
        cpu.extend(list(mode))
        element, model = ElementTree.tostring(cpu, encoding="unicode").strip(), (mode.findtext("model") or "").strip()
    return EmulatorCapabilities(
        emulator=(root.findtext("path") or "").strip(),
        max_vcpus=0 if vcpu is None else int(vcpu.get("max", "0")),
        loaders=tuple(value.text or "" for value in root.findall("os/loader/value")),
        tpm_backends=backends,
        host_model=element,
        model=model,
    )


def cpu_features(xml: str) -> tuple[str, tuple[str, ...]]:
    """(model, features it has) of an expanded <cpu> element."""
    root = ElementTree.fromstring(xml)
    found = (
        one.get("name", "") for one in root.findall("feature") if one.get("policy", "require") in ("require", "force")
    )
    return (root.findtext("model") or "").strip(), tuple(sorted(found))
