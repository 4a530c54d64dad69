"""What a guest that was switched off may have suffered: what was found in the images that it was copied from, as findings."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ferryman.model.filesystem import Condition, FileSystem
from ferryman.model.finding import Finding, note, warning
from ferryman.model.plan import Held

_FROM_INSIDE = "look at them from inside: fsck, chkdsk"


@dataclass(frozen=True)
class Looked:
    """What came of looking through them. `by_hand`: what an operator types to see the same; empty where nothing is left to look at."""

    systems: tuple[FileSystem, ...] = ()
    why_not: str = ""  # nobody has looked, and why; empty: somebody has
    by_hand: str = ""


def by_hand(images: Sequence[Held]) -> str:
    """The command for the list of file systems, and the one for the check of each."""
    options = " ".join(f"--format={image.format} -a {shlex.quote(image.path)}" for image in images)
    fish = f"guestfish --ro {options} run :"
    return f"{fish} list-filesystems; then of each TYPE and DEVICE: {fish} fsck TYPE DEVICE (0 and 1 are good)"


def stop_findings(guest: str, source: str, looked: Looked | None, *, retired: bool) -> tuple[Finding, ...]:
    """Of a guest that was switched off; None: it was not. `retired`: its images at the source are removed."""
    if looked is None:
        return ()
    why = "it did not shut down in time and was switched off: what it had not written was lost, its file systems were not clean"
    forced = warning("forced-off", f"guest {guest}", why, _FROM_INSIDE)
    return (forced, *(_not_looked(guest, source, looked, retired) if looked.why_not else _seen(guest, source, looked, retired)))  # fmt: skip


def _not_looked(guest: str, source: str, looked: Looked, retired: bool) -> Iterator[Finding]:
    kept = f"; or, in the images that are kept at {source}: {looked.by_hand}" if looked.by_hand and not retired else ""
    yield note("file-systems-not-checked", f"file systems of guest {guest}", looked.why_not, f"{_FROM_INSIDE}{kept}")


def _seen(guest: str, source: str, looked: Looked, retired: bool) -> Iterator[Finding]:
    by_condition = {kind: [one for one in looked.systems if one.condition is kind] for kind in Condition}
    kept = "" if retired else f"; the image as it was then is kept at {source} until ferryman retire"
    for one in by_condition[Condition.DAMAGED]:
        yield warning("file-system-damaged", f"file system {one.name} ({one.kind}) of guest {guest}", f"as it was when it was switched off it needs a repair that asks: {one.detail}",
                      f"{_FROM_INSIDE}{kept}")  # fmt: skip
    if unknown := ", ".join(f"{one.name} ({one.kind}: {one.detail})" for one in by_condition[Condition.UNKNOWN]):
        yield note("file-systems-not-checked", f"file systems of guest {guest}", f"not looked at: {unknown}", _FROM_INSIDE)  # fmt: skip
    if sound := ", ".join(f"{one.name} ({one.kind})" for one in by_condition[Condition.SOUND]):
        yield note("file-systems-sound", f"file systems of guest {guest}", f"sound, or mended by themselves as at any start: {sound}")  # fmt: skip
