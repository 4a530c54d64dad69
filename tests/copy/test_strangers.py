"""Who knocks at a copy's port without being its sender: few at a time, for a short time."""

import os
import socket
import threading
import time
from pathlib import Path

import pytest

import tests.copy.conftest  # noqa: F401
from ferryman_copy import digest, wire
from ferryman_copy.admission import UNPROVED
from ferryman_copy.blocks import GROUP
from ferryman_copy.frames import Kind, pack
from ferryman_copy.sender import Sender
from ferryman_copy.trouble import Trouble
from tests.copy.fuzz import Bytes
from tests.copy.pair import attempt

MIB = 1 << 20


def test_a_crowd_that_says_nothing_is_sent_away_and_holds_nothing_up(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(os.urandom(2 * MIB))
    strangers: list[socket.socket] = []
    sent_away: list[bytes] = []

    def crowd(port: int) -> int:
        strangers.extend(socket.create_connection(("127.0.0.1", port)) for _ in range(UNPROVED + 20))
        for one in strangers[:20]:
            one.settimeout(3)
            sent_away.append(one.recv(1))
        return port

    told = attempt(tmp_path / "source", tmp_path / "target", tmp_path / "journals", via=crowd)
    for one in strangers:
        one.close()
    assert sent_away == [b""] * 20
    assert told[1]["event"] == "finished"
    assert told[1]["seconds"] < 5


def test_who_says_a_little_now_and_then_gets_no_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "HELLO_WITHIN", 0.6)
    near, far = socket.socketpair()
    began, over = time.monotonic(), threading.Event()

    def drip() -> None:
        far.sendall(b"\0\0\2\0")
        while not over.wait(0.1):
            far.sendall(b"x")

    threading.Thread(target=drip, daemon=True).start()
    with pytest.raises(TimeoutError):
        wire.accept(near, None, "copy", "token")
    over.set()
    assert time.monotonic() - began < 2
    near.close()
    far.close()


def test_a_receiver_cannot_talk_a_group_away(tmp_path: Path) -> None:
    """A digest that it tells of a group that is to be sent would stand for the source's own."""
    (tmp_path / "source").write_bytes(os.urandom(2 * GROUP))
    sender = Sender(str(tmp_path / "source"), "raw")
    sender._done = lambda group: group == 0
    sender._listen(Bytes(pack(Kind.DONE, 0) + digest.ZERO_GROUP + pack(Kind.END)))  # type: ignore[arg-type]
    with pytest.raises(Trouble, match="group 1 is told to be done"):
        sender._listen(Bytes(pack(Kind.DONE, 1) + digest.ZERO_GROUP + pack(Kind.END)))  # type: ignore[arg-type]
    sender.image.close()
