"""Laws of chains of backups, whatever lies in a folder."""

from hypothesis import given
from hypothesis import strategies as st

from ferryman.model.backup import Backup
from ferryman.plan import chains
from tests.unit.sites import UUID
from tests.unit.test_backup import backup, disk

NAMES = [f"{number:02}" for number in range(6)]


@st.composite
def folders(draw: st.DrawFn) -> dict[str, Backup]:
    """Backups that stand upon any of each other, or upon none; some are not there, and of some a file is not what it was."""
    found = {}
    for name in draw(st.sets(st.sampled_from(NAMES))):
        upon = draw(st.sampled_from(["", *NAMES]))
        one = backup(name, disk(upon=upon))
        if draw(st.integers(0, 4)) == 0:
            one = Backup(name, one.manifest, sizes={"definition.xml": 10})
        found[name] = one
    return found


@given(folders())
def test_what_a_new_one_stands_upon_is_whole_to_its_ground(beside: dict[str, Backup]) -> None:
    newest = chains.newest_whole(UUID, beside)
    whole = [name for name in beside if not chains.lacking(name, beside)]
    assert (newest.name if newest else None) == max(whole, default=None)
    for name in chains.chain(newest.name, beside) if newest else ():
        assert name in beside
        assert beside[name].sizes != {"definition.xml": 10}


@given(folders())
def test_a_backup_that_is_removed_is_missed_by_those_that_need_it_and_by_no_other(beside: dict[str, Backup]) -> None:
    for gone in beside:
        without = {name: one for name, one in beside.items() if name != gone}
        for name in without:
            missed = chains.lacking(name, without) != chains.lacking(name, beside)
            assert missed is (name in chains.stand_upon(gone, beside))


@given(st.text(max_size=40))
def test_a_guests_folder_is_one_plain_name(name: str) -> None:
    folder = chains.folder_of(name, UUID)
    assert "/" not in folder
    assert not folder.startswith(".")
    assert folder.isprintable()
