"""The engine's way to a host: pushed once, and again when what lies there is not whole."""

import contextlib
import hashlib
import os
import queue
import secrets
from pathlib import Path

import pytest

from ferryman.drivers.copy import endpoint
from ferryman.drivers.copy.endpoint import Endpoint, archive
from ferryman.model.host import Host
from tests.copy.conftest import SOURCE


def test_a_push_that_was_cut_is_made_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an engine that nobody else runs just now: the same with a comment, so another one."""
    words = secrets.token_hex(8).encode()
    engine = archive()[0][:-2] + len(words).to_bytes(2, "little") + words
    digest = hashlib.sha256(engine).hexdigest()[:24]
    monkeypatch.setattr(endpoint, "archive", lambda: (engine, digest))
    cache = Path("/var/cache" if os.geteuid() == 0 else os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    pushed = cache / "ferryman" / f"copy-{digest}.pyz"
    with contextlib.closing(Endpoint(SOURCE, "source", queue.Queue())):
        assert pushed.read_bytes() == engine
    for rest in (engine[:2000], b""):  # a cut connection, a host that lost its power
        pushed.write_bytes(rest)
        with contextlib.closing(Endpoint(SOURCE, "source", queue.Queue())) as end:
            assert end.hello["event"] == "hello"
        assert pushed.read_bytes() == engine
    pushed.unlink()


def test_a_login_shell_that_talks_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ssh program is a script that runs the command here, after the words of such a shell."""
    (tmp_path / "ssh").write_text('#!/bin/sh\necho "Welcome to host b"\nfor last; do :; done\nexec sh -c "$last"\n')
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with contextlib.closing(Endpoint(Host("b", "qemu+ssh://root@b/system"), "source", queue.Queue())) as end:
        assert end.hello["event"] == "hello"
