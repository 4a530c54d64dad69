"""The digest of an image at a host, by an endpoint that runs there for as long as that takes."""

import contextlib
import queue
import time
from collections.abc import Callable
from typing import Any

from ferryman import errors
from ferryman.drivers.copy.endpoint import Endpoint
from ferryman.model.copy import CopyProgress, Digest, Image
from ferryman.model.host import Host

LOOK_EVERY = 0.2
PATIENCE = 600.0  # seconds in which nothing was read


def examined(
    image: Image, host: Host, *, progress: Callable[[CopyProgress], None], cancelled: Callable[[], bool],
    translated: Callable[[dict[str, Any], Host], errors.DriverError],
) -> Digest:  # fmt: skip
    """`translated`: what an endpoint's error is to us. Raises errors.DriverError."""
    events: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
    what = f"image {image.location} at {host.name}"
    with contextlib.closing(Endpoint(host, "source", events)) as end:
        end.order("examine", location=image.location, format=image.format)
        done, moved_at = -1, time.monotonic()
        while True:
            if cancelled():
                raise errors.Stopped(what, "it was asked to end", "ask for it again")
            with contextlib.suppress(queue.Empty):
                _, event = events.get(timeout=LOOK_EVERY)
                if event["event"] == "examined":
                    return Digest(event["size"], event["digest"])
                raise translated(event, host) if event["event"] == "error" else end.gone()
            if end.progress and end.progress["done"] != done:
                done, moved_at = end.progress["done"], time.monotonic()
                progress(CopyProgress("verifying", done, end.progress["total"], 0))
            if time.monotonic() - moved_at > PATIENCE:
                raise errors.Timeout(what, f"nothing was read for {PATIENCE:.0f} s", "look whether its storage hangs")
