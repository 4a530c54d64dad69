"""Sizes and durations: bytes and seconds inside, what people write and read outside."""

import re
from datetime import UTC, datetime

KIB, MIB, GIB = 1024, 1024**2, 1024**3

_SIZES = {"": 1, "k": KIB, "m": MIB, "g": GIB, "t": 1024 * GIB}
_SECONDS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def parse_size(text: str) -> int:
    """Bytes from "512M", "1.5GiB", "4096". Binary multiples. Raises ValueError naming the text."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?(?:/s)?\s*", text.lower())
    if match is None:
        raise ValueError(f"'{text}' is not a size: write a number with K, M, G or T, such as 512M")
    return int(float(match[1]) * _SIZES[match[2]])


def parse_duration(text: str) -> float:
    """Seconds from "300ms", "90s", "30min", "2h", "45". Raises ValueError naming the text."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|)\s*", text.lower())
    if match is None:
        raise ValueError(f"'{text}' is not a duration: write a number with ms, s, min or h, such as 300ms")
    return float(match[1]) * _SECONDS[match[2]]


def format_size(size: float) -> str:
    """A size for people: "0 B", "512 KiB", "1.5 GiB"."""
    for unit, factor in (("TiB", 1024 * GIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if abs(size) >= factor:
            return f"{size / factor:.1f}".removesuffix(".0") + f" {unit}"
    return f"{size:.0f} B"


def format_duration(seconds: float) -> str:
    """A duration for people: "320 ms", "4.2 s", "3 min 20 s", "2 h 05 min"."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"


def format_moment(at: float) -> str:
    """A moment for people on any machine: "2026-11-25 02:30:10 UTC"."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%F %T UTC")
    except (ValueError, OverflowError, OSError):  # read from somewhere, and no moment that a calendar has
        return f"an impossible time ({at:g})"
