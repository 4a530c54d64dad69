"""The image that copies are measured on: a sparse raw disk with runs of blocks of zeroes, of text and of noise.

A third of it is data that is not zero; packed with zstd 1 about half of that is left, as on disks in use.

Runs inside a lab host by its own Python: `python3 - PATH GIB SEED make|change`. `change` rewrites 2 % of the 64 KiB blocks
that hold data with noise.
"""

import os
import random
import sys

BLOCK = 65536
RUNS = 0.37  # of the disk lies in runs
ZERO, NOISE = 0.15, 0.30  # of a run's blocks, and of those that are not zero; the others are text
CHANGED = 0.02


def runs(blocks: int, dice: random.Random) -> list[tuple[int, int]]:
    """(first block, blocks) of each run of data, over the whole disk."""
    found, at = [], 0
    while at < blocks:
        length = min(dice.randint(16, 512), blocks - at)
        found.append((at, length))
        at += length + int(length * (1 / RUNS - 1) * 2 * dice.random())
    return found


def make(path: str, size: int, seed: int) -> None:
    """Write the image anew."""
    dice = random.Random(seed)
    words = [bytes(dice.choices(b"abcdefghijklmnopqrstuvwxyz", k=dice.randint(2, 10))) for _ in range(300)]
    texts = [b" ".join(dice.choices(words, k=15000))[:BLOCK] for _ in range(256)]
    with open(path, "wb", buffering=0) as image:
        image.truncate(size)
        for first, length in runs(size // BLOCK, dice):
            image.seek(first * BLOCK)
            for _ in range(length):
                if dice.random() < ZERO:
                    image.write(bytes(BLOCK))
                elif dice.random() < NOISE:
                    image.write(dice.randbytes(BLOCK))
                else:
                    text, turn = dice.choice(texts), dice.randrange(BLOCK)
                    image.write(text[turn:] + text[:turn])


def change(path: str, size: int, seed: int) -> int:
    """Rewrite some blocks of data; returns how many bytes."""
    held = [
        block for first, length in runs(size // BLOCK, random.Random(seed)) for block in range(first, first + length)
    ]
    chosen = random.Random(os.urandom(8)).sample(held, int(len(held) * CHANGED))
    with open(path, "r+b", buffering=0) as image:
        for block in chosen:
            image.seek(block * BLOCK)
            image.write(os.urandom(BLOCK))
    return len(chosen) * BLOCK


if __name__ == "__main__":
    place, gib, number, act = sys.argv[1:]
    print((change if act == "change" else make)(place, int(float(gib) * 2**30), int(number)))
