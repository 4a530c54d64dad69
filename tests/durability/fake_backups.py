"""Backups in the fake world: folders that keep files, and copies into and out of them.

A disk's content is one word; an image in a backup holds the word and what it stands upon.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ferryman.errors import DriverError, Mismatch, NoBase, NoBitmap, Stopped, Unreachable
from ferryman.model.backup import MANIFEST, PARTIAL
from ferryman.model.copy import CopyProgress, CopyResult, CopyTask, Digest, Image
from ferryman.model.host import Host
from ferryman.model.units import GIB


class FakeFolder:
    """Implements ports.Folder: real files below the world's directory, each place with a root of its own."""

    def __init__(self, world: Any, host: Host, path: str) -> None:
        self._world, self._host, self._path = world, host, path
        self._root = root_of(world, host) / path.lstrip("/")

    def manifests(self) -> dict[str, tuple[bytes, dict[str, int]]]:
        found = {}
        for file in sorted(self._root.glob(f"**/{MANIFEST}")):
            name = str(file.parent.relative_to(self._root))
            if not any(part.startswith(".") and part != "." for part in name.split("/")):
                found[name] = (file.read_bytes(), self.sizes(name))
        return found

    def make(self, name: str) -> None:
        self._answers()
        (self._root / name).mkdir(parents=True, exist_ok=True)

    def read(self, name: str) -> bytes | None:
        self._answers()
        if not self._root.exists():
            raise DriverError(f"folder {self._path}", "it is not there: is its file system mounted?", "look at it")
        file = self._root / name
        return file.read_bytes() if file.exists() else None

    def write(self, name: str, content: bytes) -> None:
        self._answers()
        (self._root / name).write_bytes(content)

    def sizes(self, name: str) -> dict[str, int]:
        return {file.name: file.stat().st_size for file in (self._root / name).iterdir()}

    def layers(self, name: str) -> tuple[str, ...]:
        file, found = self._root / name, []
        while True:
            if not file.exists():
                raise DriverError(f"folder {self._path}", f"could not open {file.name}", "look")
            found.append(f"{self._path.rstrip('/')}/{file.resolve().relative_to(self._root.resolve())}")
            below = json.loads(file.read_text())["upon"]
            if not below:
                return tuple(found)
            file = file.parent / below

    def publish(self, partial: str, name: str) -> None:
        if not (self._root / partial).exists() and (self._root / name / MANIFEST).exists():
            return
        assert (self._root / partial / MANIFEST).exists(), "a folder without a manifest is no backup"
        (self._root / partial).rename(self._root / name)

    def remove(self, partial: str, request: str) -> bool:
        self._answers()
        assert partial.startswith(PARTIAL)
        assert partial.endswith(f"-{request}")
        folder = self._root / partial
        if folder.exists():
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
        return self._root.exists()

    def leave(self) -> None:
        self._answers()
        if self._root.exists() and not any(self._root.iterdir()):
            self._root.rmdir()

    def room(self) -> int | None:
        return 100 * GIB

    def _answers(self) -> None:
        if self._host.name in self._world.read().get("no_ssh", ()):
            raise Unreachable(f"folder {self._path} at {self._host.name}", "connection refused", "look at it")


def root_of(world: Any, host: Host) -> Path:
    """Where the files of a host lie."""
    return Path(world.path).parent / "places" / host.name


class BackupCopies:
    """Copies into and out of backups; what they may rely on is asserted."""

    def __init__(self, world: Any) -> None:
        self._world = world

    def folder(self, host: Host, path: str) -> FakeFolder:
        return FakeFolder(self._world, host, path)

    def digest(self, image: Image, host: Host, *, progress: Callable[[CopyProgress], None], cancelled: Callable[[], bool]) -> Digest:  # fmt: skip
        return Digest(
            GIB, f"d-{json.loads((root_of(self._world, host) / image.location.lstrip('/')).read_text())['content']}"
        )

    def into(self, task: CopyTask, source: Host, destination: Host, cancelled: Callable[[], bool]) -> CopyResult:
        """What the guest has, into a backup."""
        with self._world.opened() as content:
            guest = content[source.name]
            assert guest.get("frozen") in (None, "by another"), "it is frozen all through the copy"
            if task.moment:
                assert guest.get("backup"), "nothing offers what is copied"
            else:
                assert guest["state"] == "off", "it writes to what is copied"
                assert content.get("held", {}).get(source.name) or content.get("restarted"), (
                    "nothing holds what is copied"
                )
            if content.get("bitmap_lost") and task.bitmap:
                raise NoBitmap("bitmap", "it is inconsistent", "compare")
            if content.get("base_lost") and task.base:
                raise NoBase("copy", "there is no journal of it", "compare")
            if content.get("copy_fails"):
                raise DriverError("the copy", content["copy_fails"], "make room")
            told = {"bitmap": task.bitmap, "base": task.base, "backing": task.backing, "verify": task.verify}
            content.setdefault("copied", []).append(told)
            content.setdefault("journals", {})[task.id] = task.destination.location
            holds = guest.get("content", "c0")
            if (
                content.get("restarts") == task.id.rpartition("-")[2]
            ):  # its host, then; and the guest ran, and is off again
                content["restarted"] = content.pop("restarts")
                content["held"], guest["content"] = {}, "c1"
        while self._world.read().get("copy_lasts"):
            if cancelled():
                raise Stopped("the copy", "it was asked to end")
        file = root_of(self._world, destination) / task.destination.location.lstrip("/")
        if task.backing:
            assert (file.parent / task.backing).exists(), "what it stands upon is not there"
        file.write_text(json.dumps({"content": holds, "upon": task.backing}))
        return CopyResult(GIB, GIB, GIB, GIB, 0, 1.0, 1.0, f"d-{holds}", f"d-{holds}", "tls")

    def out_of(self, task: CopyTask, source: Host, destination: Host) -> CopyResult:
        """A backup's image into a volume."""
        holds = json.loads((root_of(self._world, source) / task.source.location.lstrip("/")).read_text())["content"]
        with self._world.opened() as content:
            if content.get("copy_fails"):
                raise Mismatch("the copy", content["copy_fails"], "again")
            assert destination.name + task.destination.location in content["volumes"], "its volume was not made"
            content.setdefault("journals", {})[task.id] = task.destination.location
            content.setdefault("restored", {})[task.destination.location] = holds
        return CopyResult(GIB, GIB, GIB, GIB, 0, 1.0, 1.0, f"d-{holds}", f"d-{holds}", "tls")
