"""A mark in a guest's own metadata while it is being moved: what another operator's ferryman, with other records, sees."""

from dataclasses import dataclass

GRACE = 600.0  # seconds that a move may take beyond its timeout: settling, a ferryman that was killed and started again


@dataclass(frozen=True)
class Mark:
    """Who is moving the guest. Times are seconds since the epoch, by the clock of the machine that set it."""

    request: str
    by: str  # user@machine
    since: float
    until: float  # after this moment the mark is stale: nobody needs that long
