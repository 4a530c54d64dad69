"""Removing what a move left at its source. Both hosts are asked first, and the last copy of a disk is never removed."""

from ferryman.errors import FerrymanError, Refused
from ferryman.execute.settle import look
from ferryman.model.guest import Guest
from ferryman.model.outcome import KeptCopy, Retired
from ferryman.model.request import Request
from ferryman.model.site import Reach
from ferryman.plain import from_plain, to_plain
from ferryman.ports import Hypervisor, Ports
from ferryman.verify.location import Action, Verdict, judge


def retire(ports: Ports, request: Request) -> list[Retired]:
    """Remove the kept copies of a finished move, each after a look of its own. Raises Refused."""
    kept = [from_plain(KeptCopy, one) for one in ports.records.facts(request.id).get("left_to_retire", ())]
    done: list[Retired] = []
    for copy in kept:
        _may_go(ports, request, copy)
        one = Retired(copy.host, copy.path, ports.hypervisor(copy.host).remove_volume(copy.path))
        done.append(one)
        still = [to_plain(other) for other in kept[len(done) :]]
        ports.records.keep_facts(request.id, {"left_to_retire": still})
        ports.records.keep_decision(
            request.id, f"{'retired' if one.removed else 'gone already:'} {copy.path} at {copy.host}"
        )
    return done


def _may_go(ports: Ports, request: Request, copy: KeptCopy) -> None:
    """The guest runs at one of the two hosts alone, on an image that a move made of that disk; nobody names this one."""
    what = f"{copy.path} at {copy.host}"
    source, destination = ports.hypervisor(request.source), ports.hypervisor(request.destination)
    verdict = judge(look(source, request.guest_uuid), look(destination, request.guest_uuid))
    if verdict.action not in (Action.FORWARD, Action.BACK) and not _proved_there(ports, request, copy, verdict):
        raise Refused(what, f"it may be the last copy: {verdict.reason}", f"once it runs at {request.source} or {request.destination}: ferryman retire {request.id}")  # fmt: skip
    home = source if verdict.action is Action.BACK else destination
    at = home.host.name
    guest = home.guest(request.guest_uuid)
    disk = next((one for one in guest.disks if one.target == copy.target), None)
    if disk is None or not disk.source or home.allocation(disk.source) is None:
        raise Refused(what, f"the guest's disk {copy.target} is not found at {at}: this may be the last copy",
                      f"ferryman guest {request.guest}")  # fmt: skip
    if not {disk.source, *disk.backing} & _made(ports, request, copy.target, at):
        raise Refused(what, f"the guest's disk {copy.target} at {at} is {disk.source}, which no move in these records made of it: this may be the last copy",
                      "look whether that disk holds all that this one does; then remove this one by hand: virsh vol-delete")  # fmt: skip
    named = {path for one in guest.disks for path in (one.source, *one.backing)}
    if (
        at != copy.host
        and copy.path in named
        and not _apart(ports, guest, home, ports.hypervisor(copy.host), copy.path)
    ):
        raise Refused(what, f"the guest uses that path at {at}, and it is not proved that the two hosts have different storage there",
                      f"look where the guest's disks are: ferryman guest {request.guest}")  # fmt: skip
    for other in ports.hypervisor(copy.host).guests():
        if copy.path in other.disks:
            raise Refused(
                what,
                f"guest {other.name} at {copy.host} uses it",
                f"ferryman guest {other.name} shows it; take the disk out of its definition first: virsh edit {other.name}",
            )


def _made(ports: Ports, request: Request, target: str, host: str) -> set[str]:
    """The images at a host that moves made of that disk of the guest."""
    moves = [one for one in ports.records.requests(limit=10_000) if (one.guest_uuid, one.destination) == (request.guest_uuid, host)]  # fmt: skip
    volumes = [ports.records.facts(one.id).get("volumes", {}).get(target) for one in moves]
    return {volume["path"] for volume in volumes if volume}


def _apart(ports: Ports, guest: Guest, home: Hypervisor, other: Hypervisor, path: str) -> bool:
    """Whether a path is proved to be other storage at the other host: of local disks both hosts often have the same one."""
    reach = {one.target: one.reach for one in ports.between.look(guest, home, other).disks}
    return all(
        reach.get(disk.target) is Reach.DIFFERENT for disk in guest.disks if path in (disk.source, *disk.backing)
    )


def _proved_there(ports: Ports, request: Request, copy: KeptCopy, verdict: Verdict) -> bool:
    """A guest that was moved while it was off runs nowhere: its definition is at the destination alone, and the digest says the rest."""
    copied = ports.records.facts(request.id).get("copies", {}).get(copy.target, {})
    proved = copied.get("destination_digest", "") == copied.get("source_digest", "-")
    return verdict.action is Action.STOPPED_AT_DESTINATION and proved and not _starts(ports, request)


def _starts(ports: Ports, request: Request) -> bool:
    return bool(ports.records.facts(request.id).get("plan", {}).get("starts"))


def retire_if_asked(ports: Ports, request: Request) -> None:
    """As the last act of a move (--retire). What may not go stays named in the report: the move has succeeded all the same."""
    try:
        retire(ports, request)
    except FerrymanError as error:
        ports.records.keep_decision(request.id, f"not retired: {error}")
