"""Backups as they lie in a folder of a host, or of this machine."""

import hashlib
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ferryman.errors import DriverError
from ferryman.model.backup import MANIFEST, Backup, BackupPlace, Manifest, SmallFile
from ferryman.model.host import THIS_MACHINE, Host
from ferryman.plain import from_json, from_plain
from ferryman.plan.chains import stack
from ferryman.ports import Folder, Ports


def host_of(ports: Ports, name: str) -> Host:
    """A registered host, or this machine. Raises NotFound."""
    return THIS_MACHINE if name == THIS_MACHINE.name else ports.hypervisor(name).host


def folder_at(ports: Ports, place: BackupPlace) -> Folder:
    """The folder, to be asked."""
    return ports.copier.folder(host_of(ports, place.host), place.path)


def backups_at(ports: Ports, place: BackupPlace) -> dict[str, Backup]:
    """All backups there, by their folders below the place: the place itself may be one, a guest's folder, or the folder of all."""
    found = folder_at(ports, place).manifests()
    return {name: _read(name, manifest, sizes) for name, (manifest, sizes) in sorted(found.items())}


def _read(name: str, manifest: bytes, sizes: dict[str, int]) -> Backup:
    try:
        return Backup(name, manifest_of(manifest), sizes=sizes)
    except ValueError as error:
        return Backup(name, None, f"its {MANIFEST} cannot be read: {error}", sizes)


def manifest_of(content: bytes) -> Manifest:
    """Raises ValueError for what is no manifest, or one of another format."""
    plain: Any = from_json(content.decode())
    if not isinstance(plain, dict) or "format" not in plain:
        raise ValueError("it is none of ferryman's")
    manifest = from_plain(Manifest, plain)
    if outside := [one for one in _names(manifest) if "/" in one or one in ("", ".", "..")]:
        raise ValueError(f"it is damaged: {outside[0]!r} is no name of a file or folder beside it")
    uuid.UUID(manifest.uuid)
    return manifest


def _names(manifest: Manifest) -> Iterator[str]:
    """All in it of which paths are made."""
    for disk in manifest.disks:
        yield from (disk.target, disk.file, *([disk.upon] if disk.upon else []))
    for file in manifest.files:
        yield file.name


def small_file(name: str, content: bytes, path: str = "") -> SmallFile:
    """What a manifest says of a small file."""
    return SmallFile(name, hashlib.sha256(content).hexdigest(), len(content), path)


def damaged(ports: Ports, backup: BackupPlace, files: Iterable[SmallFile]) -> tuple[str, ...]:
    """The small files that are not what the manifest says; each a sentence."""
    folder, found = folder_at(ports, backup), []
    for file in files:
        content = folder.read(file.name)
        if content is None:
            found.append(f"{file.name} is not there")
        elif small_file(file.name, content).sha256 != file.sha256:
            found.append(f"{file.name} is damaged: it is not what its manifest says")
    return tuple(found)


def layers_wrong(ports: Ports, place: BackupPlace, name: str, beside: Mapping[str, Backup]) -> tuple[str, ...]:
    """Images that stand upon other files than the manifests say: such a backup would bring back what is not its own."""
    manifest, folder, found = beside[name].manifest, folder_at(ports, place), []
    assert manifest is not None
    for disk in manifest.disks:
        try:
            layers = folder.layers(f"{name}/{disk.file}")
        except DriverError as error:
            found.append(f"{name}/{disk.file} cannot be read: {error.why}")
            continue
        expected = tuple(place.below(f"{one}/{disk.file}").path for one in stack(name, disk.target, beside))
        if layers != expected:
            found.append(
                f"{name}/{disk.file} stands upon {', '.join(layers[1:]) or 'nothing'}, and its manifest says {', '.join(expected[1:]) or 'nothing'}"
            )
    return tuple(found)
