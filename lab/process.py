"""Processes of a lab, named by pid and start time, so that only what the lab started is ever ended."""

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def start_time(pid: int) -> str:
    """The kernel's start time of a process; empty when there is none. With the pid it names a process for good."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def state(pid: int) -> str:
    """The kernel's state letter; empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def children(pid: int) -> list[int]:
    """Direct children of a process."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def alive(pid: int, started: str) -> bool:
    """Whether that very process still runs."""
    return bool(started) and start_time(pid) == started and state(pid) != "Z"


def end(pid: int, started: str, within: float = 5.0) -> None:
    """Kill that very process and wait until it is gone."""
    if not alive(pid, started):
        return
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + within
    while alive(pid, started) and time.monotonic() < deadline:
        time.sleep(0.02)


def in_network_namespace(namespace: str) -> list[int]:
    """Every process in a named network namespace."""
    try:
        wanted = os.stat(f"/run/netns/{namespace}").st_ino
    except FileNotFoundError:
        return []
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                if os.stat(entry / "ns/net").st_ino == wanted:
                    found.append(int(entry.name))
    return found


def named(pids: Iterable[int], word: bytes) -> list[int]:
    """Those of them that live and have a word on their command line that begins so."""
    found = []
    for pid in pids:
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if any(one.startswith(word) for one in words) and state(pid) not in ("", "Z"):
                found.append(pid)
    return found
