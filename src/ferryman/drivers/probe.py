"""Looking at a guest as its clients do, and telling the network where it is."""

import itertools
import json
import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from ferryman import errors
from ferryman.drivers import checks, hooks, ssh
from ferryman.drivers.address import parse
from ferryman.model.hook import Answer, Hook
from ferryman.model.host import Host

INTERVAL = 0.05  # seconds between two probes
PROBE_TIMEOUT = 1.0  # seconds for one probe

# Runs at the destination: for each "MAC BRIDGE" a RARP broadcast, as QEMU itself sends, from the guest's address.
_ANNOUNCE = """
import socket, sys
for item in sys.argv[1:]:
    mac, bridge = item.split("@")
    raw = bytes.fromhex(mac.replace(":", ""))
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    s.bind((bridge, 0))
    body = bytes.fromhex("0001080006040003") + raw + bytes(4) + raw + bytes(4)
    for _ in range(3):
        s.send((b"\\xff" * 6 + raw + b"\\x80\\x35" + body).ljust(60, b"\\0"))
"""


def asks(address: str, port: int, timeout: float = PROBE_TIMEOUT) -> bool:
    """One probe: a TCP connection (refused counts: somebody answered), or an ICMP echo.

    Raises PermissionError where this user may not send echoes.
    """
    if port:
        try:
            socket.create_connection((address, port), timeout).close()
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return True
    return _echo(address, timeout)


_sequences = itertools.count(1)


def _echo(name: str, timeout: float) -> bool:
    try:
        family, _, _, _, resolved = socket.getaddrinfo(name, None, type=socket.SOCK_RAW)[0]
    except socket.gaierror:
        return False
    v6 = family == socket.AF_INET6
    request, reply, protocol = (128, 129, socket.IPPROTO_ICMPV6) if v6 else (8, 0, socket.IPPROTO_ICMP)
    asking, raw = _echo_socket(family, protocol)
    with asking:
        asking.settimeout(timeout)
        packet = struct.pack("!BBHHH", request, 0, 0, os.getpid() & 0xFFFF, next(_sequences) & 0xFFFF)
        total = sum(struct.unpack("!4H", packet))
        checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF  # except of a raw IPv4 socket the kernel writes its own
        try:
            asking.sendto(packet[:2] + struct.pack("!H", checksum) + packet[4:], resolved)
            deadline = time.monotonic() + timeout
            while time.monotonic() < deadline:
                answer, sender = asking.recvfrom(2048)
                body = answer[(answer[0] & 15) * 4 :] if raw and not v6 else answer  # that one comes with its header
                same = (
                    slice(4, 8) if raw else slice(6, 8)
                )  # an echo socket has a number of its own, and gets only its answers
                if sender[0] == resolved[0] and body[0] == reply and body[same] == packet[same]:
                    return True
        except OSError:
            return False
    return False


def _echo_socket(family: int, protocol: int) -> tuple[socket.socket, bool]:
    """(socket, whether it is a raw one). Without the right to raw ones, Linux' echo sockets: net.ipv4.ping_group_range."""
    try:
        return socket.socket(family, socket.SOCK_RAW, protocol), True
    except PermissionError:
        return socket.socket(family, socket.SOCK_DGRAM, protocol), False


class ThreadedWatcher:
    """Implements ports.Watcher: asks every INTERVAL, whether or not the last one was answered, and notes when answers came."""

    def __init__(self, probe: str) -> None:
        self._address, self._port = parse(probe)
        self._stopping = threading.Event()
        self._answers: list[float] = []
        self._ended = 0.0
        self._thread = threading.Thread(target=self._run, name=f"probe {probe}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        askers = ThreadPoolExecutor(int(PROBE_TIMEOUT / INTERVAL) + 2)
        while not self._stopping.wait(INTERVAL):
            askers.submit(self._ask)
        self._ended = time.monotonic()
        askers.shutdown(wait=False, cancel_futures=True)

    def _ask(self) -> None:
        with suppress(PermissionError):  # this machine may not send echoes
            if asks(self._address, self._port):
                self._answers.append(time.monotonic())

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(2 * PROBE_TIMEOUT)

    @property
    def blackout(self) -> float | None:
        if not self._answers:
            return None
        times = sorted([*self._answers, max(self._ended, self._answers[-1])])
        return max(later - earlier for earlier, later in itertools.pairwise(times))


def _neighbours() -> list[dict[str, Any]]:
    try:
        text = subprocess.run(["ip", "-json", "neighbour"], capture_output=True, text=True, timeout=5).stdout
        return list(json.loads(text or "[]"))
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return []


class HostNetwork:
    """Implements ports.Network, from this machine and over ssh. `secrets` sign what webhooks get, by the hooks' names."""

    def __init__(self, secrets: Mapping[str, str] | None = None) -> None:
        self._secrets = secrets or {}

    def watch(self, probe: str) -> ThreadedWatcher:
        return ThreadedWatcher(probe)

    def answers(self, probe: str, within: float) -> bool | None:
        address, port = parse(probe)
        deadline = time.monotonic() + within
        try:
            while not asks(address, port):
                if time.monotonic() > deadline:
                    return False
                time.sleep(INTERVAL)
        except PermissionError:
            return None
        return True

    def check(self, check: str, within: float) -> str:
        return checks.ask(check, within)

    def tell(self, hook: Hook, facts: Mapping[str, Any]) -> Answer:
        return hooks.tell(hook, facts, self._secrets.get(hook.name, ""))

    def address_of(self, macs: Sequence[str]) -> str:
        wanted = {mac.lower() for mac in macs}
        known = (entry["dst"] for entry in _neighbours() if entry.get("lladdr", "").lower() in wanted)
        return next((address for address in known if ":" not in address), "")

    def mac_of(self, probe: str) -> str:
        address, _ = parse(probe)
        return next((str(entry.get("lladdr", "")).lower() for entry in _neighbours() if entry["dst"] == address), "")

    def announce(self, host: Host, macs_by_bridge: Sequence[tuple[str, str]]) -> str:
        if not macs_by_bridge:
            return "no interface of the guest is on a bridge"
        items = [f"{mac}@{bridge}" for mac, bridge in macs_by_bridge]
        try:
            answer = ssh.run(host, ["python3", "-c", _ANNOUNCE, *items], timeout=10)
        except errors.DriverError as error:
            return error.why
        if answer.code == 0:
            return ""
        words = answer.err.strip().splitlines()
        return words[-1] if words else f"the program at {host.name} ended with {answer.code}"
