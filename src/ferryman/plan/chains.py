"""Which backups can be brought back, and which one a new one may stand upon. Decided from manifests and sizes of files alone."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from ferryman.model.backup import FORMAT, PARTIAL, Backup, BackupPlace


def folder_of(guest: str, uuid: str) -> str:
    """The name of a guest's folder: two guests of one name keep theirs apart."""
    return f"{re.sub(r'[^A-Za-z0-9._-]', '_', guest).lstrip('.')}-{uuid[:8]}"


def name_at(at: float, taken: Iterable[str]) -> str:
    """The name of a backup that is made at that moment (seconds since the epoch): its UTC time, later where that is taken."""
    moment, there = datetime.fromtimestamp(at, UTC), set(taken)
    while (name := moment.strftime("%Y-%m-%dT%H-%M-%SZ")) in there:
        moment += timedelta(seconds=1)
    return name


def partial_name(name: str, request: str) -> str:
    """What a folder is called while its backup is not complete: whose it is can be read from it."""
    return f"{PARTIAL}{name}-{request}"


def below(place: BackupPlace, backup: Backup) -> tuple[BackupPlace, str]:
    """(the folder that holds a backup's folder, its own name), of one that was found below a place."""
    parent, _, name = f"{place.below(backup.name).path}".rpartition("/")
    return BackupPlace(place.host, parent or "/"), name


def chain(name: str, beside: Mapping[str, Backup]) -> tuple[str, ...]:
    """The backups that must be there for that one, itself first. Those that are not there are named all the same."""
    found: list[str] = []
    waiting = [name]
    while waiting:
        one = waiting.pop(0)
        if one in found:
            continue
        found.append(one)
        there = beside.get(one)
        if there is not None and there.manifest is not None:
            waiting += there.manifest.upon
    return tuple(found)


def stack(name: str, target: str, beside: Mapping[str, Backup]) -> tuple[str, ...]:
    """The backups in which one disk's image lies, the uppermost first: each stands upon the next."""
    found: list[str] = []
    while name and name not in found:
        found.append(name)
        manifest = beside[name].manifest if name in beside else None
        disk = manifest.disk(target) if manifest else None
        name = disk.upon if disk else ""
    return tuple(found)


def least(name: str, target: str, beside: Mapping[str, Backup]) -> int:
    """So many bytes one disk holds at least: those of the largest image that it lies in."""
    manifests = [beside[one].manifest for one in stack(name, target, beside) if one in beside]
    disks = [disk for one in manifests if one and (disk := one.disk(target))]
    return max((disk.bytes for disk in disks), default=0)


def lacking(name: str, beside: Mapping[str, Backup]) -> tuple[str, ...]:
    """What is not in order of a backup and of those that it stands upon, as far as names and sizes tell; each a sentence."""
    found: list[str] = []
    for one in chain(name, beside):
        there = beside.get(one)
        if there is None:
            found.append(f"backup {one} is not there, which {name} stands upon")
        elif there.manifest is None:
            found.append(f"backup {one}: {there.unreadable}")
        else:
            found += _files_lacking(one, there)
    return tuple(found)


def _files_lacking(name: str, backup: Backup) -> list[str]:
    manifest, found = backup.manifest, []
    assert manifest is not None
    if manifest.format > FORMAT:
        return [
            f"backup {name} was made by a newer ferryman ({manifest.ferryman}), in a format that this one does not know"
        ]
    if backup.sizes is None:
        return []
    files = [(disk.file, disk.bytes) for disk in manifest.disks] + [(file.name, file.bytes) for file in manifest.files]
    for file, size in files:
        there = backup.sizes.get(file)
        if there is None:
            found.append(f"{name}/{file} is not there")
        elif there != size:
            found.append(f"{name}/{file} has {there} bytes, and its manifest says {size}")
    return found


def newest_whole(uuid: str, beside: Mapping[str, Backup]) -> Backup | None:
    """The newest backup of that guest of whose chain nothing is lacking: the next one can stand upon it.

    Whatever it is called by now; what lies deeper does not stand beside the next one.
    """
    made = {name: one.manifest for name, one in beside.items() if one.manifest is not None and "/" not in name}
    for name, manifest in sorted(made.items(), key=lambda one: (one[1].at, one[0]), reverse=True):
        if manifest.uuid == uuid and not lacking(name, beside):
            return beside[name]
    return None


def stand_upon(name: str, beside: Mapping[str, Backup]) -> tuple[str, ...]:
    """The backups that need that one: it must not be removed as long as one of them is to be kept."""
    return tuple(sorted(one for one in beside if one != name and name in chain(one, beside)))
