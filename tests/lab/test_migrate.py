"""A running guest moves while its client counts: the good days, and the ways they are refused."""

import json
import re
import subprocess

import pytest

from lab import guests, witness
from lab.guests import Guest, GuestSpec
from lab.host import Lab
from tests.lab.operators import ATTENTION, PUT_BACK, REFUSED, SUCCEEDED, Operator, judge

pytestmark = pytest.mark.lab


def test_a_guest_goes_there_and_back_and_its_client_never_notices(whole: Lab, guest: Guest, operator: Operator) -> None:
    before = witness.wire_bytes(whole)
    with witness.Counter(whole, guest) as counter:
        there = operator.migrate(guest, "b")
        assert there.returncode == SUCCEEDED, there.stdout + there.stderr
        judge(whole, guest, at="b", seen=counter.report(), operator=operator)
        back = operator.migrate(guest, "a")
        assert back.returncode == SUCCEEDED, back.stdout + back.stderr
        judge(whole, guest, at="a", seen=counter.report(), operator=operator)
    after = witness.wire_bytes(whole)
    for host in ("a", "b"):  # memory travels over the migration network, not beside the guests
        over_migration = after[host, "migration"][1] - before[host, "migration"][1]
        over_control = after[host, "control"][1] - before[host, "control"][1]
        assert over_migration > 20 * 1024**2 > over_control


def test_the_report_tells_what_happened(whole: Lab, guest: Guest, operator: Operator) -> None:
    with witness.Counter(whole, guest) as counter:
        assert operator.migrate(guest, "b").returncode == SUCCEEDED
        seen = counter.report()
    report = json.loads(operator.run("show", operator.request_id(), "--json").stdout)
    outcome = report["outcome"]
    assert outcome["running_at"] == "b"
    assert 0 < outcome["downtime"] < 5
    assert 0 < outcome["blackout"] < 10
    assert abs(outcome["blackout"] - seen.longest_gap) < 1.0
    assert outcome["transferred"] > 20 * 1024**2
    phases = [entry["phase"] for entry in report["phases"]]
    assert phases[0] == "queued"
    assert phases[-1] == "succeeded"
    assert report["versions"]["source_qemu"].startswith("10.")
    assert report["samples"]
    assert report["rounds"]
    assert {entry["state"] for entry in report["undo"]} == {"dropped"}
    definition = operator.run("show", operator.request_id(), "--definition").stdout
    assert f"<uuid>{guest.uuid}</uuid>" in definition


def test_title_description_and_autostart_travel(whole: Lab, guest: Guest, operator: Operator) -> None:
    assert operator.migrate(guest, "b").returncode == SUCCEEDED
    definition = whole.host("b").run(["virsh", "dumpxml", "--inactive", guest.name]).stdout
    assert "<title>a title</title>" in definition
    assert "<description>words</description>" in definition


def test_a_transient_guest_stays_transient(whole: Lab, operator: Operator) -> None:
    spec = GuestSpec(name="fleeting", address="10.77.0.111", transient=True, disks=("shared:raw",))
    transient = guests.start(whole, "a", spec)
    try:
        assert operator.migrate(transient, "b").returncode == SUCCEEDED
        judge(whole, transient, at="b", operator=operator)
        assert "Persistent:     no" in whole.host("b").run(["virsh", "dominfo", transient.name]).stdout
    finally:
        guests.remove(whole, transient)


def test_dry_run_changes_nothing_and_tells_the_plan(whole: Lab, guest: Guest, operator: Operator) -> None:
    result = operator.run("migrate", guest.name, "--to", "b", "--dry-run")
    assert result.returncode == 0
    assert "point of no return" in result.stdout
    assert "autostart" in result.stdout
    assert not operator.records.requests()
    judge(whole, guest, at="a")


