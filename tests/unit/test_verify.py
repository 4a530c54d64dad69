"""Verdicts on pairs of places, and what the network showed."""

import pytest

from ferryman.model.place import Place, Where
from ferryman.verify.location import Action, judge, judge_unasked
from ferryman.verify.network import network_findings

PLAIN = {
    (Where.RUNNING, Where.ABSENT): Action.BACK,
    (Where.RUNNING, Where.OFF): Action.BACK,
    (Where.ABSENT, Where.RUNNING): Action.FORWARD,
    (Where.OFF, Where.RUNNING): Action.FORWARD,
    (Where.STALLED, Where.RUNNING): Action.FORWARD_OVER_HUSK,
    (Where.STALLED, Where.ABSENT): Action.BACK_RESUME,
    (Where.STALLED, Where.OFF): Action.STALE,
    (Where.OFF, Where.ABSENT): Action.STOPPED_AT_SOURCE,
    (Where.HALTED, Where.ABSENT): Action.BACK,
    (Where.HALTED, Where.OFF): Action.BACK,
    (Where.ABSENT, Where.HALTED): Action.FORWARD,
    (Where.OFF, Where.HALTED): Action.FORWARD,
    (Where.ABSENT, Where.OFF): Action.STOPPED_AT_DESTINATION,
}


@pytest.mark.parametrize("source", Where)
@pytest.mark.parametrize("destination", Where)
def test_every_pair_has_its_verdict(source: Where, destination: Where) -> None:
    verdict = judge(Place(source, persistent=True), Place(destination))
    assert verdict.reason
    if (source, destination) in PLAIN:
        assert verdict.action is PLAIN[source, destination]
    else:
        assert verdict.action in (Action.WAIT, Action.ATTENTION)
        assert verdict.remedy


def test_a_stalled_copy_is_resumed_only_when_it_is_known_that_the_destination_never_ran_the_guest() -> None:
    """A definition there is saved before the CPUs start; of a transient guest none is ever saved, so that nothing tells."""
    persistent, transient = Place(Where.STALLED, persistent=True), Place(Where.STALLED)
    assert judge(persistent, Place(Where.ABSENT)).action is Action.BACK_RESUME
    for source, destination in (
        (persistent, Place(Where.OFF, persistent=True)),
        (transient, Place(Where.ABSENT)),
        (transient, Place(Where.OFF, persistent=True)),
    ):
        verdict = judge(source, destination)
        assert verdict.action is Action.STALE
        assert "newer" in verdict.reason
        assert "virsh destroy GUEST at SOURCE" in verdict.remedy


def test_where_nothing_was_asked_for_two_definitions_are_no_riddle() -> None:
    off, running = Place(Where.OFF), Place(Where.RUNNING)
    assert judge(off, off).action is Action.ATTENTION
    assert judge_unasked(off, off).action is Action.STOPPED_AT_SOURCE
    assert judge_unasked(running, off) == judge(running, off)
    assert judge_unasked(off, running) == judge(off, running)


def test_two_running_copies_are_never_touched() -> None:
    assert judge(Place(Where.RUNNING), Place(Where.RUNNING)).action is Action.ATTENTION


@pytest.mark.parametrize("destination", Where)
def test_nothing_is_decided_while_a_job_runs(destination: Where) -> None:
    assert judge(Place(Where.RUNNING, job="outgoing migration"), Place(destination)).action is Action.WAIT


def codes(**changes: object) -> set[str]:
    usual: dict[str, object] = {
        "answers": True, "answered_before": True, "probe": "10.0.0.1:80", "destination": "b", "not_announced": "", "blackout": 0.4, "downtime": 0.3,
    }  # fmt: skip
    return {finding.code for finding in network_findings(**(usual | changes))}  # type: ignore[arg-type]


def test_why_a_guest_was_not_asked_is_said_as_it_was() -> None:
    usual = {"answers": None, "destination": "b", "not_announced": "", "blackout": None, "downtime": 0.3}
    for before, probe, words in (
        (False, "10.0.0.1", "10.0.0.1 did not answer before the move either"),
        (None, "10.0.0.1", "this user may not send ICMP echoes"),
        (False, "", "no address of the guest is known"),
    ):
        (found,) = network_findings(**usual, answered_before=before, probe=probe)  # type: ignore[arg-type]
        assert words in found.why
        assert "--probe ADDRESS:PORT" in found.remedy


def test_what_the_network_showed() -> None:
    assert codes() == set()
    assert codes(answers=False) == {"guest-dark"}
    assert codes(answers=None) == {"answer-not-checked"}
    assert codes(not_announced="no python3 there") == {"not-announced"}
    assert codes(blackout=20.0) == {"long-blackout"}
    assert codes(blackout=20.0, downtime=None) == {"long-blackout"}
    assert codes(blackout=1.9) == set()
    assert codes(blackout=None) == set()
