"""A short soak with a fixed seed; a long one is `./dev test --soak N`, its results are in docs/soak.md."""

from collections.abc import Callable
from functools import partial

import pytest

from lab.host import Lab
from tests.lab import soak_backup
from tests.lab.soak import draw, draw_stopped, soak

pytestmark = pytest.mark.lab


@pytest.mark.parametrize(
    "drawn", [draw, partial(draw_stopped, way="cold"), partial(draw_stopped, way="warm"), soak_backup.draw]
)
def test_the_same_seed_draws_the_same_rounds(drawn: Callable[[int, int], object]) -> None:
    assert [str(drawn(7, number)) for number in range(50)] == [str(drawn(7, number)) for number in range(50)]
    assert len({str(drawn(7, number)) for number in range(50)}) == 50


@pytest.mark.whole
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("way", "seed"), [("", 20), ("cold", 37), ("warm", 41), ("backup", 43)])
def test_three_rounds(whole: Lab, way: str, seed: int) -> None:
    soak(whole, 3, seed, way=way)
