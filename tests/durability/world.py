"""Two fake hosts in one JSON file, so that they outlive a killed process as real hosts do.

A migration is a job with a start and a length: whoever looks after its end finds the guest moved. One whose handshake is
carried is gone when the process that carries it is.
"""

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

JOB_SECONDS = 0.6


class World:
    """The file. Every change happens under its lock."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def made(cls, path: Path, state: str = "running", **changes: Any) -> "World":
        """A guest at home in that state, on shared storage; `changes` in the file's own words (files: host -> path -> content)."""
        home = {"a": {"state": state, "autostart": True}, "b": None, "job": None, "calls": 0}
        path.write_text(json.dumps({**home, "local": False, "volumes": [], "medium": ""} | changes))
        return cls(path)

    @classmethod
    def with_local_disks(cls, path: Path) -> "World":
        """The guest's disk and medium are local; at the destination somebody has a volume of the disk's name already."""
        return cls.made(
            path, local=True, volumes=["a/srv/shared/web.qcow2", "b/srv/shared/web.qcow2"], medium="/srv/shared/iso"
        )

    @contextmanager
    def opened(self) -> Iterator[dict[str, Any]]:
        with open(self.path, "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            before = file.read()
            content = json.loads(before)
            self._pass_time(content)
            yield content
            if (after := json.dumps(content)) != before:  # who only looks may be killed at any moment
                file.seek(0)
                file.truncate()
                file.write(after)

    @staticmethod
    def _pass_time(content: dict[str, Any]) -> None:
        """What libvirt would have done by now."""
        job = content["job"]
        if job and job["carrier"] and not Path(f"/proc/{job['carrier']}").exists():
            content["job"] = None
        elif job and time.time() - job["started"] > JOB_SECONDS:
            content["job"] = None
            if content["a"] and content["a"]["state"] == "running":
                mark = {"mark": content["a"]["mark"]} if "mark" in content["a"] else {}  # metadata travel
                content["a"], content["b"] = None, {"state": "running", "autostart": False} | mark

    def read(self) -> dict[str, Any]:
        with self.opened() as content:
            return dict(content)


def world(state: Path) -> dict[str, Any]:
    """What is there now."""
    return World(state / "world.json").read()


def change(state: Path, **changes: Any) -> None:
    """What befalls it, beside whoever works in it."""
    with World(state / "world.json").opened() as content:
        content.update(changes)
