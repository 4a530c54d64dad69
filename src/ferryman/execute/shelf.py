"""Backups as they lie in a folder of a host, or of this machine."""

import hashlib
from typing import Any

from ferryman.model.backup import MANIFEST, Backup, BackupPlace, Manifest, SmallFile
from ferryman.model.host import THIS_MACHINE, Host
from ferryman.plain import from_json, from_plain
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
    return from_plain(Manifest, plain)


def small_file(name: str, content: bytes, path: str = "") -> SmallFile:
    """What a manifest says of a small file."""
    return SmallFile(name, hashlib.sha256(content).hexdigest(), len(content), path)
