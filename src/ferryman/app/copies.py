"""Copies of single disks, asked for by a person: where they are and what they are called, then the copy itself."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ferryman.app.site import Site
from ferryman.errors import BadInput, NotFound
from ferryman.model.copy import CopyProgress, CopyResult, CopyTask, Image
from ferryman.model.host import THIS_MACHINE, Host

if TYPE_CHECKING:
    from ferryman.ports import Copier

FORMATS = {
    "qcow2": "qcow2", "vmdk": "vmdk", "vhd": "vpc", "vpc": "vpc", "vhdx": "vhdx", "vdi": "vdi", "raw": "raw", "img": "raw", "iso": "raw",
}  # fmt: skip
DIRECTORIES = ("dir", "fs", "netfs")


@dataclass(frozen=True)
class Place:
    """A host and a path or URI at it."""

    host: Host
    location: str


class Copies:
    """Copies that this process carries out."""

    def __init__(self, site: Site, copier: "Copier") -> None:
        self._site, self._copier = site, copier

    def task(self, source: str, destination: str, wish: CopyTask) -> tuple[CopyTask, Host, Host]:
        """The copy of one place to another, completed from a wish whose images give formats only (empty: by the names)."""
        one, other = self._place(source, reading=True), self._place(destination, reading=False)
        kind = wish.source.format or format_of(one.location) or "raw"
        target = (
            wish.destination.format
            or format_of(other.location)
            or ("raw" if other.location.startswith("/dev/") else kind)
        )
        task = replace(
            wish,
            keep_journal=False,
            source=Image(one.location, kind),
            destination=Image(other.location, kind if wish.as_file else target),
        )
        # All that says what shall come of it: with another format or size it is another copy, and none that an earlier one could go on with.
        named = (one.host.uri, one.location, kind, other.host.uri, other.location, target, wish.as_file, wish.existing, wish.size,
                 wish.preallocation)  # fmt: skip
        digest = hashlib.sha256("\0".join(map(str, named)).encode()).hexdigest()
        return replace(task, id=f"copy-{digest[:16]}"), one.host, other.host

    def copy(self, task: CopyTask, source: Host, destination: Host, *, progress: Callable[[CopyProgress], None],
             cancelled: Callable[[], bool]) -> CopyResult:  # fmt: skip
        """Carry it out, or on where an earlier one ended."""
        return self._copier.copy(task, source, destination, progress=progress, cancelled=cancelled)

    def _place(self, text: str, *, reading: bool) -> Place:
        """What PATH, HOST:PATH, HOST:POOL/VOLUME or HOST:URI stands for."""
        if text.startswith(("/", "./", "../")):
            return Place(THIS_MACHINE, os.path.abspath(text))
        name, colon, rest = text.partition(":")
        if not colon or not rest:
            raise BadInput(
                f"place '{text}'",
                "it is neither a path nor HOST:PATH",
                "write /PATH or ./PATH for this machine, HOST:/PATH or HOST:POOL/VOLUME",
            )
        if rest.endswith("/"):
            raise BadInput(
                f"place '{text}'", "it is a directory", f"name the image: {name}:/PATH or {name}:POOL/VOLUME"
            )
        host = self._site.host(name)
        if rest.startswith("/") or "://" in rest or rest.startswith("rbd:"):
            return Place(host, rest)
        pool, slash, volume = rest.partition("/")
        if not slash or not volume:
            raise BadInput(
                f"place '{text}'",
                f"'{rest}' is neither a path nor POOL/VOLUME",
                f"write {name}:/PATH or {name}:POOL/VOLUME",
            )
        return Place(host, self._volume(host, pool, volume, reading=reading))

    def _volume(self, host: Host, pool: str, volume: str, *, reading: bool) -> str:
        hypervisor = self._site.hypervisor(host.name)
        pools = {one.name: one for one in hypervisor.facts().pools}
        if pool not in pools:
            raise NotFound(
                f"pool {pool} at host {host.name}",
                f"there is none (there are: {', '.join(pools) or 'none'})",
                f"virsh pool-list --all, at {host.name}",
            )
        if path := hypervisor.volume_path(pool, volume):
            return path
        if reading:
            raise NotFound(
                f"volume {volume} of pool {pool} at host {host.name}",
                "there is none",
                f"virsh vol-list {pool}, at {host.name}",
            )
        if pools[pool].kind not in DIRECTORIES or not pools[pool].path:
            raise BadInput(f"volume {volume} of pool {pool} at host {host.name}", f"a copy cannot make volumes in a pool of kind '{pools[pool].kind}'",
                           f"make it first (virsh vol-create-as {pool} {volume} SIZE), then copy with --update")  # fmt: skip
        return f"{pools[pool].path}/{volume}"


def format_of(location: str) -> str:
    """The format that a name promises; empty when it promises none. Contents are not asked: a guest can write what it likes into its disk."""
    if "://" in location:
        location = location.partition("?")[0]  # what follows is for the server
    return FORMATS.get(location.rpartition(".")[2].lower(), "") if "." in location.rpartition("/")[2] else ""
