"""Asking for a transfer: what libvirt is given, over which connections, and how long the end of the call is waited for."""

import os
import subprocess
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import libvirt
import pytest

from ferryman.drivers.database.records import open_records
from ferryman.drivers.libvirt.between import _transport
from ferryman.drivers.libvirt.calls import Call, guard
from ferryman.drivers.libvirt.connection import without_terminal
from ferryman.drivers.libvirt.migration import flags_for
from ferryman.drivers.libvirt.visit import Visit, Way, _peer_way
from ferryman.errors import AlreadyRunning, DriverError
from ferryman.execute.follow import CONCLUDED_WITHIN, _watch
from ferryman.model.host import Host
from ferryman.model.place import Place, Where
from ferryman.model.plan import Order
from ferryman.model.request import Handshake, Options, Request
from ferryman.model.sample import Sample
from ferryman.plan.handshake import leader
from ferryman.plan.steps import live_plan
from ferryman.ports import Ports
from tests.unit.sites import UUID, good_site

HERE = Host("here", "qemu:///system")


@pytest.mark.parametrize("insecure", [False, True])
def test_a_carried_handshake_differs_from_a_peers_in_one_flag(insecure: bool) -> None:
    peer, carried = (
        flags_for(Order(handshake, "qemu+ssh://b/system", "tcp://b", True, Options(insecure=insecure)))
        for handshake in (Handshake.PEER, Handshake.CARRIED)
    )
    assert peer ^ carried == libvirt.VIR_MIGRATE_PEER2PEER
    assert bool(carried & libvirt.VIR_MIGRATE_TLS) is not insecure


@pytest.mark.parametrize("persistent", [True, False])
def test_only_a_persistent_guest_takes_its_definition_along(persistent: bool) -> None:
    """In libvirt's own hands, so that it holds when ferryman is gone by then; a transient guest stays transient."""
    both = libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    flags = flags_for(Order(Handshake.PEER, "qemu+tls://b/system", "tcp://b", persistent, Options()))
    assert flags & both == (both if persistent else 0)


@pytest.mark.parametrize("call", Call)
def test_a_call_that_would_hang_while_a_job_runs_is_refused_at_once(call: Call) -> None:
    guard(call, "", UUID)
    hangs = {Call.MIGRATE, Call.UNDEFINE, Call.AUTOSTART, Call.RESUME, Call.MARK, Call.MEDIUM, Call.DESTROY}
    hangs |= {Call.SHUTDOWN, Call.LIFECYCLE, Call.START, Call.LINK, Call.BACKUP, Call.CHECKPOINT, Call.FREEZE}
    if call in hangs:
        with pytest.raises(AlreadyRunning, match="while a job"):
            guard(call, "outgoing migration", UUID)
    else:
        guard(call, "outgoing migration", UUID)


@pytest.mark.parametrize("call", Call)
def test_what_a_backup_lets_through_is_not_refused_and_what_would_end_the_guest_under_it_is(call: Call) -> None:
    ends_or_waits = {Call.MIGRATE, Call.UNDEFINE, Call.DESTROY, Call.SHUTDOWN, Call.START, Call.BACKUP, Call.FREEZE}
    if call in ends_or_waits:
        with pytest.raises(AlreadyRunning, match="while a job"):
            guard(call, "backup", UUID)
    else:
        guard(call, "backup", UUID)


def test_a_local_host_has_no_address_for_others_unless_it_is_given_one() -> None:
    assert (HERE.effective_peer_uri, HERE.effective_migration_address) == ("", "")
    given = Host("here", "qemu:///system", peer_uri="qemu+tls://here.lan/system")
    assert (given.effective_peer_uri, given.effective_migration_address) == (given.peer_uri, "here.lan")


def test_what_the_source_reaches_at_its_own_socket_is_not_the_destination() -> None:
    """virsh -c qemu:///system at the source answers: with the source itself."""
    ways = _transport(HERE, (Visit(Host("a", "qemu+ssh://a/system"), peer=Way(True)), Visit(HERE)))
    assert ways.peer_reachable is False
    assert "qemu:///system" in ways.peer_detail
    assert leader(ways, None) is Handshake.CARRIED


def test_a_try_as_another_user_says_nothing_of_what_libvirtd_reaches() -> None:
    way = _peer_way(HERE, ("peer", "126", "anna"))
    assert way.good is None
    assert "anna" in way.detail


def test_ssh_runs_in_a_session_of_its_own_with_its_arguments(tmp_path: Path) -> None:
    """So that a Ctrl-C at the terminal, or its end, does not end the connection of a handshake that we carry."""
    program = parse_qs(urlsplit(without_terminal("qemu+ssh://root@b/system")).query)["command"][0]
    (tmp_path / "ssh").write_text('#!/bin/sh\necho $$ "$(ps -o sid= -p $$)" "$@"\n')
    (tmp_path / "ssh").chmod(0o755)
    answer = subprocess.run([program, "-T", "a b"], env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, capture_output=True, text=True)  # fmt: skip
    own, session, *arguments = answer.stdout.split()
    assert own == session
    assert arguments == ["-T", "a", "b"]


def test_a_uri_keeps_what_the_operator_said_of_ssh() -> None:
    query = parse_qs(urlsplit(without_terminal("qemu+ssh://b/system?command=/opt/ssh&keyfile=/k")).query)
    assert query == {"command": ["/opt/ssh"], "keyfile": ["/k"], "no_tty": ["1"]}
    assert without_terminal("qemu+tls://b/system") == "qemu+tls://b/system"


class _Call:
    """A call that ends, with an error, so many looks after the job's end."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    @property
    def ended(self) -> bool:
        self.looks -= 1
        return self.looks < 0

    @property
    def error(self) -> Exception:
        return DriverError("migration", "the certificate is of somebody else")


class _Source:
    """One sample, then no job."""

    def __init__(self) -> None:
        self.samples = [Sample(0.0, 0.0, False, 10, 5, 5, None, None, 1)]

    def sample(self, uuid: str) -> Sample | None:
        return self.samples.pop() if self.samples else None

    def place(self, uuid: str) -> Place:
        return Place(Where.RUNNING)


class _Clock:
    """Time passes by sleeping."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    wall = now

    def sleep(self, seconds: float) -> None:
        self.time += seconds


@pytest.mark.parametrize(
    ("looks", "carried", "waits"), [(100, True, True), (100_000, True, False), (100, False, False)]
)
def test_a_carried_call_is_waited_for_after_the_jobs_end_but_not_for_ever(
    tmp_path: Path, looks: int, carried: bool, waits: bool
) -> None:
    """It still ends the other copy then, and its error says why the job ended."""
    records, source, clock = open_records(tmp_path), _Source(), _Clock()
    records.add_request(Request("r", "uuid", "web", "a", "b"), "slot0")
    ports = Ports(records, lambda _name: source, None, None, clock, None)  # type: ignore[arg-type, return-value]
    plan = live_plan(good_site(), Options(handshake=Handshake.CARRIED if carried else Handshake.PEER))
    call = _Call(looks)
    end = _watch(ports, records.request("r"), plan, call)
    assert (call.looks < 0) is waits
    assert clock.time - 1000.0 <= (CONCLUDED_WITHIN if carried else 0) + 1.0
    assert "somebody else" in end.reason
    records.engine.dispose()
