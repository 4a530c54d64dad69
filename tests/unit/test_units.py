"""What people write for sizes and durations, and what they read."""

import pytest

from ferryman.model.units import GIB, MIB, format_duration, format_moment, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("512M", 512 * MIB), ("1.5GiB", int(1.5 * GIB)), ("4096", 4096), ("100 MB/s", 100 * MIB), ("2k", 2048), ("1T", 1024 * GIB)],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(("text", "seconds"), [("300ms", 0.3), ("90s", 90), ("45", 45), ("30min", 1800), ("2h", 7200), ("1m", 60)])  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "fast", "-1M", "1Q", "M"])
def test_what_is_no_size_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=f"'{text}' is not a size"):
        parse_size(text)


@pytest.mark.parametrize("text", ["", "soon", "-1s", "1 year"])
def test_what_is_no_duration_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=f"'{text}' is not a duration"):
        parse_duration(text)


def test_what_people_read() -> None:
    assert [format_size(size) for size in (0, 1023, 512 * 1024, 1.5 * GIB, 3 * 1024 * GIB)] == [
        "0 B", "1023 B", "512 KiB", "1.5 GiB", "3 TiB",
    ]  # fmt: skip
    assert [format_duration(seconds) for seconds in (0.32, 4.2, 200, 7500)] == ["320 ms", "4.2 s", "3 min 20 s", "2 h 05 min"]  # fmt: skip


def test_a_moment_is_told_alike_on_every_machine_and_an_impossible_one_is_no_crash() -> None:
    assert format_moment(1_000_000.5) == "1970-01-12 13:46:40 UTC"
    for impossible in (1e12, float("inf"), float("nan")):
        assert "impossible" in format_moment(impossible)
