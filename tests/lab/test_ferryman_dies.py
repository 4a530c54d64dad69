"""ferryman killed with SIGKILL or stopped between the steps (at the steps: test_matrix.py); the next one leads it to a right end, with one owner."""

import json
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from lab import guests, witness
from lab.guests import Guest
from lab.host import Lab
from tests.lab.operators import ATTENTION, PUT_BACK, REFUSED, SUCCEEDED, Operator, judge

pytestmark = pytest.mark.lab


def _dies_and_is_recovered(whole: Lab, guest: Guest, operator: Operator, moment: str) -> None:
    with witness.Counter(whole, guest) as counter:
        died = operator.migrate(guest, "b", crash=moment)
        assert died.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), (died.returncode, died.stdout, died.stderr)
        recovered = operator.run("recover")
        seen = counter.report()
    assert recovered.returncode == SUCCEEDED, recovered.stdout + recovered.stderr
    assert operator.status() == "succeeded"
    judge(whole, guest, at="b", seen=seen, operator=operator)


@pytest.mark.whole
def test_killed_between_asked_and_the_call(whole: Lab, guest: Guest, operator: Operator) -> None:
    _dies_and_is_recovered(whole, guest, operator, "asked")


def test_killed_in_mid_transfer_the_next_command_reattaches_and_starts_no_second_job(
    whole: Lab, guest: Guest, operator: Operator
) -> None:
    with witness.Counter(whole, guest) as counter:
        doomed = operator.start_migration(guest, "b", "--bandwidth", "12M")
        operator.wait_for_bytes()
        operator.kill(doomed)
        assert len(witness.copies(whole, guest, look=0)) == 2  # the transfer outlives ferryman
        recovered = operator.run("recover")
        assert recovered.returncode == SUCCEEDED, recovered.stdout + recovered.stderr
        judge(whole, guest, at="b", seen=counter.report(), operator=operator)
    samples = operator.records.samples(operator.request_id())
    assert [one.elapsed for one in samples] == sorted(one.elapsed for one in samples)  # one job, seen from both


def test_a_bystander_and_an_exiting_process_leave_adopted_work_alone(
    whole: Lab, guest: Guest, operator: Operator
) -> None:
    """Two recoveries at once, one refused and so exiting at once: the work is carried out exactly once."""
    doomed = operator.start_migration(guest, "b", "--bandwidth", "12M")
    operator.wait_for_bytes()
    operator.kill(doomed)
    first, second = operator.start("recover"), operator.start("recover")
    exiting = operator.run("migrate", "nobody", "--to", "b", "--yes")
    assert exiting.returncode == REFUSED
    codes = {first.wait(120), second.wait(120)}
    assert codes == {SUCCEEDED}
    assert operator.status() == "succeeded"
    judge(whole, guest, at="b", operator=operator)


def test_the_terminal_is_gone_and_the_move_goes_on(whole: Lab, guest: Guest, operator: Operator) -> None:
    running = operator.start_migration(guest, "b", "--bandwidth", "12M")
    operator.wait_for_bytes()
    operator.kill(running, signal.SIGHUP)
    followed = operator.run("follow", operator.request_id())
    assert followed.returncode == SUCCEEDED, followed.stdout + followed.stderr
    assert "succeeded" in followed.stdout
    assert running.wait(30) == SUCCEEDED
    judge(whole, guest, at="b", operator=operator)


def test_a_strangers_job_that_began_after_the_last_look_is_neither_watched_nor_aborted(
    whole: Lab, guest: Guest, operator: Operator
) -> None:
    """libvirt itself refuses our call then (E55), though all our looks were good."""
    with witness.Counter(whole, guest) as counter:
        running = operator.start_migration(guest, "b", "--timeout", "3s", crash="hold=asked")
        operator.wait_until_held(running)
        stranger = whole.controller.popen(
            ["virsh", "-c", "qemu+tls://a/system", "migrate", "--live", "--p2p", "--tls", "--persistent", "--undefinesource",
             "--bandwidth", "16", "--auto-converge", guest.name, "qemu+tls://b/system", "tcp://b-migration"])  # fmt: skip
        operator.wait_for(
            lambda: "Unbounded" in whole.host("a").run(["virsh", "domjobinfo", guest.name]).stdout, "the stranger's job"
        )
        operator.let_go()
        assert running.wait(60) == ATTENTION  # autostart is to be put back, and cannot be while that job runs
        assert "another job" in operator.last()["outcome"]["reason"]
        assert stranger.poll() is None
        assert operator.run("recover").returncode in (SUCCEEDED, ATTENTION)
        assert stranger.wait(120) == 0
        assert not any("abort" in text for text in operator.records.decisions(operator.request_id()))
        assert operator.run("recover").returncode == SUCCEEDED
        judge(whole, guest, at="b", seen=counter.report(), operator=operator)


