"""Several guests by one command, moves in the background, limits changed under way, and guests that are shut off."""

import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ferryman.model.phase import Phase
from lab import guests, witness
from lab.guests import Guest, GuestSpec
from lab.host import Lab
from tests.lab.operators import PUT_BACK, REFUSED, SUCCEEDED, Operator, judge

pytestmark = pytest.mark.lab

NVRAM = "/var/lib/libvirt/qemu/nvram/still_VARS.fd"


@pytest.fixture
def still(whole: Lab) -> Iterator[Guest]:
    """A guest that is shut off at a: on shared storage, with autostart and with firmware variables that only a has."""
    spec = GuestSpec(name="still", address="10.77.0.121", nvram=True, autostart=True, memory_mib=128)
    guest = guests.define(whole, "a", spec)
    whole.host("a").run(["cp", "/usr/share/OVMF/OVMF_VARS_4M.fd", NVRAM])
    yield guest
    guests.remove(whole, guest)
    for host in whole.hosts:
        host.run(["sh", "-c", f"rm -f {NVRAM}*"])


@pytest.fixture
def local(whole: Lab) -> Iterator[Guest]:
    """A guest that is shut off at a, with a disk that only a has."""
    guest = guests.define(whole, "a", GuestSpec(name="local", address="10.77.0.122", disks=("local",)))
    yield guest
    guests.remove(whole, guest)


def defined(lab: Lab, guest: Guest) -> dict[str, str]:
    """Where it is defined, with its state and whether it starts with the host."""
    found = {}
    for host in lab.hosts:
        if guest.name in host.run(["virsh", "list", "--all", "--name"]).stdout.split():
            information = host.run(["virsh", "dominfo", guest.name]).stdout
            marked = "Autostart:      enable" in information
            found[host.name] = host.run(["virsh", "domstate", guest.name]).stdout.strip() + (
                ", marked" if marked else ""
            )
    return found


def being_moved(lab: Lab, guest: Guest) -> set[str]:
    """Where its definition says so to other operators."""
    ask = ["virsh", "metadata", guest.name, "urn:ferryman:mark", "--config"]
    return {host.name for host in lab.hosts if "<mark " in host.run(ask, check=False).stdout}


def digest(lab: Lab, host: str, path: str = NVRAM) -> str:
    return lab.host(host).run(["sha256sum", path]).stdout.split()[0]


def test_one_that_is_refused_stops_no_other_and_the_worst_is_the_exit_code(
    whole: Lab, guest: Guest, local: Guest, still: Guest, operator: Operator
) -> None:
    names = ("nobody", local.name, guest.name, still.name)
    result = operator.run("migrate", *names, "--to", "b", "--yes", "--json")
    assert result.returncode == REFUSED, result.stdout + result.stderr
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert all(event["request"] for event in events if event["event"] not in ("refused", "summary"))
    assert events[-1]["event"] == "summary"
    moves = {move["guest"]: move for move in events[-1]["moves"]}
    assert {name: moves[name]["status"] for name in names} == {
        "nobody": "refused", local.name: "refused", guest.name: "succeeded", still.name: "succeeded",
    }  # fmt: skip
    assert "are not copied" in moves[local.name]["reason"]
    ended = {event["request"]: event["status"] for event in events if event["event"] == "end"}
    assert ended[moves[guest.name]["request"]] == "succeeded"
    judge(whole, guest, at="b", operator=operator)
    assert defined(whole, local) == {"a": "shut off"}
    assert defined(whole, still) == {"b": "shut off, marked"}


