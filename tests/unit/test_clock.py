"""Our clock does not follow the wall's when that is set."""

import time

import pytest

from ferryman.drivers import clock


@pytest.mark.parametrize("leap", [7200.0, -7200.0])
def test_a_leap_of_the_wall_clock_is_none_of_ours(monkeypatch: pytest.MonkeyPatch, leap: float) -> None:
    wall, before = time.time, clock.now()
    monkeypatch.setattr(time, "time", lambda: wall() + leap)
    assert 0 <= clock.now() - before < 5
    assert abs(clock.now() - wall()) < 60
