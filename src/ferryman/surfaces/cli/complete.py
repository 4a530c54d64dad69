"""What a shell may complete: names that this machine's records hold. No host is asked, so it never hangs."""

from collections.abc import Iterable
from contextlib import suppress

from ferryman.errors import FerrymanError

NEWEST = 200  # requests that are looked through


def hosts(incomplete: str) -> list[str]:
    """Registered hosts."""
    with suppress(FerrymanError):
        from ferryman.app import application

        return _beginning(incomplete, (host.name for host in application().site.hosts()))
    return []


def guests(incomplete: str) -> list[str]:
    """Guests that were moved before."""
    with suppress(FerrymanError):
        from ferryman.app import application

        return _beginning(incomplete, (one.guest for one in application().moves.records.requests(limit=NEWEST)))
    return []


def requests(incomplete: str) -> list[tuple[str, str]]:
    """Ids of requests, each with what it is."""
    with suppress(FerrymanError):
        from ferryman.app import application

        return [
            (one.id, f"{one.guest} {one.source} -> {one.destination}")
            for one in application().moves.records.requests(limit=NEWEST)
            if one.id.startswith(incomplete)
        ]
    return []


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted({name for name in names if name.startswith(incomplete)})
