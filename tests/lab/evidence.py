"""What a cold move that arrived has done to the disks, as the witness finds it: proved, untouched at the source, little sent twice."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from lab import witness
from lab.digest import documented_digest
from lab.topology import CONTROL, MIGRATION
from lab.untouched import Untouched
from tests.lab.scene import Scene

MIB = 1 << 20
MAY_BE_SENT_AGAIN = 64 * MIB  # of each disk
MEASURED = 65 * MIB  # what measuring a link sends, with its heads
SENT = "sent again: "
_PIECE = 64 << 10
_MEMORY = "memory"  # of a guest that sleeps: no disk
_WORKLOAD = witness.BLOCK * witness.SLOTS  # what the guest writes to; behind it nothing changes once it was made


class Evidence:
    """What is noted from before a move of a guest that will be stopped."""

    def __init__(self, scene: Scene, untouched: Untouched) -> None:
        self._scene, self._untouched = scene, untouched
        self._sent = self._sent_by_source()

    def judge(self) -> bool:
        """Everything that must be true of the disks when the newest request is a cold move that succeeded; False when it is not."""
        scene = self._scene
        found = scene.operator.records.requests(limit=1)
        if not found or not found[0].options.stops or scene.operator.status() != "succeeded":
            return False
        sent = self._sent_by_source() - self._sent
        report = scene.operator.last()
        left = {one["target"]: one["path"] for one in report["left_to_retire"]}
        copies = {target: copied for target, copied in report["copies"].items() if target != _MEMORY}
        assert set(copies) == set(left), (copies, left, scene.notes)
        if not left:
            return True
        warm = found[0].options.warm
        assert warm or self._untouched.touched() == [], scene.notes
        holds = 0
        for target, copied in copies.items():
            with witness.content(scene.lab, left[target], at=scene.source) as disk:
                expected, holds = documented_digest()(disk.name), holds + _data_in(disk)
                behind = _sum_behind_the_workload(disk)
            assert copied["source_digest"] == copied["destination_digest"] == expected, (copied, scene.notes)
            image = scene.image_of(scene.destination, target)
            with witness.content(scene.lab, image, at=scene.destination) as disk:
                assert _sum_behind_the_workload(disk) == behind, (f"{target} is another one now", scene.notes)
        scene.notes.append(
            f"{SENT}{max(sent - holds, 0) / MIB:.1f} MiB more crossed the wire than the {holds / MIB:.1f} MiB of the disks"
        )
        measured = MEASURED if any("as the link was measured" in text for text in report["decisions"]) else 0
        assert warm or sent - holds - measured <= MAY_BE_SENT_AGAIN * len(left), scene.notes
        return True

    def _sent_by_source(self) -> int:
        sent = witness.wire_bytes(self._scene.lab)
        return sum(sent[self._scene.source, network][1] for network in (CONTROL, MIGRATION))


@contextmanager
def gathered(scene: Scene) -> Iterator[Evidence]:
    """For the length of a move."""
    local = [
        letter for letter, disk in zip("abcdefgh", scene.guest.spec.disks, strict=False) if disk.startswith("local")
    ]
    paths = tuple(scene.image_of(scene.source, f"vd{letter}") for letter in local)
    with Untouched(scene.lab, scene.guest, scene.source, paths) as untouched:
        yield Evidence(scene, untouched)


def _data_in(disk: BinaryIO) -> int:
    disk.seek(0)
    pieces = iter(lambda: disk.read(_PIECE), b"")
    return sum(len(piece) for piece in pieces if piece.strip(b"\0"))


def _sum_behind_the_workload(disk: BinaryIO) -> str:
    disk.seek(_WORKLOAD)
    return hashlib.sha256(disk.read()).hexdigest()