def test_a_definition_left_at_the_destination_needs_a_word(whole: Lab, guest: Guest, operator: Operator) -> None:
    definition = whole.host("a").run(["virsh", "dumpxml", "--inactive", guest.name]).stdout
    whole.host("b").run(["virsh", "define", "/dev/stdin"], text_in=definition)
    refused = operator.migrate(guest, "b")
    assert refused.returncode == REFUSED
    assert "--replace-definition" in refused.stdout
    moved = operator.migrate(guest, "b", "--replace-definition")
    assert moved.returncode == SUCCEEDED, moved.stdout + moved.stderr
    judge(whole, guest, at="b", operator=operator)
    assert guest.uuid in operator.records.definition(operator.request_id(), "b")


def test_a_guest_that_dirties_faster_than_the_link_is_put_back_at_the_timeout_or_converges(
    whole: Lab, operator: Operator
) -> None:
    spec = GuestSpec(name="busy", address="10.77.0.114", dirty="64:2000:r")
    busy = guests.start(whole, "a", spec)
    try:
        result = operator.migrate(busy, "b", "--bandwidth", "8M", "--timeout", "15s")
        assert result.returncode == PUT_BACK, result.stdout + result.stderr
        assert operator.status() == "failed"
        assert "timeout" in operator.last()["outcome"]["reason"]
        judge(whole, busy, at="a", operator=operator)
    finally:
        guests.remove(whole, busy)


def test_a_guest_that_nobody_reaches_afterwards_needs_attention_until_it_answers(
    whole: Lab, guest: Guest, operator: Operator
) -> None:
    """It runs, and clients see nothing: that is no success. The address asked is lost on the way, by us."""
    address = whole.topology.guest_address(150)
    here = [f"{address}/24", "dev", "eth0"]
    whole.controller.run(["ip", "address", "add", *here])  # somebody answers there (a refusal is an answer)
    running = operator.start(
        "migrate", guest.name, "--to", "b", "--yes", "--bandwidth", "20M", "--probe", f"{address}:7001"
    )
    operator.wait_for_bytes()
    whole.controller.run(["ip", "address", "del", *here])
    assert running.wait(90) == ATTENTION
    assert "guest-dark" in {finding["code"] for finding in operator.last()["findings_after"]}
    assert witness.running_at(whole, guest) == ("b",)
    whole.controller.run(["ip", "address", "add", *here])
    try:
        assert operator.run("recover").returncode == SUCCEEDED
    finally:
        whole.controller.run(["ip", "address", "del", *here])
    assert operator.status() == "succeeded"
    judge(whole, guest, at="b", operator=operator)


def test_what_did_not_answer_before_says_nothing_about_the_move(whole: Lab, guest: Guest, operator: Operator) -> None:
    silent = whole.topology.guest_address(151)
    moved = operator.run("migrate", guest.name, "--to", "b", "--yes", "--probe", f"{silent}:7001")
    assert moved.returncode == SUCCEEDED, moved.stdout
    assert "did not answer before the move either" in moved.stdout
    judge(whole, guest, at="b", operator=operator)


def test_a_request_that_a_person_has_looked_at_can_be_closed(whole: Lab, guest: Guest, operator: Operator) -> None:
    operator.migrate(guest, "b", crash="transfer:before")
    whole.host("a").run(["virsh", "destroy", guest.name])
    assert operator.run("recover").returncode == ATTENTION
    assert operator.records.lease(guest.uuid) == operator.request_id()
    whole.host("a").run(["virsh", "start", guest.name])
    guests.wait_healthy(whole, guest)
    closed = operator.run("recover", "--close", operator.request_id())
    assert closed.returncode == SUCCEEDED, closed.stderr
    assert operator.records.lease(guest.uuid) == ""
    whole.host("a").run(["virsh", "autostart", guest.name])  # what was registered was not undone, and that is said
    assert any("closed by" in text for text in operator.records.decisions(operator.request_id()))
    assert operator.migrate(guest, "b").returncode == SUCCEEDED
    judge(whole, guest, at="b", operator=operator)


