"""An operator at the controller: runs ferryman as a program, kills it, reads its records; and the judge of what is left."""

import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ferryman.drivers.database.records import open_records
from ferryman.model.host import Host
from ferryman.plain import to_plain
from lab import faults, guests, small, witness
from lab.guests import Guest
from lab.host import Lab
from lab.witness import CountReport

QUIET = 3.0  # seconds; counts come every 20 ms at least
SUCCEEDED, REFUSED, PUT_BACK, ATTENTION = 0, 3, 4, 5


class Operator:
    """Someone with a state directory. Programs they start are ended with them."""

    def __init__(self, lab: Lab, name: str, *, state_size: str = "") -> None:
        """`state_size`: the state directory is a file system of its own, so large, such as 8m."""
        self.lab = lab
        self.state = lab.directory / f"state-{name}-{time.monotonic_ns()}"
        self._small = bool(state_size)
        if state_size:
            small.make(lab, self.state, state_size)
        self.hold = self.state.with_name(f"{self.state.name}-hold")
        self.records = open_records(self.state)
        for host in lab.topology.hosts:
            self.records.add_host(Host(host, f"qemu+tls://{host}/system", migration_address=f"{host}-migration"))
        self._started: list[subprocess.Popen[str]] = []

    def command(self, *arguments: str, crash: str = "") -> list[str]:
        """The command line; `crash` names a moment at which ferryman kills itself or is held (see crashing.py)."""
        program = [sys.executable, "-m", "tests.lab.crashing", crash] if crash else [sys.executable, "-m", "ferryman"]
        variables = [f"FERRYMAN_STATE_DIRECTORY={self.state}", f"FERRYMAN_TEST_HOLD={self.hold}"]
        return self.lab.controller.command(["env", *variables, *program, *arguments])

    def run(self, *arguments: str, crash: str = "", timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """Run to the end."""
        return subprocess.run(
            self.command(*arguments, crash=crash),
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )

    def in_terminal(self, *arguments: str, question: str) -> tuple[int, str]:
        """Run in a terminal of its own and say yes to the question; its exit code and all that the terminal showed."""
        ours, theirs = pty.openpty()
        shown, answered = b"", False
        with subprocess.Popen(
            self.command(*arguments), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        ) as process:
            os.close(theirs)
            with suppress(OSError):  # the terminal is gone when its last user is
                while chunk := os.read(ours, 65536):
                    shown += chunk
                    if question.encode() in shown and not answered:
                        os.write(ours, b"y\n")
                        answered = True
            code = process.wait(120)
        os.close(ours)
        return code, shown.decode(errors="replace")

    def start(self, *arguments: str, crash: str = "") -> subprocess.Popen[str]:
        """Run in the background, as a process group of its own."""
        shutil.rmtree(self.hold, ignore_errors=True)
        self.hold.mkdir()
        process = subprocess.Popen(
            self.command(*arguments, crash=crash), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self._started.append(process)
        return process

    def migrate(self, guest: Guest, to: str = "b", *more: str, crash: str = "") -> subprocess.CompletedProcess[str]:
        """A whole migration in the foreground."""
        return self.run(*self._migrate(guest, to, *more), crash=crash)

    def start_migration(self, guest: Guest, to: str = "b", *more: str, crash: str = "") -> subprocess.Popen[str]:
        """A migration in the background."""
        return self.start(*self._migrate(guest, to, *more), crash=crash)

    def _migrate(self, guest: Guest, to: str, *more: str) -> tuple[str, ...]:
        return ("migrate", guest.name, "--to", to, "--yes", "--probe", f"{guest.address}:{guests.HEALTH_PORT}", *more)

    def wait_until_held(self, process: subprocess.Popen[str], within: float = 90) -> None:
        """Until a ferryman that was started with hold=MOMENT stands still there. An end before that is a failure."""
        held = self.hold / "held"
        self.wait_for(lambda: held.exists() or process.poll() is not None, "the moment to hold at", within)
        if not held.exists():
            raise AssertionError(
                f"the moment never came; ferryman ended with {process.returncode}: {process.communicate()[0]}"
            )

    def let_go(self, leap: float = 0.0) -> None:
        """Let it go on; `leap` seconds are what its wall clock jumps by."""
        partly = self.hold / "going"
        partly.write_text(str(leap))
        partly.rename(self.hold / "go")

    def kill(self, process: subprocess.Popen[str], number: signal.Signals = signal.SIGKILL) -> None:
        """A signal to ferryman; SIGKILL is waited for."""
        os.kill(process.pid, number)  # nsenter and env become the program: it is this pid
        if number is signal.SIGKILL:
            process.wait(10)

    def last(self) -> dict[str, Any]:
        """The newest request's report."""
        return dict(to_plain(self.records.report(self.request_id(), with_samples=False)))

    def status(self) -> str:
        """How the newest request ended."""
        report = self.last()
        return str(report["outcome"]["status"] if report["outcome"] else report["phase"])

    def request_id(self) -> str:
        """The newest request."""
        return self.records.requests(limit=1)[0].id

    def wait_for(self, reached: Callable[[], bool], what: str, within: float = 60) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + within
        while not reached():
            assert time.monotonic() < deadline, f"{what}: not within {within} s"
            time.sleep(0.02)

    def wait_for_bytes(self, within: float = 60) -> None:
        """Until memory of the newest request is on its way."""
        self.wait_for(lambda: self._sent() > 0, "bytes on their way", within)

    def _sent(self) -> int:
        found = self.records.requests(limit=1)
        sample = self.records.last_sample(found[0].id) if found else None
        return sample.processed if sample else 0

    def leave(self) -> None:
        """End what was started and is still there."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            if process.stdout is not None and not process.stdout.closed:
                process.communicate()
        self.records.engine.dispose()
        if self._small:
            small.remove(self.lab, self.state)


def judge(
    lab: Lab,
    guest: Guest,
    *,
    at: str,
    seen: CountReport | None = None,
    operator: Operator | None = None,
    image: str = "",
) -> None:
    """Exactly one copy, at that host; disks right; no count lost; nothing left behind; autostart where the guest is."""
    copies = witness.copies(lab, guest)
    assert [(copy.host, copy.executing) for copy in copies] == [(at, True)], f"copies: {copies}"
    for host in lab.hosts:
        listed = host.run(["virsh", "list", "--all", "--name"]).stdout.split()
        assert (guest.name in listed) == (host.name == at), f"{host.name} lists {listed}"
    for flag in ("--inactive", "--migratable"):  # the definition, and what runs
        assert "urn:ferryman:mark" not in lab.host(at).run(["virsh", "dumpxml", flag, guest.name]).stdout
    health = guests.health(lab, guest)
    assert health["wrong"] == 0
    if guest.spec.disks:
        disk = witness.check_disk(lab, guest, at=at, acknowledged=health["acknowledged"], path=image)
        assert (disk.wrong, disk.missing) == (0, 0), disk
    if guest.spec.autostart:
        info = lab.host(at).run(["virsh", "dominfo", guest.name]).stdout
        assert "Autostart:      enable" in info, info
    assert witness.who_answers(lab, guest) == (guest.mac, at)
    for host in lab.hosts:
        left = host.run(["ls", "/srv/shared"]).stdout
        assert "ferryman-marker" not in left
    if seen is not None:
        assert (seen.lost, seen.repeated, seen.connections) == (0, 0, 1), seen
        assert seen.quiet < QUIET, seen  # the one connection still brings counts
    if operator is not None:
        assert operator.records.lease(guest.uuid) == ""
        assert not operator.records.requests(open_only=True)


def ends_right(lab: Lab, guest: Guest, operator: Operator, code: int, seen: CountReport | None = None) -> str:
    """Settle what needs attention, then: one copy, where the report says, with the exit code that says so too."""
    if code == ATTENTION:
        recovered = operator.run("recover")
        assert recovered.returncode == 0, recovered.stdout + recovered.stderr
    (at,) = witness.running_at(lab, guest)
    status = operator.status()
    assert status in (("succeeded",) if at == "b" else ("failed", "cancelled")), (at, operator.last()["outcome"])
    if code != ATTENTION:
        assert code == (SUCCEEDED if at == "b" else PUT_BACK)
    judge(lab, guest, at=at, seen=seen, operator=operator)
    return at


__all__ = ["ATTENTION", "PUT_BACK", "REFUSED", "SUCCEEDED", "Operator", "ends_right", "faults", "judge"]
