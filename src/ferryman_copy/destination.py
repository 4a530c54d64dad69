"""Where a copy goes: the image is made, or taken up again, or an older one is updated; what is not this copy's own is left alone.

Under way an image has a name of its own beside its place; it gets its name when everything is proved."""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ferryman_copy import passes, places
from ferryman_copy.blocks import GROUP_BLOCKS, groups_in, ranges
from ferryman_copy.digest import ZERO_GROUP
from ferryman_copy.image import Image, open_image
from ferryman_copy.journal import Journal
from ferryman_copy.source import INFO_WITHIN, SECTOR
from ferryman_copy.trouble import Trouble, of_system

EXISTING = ("refuse", "update", "overwrite")
DOUBTFUL_GROUPS = 16  # past the last journalled group with data an earlier attempt may have written
ZEROED_AT_ONCE = 64 << 20
LOCKED_WITHIN = 10.0  # seconds that an earlier attempt's qemu-nbd may need to end


@dataclass(frozen=True)
class Wanted:
    """What the controller asks for."""

    copy: str
    location: str
    kind: str
    length: int
    fingerprint: str
    size: int = 0
    preallocation: str = "off"
    existing: str = "refuse"
    as_file: bool = False
    dirty: list[list[int]] | None = None  # groups that the source's bitmap says were written; None without a bitmap
    base: str = ""
    backing: str = ""
    backing_format: str = "qcow2"

    @property
    def shape(self) -> dict[str, Any]:
        """What a destination that was made for an earlier attempt must have in common with this one."""
        return {
            "kind": self.kind,
            "length": self.length,
            "size": self.size,
            "preallocation": self.preallocation,
            "as_file": self.as_file,
            "backing": self.backing,
        }

    @property
    def below(self) -> str:
        """The path of the backing file."""
        return os.path.join(os.path.dirname(self.location), self.backing)


