"""The proof: the destination is read from its storage, not from a cache, and held against the digests of what the source sent."""

import contextlib
import os
from collections.abc import Callable, Iterator
from itertools import chain

from ferryman_copy import digest
from ferryman_copy.blocks import BLOCK, GROUP_BLOCKS, Extent, groups_in
from ferryman_copy.comparison import leaves_of
from ferryman_copy.digest import ZERO_GROUP
from ferryman_copy.image import Channel, Image
from ferryman_copy.journal import Group, Journal
from ferryman_copy.parallel import Crew
from ferryman_copy.qemu import QemuImage
from ferryman_copy.trouble import Trouble

READERS = 4


def open_uncached(path: str, kind: str) -> Image:
    """The image, read past the page cache where its storage can; elsewhere the cache is emptied first."""
    if os.path.isfile(path):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)
    with contextlib.suppress(Trouble):
        return QemuImage(path, kind, direct=True)
    return QemuImage(path, kind)


def read_back(image: Image, journal: Journal, length: int, how: str, told: Callable[[int], None]) -> dict[int, bytes]:
    """The digests of all groups that are not zero, proved. `told`: bytes looked at so far. Raises Trouble "differs"."""
    crew = Crew()
    found = dict(journal.done)
    if how == "written":
        begun = journal.facts.get("pass_at", 0)
        work: Iterator[object] = chain(journal.groups(begun), journal.zeroed(begun))
    else:
        work = iter(_groups_with_data(image, length, journal))
        found = {}
    bad: list[int] = []
    seen = [0]

    def read(channel: Channel) -> None:
        while not crew.stopped.is_set():
            with lock:
                one = next(work, None)
            if one is None:
                return
            if isinstance(one, Group):
                right = _written_as_sent(channel, one, length)
                number = one.number
            else:
                assert isinstance(one, int)
                number = one
                leaves = leaves_of(channel, number, length)
                here = digest.group_digest(leaves)
                right = here == journal.done.get(number, ZERO_GROUP)
                if here != ZERO_GROUP:
                    found[number] = here
            if not right:
                bad.append(number)
            seen[0] += 1
            told(min(length, seen[0] * GROUP_BLOCKS * BLOCK))

    import threading

    lock = threading.Lock()
    for _ in range(READERS):
        crew.start(read, image.channel())
    crew.join()
    _tail_is_zero(image, length, lambda count: told(length + count))
    if bad:
        for number in bad:
            if number in journal.done:
                journal.note_bad(number)
        journal.sync()
        at = min(bad) * GROUP_BLOCKS * BLOCK
        raise Trouble("differs", f"image {image.location}", f"what was read back of {len(bad)} parts, the first at byte {at}, is not what was sent",
                      "look at this storage; asked for again, the copy sends these parts anew")  # fmt: skip
    return found


def _groups_with_data(image: Image, length: int, journal: Journal) -> Iterator[int]:
    """Groups that are not told to be zero by the image, or should not be."""
    last = -1
    wanted = {group for group, found in journal.done.items() if found != ZERO_GROUP}
    for extent in image.first.extents(0, length):
        if extent.zero:
            continue
        for number in _touched(extent):
            if number > last:
                last = number
                wanted.discard(number)
                yield number
    yield from sorted(number for number in wanted if number < groups_in(length))


def _touched(extent: Extent) -> range:
    size = GROUP_BLOCKS * BLOCK
    return range(extent.start // size, -(-(extent.start + extent.length) // size))


def _written_as_sent(channel: Channel, group: Group, length: int) -> bool:
    first = group.number * GROUP_BLOCKS
    number = 0
    while number < GROUP_BLOCKS:
        if not group.written >> number & 1:
            number += 1
            continue
        count = 1
        while count < 16 and number + count < GROUP_BLOCKS and group.written >> (number + count) & 1:
            count += 1
        start = (first + number) * BLOCK
        data = memoryview(channel.read(start, min(count * BLOCK, length - start)))
        for block in range(count):
            if digest.leaf(data[block * BLOCK : (block + 1) * BLOCK]) != group.leaves[number + block]:
                return False
        number += count
    return True


def _tail_is_zero(image: Image, length: int, told: Callable[[int], None]) -> None:
    channel = image.first
    for extent in channel.extents(length, image.size):
        start, end = extent.start, extent.start + extent.length
        while not extent.zero and start < end:
            here = min(1 << 20, end - start)
            if any(channel.read(start, here)):
                raise Trouble("differs", f"image {image.location}", f"past the source's {length} bytes it is not zero",
                              "ask for the copy again with an id of its own")  # fmt: skip
            start += here
            told(start - length)
