"""Removing what a move left at its source. Both hosts are asked first, and the last copy of a disk is never removed."""

from ferryman.errors import FerrymanError, Refused
from ferryman.execute.settle import look
from ferryman.model.outcome import KeptCopy
from ferryman.model.request import Request
from ferryman.plain import from_plain, to_plain
from ferryman.ports import Ports
from ferryman.verify.location import Action, Verdict, judge


def retire(ports: Ports, request: Request) -> list[str]:
    """Remove the kept copies of a finished move, each after a look of its own; returns their paths. Raises Refused."""
    kept = [from_plain(KeptCopy, one) for one in ports.records.facts(request.id).get("left_to_retire", ())]
    removed: list[str] = []
    for copy in kept:
        _may_go(ports, request, copy)
        ports.hypervisor(copy.host).remove_volume(copy.path)
        removed.append(copy.path)
        still = [to_plain(one) for one in kept if one.path not in removed]
        ports.records.keep_facts(request.id, {"left_to_retire": still})
        ports.records.keep_decision(request.id, f"retired {copy.path} at {copy.host}")
    return removed


def _may_go(ports: Ports, request: Request, copy: KeptCopy) -> None:
    """The guest runs at one of the two hosts alone, on another image of that disk, which is there; nobody names this one."""
    what = f"{copy.path} at {copy.host}"
    source, destination = ports.hypervisor(request.source), ports.hypervisor(request.destination)
    verdict = judge(look(source, request.guest_uuid), look(destination, request.guest_uuid))
    if verdict.action not in (Action.FORWARD, Action.BACK) and not _proved_there(ports, request, copy, verdict):
        raise Refused(what, f"it may be the last copy: {verdict.reason}", f"once it runs at {request.source} or {request.destination}: ferryman retire {request.id}")  # fmt: skip
    home = source if verdict.action is Action.BACK else destination
    disk = next((one for one in home.guest(request.guest_uuid).disks if one.target == copy.target), None)
    if disk is None or not disk.source or home.allocation(disk.image) is None:
        raise Refused(what, f"the guest's disk {copy.target} is not found at {home.host.name}: this may be the last copy",
                      f"ferryman guest {request.guest}")  # fmt: skip
    for guest in ports.hypervisor(copy.host).guests():
        if copy.path in guest.disks:
            raise Refused(
                what,
                f"guest {guest.name} at {copy.host} uses it",
                f"ferryman guest {guest.name} shows it; take the disk out of its definition first: virsh edit {guest.name}",
            )


def _proved_there(ports: Ports, request: Request, copy: KeptCopy, verdict: Verdict) -> bool:
    """A guest that was moved while it was off runs nowhere: its definition is at the destination alone, and the digest says the rest."""
    copied = ports.records.facts(request.id).get("copies", {}).get(copy.target, {})
    proved = copied.get("destination_digest", "") == copied.get("source_digest", "-")
    return verdict.action is Action.STOPPED_AT_DESTINATION and proved and not _starts(ports, request)


def _starts(ports: Ports, request: Request) -> bool:
    return bool(ports.records.facts(request.id).get("plan", {}).get("starts"))


def retire_if_asked(ports: Ports, request: Request) -> list[str]:
    """As the last act of a move (--retire). What may not go stays named in the report: the move has succeeded all the same."""
    try:
        return retire(ports, request)
    except FerrymanError as error:
        ports.records.keep_decision(request.id, f"not retired: {error}")
        return []
