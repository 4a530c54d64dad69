"""What lies at a place of a host: its identity, whether somebody uses it, and the names of images under way."""

import errno
import fcntl
import os
import secrets
import stat
import sys

from ferryman_copy.trouble import Trouble, of_system

GET_GENERATION = 0x80087601  # FS_IOC_GETVERSION
LONGEST_PART = 200  # bytes of an image's name that its name under way keeps


def identity(path: str) -> str:
    """Tells it from anything else that may lie there at another time; empty when nothing does."""
    try:
        seen = os.stat(path)
    except OSError:
        return ""
    if stat.S_ISREG(seen.st_mode):
        return f"{seen.st_dev}.{seen.st_ino}{_generation(path)}"
    return f"device {seen.st_rdev}"


def _generation(path: str) -> str:
    """Tells a file from an earlier one whose inode it was given; empty where the file system does not count that."""
    answer = bytearray(8)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(handle, GET_GENERATION, answer)
        finally:
            os.close(handle)
    except OSError:
        return ""
    return f".{int.from_bytes(answer, sys.byteorder)}"


def claimed(path: str) -> int:
    """A block device claimed for us, so that nobody mounts it meanwhile; -1 for anything else. One that is in use is refused."""
    try:
        seen = os.stat(path)
        if not stat.S_ISBLK(seen.st_mode):
            return -1
        return os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.EBUSY:
            return -1  # opening it as an image says what is wrong
    holders = f"/sys/dev/block/{os.major(seen.st_rdev)}:{os.minor(seen.st_rdev)}/holders"
    if maps := _partition_maps(holders):  # multipath makes them by itself of what a guest's disk holds
        for one in maps:
            if (handle := claimed(f"/dev/{one}")) >= 0:
                os.close(handle)
        return -1
    raise Trouble("locked", f"image {path}", "this device is in use: it is mounted, part of a volume group, RAID or swap, or another copy goes there",
                  "name another device, or take this one out of use first")  # fmt: skip


def _partition_maps(holders: str) -> list[str]:
    """The device mapper's partitions of a device, when nothing else holds it."""
    try:
        found = os.listdir(holders)
        for one in found:
            with open(f"{holders}/{one}/dm/uuid", encoding="ascii") as file:
                if not file.read().startswith("part"):
                    return []
    except OSError:
        return []
    return found


def there(location: str) -> bool:
    """Whether anything is there. Raises Trouble for a name that nothing can have."""
    try:
        os.lstat(location)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise of_system(error, f"image {location}") from error
    return True


def partial_name(location: str) -> str:
    """What an image is called while it is not complete: no name that somebody could have put a link at, nor one that is too long."""
    directory, name = os.path.split(location)
    short = os.fsencode(name)[:LONGEST_PART].decode(errors="ignore")
    return f"{directory}/.{short}.{secrets.token_hex(8)}.partial"


def sync_directory(path: str) -> None:
    """The names in it are on storage when this returns."""
    handle = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
