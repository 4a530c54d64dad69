"""The image that copies are measured on: a sparse raw disk with runs of zeroes, of text beside noise, and of noise.

Runs inside a lab host by its own Python: `python3 - PATH GIB SEED make|change`. `change` rewrites 2 % of the 64 KiB blocks
that hold data with noise.
"""

import os
import random
import sys

BLOCK = 65536
DATA = 0.32  # of the disk lies in runs of data; of their blocks 15 % are zero and 30 % noise, the others an eighth noise, the rest text
CHANGED = 0.02


def runs(blocks: int, dice: random.Random) -> list[tuple[int, int]]:
    """(first block, blocks) of each run of data, over the whole disk."""
    found, at = [], 0
    while at < blocks:
        length = min(dice.randint(16, 512), blocks - at)
        found.append((at, length))
        at += length + int(length * (1 / DATA - 1) * 2 * dice.random())
    return found


def make(path: str, size: int, seed: int) -> None:
    """Write the image anew."""
    dice = random.Random(seed)
    words = [bytes(dice.choices(b"abcdefghijklmnopqrstuvwxyz", k=dice.randint(2, 10))) for _ in range(300)]
    texts = [b" ".join(dice.choices(words, k=15000))[: BLOCK * 7 // 8] for _ in range(32)]
    with open(path, "wb", buffering=0) as image:
        image.truncate(size)
        for first, length in runs(size // BLOCK, dice):
            image.seek(first * BLOCK)
            for _ in range(length):
                what = dice.random()
                if what < 0.15:
                    image.write(bytes(BLOCK))
                elif what < 0.45:
                    image.write(dice.randbytes(BLOCK))
                else:
                    text = dice.choice(texts)
                    turn = dice.randrange(len(text))
                    image.write((text[turn:] + text[:turn] + dice.randbytes(BLOCK))[:BLOCK])


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
