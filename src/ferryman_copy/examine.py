"""The digest of an image, read from its storage with all that it stands upon; nothing is copied."""

import threading
from collections.abc import Callable

from ferryman_copy import digest
from ferryman_copy.blocks import BLOCK, GROUP_BLOCKS, groups_in
from ferryman_copy.comparison import leaves_of
from ferryman_copy.digest import ZERO_GROUP
from ferryman_copy.image import Channel, Image
from ferryman_copy.parallel import Crew

READERS = 4


def examine(image: Image, length: int, told: Callable[[int], None], crew: Crew) -> str:
    """`told`: bytes dealt with so far. Raises Trouble, also when the crew is ended."""
    groups: dict[int, bytes] = {}
    lock, work = threading.Lock(), iter(_with_data(image, length))

    def read(channel: Channel) -> None:
        while not crew.stopped.is_set():
            with lock:
                number = next(work, None)
            if number is None:
                return
            found = digest.group_digest(leaves_of(channel, number, length))
            with lock:
                if found != ZERO_GROUP:
                    groups[number] = found
                told(min(length, (number + 1) * GROUP_BLOCKS * BLOCK))

    for _ in range(READERS):
        crew.start(read, image.channel())
    crew.join()
    crew.check()
    return digest.root(length, groups)


def _with_data(image: Image, length: int) -> list[int]:
    """The groups that are not told to be zero, in order."""
    size, found = GROUP_BLOCKS * BLOCK, set[int]()
    for extent in image.first.extents(0, length):
        if not extent.zero:
            found.update(range(extent.start // size, -(-(extent.start + extent.length) // size)))
    return sorted(number for number in found if number < groups_in(length))
