"""Limits that were changed under way, in words."""

from ferryman.model.request import Wish
from ferryman.model.units import format_duration, format_size


def limits(wish: Wish) -> str:
    """What was wished for."""
    parts = []
    if wish.bandwidth is not None:
        parts.append(f"bandwidth {format_size(wish.bandwidth)}/s" if wish.bandwidth else "bandwidth without limit")
    if wish.max_downtime is not None:
        parts.append(f"allowed downtime {format_duration(wish.max_downtime)}")
    return ", ".join(parts)


def tuned(wish: Wish) -> str:
    """The decision that it becomes."""
    return f"tuned by {wish.by}: {limits(wish)}"
