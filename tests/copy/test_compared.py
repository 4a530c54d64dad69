"""How many compared groups are under way: each is counted once, and let go of whenever the sender deals with it."""

from pathlib import Path

import tests.copy.conftest  # noqa: F401
from ferryman_copy.blocks import GROUP
from ferryman_copy.comparison import Own
from ferryman_copy.digest import ZERO_LEAF
from ferryman_copy.journal import Journal
from ferryman_copy.rawfile import RawFile
from ferryman_copy.receiver import Receiver


class Interrupted:
    """A lock after whose first use another thread has its turn."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver, self._lock = receiver, receiver._lock
        receiver._lock = self  # type: ignore[assignment]

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        self._receiver._lock = self._lock
        self._receiver._zero_group(0)


def test_a_group_that_turns_out_zero_just_as_it_was_compared_is_let_go_of(tmp_path: Path) -> None:
    (tmp_path / "older").write_bytes(bytes(GROUP))
    image, journal = RawFile(str(tmp_path / "older"), writable=True), Journal(str(tmp_path), "compared")
    receiver = Receiver(image, journal, GROUP, compare=lambda _: True, zeroed=False, holes=True, suspect=False)
    Interrupted(receiver)
    receiver.compared(0, Own([ZERO_LEAF] * 256))
    assert receiver._compared == set(), "512 that are never let go of hold the copy up for ever"
    image.close()
    journal.close()
