"""One connection of a copy carries nothing any more, and nobody is told: the others live, and every kernel finds all in order."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ferryman.drivers.copy import copier
from ferryman.drivers.copy.endpoint import Endpoint
from ferryman.model.copy import CopyProgress
from tests.copy.conftest import DESTINATION, SOURCE, Copies

MIB = 1 << 20
REPLIES = copier.CONNECTIONS  # the number of the one that comes last


class Swallowing:
    """A wire between both ends that takes what is sent on one of its connections, from a moment on, and does not bring it."""

    def __init__(self) -> None:
        self.swallows = -1  # the number of that connection, as they came
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


@pytest.mark.parametrize("number", [1, REPLIES], ids=["data", "replies"])
@pytest.mark.parametrize("left", [11 * MIB, 4 * MIB], ids=["much left", "all of it fits into the kernels' room"])
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
    assert result.attempts == 2
    assert result.sent_again <= 64 * MIB
    assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()


def test_one_that_is_slow_is_none_of_these(copies: Copies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the pace of this copy each connection waits for longer than that, at both of its ends."""
    monkeypatch.setattr(copier, "DEAD_AFTER", 0.4)
    (tmp_path / "source").write_bytes(os.urandom(3 * MIB))
    result = copies.copy(copies.task(tmp_path / "source", tmp_path / "target", bandwidth=MIB // 2, compress="off"))
    assert result.attempts == 1
