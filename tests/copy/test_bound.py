"""A qemu-nbd lives no longer than the endpoint that started it, whenever that dies."""

import os
import time
from pathlib import Path

import pytest

from tests.copy.conftest import run
from tests.copy.pair import End


def users(image: Path) -> list[int]:
    """Processes that have that image in their command line."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if str(image) in Path(f"/proc/{name}/cmdline").read_text():
                found.append(int(name))
        except OSError:
            continue
    return found


def until(image: Path, used: bool) -> None:
    """Wait until somebody, or nobody, uses it."""
    deadline = time.monotonic() + 5
    while bool(users(image)) is not used:
        assert time.monotonic() < deadline, users(image)
        time.sleep(0.02)


@pytest.mark.parametrize("slow", [True, False], ids=["before its first connection", "later"])
def test_an_endpoint_that_is_killed_leaves_no_qemu_nbd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: bool
) -> None:
    image = tmp_path / "disk.qcow2"
    run("qemu-img", "create", "-f", "qcow2", image, "1M")
    if slow:
        (tmp_path / "qemu-nbd").write_text('#!/bin/sh\nsleep 1\nexec /usr/bin/qemu-nbd "$@"\n')
        (tmp_path / "qemu-nbd").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    end = End()
    end.say("source", location=str(image), format="qcow2")
    if slow:
        while not any("qemu-nbd" in Path(f"/proc/{one}/cmdline").read_text() for one in users(image)):
            time.sleep(0.02)
    else:
        assert end.hear()["event"] == "source"
    assert users(image)
    end.process.kill()
    end.process.wait()
    time.sleep(1.5 if slow else 0.2)
    until(image, used=False)
    end.close()
