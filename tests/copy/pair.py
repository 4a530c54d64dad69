"""Two endpoints without a controller of ours between: what tests need to stand on the wire, or to say what no controller would say."""

import contextlib
import json
import os
import random
import secrets
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class End:
    """One endpoint, spoken to by lines. `changed`: what of it is other than in earnest, as Python."""

    def __init__(self, prefix: tuple[str, ...] = (), changed: str = "") -> None:
        program = f"from ferryman_copy import destination, endpoint, journal, orders, wire\n{changed}\nendpoint.main()"
        self.process = subprocess.Popen(
            [*prefix, "/usr/bin/python3", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        assert self.hear()["event"] == "hello"

    def say(self, do: str, **facts: object) -> None:
        """An order."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **facts}) + "\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """The next event that is no progress; "gone" when it ended."""
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            event: dict[str, Any] = json.loads(line)
            if event["event"] != "progress":
                return event
        return {"event": "gone"}

    def close(self) -> None:
        """Let it end."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


def attempt(source: Path, target: Path, journals: Path, *, via: Callable[[int], int] = lambda port: port, connections: int = 2,
            publish: bool = True, bandwidth: int = 0, keep: bool = True, verify: str = "full", changed: str = "", hosts: tuple[tuple[str, ...], ...] = ((), ()),
            address: str = "127.0.0.1", of: dict[str, str] | None = None, **more: object) -> tuple[dict[str, Any], dict[str, Any]]:  # fmt: skip
    """One attempt without TLS, its data by way of the port that `via` answers with. What both ends said last.
    `of`: what else the sender is told of its source. `hosts`: what runs a program at the sender's host and at the receiver's."""
    with contextlib.closing(End(hosts[0], changed)) as sender, contextlib.closing(End(hosts[1], changed)) as receiver:
        sender.say(
            "source",
            **{"location": str(source), "format": "raw", "compress": "off", "bandwidth": bandwidth, **(of or {})},
        )
        told = sender.hear()
        if told["event"] != "source":
            return told, {}
        receiver.say("destination", **{"copy": "pair", "location": str(target), "kind": "raw", "directory": str(journals),
                     "length": told["length"], "fingerprint": told["fingerprint"], "dirty": told["dirty"], **more})  # fmt: skip
        ready = receiver.hear()
        if ready["event"] != "ready":
            return told, ready
        common: dict[str, Any] = {"copy": "pair", "token": secrets.token_hex(16), "connections": connections, "secure": False,
                                  "address": address}  # fmt: skip
        receiver.say("listen", ports=[0, 0], verify=verify, **common)
        port = via(receiver.hear()["port"])
        sender.say("send", port=port, done=ready["done"], compare=ready["compare"], held=ready["held"],
                   tunnels=False, **common)  # fmt: skip
        said: list[dict[str, Any]] = [{}, {}]
        wanted: tuple[tuple[End, tuple[str, ...]], ...] = ((sender, ("sent",)), (receiver, ("verified",)))

        def listen(number: int) -> None:
            end, last = wanted[number]
            while said[number].get("event") not in (*last, "error", "gone"):
                said[number] = end.hear()

        threads = [threading.Thread(target=listen, args=(number,)) for number in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        if said[1].get("event") == "verified" and publish:
            receiver.say("publish", keep=keep)
            said[1] = receiver.hear()
        return said[0], said[1]


class Relay:
    """A wire between sender and receiver that does harm: at a random place it flips a bit, breaks ("cut"), or ends as if nothing followed
    ("truncate")."""

    def __init__(self, harm: str, seed: int, within: int) -> None:
        self._harm, self._at = harm, random.Random(seed).randrange(within)
        self._bit = 1 << random.Random(seed + 1).randrange(8)
        self._passed = 0
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self.done = False

    def __call__(self, port: int) -> int:
        """Stand before that port; returns our own."""
        threading.Thread(target=self._serve, args=(port,), daemon=True).start()
        return int(self._listening.getsockname()[1])

    def _serve(self, port: int) -> None:
        with contextlib.suppress(OSError):
            while True:
                one, _ = self._listening.accept()
                other = socket.create_connection(("127.0.0.1", port))
                self._sockets += [one, other]
                threading.Thread(target=self._pass, args=(one, other, True), daemon=True).start()
                threading.Thread(target=self._pass, args=(other, one, False), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket, harmful: bool) -> None:
        with contextlib.suppress(OSError):
            while data := bytearray(one.recv(1 << 16)):
                with self._lock:
                    at = self._at - self._passed
                    if harmful:
                        self._passed += len(data)
                    if harmful and not self.done and 0 <= at < len(data):
                        self.done = True
                        if self._harm == "flip":
                            data[at] ^= self._bit
                        elif self._harm == "truncate":
                            other.sendall(data[:at])
                            other.shutdown(socket.SHUT_WR)
                            return
                        else:
                            self.close()
                            return
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Break everything."""
        for one in (*self._sockets, self._listening):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@contextlib.contextmanager
def relay(harm: str, seed: int, within: int) -> Iterator[Relay]:
    """A relay that is closed in the end."""
    made = Relay(harm, seed, within)
    try:
        yield made
    finally:
        made.close()
