"""A definition or an autostart that somebody changes while the move waits or copies: the guest stays where it is, and the change is kept."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.durability.killing import told
from tests.durability.processes import carry
from tests.durability.test_cold import at_home
from tests.durability.test_warm import ask, left_waiting, nothing_remembered
from tests.durability.test_windows import pass_time
from tests.durability.world import World, change, world

EDITED = {"text": "<domain><memory>2</memory></domain>"}
COLD = 'ask:{"cold": true, "eject": true, "stop_timeout": 5.0}'


def befalls(state: Path, **what: Any) -> None:
    change(state, a=world(state)["a"] | what)


def stayed(state: Path, why: str, *, stopped: bool) -> None:
    """With its newer definition."""
    assert world(state)["a"]["text"] == EDITED["text"]
    with World(state / "world.json").opened() as content:
        del content["a"]["text"]
    report = at_home(state, "failed")
    assert report.outcome is not None
    assert why in report.outcome.reason
    assert report.outcome.remedy == "ask again: ferryman migrate"
    assert ("stopping" in [entry.phase for entry in report.phases]) is stopped


def test_an_edit_while_a_warm_move_waits_is_not_lost_and_the_guest_is_not_stopped(tmp_path: Path) -> None:
    left_waiting(tmp_path)
    befalls(tmp_path, **EDITED)
    pass_time(tmp_path, at=(datetime.now(UTC) - timedelta(seconds=1)).isoformat(timespec="seconds"))
    assert carry(tmp_path, "recover").returncode == 0
    stayed(tmp_path, "its definition at the source is another by now: memory", stopped=False)
    assert len(world(tmp_path)["brought"]) == 1, "another pass was copied in vain"
    nothing_remembered(tmp_path)


@pytest.mark.parametrize("moment", ["watch:inside", "tell-before-stop:after"])
def test_an_edit_right_before_the_stop_is_seen_too(tmp_path: Path, moment: str) -> None:
    World.with_local_disks(tmp_path / "world.json")
    carry(tmp_path, ask(), moment)
    befalls(tmp_path, **EDITED)
    assert carry(tmp_path, "recover").returncode == 0
    stayed(tmp_path, "is another by now: memory", stopped=False)
    nothing_remembered(tmp_path)


@pytest.mark.parametrize("moment", ["hold:inside", "copy-disks:after", "arrive:after"])
def test_an_edit_while_a_stopped_guest_is_copied_puts_it_back_with_what_was_edited(tmp_path: Path, moment: str) -> None:
    World.with_local_disks(tmp_path / "world.json")
    carry(tmp_path, COLD, moment)
    befalls(tmp_path, **EDITED)
    assert carry(tmp_path, "recover").returncode == 0
    stayed(tmp_path, "is another by now: memory", stopped=True)


@pytest.mark.parametrize(
    ("on", "moment", "why"),
    [
        (False, "watch:inside", "its autostart at the source was switched on meanwhile"),
        (True, "watch:inside", "its autostart at the source was switched off meanwhile"),
        (False, "hold:inside", "its autostart at the source was switched on meanwhile"),
    ],
)
def test_an_autostart_that_was_switched_meanwhile_is_not_lost(tmp_path: Path, on: bool, moment: str, why: str) -> None:
    World.with_local_disks(tmp_path / "world.json")
    befalls(tmp_path, autostart=on)
    carry(tmp_path, ask(), moment)
    befalls(tmp_path, autostart=not on)
    assert carry(tmp_path, "recover").returncode == 0
    now, report = world(tmp_path), told(tmp_path)
    assert (now["a"]["state"], now["a"]["autostart"], now["b"]) == ("running", not on, None)
    assert report.outcome is not None
    assert (report.outcome.status, why in report.outcome.reason) == ("failed", True), report.outcome