@pytest.mark.whole
def test_stopped_for_33_seconds_and_continued(whole: Lab, guest: Guest, operator: Operator) -> None:
    """libvirtd drops the silent client. A job peer to peer runs on, one that it carried is aborted; each tells the truth on waking."""
    twin = guests.start(whole, "a", guests.GuestSpec(name="twin", address="10.77.0.115"))
    other = Operator(whole, "two")
    try:
        running = operator.start_migration(guest, "b", "--bandwidth", "12M")
        carrying = other.start_migration(twin, "b", "--bandwidth", "1M", "--handshake", "carried")
        for one, process in ((operator, running), (other, carrying)):
            one.wait_for_bytes()
            one.kill(process, signal.SIGSTOP)
        time.sleep(33)
        for one, process in ((operator, running), (other, carrying)):
            one.kill(process, signal.SIGCONT)
        assert (running.wait(90), carrying.wait(90)) == (SUCCEEDED, PUT_BACK)
        judge(whole, guest, at="b", operator=operator)
        judge(whole, twin, at="a", operator=other)
        assert other.status() == "failed"
    finally:
        other.leave()
        guests.remove(whole, twin)


def test_somebody_else_moved_the_guest_between_the_kill_and_the_recovery(
    whole: Lab, guest: Guest, operator: Operator
) -> None:
    operator.migrate(guest, "b", crash="transfer:before")
    whole.controller.run(
        ["virsh", "-c", "qemu+tls://a/system", "migrate", "--live", "--p2p", "--tls", "--persistent", "--undefinesource",
         guest.name, "qemu+tls://b/system", "tcp://b-migration"], timeout=60)  # fmt: skip
    recovered = operator.run("recover")
    assert recovered.returncode == SUCCEEDED, recovered.stdout + recovered.stderr
    judge(whole, guest, at="b", operator=operator)


@pytest.mark.whole
def test_dbos_own_cancel_then_recover(whole: Lab, guest: Guest, operator: Operator) -> None:
    """DBOS's cancel runs no undo: an emergency brake. recover finds the request, watches the job that runs on, and settles."""
    running = operator.start_migration(guest, "b", "--bandwidth", "12M")
    operator.wait_for_bytes()
    program = (
        "import sys; from dbos import DBOSClient; "
        "DBOSClient(system_database_url=sys.argv[1]).cancel_workflow(sys.argv[2])"
    )
    url = f"sqlite:///{operator.state / 'dbos.sqlite'}"
    subprocess.run([sys.executable, "-c", program, url, operator.request_id()], check=True, timeout=30)
    running.wait(120)
    recovered = operator.run("recover")
    assert recovered.returncode == SUCCEEDED, recovered.stdout + recovered.stderr
    judge(whole, guest, at="b", operator=operator)


@pytest.mark.whole
def test_work_in_flight_of_another_version_is_settled_not_replayed(
    whole: Lab, guest: Guest, operator: Operator
) -> None:
    """An upgrade that changed the workflow: DBOS leaves the old work alone, recover settles it."""
    doomed = operator.start_migration(guest, "b", "--bandwidth", "12M")
    operator.wait_for_bytes()
    operator.kill(doomed)
    with sqlite3.connect(operator.state / "dbos.sqlite") as database:
        database.execute("UPDATE workflow_status SET application_version = 'of yesterday'")
    database.close()
    recovered = operator.run("recover")
    assert recovered.returncode == SUCCEEDED, recovered.stdout + recovered.stderr
    judge(whole, guest, at="b", operator=operator)


