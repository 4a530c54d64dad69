"""How long a copy is tried: as long as something comes of it, and no longer."""

import os
import time
from pathlib import Path

import pytest

from ferryman import errors
from ferryman.drivers.copy import copier
from ferryman.model.copy import CopyProgress
from tests.copy.conftest import DESTINATION, SOURCE, Copies, fill
from tests.copy.test_killed import kill_endpoint

MIB = 1 << 20


@pytest.mark.whole
def test_a_fault_that_comes_again_at_the_same_place_ends_the_copy(copies: Copies, tmp_path: Path) -> None:
    """The destination dies before anything is on its storage, each time."""
    (tmp_path / "source").write_bytes(os.urandom(24 * MIB))
    task = copies.task(tmp_path / "source", tmp_path / "target", bandwidth=6 * MIB, compress="off")
    began = time.monotonic()
    killed: list[bool] = []

    def strike(one: CopyProgress) -> None:
        if one.done > MIB:
            killed.append(kill_endpoint(os.getpid(), "destination"))

    with pytest.raises(errors.DriverError, match=r"copy endpoint|data connection"):
        copies.copier(patience=12.0).copy(
            task, SOURCE, DESTINATION, progress=strike, cancelled=lambda: time.monotonic() - began > 120
        )
    assert copier.FRUITLESS <= sum(killed) < 10
    result = copies.copy(copies.task(tmp_path / "source", tmp_path / "target", compress="off"))
    assert result.source_digest == result.destination_digest


@pytest.mark.parametrize("stays", [False, True], ids=["nothing stays", "a little stays"])
def test_attempts_that_move_something_go_on_only_while_some_of_it_stays(
    copies: Copies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stays: bool
) -> None:
    began = time.monotonic()
    attempts: list[object] = []

    def run(attempt: copier._Attempt) -> None:
        attempts.append(attempt)
        attempt._sums.started, attempt._sums.moved_at = True, time.monotonic()
        attempt._sums.kept += stays
        raise copier._Cut(errors.Unreachable("endpoint", "it is gone", "start it"))

    monkeypatch.setattr(copier._Attempt, "run", run)
    with pytest.raises(errors.Stopped if stays else errors.Unreachable):
        copies.copier(patience=2.0).copy(
            copies.task(tmp_path / "source", tmp_path / "target"), SOURCE, DESTINATION,
            progress=lambda _: None, cancelled=lambda: time.monotonic() - began > 3.5,
        )  # fmt: skip
    assert len(attempts) >= copier.FRUITLESS


def test_an_image_that_takes_its_storage_slowly_is_waited_for(
    copies: Copies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making it takes longer than anything else that is asked of an endpoint, but it grows."""
    slow = tmp_path / "bin" / "qemu-img"
    slow.parent.mkdir()
    slow.write_text(
        '#!/bin/sh\nif [ "$1" = create ]; then for last; do [ "${last#/}" = "$last" ] || path="$last"; done\n'
        'for i in 1 2 3 4 5 6 7 8; do head -c 100000 /dev/zero >>"$path"; sleep 0.4; done; fi\nexec /usr/bin/qemu-img "$@"\n'
    )
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(copier, "OPENED_WITHIN", 1.5)
    fill(tmp_path / "source", MIB, seed=1)
    copies.copy(copies.task(tmp_path / "source", tmp_path / "target", preallocation="full"), patience=1.5)
    assert [one.phase for one in copies.seen].count("making") > 4
    assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()


def test_what_came_to_stay_is_worth_another_try() -> None:
    """Ten attempts, each of which ends late and leaves a little behind."""
    sums = copier._Sums()
    for kept in range(10):
        before = (sums.kept, sums.moved_at)
        sums.kept, sums.gained_at, sums.moved_at = kept, sums.gained_at - 1000, time.monotonic() + 0.001
        assert sums.judge(*before)
        assert not sums.hopeless(600)
    for _ in range(copier.FRUITLESS):
        assert not sums.hopeless(600)
        sums.gained_at, sums.moved_at = time.monotonic() - 601, sums.moved_at + 0.001
        assert not sums.judge(9, sums.moved_at - 0.001)
    assert sums.hopeless(600)


def test_a_network_that_is_away_is_waited_for_however_often_it_is_tried() -> None:
    sums = copier._Sums()
    sums.moved_at = time.monotonic() - 500
    for _ in range(100):
        assert not sums.judge(sums.kept, sums.moved_at)
        assert not sums.hopeless(600)
    sums.moved_at -= 101
    assert sums.hopeless(600)


@pytest.mark.parametrize(
    "trouble", ["no such source", "something there", "no such directory", "a target that is a directory"]
)
def test_what_cannot_get_better_by_itself_is_tried_once(
    copies: Copies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    fill(tmp_path / "source", MIB, seed=1)
    (tmp_path / "directory").mkdir()
    (tmp_path / "there").touch()
    names = {
        "no such source": ("nothing", "target"), "something there": ("source", "there"),
        "no such directory": ("source", "nowhere/target"), "a target that is a directory": ("source", "directory"),
    }  # fmt: skip
    source, target = names[trouble]
    task = copies.task(tmp_path / source, tmp_path / target)
    attempts: list[object] = []
    really = copier._Attempt.run

    def run(attempt: copier._Attempt) -> object:
        attempts.append(attempt)
        return really(attempt)

    monkeypatch.setattr(copier._Attempt, "run", run)
    with pytest.raises(errors.DriverError) as caught:
        copies.copy(task)
    assert len(attempts) == 1
    assert caught.value.remedy
