"""A lab for the session under a fresh name, a guest that every test finds healthy at host a, and an operator."""

import os
import secrets
import time
from collections.abc import Iterator

import pytest

import lab as labs
from lab import faults, guests, lifecycle
from lab.guests import Guest, GuestSpec
from lab.host import Lab
from tests.lab.operators import Operator

SPEC = GuestSpec(
    name="web", memory_mib=192, count_every_ms=20, dirty="20:8:t,8:4:r", autostart=True, title="a title", description="words"
)  # fmt: skip


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Two real hosts; labs of crashed test runs are cleaned first."""
    lifecycle.clean_abandoned()
    name = os.environ.get("FERRYMAN_TEST_LAB") or f"t{secrets.token_hex(3)}"
    up = labs.up(name, hosts=2, owner=os.getpid())
    try:
        yield up
    finally:
        labs.down(name)


@pytest.fixture
def whole(lab: Lab) -> Lab:
    """The lab with every host up and healed, whatever the test before has left."""
    faults.mend(lab)
    time.sleep(0.2)
    return lab


_kept: dict[str, Guest] = {}


@pytest.fixture
def guest(whole: Lab) -> Iterator[Guest]:
    """A running guest at host a and nowhere else; made anew when a test before left it elsewhere. Between its tests it stands still: its work costs others time."""
    kept = _kept.get("web")
    if kept is not None:
        whole.host("a").run(["timeout", "10", "virsh", "resume", SPEC.name], check=False)
    if kept is None or not _as_wanted(whole, kept):
        for host in whole.hosts:
            uuid = host.run(["virsh", "domuuid", SPEC.name], check=False).stdout.strip()
            if uuid:
                guests.remove(whole, Guest(SPEC, uuid, ""))
        _kept["web"] = kept = guests.start(whole, "a", SPEC)
    yield kept
    bring_home(whole, kept)
    if whole.host("a").up:
        whole.host("a").run(["timeout", "10", "virsh", "suspend", SPEC.name], check=False)


def _as_wanted(lab: Lab, guest: Guest) -> bool:
    listed = [host.run(["virsh", "list", "--all", "--name"]).stdout.split() for host in lab.hosts]
    if listed != [["web"], []]:
        return False
    a = lab.host("a")
    if a.run(["virsh", "domstate", "web"]).stdout.strip() != "running":
        return False
    a.run(["virsh", "autostart", "web"])
    try:
        return guests.health(lab, guest)["wrong"] == 0
    except RuntimeError:
        return False


def bring_home(lab: Lab, guest: Guest) -> None:
    """By virsh, so that a test's ferryman has no part in it; what does not work is found by the next test's look."""
    if (
        all(host.up for host in lab.hosts)
        and guest.name in lab.host("b").run(["virsh", "list", "--name"], check=False).stdout.split()
    ):
        lab.controller.run(
            ["virsh", "-c", "qemu+tls://b/system", "migrate", "--live", "--p2p", "--persistent", "--undefinesource",
             guest.name, "qemu+tls://a/system", "tcp://a-migration"], check=False)  # fmt: skip


@pytest.fixture
def operator(whole: Lab) -> Iterator[Operator]:
    """Somebody at the controller with a state directory of their own and both hosts registered."""
    someone = Operator(whole, "one")
    yield someone
    someone.leave()
