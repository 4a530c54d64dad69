"""The source's image: its exact length, and a sign by which one sees that somebody wrote to it."""

import contextlib
import json
import os
import stat
import subprocess

from ferryman_copy.image import Image
from ferryman_copy.qemu import named_for_qemu, translated
from ferryman_copy.trouble import Trouble

INFO_WITHIN = 30.0


def exact_length(image: Image) -> int:
    """The bytes of the disk: of a raw file its very size, which QEMU rounds up to sectors."""
    if image.kind == "raw" and os.path.isfile(image.location):
        return os.stat(image.location).st_size
    return image.size


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
    try:
        done = subprocess.run(
            ["qemu-img", "info", "--force-share", "--backing-chain", "--output=json", *named_for_qemu(location, kind)],
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
    files = []
    for number, one in enumerate(found):
        image = str(one["filename"]) if number else location
        inside = one.get("format-specific", {}).get("data", {})
        apart = [inside.get("data-file", ""), *(extent["filename"] for extent in inside.get("extents", ()))]
        files += [image, *(os.path.join(os.path.dirname(image), name) for name in apart if name)]
    return list(dict.fromkeys(files))


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
