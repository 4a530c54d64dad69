"""Hooks and retries on real hosts: a veto leaves the guest and its client alone; a destination that was away is tried again."""

import json
from pathlib import Path

import pytest

from lab import faults, witness
from lab.guests import Guest
from lab.host import Lab
from tests.lab.operators import REFUSED, SUCCEEDED, Operator, judge

pytestmark = pytest.mark.lab

SETTINGS = """
[[hooks]]
name = "guard"
on = ["before-stop", "after-start", "failure"]
command = ["sh", "-c", "cat >>{heard}; echo >>{heard}; test ! -e {no} || {{ echo not during the sale; exit 10; }}"]
"""


@pytest.mark.parametrize("way", [(), ("--cold",)], ids=["live", "cold"])
def test_a_veto_is_kept_until_it_is_taken_back(
    whole: Lab, guest: Guest, operator: Operator, way: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, no, settings = tmp_path / "heard", tmp_path / "no", tmp_path / "ferryman.toml"
    settings.write_text(SETTINGS.format(heard=heard, no=no))
    monkeypatch.setenv("FERRYMAN_SETTINGS", str(settings))
    no.touch()
    with witness.Counter(whole, guest) as counter:
        refused = operator.migrate(guest, "b", *way)
        assert refused.returncode == REFUSED, refused.stdout + refused.stderr
        assert "not during the sale" in refused.stdout
        judge(whole, guest, at="a", seen=counter.report(), operator=operator)
    no.unlink()
    moved = operator.migrate(guest, "b", *way)
    assert moved.returncode == SUCCEEDED, moved.stdout + moved.stderr
    judge(whole, guest, at="b", operator=operator)
    told = [json.loads(line) for line in heard.read_text().splitlines()]
    assert [one["event"] for one in told] == ["before-stop", "failure", "before-stop", "after-start"]
    assert told[-1]["running_at"] == "b"
    assert "hook guard (after-start): ok after 1 try" in operator.run("show", operator.request_id()).stdout


def test_a_destination_that_was_away_is_tried_again(whole: Lab, guest: Guest, operator: Operator) -> None:
    faults.kill_daemon(whole, "b", "libvirtd")
    try:
        process = operator.start_migration(guest, "b", "--retry", "1")
        operator.wait_for(lambda: len(operator.records.requests()) == 2, "the request that tries again")
    finally:
        faults.start_daemon(whole, "b", "libvirtd")
    said, _ = process.communicate(timeout=240)
    assert process.returncode == SUCCEEDED, said
    assert "try 2 of 2 in 30.0 s" in said
    judge(whole, guest, at="b", operator=operator)
    second, first = operator.records.requests()
    assert (operator.records.phase(first.id), operator.records.phase(second.id)) == ("refused", "succeeded")