def test_a_shut_off_guest_goes_there_and_back_with_its_variables(whole: Lab, still: Guest, operator: Operator) -> None:
    shown = operator.run("migrate", still.name, "--to", "b", "--dry-run").stdout
    assert "point of no return" in shown
    assert NVRAM in shown
    there = operator.run("migrate", still.name, "--to", "b", "--yes")
    assert there.returncode == SUCCEEDED, there.stdout + there.stderr
    assert defined(whole, still) == {"b": "shut off, marked"}
    assert digest(whole, "b") == digest(whole, "a")
    b = whole.host("b")
    b.run(["virsh", "start", still.name])  # libvirt takes the copied file as the guest's own
    b.run(["virsh", "destroy", still.name])
    b.run(["sh", "-c", f"printf changed | dd of={NVRAM} conv=notrunc bs=1 seek=500000 status=none"])
    old, new = digest(whole, "a"), digest(whole, "b")
    assert old != new
    back = operator.run("migrate", still.name, "--to", "a", "--yes")
    assert back.returncode == SUCCEEDED, back.stdout + back.stderr
    assert defined(whole, still) == {"a": "shut off, marked"}
    assert digest(whole, "a") == new
    assert digest(whole, "a", f"{NVRAM}.before-{operator.request_id()}") == old
    pools = [host.run(["virsh", "pool-list", "--all", "--name"]).stdout.split() for host in whole.hosts]
    assert [sorted(names) for names in pools] == [["local", "shared"]] * 2  # no pool of ours is left


def test_a_shut_off_guest_killed_in_the_middle_is_led_to_its_end(whole: Lab, still: Guest, operator: Operator) -> None:
    died = operator.run("migrate", still.name, "--to", "b", "--yes", crash="define-destination:inside")
    assert died.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
    assert defined(whole, still) == {"a": "shut off", "b": "shut off"}  # neither is marked to start
    assert being_moved(whole, still) == {"a"}
    recovered = operator.run("recover")
    assert recovered.returncode == SUCCEEDED, recovered.stdout + recovered.stderr
    assert defined(whole, still) == {"b": "shut off, marked"}
    assert being_moved(whole, still) == set()


def test_in_a_terminal_all_plans_are_shown_and_one_question_is_asked(
    whole: Lab, still: Guest, local: Guest, operator: Operator
) -> None:
    code, text = operator.in_terminal("migrate", local.name, still.name, "--to", "b", question="go with 1 of 2? [y/N]")
    assert code == REFUSED
    assert text.index("disk-stays") < text.index("point of no return") < text.index("go with")
    assert text.count("[y/N]") == 1
    assert defined(whole, local) == {"a": "shut off"}
    assert defined(whole, still) == {"b": "shut off, marked"}
    table = text[text.rindex("REQUEST") :]
    assert "refused" in table
    assert "succeeded" in table


def test_all_guests_of_a_host_go_on_in_the_background(
    whole: Lab, guest: Guest, still: Guest, operator: Operator
) -> None:
    command = ("migrate", "--all", "--from", "a", "--to", "b", "--yes", "--detach", "--json", "--bandwidth", "60M")
    result = operator.run(*command)
    assert result.returncode == SUCCEEDED, result.stdout + result.stderr
    asked = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["guest"] for event in asked] == [guest.name, still.name]  # the running one first
    first, second = (event["request"] for event in asked)
    assert operator.records.phase(first) is not Phase.SUCCEEDED  # it goes on without us
    followed = operator.run("follow", second)
    assert followed.returncode == SUCCEEDED, followed.stdout + followed.stderr
    assert operator.records.phase(first) is Phase.SUCCEEDED
    judge(whole, guest, at="b", operator=operator)
    assert defined(whole, still) == {"b": "shut off, marked"}
    log = operator.state / "detached.log"
    assert log.read_text() == ""


def test_a_background_process_that_dies_leaves_its_moves_to_recover(
    whole: Lab, guest: Guest, still: Guest, operator: Operator
) -> None:
    names = (guest.name, still.name)
    handed = operator.run("migrate", *names, "--to", "b", "--yes", "--detach", "--bandwidth", "40M")
    assert handed.returncode == SUCCEEDED, handed.stdout + handed.stderr
    first, second = (line.split()[1].rstrip(":") for line in handed.stdout.splitlines())
    operator.wait_for(lambda: operator.records.last_sample(first) is not None, "a sample")
    os.kill(carrier(operator, first), signal.SIGKILL)
    assert "nobody carries it out" in operator.run("follow", second).stderr
    recovered = operator.run("recover")
    assert recovered.returncode == SUCCEEDED, recovered.stdout + recovered.stderr
    assert operator.records.phase(first) is Phase.SUCCEEDED
    assert operator.records.phase(second) is Phase.REFUSED  # it had not begun: it is not started behind anybody's back
    judge(whole, guest, at="b", operator=operator)
    assert defined(whole, still) == {"a": "shut off, marked"}


