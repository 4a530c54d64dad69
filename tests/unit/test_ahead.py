"""When there have been enough passes, and which disks are copied ahead."""

from dataclasses import replace
from pathlib import Path

import pytest

from ferryman.assess import assess
from ferryman.drivers.database.records import open_records
from ferryman.execute.observe import _scratch_beside
from ferryman.model.copy import Rate
from ferryman.model.guest import Disk, State, Unlike
from ferryman.model.phase import Phase
from ferryman.model.plan import Travel
from ferryman.model.request import Options, Request
from ferryman.model.site import DiskReach, Reach
from ferryman.model.units import GIB, MIB
from ferryman.plain import to_plain
from ferryman.plan.ahead import MOST, Pass, copied_ahead, decide
from ferryman.plan.method import plan_for
from ferryman.ports import Ports
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


def test_that_a_disk_is_copied_ahead_is_said_of_it() -> None:
    (found,) = [one for one in assess(LOCAL, WARM) if one.code == "disk-copied"]
    assert "most of it is copied while the guest runs" in found.why


def test_a_scratch_directory_with_little_room_is_warned_of() -> None:
    busy = replace(LOCAL, guest=replace(LOCAL.guest, disks=(replace(LOCAL.guest.disks[0], allocation=20 * GIB),)))
    tight = replace(busy, scratch={"/srv/shared": GIB})
    assert "scratch-tight" in {finding.code for finding in assess(tight, WARM)}


def test_room_for_scratch_files_is_shared_with_the_guests_that_are_copied_ahead_now() -> None:
    alone = replace(LOCAL, scratch={"/srv/shared": 400 * MIB})
    assert "scratch" in {finding.code for finding in assess(alone, WARM)}
    beside = replace(alone, scratch_beside={"/srv/shared": 20 * GIB})
    assert "scratch-room" in {finding.code for finding in assess(beside, WARM)}
    larger = replace(beside, scratch={"/srv/shared": GIB})
    (found,) = [one for one in assess(larger, WARM) if one.code == "scratch-tight"]
    assert "20 GiB of other guests" in found.why


def test_the_guests_that_are_copied_ahead_now_are_found_among_our_own_requests(tmp_path: Path) -> None:
    records, plan = open_records(tmp_path), plan_for(LOCAL, WARM)
    plan = replace(plan, new_disks=(replace(plan.new_disks[0], allocation=3 * GIB),))
    for name, source, phase in (("now", "a", Phase.COPYING_AHEAD), ("later", "a", Phase.WAITING), ("there", "b", Phase.COPYING_AHEAD)):  # fmt: skip
        records.add_request(Request(name, f"uuid-{name}", name, source, "c", WARM), "slot0")
        records.keep_facts(name, {"plan": to_plain(plan)})
        records.enter(name, phase)
    ports = Ports(records, None, None, None, None, None)  # type: ignore[arg-type]
    assert _scratch_beside(ports, "uuid", "a") == {"/srv/shared": 3 * GIB}
    assert _scratch_beside(ports, "uuid-now", "a") == {}
    records.engine.dispose()


def test_the_plan_copies_before_it_stops_and_says_what_is_left_for_later() -> None:
    plan = plan_for(LOCAL, WARM)
    names = [step.name for step in plan.steps]
    assert names.index("copy-ahead") < names.index("stop") < names.index("copy-disks") < names.index("forget-passes")
    (rest,) = [step.does for step in plan.steps if step.name == "copy-disks"]
    assert rest.startswith("copy what was written to vda since the last pass")
    waiting = [step.name for step in plan_for(LOCAL, replace(WARM, window="Sat 02:00-04:00 UTC")).steps]
    assert waiting.index("copy-ahead") < waiting.index("wait") < waiting.index("catch-up") < waiting.index("stop")


def test_what_others_would_miss_is_taken_away_right_before_the_stop_and_not_days_ahead() -> None:
    medium = Disk("sda", "cdrom", "file", "/srv/shared/iso", "raw", "", True, False)
    ground = replace(LOCAL.ground, disks=(APART, replace(APART, target="sda")))
    site = replace(LOCAL, guest=replace(LOCAL.guest, disks=(*LOCAL.guest.disks, medium)), ground=ground)
    options = replace(WARM, eject=True, replace_definition=True, window="Sat 02:00-04:00 UTC")
    names = [step.name for step in plan_for(site, options).steps]
    assert names.index("catch-up") < names.index("replace-definition") < names.index("eject-media") < names.index("stop")  # fmt: skip


OLD = replace(with_disk(APART, old=True), scratch={"/srv/shared": GIB})


def test_an_image_of_the_old_version_does_not_remember_and_the_remedy_is_named() -> None:
    (disk,) = copied_ahead(OLD, WARM)
    assert not disk.remembers
    (found,) = [one for one in assess(OLD, WARM) if one.code == "warm-reads-all"]
    assert "compat 0.10" in found.why
    assert "qemu-img amend -f qcow2 -o compat=1.1 /srv/shared/web.qcow2" in found.remedy


RAW = replace(with_disk(APART, format="raw", source="/srv/shared/web.raw", allocation=20 * GIB), scratch={"/srv/shared": GIB})  # fmt: skip


def test_a_disk_that_does_not_remember_is_forecast_by_its_data_and_a_rate_that_was_seen() -> None:
    seen = replace(RAW, read_again=Rate(200 * MIB, "as request earlier did"))
    plan = plan_for(seen, WARM)
    (rest,) = [step.does for step in plan.steps if step.name == "copy-disks"]
    words = "20 GiB: about 1 min 42 s at 200 MiB/s, as request earlier did"
    assert words in rest
    assert plan.reads_for == 20 * GIB / (200 * MIB)
    (found,) = [one for one in assess(seen, WARM) if one.code == "warm-reads-all"]
    assert words in found.why


def test_where_nothing_was_measured_the_rate_is_said_to_be_assumed() -> None:
    (rest,) = [step.does for step in plan_for(RAW, WARM).steps if step.name == "copy-disks"]
    assert "about 3 min 24 s at 100 MiB/s, assumed" in rest


def test_a_disk_that_remembers_is_not_read_again() -> None:
    assert plan_for(LOCAL, WARM).reads_for == 0.0


def test_a_disk_that_the_running_guest_does_not_have_yet_is_copied_once_it_is_off() -> None:
    """It was added to the definition alone, so QEMU cannot offer it."""
    second = replace(LOCAL.guest.disks[0], target="vdb", source="/srv/shared/more.qcow2")
    unlike = (Unlike("disk", "vdb", "", second.source),)
    ground = replace(LOCAL.ground, disks=(APART, replace(APART, target="vdb")))
    site = replace(LOCAL, guest=replace(LOCAL.guest, disks=(*LOCAL.guest.disks, second), unlike=unlike), ground=ground)
    assert [disk.target for disk in copied_ahead(site, WARM)] == ["vda"]
    assert [disk.target for disk in plan_for(site, WARM).after_the_stop] == ["vdb"]
