"""Hooks in the fake world: a veto stops nothing, a dead or hanging one ends, and after a crash they are told again at most."""

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from ferryman.model.hook import Ended, Event
from tests.durability.killing import told
from tests.durability.processes import carry
from tests.durability.test_cold import AT_HOME
from tests.durability.world import World, world

EVERY = [event.value for event in Event]
GUARD = {"name": "guard", "on": EVERY, "command": ["guard"], "tries": 2}
CHAT = {"name": "chat", "on": EVERY, "webhook": "https://chat.example.net/", "tries": 3}
NO = {"ended": "veto", "words": "not during the sale"}
DEAD = {"ended": "failed", "words": "connection refused", "again": True}
HANGS = {"ended": "timed out", "words": "no answer within 30 s", "again": True}


def made(state: Path, *hooks: dict[str, Any], **answers: list[dict[str, Any]]) -> None:
    World.with_local_disks(state / "world.json")
    with World(state / "world.json").opened() as content:
        content.update(hooks=list(hooks), answers=answers)


def heard(state: Path, hook: str) -> list[str]:
    return [one["event"] for one in world(state).get("told", ()) if one["hook"] == hook]


@pytest.mark.parametrize("what", ["ask", "ask-cold"])
def test_both_kinds_hear_of_the_stop_while_it_runs_and_of_the_start_afterwards(tmp_path: Path, what: str) -> None:
    made(tmp_path, GUARD, CHAT)
    assert carry(tmp_path, what).returncode == 0
    for hook in ("guard", "chat"):
        assert heard(tmp_path, hook) == ["before-stop", "after-start"]
    before, after = world(tmp_path)["told"][0], world(tmp_path)["told"][-1]
    assert before["home"]["state"] == "running"
    assert (after["home"], after["status"], after["running_at"]) == (None, "succeeded", "b")
    assert [(one.ended, one.tries) for one in told(tmp_path).hooks] == [(Ended.GOOD, 1)] * 4


@pytest.mark.parametrize("what", ["ask", "ask-cold"])
def test_a_veto_stops_nothing_and_is_told_in_the_hooks_words(tmp_path: Path, what: str) -> None:
    made(tmp_path, CHAT, GUARD, guard=[NO])
    assert carry(tmp_path, what).returncode == 0
    now = world(tmp_path)
    assert {name: now["a"][name] for name in AT_HOME} == AT_HOME
    assert (now["b"], now["calls"]) == (None, 0)
    report = told(tmp_path)
    assert report.outcome is not None
    assert report.outcome.status == "refused"
    assert "not during the sale" in report.outcome.reason
    assert {entry.state for entry in report.undo} == {"done"}
    assert "stopping" not in [entry.phase for entry in report.phases]
    assert heard(tmp_path, "chat") == ["before-stop", "failure"]  # who was told of the stop is told that none came


def test_a_dead_webhook_and_a_hanging_command_stop_no_move_and_are_said(tmp_path: Path) -> None:
    made(tmp_path, CHAT, GUARD, chat=[DEAD] * 6, guard=[HANGS] * 4)
    assert carry(tmp_path, "ask-cold").returncode == 0
    report = told(tmp_path)
    assert report.outcome is not None
    assert report.outcome.status == "succeeded"
    assert {(one.hook, one.ended, one.tries) for one in report.hooks} == {
        ("chat", Ended.FAILED, 3),
        ("guard", Ended.TIMED_OUT, 2),
    }
    assert any("connection refused" in text for text in report.decisions)


def test_one_that_must_answer_and_does_not_has_the_guest_stay(tmp_path: Path) -> None:
    made(tmp_path, CHAT | {"must_answer": True}, chat=[DEAD] * 3)
    carry(tmp_path, "ask-cold")
    report = told(tmp_path)
    assert report.outcome is not None
    assert report.outcome.status == "refused"
    assert "connection refused" in report.outcome.reason
    assert world(tmp_path)["a"]["state"] == "running"


def test_one_that_answers_at_the_second_try_has_answered(tmp_path: Path) -> None:
    made(tmp_path, CHAT | {"must_answer": True}, chat=[DEAD])
    carry(tmp_path, "ask-cold")
    assert [(one.event, one.ended, one.tries) for one in told(tmp_path).hooks] == [
        (Event.BEFORE_STOP, Ended.GOOD, 2),
        (Event.AFTER_START, Ended.GOOD, 1),
    ]


def test_a_cancel_ends_the_waiting_between_two_tries(tmp_path: Path) -> None:
    from ferryman.drivers.database.records import open_records
    from tests.durability.processes import Carrying

    made(tmp_path, CHAT | {"tries": 10}, chat=[DEAD] * 10)
    process = Carrying(tmp_path, "ask-cold")
    deadline = time.monotonic() + 60
    while len(heard(tmp_path, "chat")) < 5:  # then it waits for half a minute, which takes more than a second here
        assert time.monotonic() < deadline
        time.sleep(0.05)
    records = open_records(tmp_path)
    records.ask_cancel(records.requests()[0].id, "anna")
    records.engine.dispose()
    assert process.ended().returncode == 0
    assert heard(tmp_path, "chat").count("before-stop") == 5
    assert (told(tmp_path).phase, world(tmp_path)["a"]["state"]) == ("cancelled", "running")


def test_no_hook_says_no_once_there_is_nothing_left_to_refuse(tmp_path: Path) -> None:
    made(tmp_path, GUARD | {"on": ["after-start"]}, guard=[NO])
    carry(tmp_path, "ask")
    report = told(tmp_path)
    assert report.outcome is not None
    assert report.outcome.status == "succeeded"
    assert [one.ended for one in report.hooks] == [Ended.FAILED]


def test_a_guest_that_does_not_answer_is_told_as_one_that_somebody_must_look_at(tmp_path: Path) -> None:
    made(tmp_path, CHAT)
    with World(tmp_path / "world.json").opened() as content:
        content["dark"] = True
    carry(tmp_path, "ask")
    assert heard(tmp_path, "chat") == ["before-stop", "attention"]
    assert carry(tmp_path, "recover").returncode == 0
    assert heard(tmp_path, "chat") == ["before-stop", "attention"]  # the same again is no news


@pytest.mark.parametrize("step", ["tell-before-stop", "tell-end"])
@pytest.mark.parametrize("moment", ["before", "inside", "after"])
def test_killed_while_telling_each_is_told_and_no_event_gets_a_second_id(
    tmp_path: Path, step: str, moment: str
) -> None:
    made(tmp_path, GUARD, CHAT)
    assert carry(tmp_path, "ask-cold", f"{step}:{moment}").returncode == -signal.SIGKILL
    assert carry(tmp_path, "recover").returncode == 0
    report = told(tmp_path)
    assert report.outcome is not None
    assert report.outcome.status == "succeeded"
    for hook in ("guard", "chat"):
        assert set(heard(tmp_path, hook)) == {"before-stop", "after-start"}
    assert len({one["event_id"] for one in world(tmp_path)["told"]}) == 2
    assert len(report.hooks) == 4


def test_a_veto_outlives_a_crash(tmp_path: Path) -> None:
    made(tmp_path, GUARD, guard=[NO, NO])
    assert carry(tmp_path, "ask-cold", "undo-refused:before").returncode == -signal.SIGKILL
    assert carry(tmp_path, "recover").returncode == 0
    report = told(tmp_path)
    assert report.outcome is not None
    assert report.outcome.status == "refused"
    assert world(tmp_path)["a"]["state"] == "running"