def carrier(operator: Operator, request_id: str) -> int:
    """The process that holds the request's slot; a pid of the machine, for the controller has no PID namespace of its own."""
    return int((operator.state / "slots" / operator.records.slot(request_id)).read_text())


def test_limits_are_changed_under_way_and_ctrl_c_lets_no_further_move_begin(
    whole: Lab, guest: Guest, still: Guest, operator: Operator
) -> None:
    speed = kept_speed(whole, guest)
    with witness.Counter(whole, guest) as counter:
        process = operator.start("migrate", guest.name, still.name, "--to", "b", "--yes", "--bandwidth", "2M")
        operator.wait_for(lambda: sent(operator, guest) > 0, "bytes on their way")
        slow = rate(operator, guest, 2.0)
        tuned = operator.run("tune", request_of(operator, guest), "--bandwidth", "12M", "--max-downtime", "1ms")
        assert tuned.returncode == SUCCEEDED, tuned.stderr
        time.sleep(0.6)
        fast = rate(operator, guest, 2.0)
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(60) == PUT_BACK
        judge(whole, guest, at="a", seen=counter.report())
    assert slow < 3.5 * 1024**2 < fast, (slow, fast)
    assert kept_speed(whole, guest) == speed  # neither limit is left for the guest's next move
    report: dict[str, Any] = json.loads(operator.run("show", request_of(operator, guest), "--json").stdout)
    assert report["outcome"]["status"] == "cancelled"
    (wish,) = report["wishes"]
    assert (wish["bandwidth"], wish["max_downtime"], wish["applied"]) == (12 * 1024**2, 0.001, True)
    assert any("tuned by" in decision for decision in report["decisions"])
    assert operator.records.phase(request_of(operator, still)) is Phase.CANCELLED
    assert defined(whole, still) == {"a": "shut off, marked"}
    late = operator.run("tune", request_of(operator, guest), "--bandwidth", "1M")
    assert late.returncode == REFUSED
    assert "it has ended" in late.stderr


def kept_speed(lab: Lab, guest: Guest) -> str:
    """What libvirt keeps for the guest's next migration."""
    return lab.host("a").run(["virsh", "migrate-getspeed", guest.name]).stdout.strip()


def request_of(operator: Operator, guest: Guest) -> str:
    return next(request.id for request in operator.records.requests() if request.guest_uuid == guest.uuid)


def sent(operator: Operator, guest: Guest) -> int:
    """Bytes of the guest's newest request; the newest of all may be one that waits."""
    found = [request.id for request in operator.records.requests() if request.guest_uuid == guest.uuid]
    sample = operator.records.last_sample(found[0]) if found else None
    return sample.processed if sample else 0


def rate(operator: Operator, guest: Guest, seconds: float) -> float:
    """Bytes a second that were sent, by the samples of that time."""
    identity = request_of(operator, guest)
    before = operator.records.last_sample(identity)
    time.sleep(seconds)
    after = operator.records.last_sample(identity)
    assert before is not None
    assert after is not None
    return (after.processed - before.processed) / (after.elapsed - before.elapsed)


def test_doctor_finds_hosts_and_certificates_good(whole: Lab, operator: Operator) -> None:
    lines = json.loads(operator.run("doctor", "--json").stdout)
    hosts = {(line["host"], line["thing"]): line["answer"] for line in lines if line["host"] != "here"}
    assert hosts == {(name, thing): "good" for name in ("a", "b") for thing in ("libvirtd", "ssh")}
    found = {line["thing"]: line["answer"] for line in lines if line["thing"].startswith("certificate")}
    assert len(found) == 2
    assert set(found.values()) == {"good"}
