"""The file systems of a guest that was switched off, looked through in the images at its source, which nobody has written to since.

The guest runs at the destination by then, so this takes nothing of its time; the images are still held.
"""

from typing import Any

from ferryman.errors import DriverError
from ferryman.model.plan import Plan
from ferryman.model.request import Request
from ferryman.plain import from_plain, to_plain
from ferryman.ports import Ports
from ferryman.verify.filesystems import Looked, by_hand

WITHIN = 300.0  # seconds: where there is no hardware virtualisation libguestfs needs minutes to be ready


def inspect(ports: Ports, request: Request, plan: Plan) -> None:
    """Look, once, if it was switched off, and note what came of it."""
    facts = ports.records.facts(request.id)
    if not facts.get("forced_off") or "file_systems" in facts:
        return
    ports.records.keep_facts(request.id, {"file_systems": to_plain(_look(ports, request, plan))})


def looked(facts: dict[str, Any]) -> Looked | None:
    """What was noted; None of a guest that was not switched off."""
    if not facts.get("forced_off"):
        return None
    return from_plain(Looked, facts.get("file_systems", {"why_not": "no image of it was held at the source"}))


def _look(ports: Ports, request: Request, plan: Plan) -> Looked:
    images = [image for image in plan.held if not image.shared]  # the others are in use at the destination
    if not images:
        return Looked(why_not="no image of it stayed behind: it runs on all of them")
    try:
        found = ports.hypervisor(request.source).file_systems(images, WITHIN)
    except DriverError as error:
        return Looked(why_not=f"{error.what}: {error.why}", by_hand=by_hand(images))
    if found is None:
        return Looked(why_not=f"{request.source} has no guestfish to look with (apt install libguestfs-tools)", by_hand=by_hand(images))  # fmt: skip
    return Looked(systems=found)
