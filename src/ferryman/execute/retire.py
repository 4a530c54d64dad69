"""Removing what a move left at its source. Both hosts are asked first, and the last copy of a disk is never removed."""

from ferryman.errors import FerrymanError, Refused
from ferryman.execute import undo
from ferryman.execute.settle import look
from ferryman.model.guest import Guest
from ferryman.model.outcome import KeptCopy, Retired
from ferryman.model.place import Place
from ferryman.model.request import Request
from ferryman.model.site import Reach
from ferryman.plain import from_plain, to_plain
from ferryman.ports import Hypervisor, Ports
from ferryman.verify import disks
from ferryman.verify.location import Action, judge


def retire(ports: Ports, request: Request) -> list[Retired]:
    """Remove the kept copies of a finished move, each after a look of its own, then what it put aside. Raises Refused."""
    if undo.held(ports, request):
        raise Refused(
            f"images at {request.source}", "they may still be held for this move", "ferryman recover lets them go"
        )
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
    return done + _set_aside(ports, request)


def _set_aside(ports: Ports, request: Request) -> list[Retired]:
    """Firmware variables and TPM state that the destination had before, older than what the guest brought along."""
    done: list[Retired] = []
    aside = ports.records.facts(request.id).get("set_aside", ())
    for one in aside:
        verdict = judge(*_places(ports, request))
        if verdict.action not in (Action.FORWARD, Action.BACK, Action.STOPPED_AT_DESTINATION):
            raise Refused(f"{one['path']} at {one['host']}", f"it is not plain who has the guest: {verdict.reason}", f"once it is: ferryman retire {request.id}")  # fmt: skip
        removed = ports.hypervisor(one["host"]).remove_aside(one["path"], request.id)
        done.append(Retired(one["host"], one["path"], removed))
        ports.records.keep_facts(request.id, {"set_aside": list(aside[len(done) :])})
        ports.records.keep_decision(request.id, f"{'retired' if removed else 'gone already:'} {one['path']} at {one['host']}")  # fmt: skip
    return done


def _places(ports: Ports, request: Request) -> list[Place]:
    return [look(ports.hypervisor(host), request.guest_uuid) for host in (request.source, request.destination)]


def _may_go(ports: Ports, request: Request, copy: KeptCopy) -> None:
    """Ask both hosts, and let verify/disks.py decide."""
    verdict = judge(*_places(ports, request))
    home = disks.home(request, verdict, copied_whole=_copied_whole(ports, request, copy))
    seen = _seen(ports, request, copy, ports.hypervisor(home)) if home else None
    if (against := disks.against_retiring(request, copy, verdict, seen)) is not None:
        raise Refused(against.what, against.why, against.remedy)


def _seen(ports: Ports, request: Request, copy: KeptCopy, home: Hypervisor) -> disks.Evidence:
    guest, there = home.guest(request.guest_uuid), ports.hypervisor(copy.host)
    source = next((one.source for one in guest.disks if one.target == copy.target), "")
    same_path = home.host.name != copy.host and copy.path in disks.named(guest)
    return disks.Evidence(
        guest=guest,
        found=bool(source) and home.allocation(source) is not None,
        made=_made(ports, request, copy.target, home.host.name),
        apart=same_path and _apart(ports, guest, home, there, copy.path),
        users=there.users_of(copy.path),
    )


def _made(ports: Ports, request: Request, target: str, host: str) -> frozenset[str]:
    """The images at a host that moves made of that disk of the guest."""
    moves = [one for one in ports.records.requests(limit=10_000) if (one.guest_uuid, one.destination) == (request.guest_uuid, host)]  # fmt: skip
    volumes = [ports.records.facts(one.id).get("volumes", {}).get(target) for one in moves]
    return frozenset(volume["path"] for volume in volumes if volume)


def _apart(ports: Ports, guest: Guest, home: Hypervisor, other: Hypervisor, path: str) -> bool:
    """Whether a path is proved to be other storage at the other host: of local disks both hosts often have the same one."""
    reach = {one.target: one.reach for one in ports.between.look(guest, home, other).disks}
    return all(
        reach.get(disk.target) is Reach.DIFFERENT for disk in guest.disks if path in (disk.source, *disk.backing)
    )


def _copied_whole(ports: Ports, request: Request, copy: KeptCopy) -> bool:
    """Whether both ends' digests of that disk are the same, of a guest that was off when it was moved and stayed so."""
    facts = ports.records.facts(request.id)
    copied = facts.get("copies", {}).get(copy.target, {})
    same = copied.get("destination_digest", "") == copied.get("source_digest", "-")
    return same and not facts.get("plan", {}).get("starts")


def retire_if_asked(ports: Ports, request: Request) -> None:
    """As the last act of a move (--retire). What may not go stays named in the report: the move has succeeded all the same."""
    try:
        retire(ports, request)
    except FerrymanError as error:
        ports.records.keep_decision(request.id, f"not retired: {error}")
