"""The source's image: its exact length, a sign by which one sees that somebody wrote to it, and bitmaps of what was written."""

import contextlib
import json
import os
import stat
import subprocess
from typing import Any

from ferryman_copy.dirty import Dirty
from ferryman_copy.image import Image, open_image
from ferryman_copy.qemu import NbdImage, QemuImage, named_for_qemu, no_bitmap, translated
from ferryman_copy.trouble import Trouble

INFO_WITHIN = 30.0
SECTOR = 512


def open_source(location: str, kind: str, *, bitmap: str, moment: str) -> Image:
    """A source for reading. Raises Trouble.

    The frozen view of a running guest is read from the NBD server that has it, by several connections: a qemu-nbd between would not
    pass its bitmaps on. Any other server is QEMU's to read, as it may let one client in only.
    """
    if kind == "raw" and location.startswith("nbd+unix:") and (bitmap or moment):
        return NbdImage(location, kind)
    if bitmap:
        _check_bitmap(location, kind, bitmap)
        return QemuImage(location, kind, bitmap=bitmap)
    return open_image(location, kind)


def dirty_blocks(image: Image, bitmap: str, length: int) -> Dirty | None:
    """What was written, as that bitmap says; None without one. Raises Trouble."""
    return Dirty(image.written(bitmap), length) if bitmap and isinstance(image, NbdImage) else None


def _check_bitmap(location: str, kind: str, bitmap: str) -> None:
    """qemu-nbd would take a bitmap of a backing file, which knows nothing of what was written since it is one, and one that is switched off."""
    found = _info(location, kind)[0] if location.startswith("/") and kind == "qcow2" else {}
    bitmaps = found.get("format-specific", {}).get("data", {}).get("bitmaps", ())
    flags = next((one["flags"] for one in bitmaps if one["name"] == bitmap), None)
    if flags is None:
        raise no_bitmap(location, bitmap, "it has none of that name")
    if "in-use" in flags:
        raise no_bitmap(location, bitmap, "it is inconsistent: what wrote to the image did not end as it should")
    if "auto" not in flags:
        raise no_bitmap(location, bitmap, "it is switched off, and has not seen all that was written")


def exact_length(image: Image) -> int:
    """The bytes of the disk: of a raw file its very size, which QEMU rounds up to sectors."""
    if image.kind == "raw" and os.path.isfile(image.location):
        return os.stat(image.location).st_size
    return image.size


def in_sectors(image: Image) -> int:
    """The bytes of the disk as a guest has it: all passes over it are of one length, whether QEMU shows it or the file is read."""
    return -(-image.size // SECTOR) * SECTOR


def fingerprint(location: str, kind: str) -> str:
    """Changes when anybody writes to the image or to what it is based on; empty where this host cannot see that. Of a device it sees what
    was written by way of that device at this host: not by another host, nor by way of a disk or path below it."""
    if not location.startswith("/"):
        return ""
    signs = []
    for path in [location] if kind == "raw" else layers(location, kind):
        if not (sign := _sign(path)):
            return ""
        signs.append(sign)
    return ";".join(signs)


def layers(location: str, kind: str) -> list[str]:
    """The files of a backing chain, the image first, with those that hold their data apart (qcow2's data file, vmdk's extents).
    Raises Trouble."""
    found = _info(location, kind, "--backing-chain")
    files = []
    for number, one in enumerate(found):
        image = str(one["filename"]) if number else location
        inside = one.get("format-specific", {}).get("data", {})
        apart = [inside.get("data-file", ""), *(extent["filename"] for extent in inside.get("extents", ()))]
        files += [image, *(os.path.join(os.path.dirname(image), name) for name in apart if name)]
    return list(dict.fromkeys(files))


def _info(location: str, kind: str, *options: str) -> list[dict[str, Any]]:
    """What qemu-img knows of an image, or of each of its chain. Raises Trouble."""
    try:
        done = subprocess.run(
            ["qemu-img", "info", "--force-share", "--output=json", *options, *named_for_qemu(location, kind)],
            capture_output=True, text=True, timeout=INFO_WITHIN, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise Trouble("missing", "qemu-img", "this host has no such program", "apt install qemu-utils") from error
    except subprocess.TimeoutExpired as error:
        raise Trouble(
            "storage", f"image {location}", "it cannot be looked at: its storage hangs", "look at the host's mounts"
        ) from error
    if done.returncode:
        raise translated(done.stderr.strip(), location)
    found = json.loads(done.stdout)
    return found if isinstance(found, list) else [found]


def _sign(path: str) -> str:
    try:
        seen = os.stat(path)
        if stat.S_ISREG(seen.st_mode):
            # The time of modification can be set back, as rsync and touch do; that of change cannot.
            return f"{seen.st_dev}.{seen.st_ino}.{seen.st_size}.{seen.st_mtime_ns}.{seen.st_ctime_ns}"
        if stat.S_ISBLK(seen.st_mode):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)  # what lies in the cache counts as written too
            finally:
                os.close(handle)
            numbers = f"{os.major(seen.st_rdev)}:{os.minor(seen.st_rdev)}"
            with open(f"/sys/dev/block/{numbers}/stat", encoding="ascii") as file:
                counts = file.read().split()
            return f"{_instance(numbers)}.{counts[6]}.{counts[13] if len(counts) > 13 else 0}"  # sectors written and discarded; requests count flushes too
    except OSError:
        return ""
    return ""


def _instance(numbers: str) -> str:
    """The device since it was made: its counters begin anew with the host, and its numbers are given to others once it is gone."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot = file.read().strip()
    for place in ("diskseq", "../diskseq"):  # a partition's is its disk's
        with contextlib.suppress(OSError), open(f"/sys/dev/block/{numbers}/{place}", encoding="ascii") as file:
            return f"{numbers}.{boot}.{file.read().strip()}"
    return f"{numbers}.{boot}"
