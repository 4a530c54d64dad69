"""Backups: asked for, listed, looked through, and guests brought back from them."""

import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from ferryman.app.moves import Moves, new_request
from ferryman.app.site import Site
from ferryman.errors import BadInput, DriverError, NotFound, Stopped
from ferryman.execute.shelf import backups_at, damaged, host_of, layers_wrong
from ferryman.model.backup import Backup, BackupPlace, BackupPlan, place
from ferryman.model.copy import CopyProgress, Image
from ferryman.model.finding import Finding
from ferryman.model.host import THIS_MACHINE
from ferryman.model.request import Kind, Options, Request
from ferryman.model.restore import RestorePlan
from ferryman.plan.chains import below, chain, lacking, stand_upon


@dataclass(frozen=True)
class Listed:
    """A backup as it lies, with what it needs and what needs it."""

    folder: BackupPlace
    backup: Backup
    chain: tuple[str, ...]  # the backups that must be there for it, itself first
    needed_by: tuple[str, ...]
    lacking: tuple[str, ...]  # what is not in order, as far as names and sizes tell
    looked_through: bool = False  # its disks were read and are what its manifest says


class Backups:
    """What can be done with backups."""

    def __init__(self, site: Site, moves: Moves) -> None:
        self._site, self._moves, self._ports = site, moves, site.ports

    def place(self, text: str) -> BackupPlace:
        """A directory as it is typed: /FOLDER, ./FOLDER or HOST:/FOLDER. Raises BadInput or NotFound."""
        return placed(self._site, text)

    # Making

    def request(self, guest: str, into: str, options: Options, *, source: str = "") -> Request:
        """Which backup is asked for; nothing is written down yet."""
        there = self.place(into)
        at, found = self._site.find(guest, source)
        return new_request(self._site, found.uuid, found.name, at, there.host, options, kind=Kind.BACKUP, folder=there.path)  # fmt: skip

    def assess(self, request: Request) -> tuple[tuple[Finding, ...], BackupPlan]:
        """What speaks against it, and what would be done."""
        from ferryman.execute import backup  # with what it needs to execute, which a list does not

        return backup.observed(self._ports, request, BackupPlace(request.destination, request.folder))

    def carry_out(self, request: Request) -> None:
        """Write it down, and begin it in this process."""
        self._moves.carry_out(request)

    # Looking

    def found(self, text: str) -> tuple[Listed, ...]:
        """All backups there: of a folder of guests, of one guest, or the one that lies there."""
        there = self.place(text)
        found = backups_at(self._ports, there)
        if not found:
            raise NotFound(f"backups in {there.words}", "there are none", "ferryman backup GUEST PATH makes one")
        beside: dict[BackupPlace, dict[str, Backup]] = {}
        listed = []
        for one in found.values():
            folder, name = below(there, one)
            if folder not in beside:
                beside[folder] = backups_at(self._ports, folder)
            around = beside[folder]
            listed.append(
                Listed(folder.below(name), one, chain(name, around), stand_upon(name, around), lacking(name, around))
            )
        return tuple(listed)

    def looked_through(
        self, one: Listed, *, progress: Callable[[CopyProgress], None], cancelled: Callable[[], bool]
    ) -> Listed:
        """The same, once every file of it was read and held against its manifest; nothing is changed."""
        if one.lacking or one.backup.manifest is None:
            return one
        folder, name = below(one.folder, Backup("", None))
        around = backups_at(self._ports, folder)
        manifest, wrong = one.backup.manifest, [*damaged(self._ports, one.folder, one.backup.manifest.files)]
        wrong += layers_wrong(self._ports, folder, name, around)
        for disk in manifest.disks if not wrong else ():
            image = Image(one.folder.below(disk.file).path, "qcow2")
            try:
                seen = self._ports.copier.digest(
                    image, host_of(self._ports, one.folder.host), progress=progress, cancelled=cancelled
                )
            except Stopped:
                raise
            except DriverError as error:  # the others are looked through all the same
                wrong.append(f"{disk.file} cannot be read: {error.why}")
                continue
            if seen.digest != disk.digest:
                wrong.append(f"{disk.file} is damaged, or one that it stands upon: it holds {seen.digest}, and its manifest says {disk.digest}")  # fmt: skip
        return Listed(one.folder, one.backup, one.chain, one.needed_by, tuple(wrong), looked_through=True)

    # Bringing back

    def restore_request(self, text: str, destination: str, options: Options) -> Request:
        """Which restore is asked for. Raises NotFound where no backup lies there."""
        self._site.host(destination)
        there = self.place(text)
        found = backups_at(self._ports, there)
        if "." not in found:
            inside = f"name one of {', '.join(found)}" if found else "ferryman backups PATH lists them"
            raise NotFound(f"backup {there.words}", "it has no manifest of its own", inside)
        manifest = found["."].manifest
        if manifest is None:
            raise BadInput(f"backup {there.words}", found["."].unreadable, "take another one: ferryman backups PATH lists them")  # fmt: skip
        identity = str(uuid.uuid4()) if options.name else manifest.uuid
        return new_request(self._site, identity, options.name or manifest.guest, there.host, destination, options,
                           kind=Kind.RESTORE, folder=there.path)  # fmt: skip

    def assess_restore(self, request: Request) -> tuple[tuple[Finding, ...], RestorePlan]:
        """What speaks against it, and what would be done."""
        from ferryman.execute import restore

        return restore.observed(self._ports, request)


def placed(site: Site, text: str) -> BackupPlace:
    """A directory as it is typed. Raises BadInput or NotFound."""
    if text.startswith(("/", "./", "../")):
        return BackupPlace(THIS_MACHINE.name, os.path.abspath(text))
    try:
        found = place(text)
    except ValueError as error:
        raise BadInput(f"folder '{text}'", str(error), "write /FOLDER or ./FOLDER for this machine, HOST:/FOLDER for a host") from error  # fmt: skip
    site.host(found.host)
    return found
