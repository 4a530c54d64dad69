"""When packing is chosen: where the link holds the copy up and CPUs are idle, and never where it was slower."""

from dataclasses import replace

from ferryman_copy.compression import Seen, decide

MB = 1e6
SLOW_LINK = Seen(0, raw=118 * MB, wire=118 * MB, sending=0.8, idle=1.4, speed={1: 450 * MB}, ratio={1: 0.5})


def test_a_slow_link_and_idle_cpus_get_packed_data() -> None:
    assert decide(SLOW_LINK)[0] == 1


def test_busy_cpus_or_a_free_link_or_data_that_does_not_pack_do_not() -> None:
    for other in (
        replace(SLOW_LINK, idle=0.1, sending=0.6),
        replace(SLOW_LINK, sending=0.1),
        replace(SLOW_LINK, ratio={1: 0.99}),
        replace(SLOW_LINK, raw=900 * MB, wire=900 * MB),
        replace(SLOW_LINK, shunned=frozenset({1})),
    ):
        assert decide(other)[0] == 0, other


def test_workers_that_wait_for_the_link_get_their_part_of_a_busy_host() -> None:
    assert decide(replace(SLOW_LINK, idle=0.0))[0] == 1


def test_a_very_slow_link_gets_more_packing() -> None:
    seen = Seen(1, raw=24 * MB, wire=12 * MB, sending=0.9, idle=1.8, speed={1: 450 * MB, 3: 250 * MB}, ratio={1: 0.5, 3: 0.45},
                before={0: 12 * MB})  # fmt: skip
    assert decide(seen)[0] == 3


def test_packing_goes_up_by_one_level_at_a_time() -> None:
    promising = replace(SLOW_LINK, speed={1: 450 * MB, 3: 400 * MB}, ratio={1: 0.5, 3: 0.3})
    assert decide(promising)[0] == 1
    assert decide(replace(promising, shunned=frozenset({1})))[0] == 0, "what is too slow at 1 is too slow at 3"


def test_what_made_it_slower_is_taken_back() -> None:
    slower = replace(SLOW_LINK, level=1, raw=90 * MB, wire=45 * MB, sending=0.5, before={0: 118 * MB}, came_from=0)
    assert decide(slower) == (0, "level 1 made it slower than 0")


def test_packing_that_holds_the_copy_up_ends_where_it_was_faster_without() -> None:
    cpu_bound = Seen(1, raw=200 * MB, wire=100 * MB, sending=0.05, idle=0.0, speed={1: 450 * MB, 3: 200 * MB}, ratio={1: 0.5, 3: 0.4},
                     before={0: 400 * MB})  # fmt: skip
    assert decide(cpu_bound)[0] == 0
    assert decide(replace(cpu_bound, before={0: 150 * MB}))[0] == 1
