"""A short soak with a fixed seed; a long one is `./dev test --soak N`, its results are in docs/soak.md."""

import pytest

from lab.host import Lab
from tests.lab.soak import draw, soak

pytestmark = pytest.mark.lab


def test_the_same_seed_draws_the_same_rounds() -> None:
    assert [str(draw(7, number)) for number in range(50)] == [str(draw(7, number)) for number in range(50)]
    assert len({str(draw(7, number)) for number in range(50)}) == 50


@pytest.mark.timeout(600)
def test_three_rounds(whole: Lab) -> None:
    soak(whole, 3, seed=20)