class Destination:
    """The open destination of one copy."""

    def __init__(self, wanted: Wanted, directory: str, begun: Callable[[str], None] = lambda path: None) -> None:
        """`begun`: hears the path of an image before it is made, which may take long."""
        self.wanted, self._directory, self._begun = wanted, directory, begun
        self.journal = Journal(directory, wanted.copy)
        self._claim = -1
        try:
            self._settle()
        except BaseException:
            self._release()
            if self.journal.facts:
                self.journal.close()
            else:  # nothing was begun
                self.journal.remove()
            raise

    def _settle(self) -> None:
        wanted, facts = self.wanted, self.journal.facts
        _check(wanted)
        self.finished: dict[str, Any] | None = None
        if facts and facts["location"] != wanted.location:
            raise Trouble("refused", f"copy {wanted.copy}", f"it goes to {facts['location']}, not to {wanted.location}",
                          "give this copy an id of its own")  # fmt: skip
        if facts.get("state"):
            self._take_up_named(facts)
            if self.finished is not None:
                return
            facts = self.journal.facts
        self.resumed = bool(facts) and self._still_ours(facts)
        if self.resumed and not self._same_shape(facts):
            self.resumed = False
            if facts["made"]:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(facts["path"])
        if self.resumed:
            passes.take_up(self.journal, wanted.fingerprint)
        else:
            self._begin()
        self.held = passes.leave_clean(self.journal, wanted.dirty)
        facts = self.journal.facts
        # A first pass writes in ascending order; of a later one the journal knows what it has not dealt with.
        self._doubtful = DOUBTFUL_GROUPS + max(
            (group for group, found in self.journal.done.items() if found != ZERO_GROUP), default=0
        )
        self.path = str(facts["path"])
        self.made = bool(facts["made"])
        self.image = self._open()
        if self.image.size < wanted.length:
            size = self.image.size
            self.image.close()
            raise Trouble("too-small", f"image {wanted.location}", f"it has {size} bytes, the source {wanted.length}",
                          "make it larger, or let the copy make it")  # fmt: skip
        self.journal.note(attempts=facts.get("attempts", 0) + 1)

    def _take_up_named(self, facts: dict[str, Any]) -> None:
        """An earlier attempt proved it. Once the image has its name somebody may use it: it is what was asked for, or none of ours."""
        if places.identity(facts["location"]) != facts["identity"]:
            self.journal.note(state="")  # it ended just before
            return
        if facts["path"] != facts["location"]:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(facts["path"])
        if self.wanted.fingerprint and facts["fingerprint"] == self.wanted.fingerprint and self._same_shape(facts):
            self.finished = facts["result"]
        elif facts.get("keep", True):  # a move's own, which nobody uses before the move says so
            self.journal.note(state="", path=facts["location"], fingerprint=None)  # this pass is over
        else:
            self.journal.start_over()

    def _same_shape(self, facts: dict[str, Any]) -> bool:
        return all(facts.get(name, asked) == asked for name, asked in self.wanted.shape.items())

    def _still_ours(self, facts: dict[str, Any]) -> bool:
        """Whether what the journal speaks of is still there."""
        if facts["made"] and not facts.get("identity"):  # it ended before the image was made
            with contextlib.suppress(FileNotFoundError):
                os.unlink(facts["path"])
            return False
        return bool(places.identity(facts["path"]) == facts["identity"])

    def _begin(self) -> None:
        wanted = self.wanted
        there = not wanted.location.startswith("/") or places.there(wanted.location)
        if there and wanted.existing == "refuse":
            raise Trouble(
                "exists", f"image {wanted.location}", "something is there, and it is not this copy's own",
                "name another place, or remove it, or say that it is an older copy to be updated (--update)",
            )  # fmt: skip
        journal = self.journal
        journal.start_over()
        if wanted.base:
            if not (wanted.existing == "update" if there else wanted.backing):
                raise Trouble("refused", f"copy {wanted.copy}", f"nothing shows there what copy {wanted.base} brought", "name its image as backing file")  # fmt: skip
            passes.take_over(journal, self._directory, wanted.base, wanted.length, wanted.backing and wanted.below)
        common = {"location": wanted.location, "fingerprint": wanted.fingerprint, "began": time.time(),
                  "complete": bool(wanted.base), "pass_at": journal.end, **wanted.shape}  # fmt: skip
        if there:
            doubt = "all" if wanted.existing == "update" else "none"
            journal.note(
                **common, path=wanted.location, made=False, identity=places.identity(wanted.location), doubt=doubt
            )
            return
        path = places.partial_name(wanted.location)
        doubt = "all" if wanted.backing else "none"  # what is not written there reads as the backing file does
        journal.note(**common, path=path, made=True, identity="", doubt=doubt)
        self._begun(path)
        _make(wanted, path)
        journal.note(identity=places.identity(path))

    def _open(self) -> Image:
        self._claim = places.claimed(self.path)
        deadline = time.monotonic() + (LOCKED_WITHIN if self.resumed else 0)
        while True:
            try:
                return open_image(self.path, "raw" if self.wanted.as_file else self.wanted.kind, writable=True)
            except Trouble as error:
                if error.kind != "locked" or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def compare(self, group: int) -> bool:
        """Whether that group may hold what is wanted, so that asking is worth reading it."""
        doubt = self.journal.facts["doubt"]
        if doubt == "all":
            return True
        return self.resumed and group <= self._doubtful

    @property
    def compared(self) -> list[list[int]]:
        """Ranges [first, count] of groups that will be compared."""
        return ranges(
            group
            for group in range(groups_in(self.wanted.length))
            if group not in self.journal.done and self.compare(group)
        )

    def clear_tail(self, told: Callable[[int], None]) -> None:
        """What lies past the source's length shall be zero. `told`: bytes zeroed so far."""
        whole = self.image.size
        if self.made or whole <= self.wanted.length:
            return
        channel, zeroed = self.image.first, 0
        for extent in list(channel.extents(self.wanted.length, whole)):
            end = extent.start + extent.length
            for start in range(extent.start, end if not extent.zero else extent.start, ZEROED_AT_ONCE):
                here = min(ZEROED_AT_ONCE, end - start)
                channel.zero(start, here, holes=True)
                zeroed += here
                told(zeroed)
        channel.flush()

    def close(self) -> None:
        """Close image and journal."""
        if hasattr(self, "image"):
            self.image.close()
        self._release()
        self.journal.close()

    def _release(self) -> None:
        handle, self._claim = self._claim, -1
        if handle >= 0:
            os.close(handle)

    def trim(self) -> None:
        """A raw file gets the exact length of the source, which QEMU rounds up."""
        wanted = self.wanted
        if self.made and (wanted.as_file or wanted.kind == "raw") and not wanted.size and os.path.isfile(self.path):
            with open(self.path, "r+b") as file:
                file.truncate(wanted.length)
                os.fsync(file.fileno())

    def publish(self, result: dict[str, Any], *, keep: bool) -> None:
        """Give the image its name. Asked for again the copy answers what it answered, until it is forgotten; `keep`: also when its source
        was written to, that image is still the copy's own."""
        whole = range(groups_in(self.wanted.length))
        self.journal.note_zeroes(
            group for group in whole if group not in self.journal.done
        )  # a fresh image's, not noted so far
        self.journal.note(state="proved", result=result, keep=keep, complete=True)
        if self.made and self.path != self.wanted.location:
            try:
                self._name()
            except FileExistsError:
                raise self._taken() from None
            except OSError as error:
                raise of_system(error, f"image {self.wanted.location}") from error
            places.sync_directory(os.path.dirname(self.wanted.location))
        self.journal.note(path=self.wanted.location)

    def _name(self) -> None:
        """Raises FileExistsError when something else bears that name."""
        place = self.wanted.location
        try:
            os.link(self.path, place)
        except FileExistsError:
            raise
        except OSError:
            # A file system without links: the name is taken first, so that only our own empty file is replaced.
            os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            os.rename(self.path, place)
        else:
            os.unlink(self.path)

    def _taken(self) -> Trouble:
        return Trouble(
            "exists", f"image {self.wanted.location}", "something appeared there while it was copied",
            f"the copy is complete and lies at {self.path}: remove what is in its place and ask again",
        )  # fmt: skip


