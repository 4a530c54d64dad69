"""The disk of the records is full, or its file locked: ferryman stands still and ends; the next one carries on, and nothing is lost."""

from pathlib import Path

import pytest

from ferryman.errors import RecordsUnusable
from tests.durability.processes import carry
from tests.durability.test_killed_at_every_step import ends_right
from tests.durability.world import World

# At the others the whole product tries it.
ONCE = ("add_request", "enter", "register_undo", "mark_asked", "keep_sample", "close_undo")
WHOLE = ("take_lease", "keep_facts", "keep_definition", "keep_findings", "keep_outcome", "drop_lease")


@pytest.mark.parametrize("write", [*ONCE, *(pytest.param(write, marks=pytest.mark.whole) for write in WHOLE)])
def test_a_write_that_fails_ends_the_process_and_nothing_else(tmp_path: Path, write: str) -> None:
    World.made(tmp_path / "world.json")
    ended = carry(tmp_path, "ask", f"unusable:{write}")
    assert ended.returncode == RecordsUnusable.exit_code, ended.stderr
    assert str(tmp_path) in ended.stderr
    if write == "add_request":  # nothing was asked yet
        assert carry(tmp_path, "ask").returncode == 0
    else:
        assert carry(tmp_path, "recover").returncode == 0
    ends_right(tmp_path)
