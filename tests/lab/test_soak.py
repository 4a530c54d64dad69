"""A short soak with a fixed seed; a long one is `./dev test --soak N`, its results are in docs/soak.md."""

from collections.abc import Callable

import pytest

from lab.host import Lab
from tests.lab.soak import Round, draw, draw_cold, soak

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("drawn", [draw, draw_cold])
def test_the_same_seed_draws_the_same_rounds(drawn: Callable[[int, int], Round]) -> None:
    assert [str(drawn(7, number)) for number in range(50)] == [str(drawn(7, number)) for number in range(50)]
    assert len({str(drawn(7, number)) for number in range(50)}) == 50


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("cold", "seed"), [(False, 20), (True, 37)], ids=["live", "cold"])
def test_three_rounds(whole: Lab, cold: bool, seed: int) -> None:
    soak(whole, 3, seed, cold=cold)
