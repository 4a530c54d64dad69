"""The digest of a disk's content: a tree over 64 KiB blocks, the same for every format. docs/digest.md defines it."""

import hashlib
from collections.abc import Mapping, Sequence

from ferryman_copy.blocks import BLOCK, GROUP_BLOCKS, ZERO_BLOCK, groups_in

SIZE = 32
GROUP_MARK = b"ferryman group\n"
ROOT_MARK = b"ferryman disk 1\n"


def leaf(block: bytes | bytearray | memoryview) -> bytes:
    """The digest of one block; a short one (the disk's last) counts as filled up with zeroes."""
    found = hashlib.sha256(block)
    if len(block) < BLOCK:
        found.update(ZERO_BLOCK[len(block) :])
    return found.digest()


ZERO_LEAF = leaf(ZERO_BLOCK)


def group_digest(leaves: Sequence[bytes]) -> bytes:
    """The digest of a group; blocks past the end of the disk count as zero."""
    return hashlib.sha256(GROUP_MARK + b"".join(leaves) + ZERO_LEAF * (GROUP_BLOCKS - len(leaves))).digest()


ZERO_GROUP = group_digest(())


def root(length: int, groups: Mapping[int, bytes]) -> str:
    """The digest of a disk of so many bytes; groups that are not named are zero."""
    found = hashlib.sha256(ROOT_MARK + length.to_bytes(8, "big"))
    for number in range(groups_in(length)):
        found.update(groups.get(number, ZERO_GROUP))
    return f"fd1:{found.hexdigest()}"
