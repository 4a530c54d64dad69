"""Passes that end early: what they wrote and did not note is looked at, and nothing else is."""

from pathlib import Path
from typing import Any

import pytest

from tests.copy.moving import BITMAP, BLOCK, MIB, Disk
from tests.copy.pair import attempt

GROUP = 16 * MIB
SIZE = 5 * GROUP
DIES_BEFORE_NOTING = "import os\njournal.Journal.note_groups = lambda *_: os._exit(9)\n"
DIES_WRITING = """
import os
from ferryman_copy.rawfile import RawChannel
really = RawChannel.write
def write(*what):
    really(*what)
    os._exit(9)
RawChannel.write = write
"""
DIES_HAVING_NOTED = """
import os
really = journal.Journal.note_groups
def note_groups(self, groups):
    really(self, found := list(groups))
    self.sync()
    if found:
        os._exit(9)
journal.Journal.note_groups = note_groups
"""
ONE_BY_ONE = "from ferryman_copy import receiver\nreceiver.HORIZON = 1\n"
DEATHS = pytest.mark.parametrize(
    ("bitmap", "death"),
    [
        pytest.param(BITMAP, DIES_BEFORE_NOTING, id="bitmap, unnoted"),
        pytest.param("", DIES_WRITING, id="no bitmap, writing"),
        pytest.param(BITMAP, DIES_WRITING, id="bitmap, writing", marks=pytest.mark.whole),
        pytest.param("", DIES_BEFORE_NOTING, id="no bitmap, unnoted", marks=pytest.mark.whole),
    ],
)


class Passes:
    """A full disk and passes over it."""

    def __init__(self, directory: Path) -> None:
        self.disk = Disk(directory, SIZE, parts=0)
        self.disk.write(f"write -P 1 0 {SIZE}")
        self.target, self._journals = directory / "target", directory / "journals"

    def copy(self, moment: str, bitmap: str = BITMAP, verify: str = "written", changed: str = "") -> dict[str, Any]:
        """A pass; what its receiver said last."""
        with self.disk.view() as uri:
            of = {"location": uri, "moment": moment, "bitmap": bitmap}
            return attempt(Path(), self.target, self._journals, of=of, verify=verify, changed=changed)[1]

    @property
    def right(self) -> bool:
        """Whether what arrived is the view."""
        return self.target.read_bytes() == self.disk.content()


@pytest.fixture
def passes(tmp_path: Path) -> Passes:
    """One pass is complete, and since then a block was written in the first and in the third group."""
    made = Passes(tmp_path)
    assert made.copy("one", "")["event"] == "finished"
    made.disk.begin_anew()
    made.disk.write("write -P 7 1M 64k", "write -P 8 40M 64k")
    return made


@DEATHS
def test_what_an_abandoned_pass_wrote_is_not_taken_for_what_the_journal_says(
    passes: Passes, bitmap: str, death: str
) -> None:
    """The guest writes back what was there when the last complete pass saw it: the journal's digest is the source's, the storage's is not."""
    before = passes.target.read_bytes()
    assert passes.copy("two", bitmap, changed=death)["event"] == "gone"
    assert passes.target.read_bytes() != before, "it wrote something"
    passes.disk.write("write -P 1 1M 64k", "write -P 1 40M 64k", "write -P 9 70M 64k")
    assert passes.copy("three", bitmap)["event"] == "finished"
    assert passes.right


@DEATHS
def test_a_pass_that_died_goes_on_with_its_moment(passes: Passes, bitmap: str, death: str) -> None:
    assert passes.copy("two", bitmap, changed=death)["event"] == "gone"
    told = passes.copy("two", bitmap)
    assert told["event"] == "finished"
    assert passes.right
    assert told["attempts"] == 2


def test_a_bitmap_is_not_believed_over_a_first_pass_that_was_abandoned(tmp_path: Path) -> None:
    passes = Passes(tmp_path)
    assert passes.copy("one", "", changed=DIES_HAVING_NOTED)["event"] == "gone"
    passes.disk.write(*(f"write -P 7 {group * GROUP} 64k" for group in range(5)))
    passes.disk.begin_anew()  # as if it counted from there
    assert passes.copy("two")["event"] == "finished"
    assert passes.right


@pytest.mark.parametrize("bitmap", [BITMAP, ""], ids=["bitmap", "no bitmap"])
def test_what_it_did_not_write_to_is_not_read(passes: Passes, bitmap: str) -> None:
    """Rot in a group that is not in doubt stays unseen, as nothing is read there; in one that is, it is put right."""
    assert passes.copy("two", bitmap, changed=ONE_BY_ONE + DIES_BEFORE_NOTING)["event"] == "gone"
    with open(passes.target, "r+b") as file:
        for at in (5 * MIB, 4 * GROUP):
            file.seek(at)
            file.write(b"rot")
    assert passes.copy("two", bitmap, verify="none")["event"] == "finished"
    found, wanted = passes.target.read_bytes(), passes.disk.content()
    assert [at for at in range(0, SIZE, BLOCK) if found[at : at + BLOCK] != wanted[at : at + BLOCK]] == [4 * GROUP]


def test_a_pass_may_go_on_without_the_bitmap_that_it_began_with_and_the_other_way_round(passes: Passes) -> None:
    for first, then in ((BITMAP, ""), ("", BITMAP)):
        moment = f"{first} then {then}"
        assert passes.copy(moment, first, changed=DIES_BEFORE_NOTING)["event"] == "gone"
        assert passes.copy(moment, then)["event"] == "finished"
        assert passes.right
        passes.disk.write("write -P 5 30M 1M")
