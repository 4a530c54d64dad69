"""The engine's way to a host: pushed once, and again when what lies there is not whole."""

import contextlib
import os
import queue
from pathlib import Path

from ferryman.drivers.copy.endpoint import Endpoint, archive
from tests.copy.conftest import SOURCE


def test_a_push_that_was_cut_is_made_good() -> None:
    cache = Path("/var/cache" if os.geteuid() == 0 else os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    pushed = cache / "ferryman" / f"copy-{archive()[1]}.pyz"
    with contextlib.closing(Endpoint(SOURCE, "source", queue.Queue())):
        assert pushed.read_bytes() == archive()[0]
    for rest in (archive()[0][:2000], b""):  # a cut connection, a host that lost its power
        pushed.write_bytes(rest)
        with contextlib.closing(Endpoint(SOURCE, "source", queue.Queue())) as end:
            assert end.hello["event"] == "hello"
        assert pushed.read_bytes() == archive()[0]
