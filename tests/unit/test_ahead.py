"""When there have been enough passes, and which disks are copied ahead."""

from dataclasses import replace

import pytest

from ferryman.assess import assess
from ferryman.model.guest import State
from ferryman.model.plan import Travel
from ferryman.model.request import Options
from ferryman.model.site import DiskReach, Reach
from ferryman.model.units import GIB, MIB
from ferryman.plan.ahead import MOST, Pass, copied_ahead, decide
from ferryman.plan.method import plan_for
from tests.unit.sites import good_site, with_disk

WARM = Options(warm=True)
APART = DiskReach("vda", Reach.DIFFERENT, "a marker was not seen")
LOCAL = replace(with_disk(APART), scratch={"/srv/shared": 10 * GIB})


OF_WARM = {
    "warm-off",
    "warm-unknown",
    "warm-nothing",
    "warm-after-the-stop",
    "warm-reads-all",
    "scratch-room",
    "scratch-missing",
    "scratch-tight",
    "scratch",
}


def passes(*seconds: float) -> list[Pass]:
    return [Pass(number, f"m{number}", "", True, took) for number, took in enumerate(seconds, 1)]


@pytest.mark.parametrize(
    ("seconds", "again", "words"),
    [
        ((), True, "nothing is copied"),
        ((600.0,), True, "pass 1 took"),
        ((2.0,), False, "as small"),
        ((600.0, 60.0), True, "shorter"),
        ((600.0, 60.0, 2.5), False, "as small"),
        ((600.0, 500.0), False, "no smaller"),
        ((600.0, 700.0), False, "no smaller"),
        (tuple(600.0 * 0.6**number for number in range(MOST)), False, "enough"),
    ],
)
def test_passes_go_on_until_what_is_left_is_small_or_grows_no_smaller(
    seconds: tuple[float, ...], again: bool, words: str
) -> None:
    more = decide(passes(*seconds))
    assert (more.again, words in more.reason) == (again, True), more


def test_a_pass_that_was_carried_on_tells_nothing_of_how_much_was_written_meanwhile() -> None:
    """It began hours ago, and a process that came after a crash did its last second."""
    resumed = replace(passes(600.0, 0.5)[-1], resumed=True)
    assert decide([*passes(600.0), resumed]).again
    assert decide([*passes(600.0), resumed, Pass(3, "m3", "", True, 60.0)]).again
    assert not decide([resumed] * MOST).again


def test_what_is_copied_after_the_stop_is_told_from_what_went_ahead() -> None:
    plan = plan_for(LOCAL, WARM)
    assert plan.after_the_stop == ()
    (disk,) = plan.new_disks
    late = replace(disk, target="vdb", travel=Travel.FILE)
    medium = replace(disk, target="sda", read_only=True)
    assert replace(plan, new_disks=(disk, late, medium)).after_the_stop == (late,)
    assert replace(plan, new_disks=(disk, medium), ahead=()).after_the_stop == (disk, medium)


def test_a_qcow2_image_remembers_and_a_raw_one_does_not() -> None:
    (disk,) = copied_ahead(LOCAL, WARM)
    assert (disk.target, disk.scratch, disk.remembers) == ("vda", "/srv/shared", True)
    (raw,) = copied_ahead(with_disk(APART, format="raw", source="/srv/shared/web.raw"), WARM)
    assert not raw.remembers
    (elsewhere,) = copied_ahead(LOCAL, replace(WARM, scratch="/big"))
    assert elsewhere.scratch == "/big"


def test_a_cold_move_copies_nothing_ahead_and_a_shared_disk_is_not_copied() -> None:
    assert copied_ahead(LOCAL, Options(cold=True)) == ()
    assert copied_ahead(good_site(), WARM) == ()


@pytest.mark.parametrize(
    ("site", "options", "code"),
    [
        (replace(LOCAL, guest=replace(LOCAL.guest, state=State.SHUT_OFF)), WARM, "warm-off"),
        (replace(LOCAL, source=replace(LOCAL.source, libvirt_version=(6, 0, 0))), WARM, "warm-unknown"),
        (good_site(), WARM, "warm-nothing"),
        (replace(LOCAL, guest=replace(LOCAL.guest, snapshots=("before",))), WARM, "warm-after-the-stop"),
        (replace(LOCAL, guest=replace(LOCAL.guest, snapshots=("before",))), WARM, "warm-nothing"),
        (replace(with_disk(APART, format="raw"), scratch={"/srv/shared": GIB}), WARM, "warm-reads-all"),
        (replace(LOCAL, scratch={"/srv/shared": 10 * MIB}), WARM, "scratch-room"),
        (replace(LOCAL, scratch={"/srv/shared": None}), WARM, "scratch-missing"),
        (LOCAL, WARM, "scratch"),
    ],
)
def test_what_speaks_against_copying_ahead_is_found(site: object, options: Options, code: str) -> None:
    assert code in {finding.code for finding in assess(site, options)}  # type: ignore[arg-type]


def test_a_scratch_directory_with_little_room_is_warned_of() -> None:
    busy = replace(LOCAL, guest=replace(LOCAL.guest, disks=(replace(LOCAL.guest.disks[0], allocation=20 * GIB),)))
    tight = replace(busy, scratch={"/srv/shared": GIB})
    assert "scratch-tight" in {finding.code for finding in assess(tight, WARM)}


def test_the_plan_copies_before_it_stops_and_says_what_is_left_for_later() -> None:
    plan = plan_for(LOCAL, WARM)
    names = [step.name for step in plan.steps]
    assert names.index("copy-ahead") < names.index("stop") < names.index("copy-disks") < names.index("forget-passes")
    (rest,) = [step.does for step in plan.steps if step.name == "copy-disks"]
    assert rest.startswith("copy what was written to vda since the last pass")
    waiting = [step.name for step in plan_for(LOCAL, replace(WARM, window="Sat 02:00-04:00 UTC")).steps]
    assert waiting.index("copy-ahead") < waiting.index("wait") < waiting.index("catch-up") < waiting.index("stop")
