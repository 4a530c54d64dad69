"""Random writes between random passes, with and without a bitmap, some of them killed and taken up or abandoned: the destination is always
the frozen view."""

import contextlib
import os
import random
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ferryman import errors
from ferryman.model.copy import CopyProgress, CopyResult, CopyTask, Image
from tests.copy.conftest import DESTINATION, SOURCE, Copies
from tests.copy.moving import BITMAP, BLOCK, MIB, Disk, content_of
from tests.copy.test_killed import kill_endpoint

SIZE = 72 * MIB
SEEDS = [seed if seed < 2 else pytest.param(seed, marks=pytest.mark.whole) for seed in range(30)]


class Story:
    """What happens to one disk and its copy."""

    def __init__(self, copies: Copies, directory: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.copies, self.disk, self.target = copies, Disk(directory, SIZE, seed=seed), directory / "target"
        self.kind, self.below = self.chance.choice(("raw", "qcow2")), ""
        self.arrived: bytes | None = None  # what the last complete pass saw
        if seed % 3 == 0:
            self._lie_on_a_full_copy(directory)

    def _lie_on_a_full_copy(self, directory: Path) -> None:
        """The destination will be an overlay."""
        full = CopyTask("full", Image(""), Image(str(directory / "full"), self.kind), moment="full")
        self.check(self.copy(full, killed="", abandoned=False), undisturbed=False, at=full.destination)
        self.below, self.kind = self.kind, "qcow2"
        self.disk.begin_anew()
        self.write()

    def write(self) -> None:
        """A few writes of all kinds and sizes, at all places."""
        commands = []
        for _ in range(self.chance.randrange(1, 8)):
            at = self.chance.randrange(SIZE // 4096) * 4096
            size = min(SIZE - at, self.chance.choice((4096, BLOCK, 5 * BLOCK, 3 * MIB)))
            kind = self.chance.choice(
                (f"write -P {self.chance.randrange(1, 255)}", "write -z", "discard", "write -P 1")
            )
            commands.append(f"{kind} {at} {size}")
        self.disk.write(*commands)

    def task(self, moment: int) -> CopyTask:
        """The next pass."""
        verify = self.chance.choice(("full", "written"))
        return CopyTask("story", Image(""), Image(str(self.target), self.kind), moment=str(moment), verify=verify,
                        bitmap=self.chance.choice((BITMAP, "")), compress="off", bandwidth=24 * MIB,
                        base="full" if self.below else "", backing="full" if self.below else "",
                        backing_format=self.below or "qcow2")  # fmt: skip

    def copy(self, task: CopyTask, *, killed: str, abandoned: bool) -> CopyResult:
        """Carry it out; `killed`: the end that dies under way; `abandoned`: it is given up then."""
        at, struck, reached, over = self.chance.random(), threading.Event(), threading.Event(), threading.Event()

        def progress(one: CopyProgress) -> None:
            if one.done >= at * one.total or one.phase == "verifying":
                reached.set()

        def strike() -> None:
            reached.wait(20)
            time.sleep(self.chance.random() * 0.2)
            with contextlib.suppress(OSError):  # it ended just now
                if over.is_set() or not killed or not kill_endpoint(os.getpid(), killed):
                    return
                print(
                    f"{killed} died {at:.2f} into pass {task.moment}, which is {'abandoned' if abandoned else 'taken up'}"
                )
                struck.set()

        striker = threading.Thread(target=strike, daemon=True)
        striker.start()
        try:
            with self.disk.view() as uri:
                return self.copies.copier().copy(replace(task, source=Image(uri)), SOURCE, DESTINATION, progress=progress,
                                                 cancelled=lambda: abandoned and struck.is_set())  # fmt: skip
        finally:
            over.set()
            reached.set()
            striker.join()

    def check(self, result: CopyResult, *, undisturbed: bool, at: Image | None = None) -> None:
        """Everything that is promised of a pass."""
        content = self.disk.content()
        assert content_of(Path(at.location) if at else self.target, at.format if at else self.kind) == content
        assert result.source_digest == result.destination_digest == self.disk.digest()
        assert result.sent_again <= 16 * MIB
        if self.arrived is not None and undisturbed:
            changed = [at for at in range(0, SIZE, BLOCK) if content[at : at + BLOCK] != self.arrived[at : at + BLOCK]]
            data = [at for at in changed if any(content[at : at + BLOCK])]
            assert result.written == len(data) * BLOCK
            assert result.wire < len(data) * (BLOCK + 100) + 60_000
        self.arrived = content


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happens_the_destination_is_the_view_and_only_what_changed_crossed(
    copies: Copies, tmp_path: Path, seed: int
) -> None:
    story = Story(copies, tmp_path, seed)
    undisturbed = True
    for moment in range(5):
        task = story.task(moment)
        killed = story.chance.choice(("", "", "source", "destination"))
        try:
            result = story.copy(task, killed=killed, abandoned=story.chance.random() < 0.5)
        except errors.Stopped:
            undisturbed = False
        else:
            story.check(result, undisturbed=undisturbed and not killed)
            story.disk.begin_anew()
            undisturbed = True
        story.write()
    story.check(story.copy(story.task(5), killed="", abandoned=False), undisturbed=undisturbed)
