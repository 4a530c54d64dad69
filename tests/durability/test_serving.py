"""The one that serves: it takes what waits, what others left and what is handed over to it."""

import signal
from pathlib import Path

from ferryman.drivers.database.records import open_records
from ferryman.model.request import Options
from tests.durability.processes import Carrying, carry
from tests.durability.test_cold import arrived
from tests.durability.test_warm import in_a_pass, nothing_remembered
from tests.durability.test_windows import asking, in_seconds, moved_once, told, until, waiting, waits
from tests.durability.world import World, change


def serving(state: Path) -> Carrying:
    process = Carrying(state, "serve")
    until(lambda: "serving" in process.said(), "it does not serve")
    return process


def test_the_one_that_serves_takes_what_a_dead_process_left_waiting_also_while_it_runs(tmp_path: Path) -> None:
    World.made(tmp_path / "world.json")
    server = serving(tmp_path)
    process = waiting(tmp_path, asking(at=in_seconds(80)))
    assert "taken" not in server.said()
    process.signal(signal.SIGKILL)
    process.ended()
    until(lambda: told(tmp_path).outcome is not None, server.said())
    moved_once(tmp_path)
    until(lambda: "\nend {" in server.said(), "its end is not told")
    server.signal(signal.SIGTERM)
    assert server.ended().returncode == 0


def test_what_is_handed_over_to_it_is_carried_out(tmp_path: Path) -> None:
    World.made(tmp_path / "world.json")
    server = serving(tmp_path)
    handed_over(tmp_path, at=in_seconds(20))
    until(lambda: told(tmp_path).outcome is not None, server.said())
    moved_once(tmp_path)
    server.signal(signal.SIGTERM)
    assert server.ended().returncode == 0


def handed_over(state: Path, **options: str) -> None:
    """As `migrate` does where somebody serves: a row, and nothing else."""
    from ferryman.app import Moves
    from tests.durability.fakes import FakeSite

    records = open_records(state)
    moves = Moves(FakeSite(records, World(state / "world.json")), state)
    server = moves.server()
    assert server is not None
    moves.hand_over(["web"], "b", Options(**options), server[1])  # type: ignore[arg-type]
    records.engine.dispose()


def test_ended_while_it_waits_the_next_one_that_serves_goes_on(tmp_path: Path) -> None:
    World.made(tmp_path / "world.json")
    server = serving(tmp_path)
    handed_over(tmp_path, at=in_seconds(100))
    until(lambda: waits(tmp_path), server.said())
    server.signal(signal.SIGTERM)
    gone = server.ended()
    assert gone.returncode == 0, gone.stderr
    assert waits(tmp_path)
    (tmp_path / "said-serve").unlink()
    server = serving(tmp_path)
    until(lambda: told(tmp_path).outcome is not None, server.said())
    moved_once(tmp_path)
    server.signal(signal.SIGTERM)
    assert server.ended().returncode == 0


def test_what_was_handed_over_to_one_that_died_before_it_looked_is_not_lost(tmp_path: Path) -> None:
    World.made(tmp_path / "world.json")
    server = serving(tmp_path)
    server.signal(signal.SIGSTOP)
    handed_over(tmp_path, at=in_seconds(20))
    server.signal(signal.SIGKILL)
    server.ended()
    assert carry(tmp_path, "recover").returncode == 0
    moved_once(tmp_path)


def test_two_do_not_serve(tmp_path: Path) -> None:
    World.made(tmp_path / "world.json")
    server = serving(tmp_path)
    (tmp_path / "said-serve").rename(tmp_path / "said-first")
    second = carry(tmp_path, "serve")
    assert second.returncode == 1
    assert "serves this state directory already" in second.stderr
    server.signal(signal.SIGTERM)
    server.ended()


def test_a_move_whose_process_died_is_carried_on_by_the_one_that_serves_and_not_put_back(tmp_path: Path) -> None:
    World.with_local_disks(tmp_path / "world.json")
    server = serving(tmp_path)
    assert carry(tmp_path, "ask-cold", "copy-disks:before").returncode == -signal.SIGKILL
    until(lambda: told(tmp_path).outcome is not None, "it is not carried on")
    arrived(tmp_path)
    server.signal(signal.SIGTERM)
    assert server.ended().returncode == 0


def test_what_somebody_else_took_up_since_the_last_look_is_left_to_them(tmp_path: Path) -> None:
    process = in_a_pass(tmp_path)
    taken = carry(tmp_path, "take-up")
    assert taken.returncode == 0, taken.stderr
    change(tmp_path, copy_lasts=False)
    assert process.ended().returncode == 0
    arrived(tmp_path)
    nothing_remembered(tmp_path)
