"""When packing is chosen: where the link holds the copy up and CPUs are idle, and never where it was slower."""

from dataclasses import replace

import pytest

from ferryman_copy.compression import DOUBT, Compression, Seen, decide

MB = 1e6
SLOW_LINK = Seen(0, raw=118 * MB, sending=0.8, idle=1.4, speed={1: 450 * MB}, ratio={1: 0.5})


def test_a_slow_link_and_idle_cpus_get_packed_data() -> None:
    assert decide(SLOW_LINK)[0] == 1


def test_busy_cpus_or_a_free_link_or_data_that_does_not_pack_do_not() -> None:
    for other in (
        replace(SLOW_LINK, idle=0.1, sending=0.6),
        replace(SLOW_LINK, sending=0.1),
        replace(SLOW_LINK, ratio={1: 0.99}),
        replace(SLOW_LINK, raw=900 * MB),
        replace(SLOW_LINK, shunned=frozenset({1})),
    ):
        assert decide(other)[0] == 0, other


def test_workers_that_wait_for_the_link_get_their_part_of_a_busy_host() -> None:
    assert decide(replace(SLOW_LINK, idle=0.0))[0] == 1


def test_a_very_slow_link_gets_more_packing() -> None:
    seen = Seen(1, raw=24 * MB, sending=0.9, idle=1.8, speed={1: 450 * MB, 3: 250 * MB}, ratio={1: 0.5, 3: 0.45})
    assert decide(seen)[0] == 3


def test_packing_goes_up_by_one_level_at_a_time() -> None:
    promising = replace(SLOW_LINK, speed={1: 450 * MB, 3: 400 * MB}, ratio={1: 0.5, 3: 0.3})
    assert decide(promising)[0] == 1
    assert decide(replace(promising, shunned=frozenset({1})))[0] == 0, "what is too slow at 1 is too slow at 3"


def test_what_made_it_slower_is_taken_back() -> None:
    slower = replace(SLOW_LINK, level=1, raw=90 * MB, sending=0.5, came_from=0, before=118 * MB)
    assert decide(slower) == (0, "level 1 made it slower than 0")


def _epoch(choice: Compression, sending: float) -> int:
    """One epoch in which so much of the time went into sending; the level after it."""
    choice._until = 0.0
    choice.note(1 << 20, sending * 1000)  # seconds: an epoch of this test lasts far less
    return choice.level


def test_packing_that_the_link_does_not_hold_up_is_doubted_in_time() -> None:
    choice = Compression("auto", 1, lambda: (0.0, 0.0))
    choice.level = 1
    assert [_epoch(choice, sending=0.0) for _ in range(DOUBT)] == [1] * (DOUBT - 1) + [0]


def test_where_the_link_holds_it_up_there_is_no_doubt() -> None:
    choice = Compression("auto", 1, lambda: (0.0, 0.0))
    choice.level = 1
    assert [_epoch(choice, sending=1.0) for _ in range(DOUBT)] == [1] * DOUBT


@pytest.mark.parametrize("no_room", [0.1, 0.9])
def test_a_receiver_that_is_slow_is_no_slow_link(no_room: float) -> None:
    """The kernel tells for how long the other end had no room; packing would not give it any."""
    under_way = [0.0]

    def waits() -> tuple[float, float]:
        under_way[0] += 1.0
        return under_way[0], under_way[0] * no_room

    choice = Compression("auto", 1, waits)
    choice._speed, choice._ratio = {1: 1e15}, {1: 0.5}
    assert _epoch(choice, sending=1.0) == (1 if no_room < 0.5 else 0)
