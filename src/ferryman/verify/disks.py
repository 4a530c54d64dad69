"""May an image go that a move left at its source? Evidence in, the reason against it out; the last copy of a disk never goes."""

from dataclasses import dataclass

from ferryman.model.guest import Guest
from ferryman.model.host import ImageUsers
from ferryman.model.outcome import KeptCopy
from ferryman.model.request import Request
from ferryman.verify.location import Action, Verdict


@dataclass(frozen=True)
class Reason:
    """Why an image must stay, in the three facts of an error."""

    what: str
    why: str
    remedy: str


@dataclass(frozen=True)
class Evidence:
    """What was seen of a kept copy and of the guest, where it runs now."""

    guest: Guest  # as it is where it runs
    found: bool  # the image of its disk is there
    made: frozenset[str]  # the images at that host that moves made of the disk
    apart: bool  # that path is proved to be other storage at the other host
    users: ImageUsers  # of the kept copy, at its host


def named(guest: Guest) -> set[str]:
    """All images that a guest names, layers among them."""
    return {path for disk in guest.disks for path in (disk.source, *disk.backing)}


def home(request: Request, verdict: Verdict, *, copied_whole: bool) -> str:
    """The host that surely has the guest; empty where that is not plain.

    One that was moved while it was off runs nowhere: its definition is at the destination alone, and the digests say the rest.
    """
    if verdict.action is Action.BACK:
        return request.source
    there = verdict.action is Action.FORWARD or (verdict.action is Action.STOPPED_AT_DESTINATION and copied_whole)
    return request.destination if there else ""


def against_retiring(request: Request, copy: KeptCopy, verdict: Verdict, seen: Evidence | None) -> Reason | None:
    """Why the copy must stay; None: it may go. `seen`: None where the guest has no home for sure."""
    what = f"{copy.path} at {copy.host}"
    if seen is None:
        return Reason(what, f"it may be the last copy: {verdict.reason}", f"once it runs at {request.source} or {request.destination}: ferryman retire {request.id}")  # fmt: skip
    guest = seen.guest
    disk = next((one for one in guest.disks if one.target == copy.target), None)
    if disk is None or not disk.source or not seen.found:
        return Reason(what, f"the guest's disk {copy.target} is not found at {guest.host}: this may be the last copy",
                       f"ferryman guest {request.guest}")  # fmt: skip
    if not {disk.source, *disk.backing} & seen.made:
        return Reason(what, f"the guest's disk {copy.target} at {guest.host} is {disk.source}, which no move in these records made of it: this may be the last copy",
                       "look whether that disk holds all that this one does; then remove this one by hand: virsh vol-delete")  # fmt: skip
    if guest.host != copy.host and copy.path in named(guest) and not seen.apart:
        return Reason(what, f"the guest uses that path at {guest.host}, and it is not proved that the two hosts have different storage there",
                       f"look where the guest's disks are: ferryman guest {request.guest}")  # fmt: skip
    if seen.users.named:
        return Reason(what, f"{' and '.join(seen.users.named)} at {copy.host} stands upon it",
                       "virsh dumpxml GUEST and virsh snapshot-dumpxml GUEST NAME show how: take it out of there first, or leave it")  # fmt: skip
    if seen.users.unknown:
        return Reason(what, f"it is not known who stands upon it: {'; '.join(seen.users.unknown)} at {copy.host} could not be looked at",
                       "mount what is missing, or take it out of that definition; then again")  # fmt: skip
    return None