def test_in_a_terminal_it_asks_first_and_draws_one_picture_that_never_runs_backwards(
    whole: Lab, guest: Guest, operator: Operator
) -> None:
    code, text = operator.in_terminal("migrate", guest.name, "--to", "b", "--bandwidth", "30M", question="go? [y/N]")
    assert code == SUCCEEDED
    assert text.index("point of no return") < text.index("go?") < text.index("transferring")
    for word in ("remaining", "dirty rate", "bandwidth", "left", "succeeded: the guest runs at b"):
        assert word in text, word
    shares = [int(share) for share in re.findall(r"(\d+)%", text)]
    assert len(shares) > 5
    assert shares == sorted(shares)
    assert max(shares[:-1]) <= 100
    judge(whole, guest, at="b", operator=operator)


def test_json_prints_one_event_a_line(whole: Lab, guest: Guest, operator: Operator) -> None:
    lines = operator.migrate(guest, "b", "--json").stdout.splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["event"] for event in events][:1] == ["request"]
    assert events[-1]["event"] == "end"
    assert events[-1]["status"] == "succeeded"
    assert "sample" in {event["event"] for event in events}


def test_bad_input_names_the_thing_the_reason_and_the_remedy(whole: Lab, guest: Guest, operator: Operator) -> None:
    cases: tuple[tuple[tuple[str, ...], str], ...] = (
        (("migrate", guest.name, "--to", "nowhere", "--yes"), "host nowhere: it is not registered"),
        (("migrate", "nobody", "--to", "b", "--yes"), "guest nobody"),
        (("migrate", guest.name, "--to", "a", "--yes"), "one host"),
        (("migrate", guest.name, "--to", "b", "--yes", "--bandwidth", "fast"), "--bandwidth"),
        (("migrate", guest.name, "--to", "b"), "nobody can be asked"),
        (("show", "ffff"), "request ffff"),
        (("host", "add", "c", "http://c/"), "not a scheme"),
    )
    for arguments, words in cases:
        result = operator.run(*arguments)
        assert result.returncode == REFUSED, (arguments, result.stdout, result.stderr)
        assert words in result.stdout + result.stderr
    judge(whole, guest, at="a")


def test_hosts_guests_and_checks_are_told(whole: Lab, guest: Guest, operator: Operator) -> None:
    listed = json.loads(operator.run("guests", "--json").stdout)
    assert [one["name"] for host in listed for one in host["guests"]] == [guest.name]
    detail = json.loads(operator.run("guest", guest.name, "--json").stdout)
    assert detail["disks"][0]["source"] == guest.disk_path()
    assert detail["interfaces"][0]["mac"] == guest.mac
    checked = operator.run("host", "check", "--json")
    assert checked.returncode == 0, checked.stdout
    assert {line["answer"] for line in json.loads(checked.stdout)} == {"good"}


def test_host_check_finds_what_was_taken_away(whole: Lab, operator: Operator) -> None:
    whole.host("b").run(["mv", "/etc/pki/qemu/server-cert.pem", "/etc/pki/qemu/away"])
    try:
        checked = operator.run("host", "check", "b")
        assert checked.returncode == REFUSED
        assert "/etc/pki/qemu/server-cert.pem" in checked.stdout
    finally:
        whole.host("b").run(["mv", "/etc/pki/qemu/away", "/etc/pki/qemu/server-cert.pem"])


def test_qemu_ssh_hosts_work_too(whole: Lab, guest: Guest, operator: Operator) -> None:
    for name in ("a", "b"):
        added = operator.run(
            "host", "add", name, f"qemu+ssh://root@{name}/system", "--migration-address", f"{name}-migration"
        )
        assert added.returncode == 0
    result = operator.migrate(guest, "b")
    assert result.returncode == SUCCEEDED, result.stdout + result.stderr
    judge(whole, guest, at="b", operator=operator)


def test_help_and_version_of_every_command_work(operator: Operator) -> None:
    for command in ("migrate", "assess", "host", "guests", "recover", "show", "follow", "cancel", "history"):
        result = subprocess.run(operator.command(command, "--help"), capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