def discard(directory: str, copy: str, *, keep_image: bool) -> None:
    """Forget a copy: its journal, and the image unless it was there before or shall stay."""
    journal = Journal(directory, copy)
    facts = journal.facts
    if facts.get("made") and not keep_image and facts.get("identity"):
        for path in (facts["path"], facts["location"]):
            if places.identity(path) == facts["identity"]:
                os.unlink(path)
    elif facts.get("made") and not facts.get("identity"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(facts["path"])
    journal.remove()


def _check(wanted: Wanted) -> None:
    what = f"image {wanted.location}"
    if wanted.size and wanted.size < wanted.length:
        raise Trouble(
            "too-small", what, f"{wanted.size} bytes were asked for, the source has {wanted.length}", "ask for more"
        )
    if wanted.existing not in EXISTING:
        raise Trouble("refused", what, f"'{wanted.existing}' is none of {', '.join(EXISTING)}", "")
    if wanted.backing and (wanted.as_file or wanted.kind != "qcow2"):
        raise Trouble("refused", what, "only a qcow2 image is made with a backing file", "name that format")


def _make(wanted: Wanted, path: str) -> None:
    """An empty image at that path."""
    kind = "raw" if wanted.as_file else wanted.kind
    size = -(-max(wanted.size, wanted.length) // SECTOR) * SECTOR
    options = []
    below = ["-b", wanted.backing, "-F", wanted.backing_format] if wanted.backing else []
    if wanted.preallocation != "off":
        options.append(f"preallocation={wanted.preallocation}")
    if kind == "vpc":
        options.append("force_size=on")
    command = [
        "qemu-img",
        "create",
        "-q",
        "-f",
        kind,
        *(["-o", ",".join(options)] if options else []),
        *below,
        path,
        str(size),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                              timeout=INFO_WITHIN if wanted.preallocation in ("off", "metadata") else None)  # fmt: skip
    except FileNotFoundError as error:
        raise Trouble("missing", "qemu-img", "this host has no such program", "apt install qemu-utils") from error
    except subprocess.TimeoutExpired as error:
        raise Trouble(
            "storage", f"image {path}", "making it takes too long: its storage hangs", "look at the host's mounts"
        ) from error
    if done.returncode:
        from ferryman_copy.qemu import translated

        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        raise translated(done.stderr.strip(), wanted.location)


__all__ = ["GROUP_BLOCKS", "Destination", "Wanted", "discard"]
