"""One connection of a copy carries nothing any more, and nobody is told: the others live, and every kernel finds all in order."""

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ferryman.drivers.copy import copier
from ferryman.drivers.copy.endpoint import Endpoint
from ferryman.model.copy import CopyProgress
from ferryman.model.host import Host
from tests.copy.conftest import DESTINATION, SOURCE, Copies
from tests.copy.test_killed import endpoints

MIB = 1 << 20
REPLIES = copier.CONNECTIONS  # the number of the one that comes last


class Swallowing:
    """A wire between both ends that takes what is sent on one of its connections, from a moment on, and does not bring it."""

    def __init__(self) -> None:
        self.swallows = -1  # the number of that connection, as they came
        self.took = 0  # bytes, at least: there may be none left for that connection
        self._sockets: list[socket.socket] = []

    def before(self, port: int) -> int:
        """Stand before that port; returns our own."""
        listening = socket.create_server(("127.0.0.1", 0))
        self._sockets.append(listening)
        threading.Thread(target=self._serve, args=(listening, port), daemon=True).start()
        return int(listening.getsockname()[1])

    def _serve(self, listening: socket.socket, port: int) -> None:
        with contextlib.suppress(OSError):
            for number in range(REPLIES + 1):
                near, _ = listening.accept()
                far = socket.create_connection(("127.0.0.1", port))
                self._sockets += [near, far]
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(*ends, number), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                if number == self.swallows:
                    self.took += len(data)
                    return  # neither is told: what is sent fills the kernel's room, then waits
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Break everything."""
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[Swallowing]:
    """Between both ends of the first attempt; later ones have a way of their own."""
    made, really = Swallowing(), Endpoint.order
    stood: list[int] = []

    def order(end: Endpoint, do: str, **facts: Any) -> None:
        if do == "send" and not stood:
            stood.append(facts["port"])
            facts["port"] = made.before(facts["port"])
        really(end, do, **facts)

    monkeypatch.setattr(Endpoint, "order", order)
    monkeypatch.setattr(copier, "DEAD_AFTER", 2.0)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("number", "left"),
    [(1, 11 * MIB), (1, 4 * MIB), (REPLIES, 4 * MIB), pytest.param(REPLIES, 11 * MIB, marks=pytest.mark.whole)],
    ids=["data", "the last data, which fit into the kernels' room", "replies", "replies, early"],
)
def test_it_is_noticed_and_the_copy_goes_on_where_it_was(
    copies: Copies, tmp_path: Path, wire: Swallowing, number: int, left: int
) -> None:
    (tmp_path / "source").write_bytes(os.urandom(16 * MIB))
    task = copies.task(tmp_path / "source", tmp_path / "target", bandwidth=4 * MIB, compress="off")
    struck: list[float] = []

    def strike(told: CopyProgress) -> None:
        if told.phase == "copying" and told.done > 16 * MIB - left and not struck:
            wire.swallows = number
            struck.append(time.monotonic())

    result = copies.copier(patience=60.0).copy(
        task, SOURCE, DESTINATION, progress=strike, cancelled=lambda: bool(struck) and time.monotonic() - struck[0] > 30
    )
    assert struck
    assert wire.took or (number, left) == (1, 4 * MIB), "nothing was lost"
    assert result.attempts == (2 if wire.took else 1)
    assert result.sent_again <= 64 * MIB
    assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()


@pytest.mark.parametrize("end", [pytest.param("source", marks=pytest.mark.whole), "destination"])
def test_an_end_that_stands_still_itself_for_as_long_ends_no_attempt(
    copies: Copies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """As a host does whose virtual machine is moved. When it wakes it has heard nothing for that long either."""
    monkeypatch.setattr(copier, "DEAD_AFTER", 2.0)
    (tmp_path / "source").write_bytes(os.urandom(96 * MIB))  # more than the kernels have room for
    stopped: list[int] = []

    def strike(told: CopyProgress) -> None:
        if told.done > 4 * MIB and not stopped:
            stopped.append(endpoints(os.getpid())[end])
            os.kill(stopped[0], signal.SIGSTOP)
            threading.Timer(5.0, os.kill, (stopped[0], signal.SIGCONT)).start()

    task = copies.task(tmp_path / "source", tmp_path / "target", bandwidth=32 * MIB, compress="off")
    result = copies.copier().copy(task, SOURCE, DESTINATION, progress=strike, cancelled=lambda: False)
    assert stopped
    assert result.attempts == 1


def test_what_an_end_tells_as_it_wakes_is_looked_at_again(
    copies: Copies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its kernel has heard nothing for a minute, and what came before lies there unread."""
    monkeypatch.setattr(copier, "DEAD_FOR_CERTAIN", 0.05)
    task = copies.task(tmp_path / "source", tmp_path / "target")
    attempt = copier._Attempt(
        copies.copier(), task, SOURCE, DESTINATION, copier._Sums(), copies.seen.append, lambda: False
    )

    def told(host: Host, **progress: list[float]) -> Any:
        return SimpleNamespace(host=host, progress={"at": time.monotonic(), "gives": [0.0], "lacks": [0.0]} | progress)

    attempt._ends = {"source": told(SOURCE, gives=[60.0]), "destination": told(DESTINATION, lacks=[60.0])}
    attempt._notice_dead_connection()
    attempt._ends["destination"] = told(DESTINATION)
    time.sleep(0.1)
    attempt._notice_dead_connection()
    attempt._ends["destination"] = told(DESTINATION, lacks=[60.0])
    attempt._notice_dead_connection()
    time.sleep(0.1)
    with pytest.raises(copier._Cut, match="has let nothing through for 60 s"):
        attempt._notice_dead_connection()


def test_one_that_is_slow_is_none_of_these(copies: Copies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the pace of this copy each connection waits for longer than that, at both of its ends."""
    monkeypatch.setattr(copier, "DEAD_AFTER", 0.4)
    (tmp_path / "source").write_bytes(os.urandom(3 * MIB))
    result = copies.copy(copies.task(tmp_path / "source", tmp_path / "target", bandwidth=MIB // 2, compress="off"))
    assert result.attempts == 1