def test_what_was_never_asked_for_and_is_found_too_late_is_put_back(
    whole: Lab, guest: Guest, operator: Operator
) -> None:
    operator.migrate(guest, "b", crash="transfer:before")
    request = operator.records.requests(limit=1)[0]
    old = json.loads(operator.run("show", request.id, "--json").stdout)["request"] | {
        "asked_at": request.asked_at - 700
    }
    with sqlite3.connect(operator.state / "ferryman.sqlite") as database:
        database.execute("UPDATE requests SET json = ? WHERE id = ?", (json.dumps(old), request.id))
    database.close()
    operator.run("recover")
    assert operator.status() == "failed"
    assert "too late" in operator.last()["outcome"]["reason"]
    judge(whole, guest, at="a", operator=operator)


# Cancel


@pytest.mark.parametrize(
    "phase",
    [
        pytest.param("queued", marks=pytest.mark.whole),
        pytest.param("preparing", marks=pytest.mark.whole),
        "transferring",
    ],
)
def test_cancel_before_the_switchover_rolls_back(whole: Lab, guest: Guest, operator: Operator, phase: str) -> None:
    with witness.Counter(whole, guest) as counter:
        running = operator.start_migration(guest, "b", "--bandwidth", "8M")
        operator.wait_for(lambda: bool(operator.records.requests(limit=1)), "a request")
        if phase == "transferring":
            operator.wait_for_bytes()
        elif phase == "preparing":
            operator.wait_for(lambda: operator.last()["phase"] != "queued", "preparing")
        asked = operator.run("cancel", operator.request_id())
        assert asked.returncode == 0, asked.stderr
        assert running.wait(60) == PUT_BACK
        assert operator.status() == "cancelled"
        judge(whole, guest, at="a", seen=counter.report(), operator=operator)


def test_ctrl_c_asks_for_cancel(whole: Lab, guest: Guest, operator: Operator) -> None:
    running = operator.start_migration(guest, "b", "--bandwidth", "8M")
    operator.wait_for_bytes()
    operator.kill(running, signal.SIGINT)
    assert running.wait(60) == PUT_BACK
    judge(whole, guest, at="a", operator=operator)


def test_cancel_after_the_end_is_refused_with_the_reason(whole: Lab, guest: Guest, operator: Operator) -> None:
    assert operator.migrate(guest, "b").returncode == SUCCEEDED
    refused = operator.run("cancel", operator.request_id())
    assert refused.returncode == REFUSED
    assert "it has ended: succeeded" in refused.stderr


# Two at once


def test_a_second_migration_of_the_same_guest_is_refused(whole: Lab, guest: Guest, operator: Operator) -> None:
    running = operator.start_migration(guest, "b", "--bandwidth", "12M")
    operator.wait_for_bytes()
    first = operator.request_id()
    listed = operator.run("guests", timeout=10)  # an incoming guest must not hold the list up
    assert [line.split()[1:3] for line in listed.stdout.splitlines()[1:]] == [["a", "running"], ["b", "paused"]]
    second = operator.migrate(guest, "b")
    assert second.returncode == REFUSED
    assert first in second.stdout + second.stderr
    assert running.wait(90) == SUCCEEDED
    judge(whole, guest, at="b", operator=operator)


def test_two_state_directories_on_one_guest(whole: Lab, guest: Guest, operator: Operator) -> None:
    """No lease joins them: libvirt's one-job rule does, and the second neither watches nor cancels the first's job."""
    other = Operator(whole, "two")
    try:
        running = operator.start_migration(guest, "b", "--bandwidth", "12M")
        operator.wait_for_bytes()
        refused = other.migrate(guest, "b")
        assert refused.returncode == REFUSED, refused.stdout + refused.stderr
        assert "job" in refused.stdout
        assert running.wait(90) == SUCCEEDED
        judge(whole, guest, at="b", operator=operator)
        assert not other.records.requests(open_only=True)
    finally:
        other.leave()


def test_two_migrations_in_opposite_directions_from_two_terminals(whole: Lab, guest: Guest, operator: Operator) -> None:
    spec = guests.GuestSpec(name="twin", address="10.77.0.115")
    twin = guests.start(whole, "b", spec)
    try:
        one = operator.start_migration(guest, "b")
        two = operator.start_migration(twin, "a")
        assert (one.wait(120), two.wait(120)) == (SUCCEEDED, SUCCEEDED)
        judge(whole, guest, at="b", operator=operator)
        judge(whole, twin, at="a", operator=operator)
    finally:
        guests.remove(whole, twin)
