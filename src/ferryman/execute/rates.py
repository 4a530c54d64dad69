"""What earlier copies between two hosts tell of how fast a disk is copied there, or only read and compared."""

from collections.abc import Collection

from ferryman.model.copy import CopyResult, Rate
from ferryman.model.request import Request
from ferryman.model.units import MIB
from ferryman.plain import from_plain
from ferryman.ports import Records

TELLS_A_RATE = 64 * MIB  # copies of less say more about their beginning and end than about the way
_LOOKED_AT = 1000  # requests


def copied(records: Records, source: str, destination: str, *, read_back: bool) -> Rate | None:
    """How fast the last disks were copied as a whole. `read_back`: with the time that it took to read them at the destination."""
    for earlier in _between(records, source, destination):
        if earlier.options.bandwidth or earlier.options.warm:  # a warm move's last pass sends little
            continue
        if rate := _rate(records, earlier, read_back=read_back):
            return rate
    return None


def read_again(records: Records, source: str, destination: str) -> Rate | None:
    """How fast the last pass of a warm move looked through disks that do not remember; else how fast disks were copied, which takes longer."""
    for earlier in _between(records, source, destination):
        ahead = (records.facts(earlier.id).get("plan") or {}).get("ahead", ())
        targets = {disk["target"] for disk in ahead if not disk["remembers"]}
        if targets and (rate := _rate(records, earlier, read_back=True, only=targets)):
            return rate
    return copied(records, source, destination, read_back=False)


def _between(records: Records, source: str, destination: str) -> list[Request]:
    """The newest first."""
    found = records.requests(limit=_LOOKED_AT)
    return [one for one in found if (one.source, one.destination) == (source, destination)]


def _rate(records: Records, earlier: Request, *, read_back: bool, only: Collection[str] = ()) -> Rate | None:
    done = records.facts(earlier.id).get("copies", {})
    copies = [from_plain(CopyResult, one) for target, one in done.items() if not only or target in only]
    read = sum(one.read for one in copies)
    seconds = sum(one.seconds + (one.verify_seconds if read_back else 0.0) for one in copies)
    if read < TELLS_A_RATE or seconds <= 0:
        return None
    return Rate(read / seconds, f"as request {earlier.id} did")
