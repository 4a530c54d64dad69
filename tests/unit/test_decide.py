"""Whether a transfer may go on, and in which phases it may be cancelled."""

from pathlib import Path

import pytest

from ferryman.app import Moves, Site
from ferryman.drivers.database.records import open_records
from ferryman.errors import Refused
from ferryman.execute.follow import NO_BYTE_FOR, Action, Watch, decide, not_ours_any_more
from ferryman.model.phase import Phase
from ferryman.model.request import Request

FLOWING = Watch(elapsed=10, timeout=1800, without_a_byte=0, paused_for=None, cancelled_by="")


@pytest.mark.parametrize(
    ("changes", "action", "word"),
    [
        ({}, Action.WAIT, "flowing"),
        ({"cancelled_by": "anna@desk"}, Action.ABORT, "anna@desk"),
        ({"elapsed": 1801.0}, Action.ABORT, "timeout"),
        ({"without_a_byte": NO_BYTE_FOR + 1}, Action.ABORT, "no byte"),
        ({"without_a_byte": NO_BYTE_FOR - 1}, Action.WAIT, "flowing"),
        ({"paused_for": 9.0, "cancelled_by": "anna", "elapsed": 9999.0, "without_a_byte": 99.0}, Action.WAIT, "switchover"),
        ({"paused_for": 61.0, "without_a_byte": 0.0, "elapsed": 9999.0}, Action.WAIT, "switchover"),
        ({"paused_for": 61.0, "without_a_byte": NO_BYTE_FOR + 1}, Action.ABORT, "no byte"),
        ({"timeout": 0.0, "elapsed": 9999.0}, Action.WAIT, "flowing"),
    ],
)  # fmt: skip
def test_each_reason_to_abort_and_none_after_the_switchover(
    changes: dict[str, object], action: Action, word: str
) -> None:
    from dataclasses import replace

    decision = decide(replace(FLOWING, **changes))  # type: ignore[arg-type]
    assert decision.action is action
    assert word in decision.reason
    assert decision.cancelled is (action is Action.ABORT and "cancelled_by" in changes)
    assert bool(decision.remedy) is (action is Action.ABORT and not decision.cancelled)


def test_a_lease_that_went_is_told_with_its_holder_or_with_none() -> None:
    request = Request("r", "uuid", "web", "a", "b")
    taken, gone = not_ours_any_more(request, "other"), not_ours_any_more(request, "")
    assert (taken.why, taken.remedy) == ("request other is moving it now", "ferryman follow other")
    assert gone.remedy == "ferryman show r"
    assert "nobody" not in gone.why


@pytest.mark.parametrize("phase", Phase)
def test_cancel_is_accepted_before_the_switchover_only(tmp_path: Path, phase: Phase) -> None:
    records = open_records(tmp_path)
    records.add_request(Request("r", "uuid", "web", "a", "b"), "slot0")
    records.enter("r", phase)
    moves = Moves(Site(records), tmp_path)
    if phase in (
        Phase.QUEUED,
        Phase.WAITING,
        Phase.PREPARING,
        Phase.BACKING_UP,
        Phase.COPYING_AHEAD,
        Phase.STOPPING,
        Phase.TRANSFERRING,
        Phase.STARTING,
        Phase.ROLLING_BACK,
    ):
        moves.cancel("r")
        assert records.cancel_asked("r")
    else:
        with pytest.raises(Refused, match=r"only forward|has ended"):
            moves.cancel("r")
        assert not records.cancel_asked("r")
    records.engine.dispose()
