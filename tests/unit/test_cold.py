"""A cold move decided: what speaks against it, which plan it gets, how a guest is asked to stop, what each pair of places means."""

import itertools
from dataclasses import replace
from typing import Any

import pytest

from ferryman.assess import assess
from ferryman.drivers.libvirt.adapt import adapted
from ferryman.drivers.libvirt.xml import definition
from ferryman.execute.patience import waits_for
from ferryman.execute.stop import Asked, Then, decide
from ferryman.execute.undo import watched_for
from ferryman.model.finding import Severity
from ferryman.model.guest import Disk, HostDevice, SnapshotFile, State, Unlike
from ferryman.model.host import Pool
from ferryman.model.place import Place, Where
from ferryman.model.plan import Adaption, Changes, Method, Travel
from ferryman.model.request import Chain, CopyStorage, Options
from ferryman.model.site import CpuComparison, CpuMatch, DiskReach, EndTools, KeptMove, Reach, Site
from ferryman.plan.cold import images_to_hold
from ferryman.plan.method import plan_for
from ferryman.verify.cold import judge_cold
from ferryman.verify.location import Action
from tests.unit.sites import (
    good_guest,
    good_site,
    with_destination,
    with_disk,
    with_ground,
    with_guest,
    with_interface,
    with_machine,
)

COLD = Options(cold=True)


def local(**changes: Any) -> Site:
    """Its disk is at the source alone."""
    return with_disk(
        DiskReach("vda", Reach.DIFFERENT, "a marker was not seen"), capacity=1 << 30, allocation=1 << 20, **changes
    )


# Findings that only a cold move has, each with a test here.
OF_COLD = {
    "no-ssh", "copy-tools-missing", "disks-by-ssh", "checks-not-asked", "saved-memory-adapted",
    "nvram-stays", "nvram-network",
    "chain-kept", "live-only", "defined-only", "defined-otherwise", "size-unknown",
    "encrypted-copied", "encrypted-layers", "format-changed", "not-converted",
    "snapshots-along", "nothing-kept", "loses-writes", "emulator-adapted", "machine-adapted", "cpu-adapted", "watchdog-left", "transient-cold", "cannot-answer", "may-be-forced-off", "not-held", "saved-memory", "checkpoints-left", "link-without-switch",
}  # fmt: skip
REFUSED: dict[str, tuple[Site, Options]] = {
    "defined-otherwise": (with_guest(unlike=(Unlike("disk", "vda", "/srv/new.qcow2", "/srv/old.qcow2"),)), COLD),
    "size-unknown": (
        replace(local(), guest=replace(local().guest, disks=(replace(local().guest.disks[0], capacity=0),))),
        COLD,
    ),
    "transient-cold": (with_guest(persistent=False), COLD),
    "cannot-answer": (with_guest(state=State.PAUSED), COLD),
    "snapshots-stay": (
        with_guest(
            snapshots=("before",),
            external_snapshots=("before",),
            snapshot_files=(SnapshotFile("before", "vdx", "file", "/srv/x"),),
        ),
        COLD,
    ),
    "tpm-missing": (replace(with_guest(tpm="emulator"), machine=with_machine(tpm_backends=()).machine), COLD),
    "device-stays": (with_guest(host_devices=(HostDevice("pci", "0000:01:00.0"),)), COLD),
    "no-ssh": (with_ground(copy_packages=(EndTools(), EndTools(unreached="Permission denied"))), COLD),
    "copy-tools-missing": (with_ground(copy_packages=(EndTools(("qemu-utils",)), EndTools())), COLD),
    "saved-memory-adapted": (with_guest(state=State.SHUT_OFF, managed_save=True), Options(cold=True, cpu="host-model")),
    "version-pair": (
        replace(
            with_guest(state=State.SHUT_OFF, managed_save=True, disks=(replace(good_guest().disks[0], bus="virtio"),)),
            destination=with_destination(qemu_version=(11, 0, 0)).destination,
        ),
        COLD,
    ),
    "state-stays": (with_guest(state_files=("/srv/pmem/web",)), COLD),
    "disk-not-shared": (local(), Options(cold=True, copy_storage=CopyStorage.NEVER)),
    "copied-shareable": (local(shareable=True), COLD),
    "copied-sliced": (local(sliced=True), COLD),
    "encrypted-layers": (local(encrypted=True, backing=("/srv/base.qcow2",)), Options(cold=True, chain=Chain.KEEP)),
}


@pytest.mark.parametrize("code", REFUSED)
def test_what_would_be_lost_refuses_with_thing_reason_and_remedy(code: str) -> None:
    found = [one for one in assess(*REFUSED[code]) if one.severity is Severity.BLOCKER]
    assert [one.code for one in found] == [code]
    assert found[0].what
    assert found[0].why
    assert found[0].remedy


@pytest.mark.parametrize(
    ("one", "code", "severity", "words"),
    [
        (Unlike("disk", "vdb", "/srv/b.raw", ""), "live-only", Severity.WARNING, "/srv/b.raw was plugged in live only: it is not copied and stays at a"),
        (Unlike("disk", "vdb", "", "/srv/b.raw"), "defined-only", Severity.NOTE, "comes along"),
        (Unlike("medium", "sda", "/srv/iso", ""), "live-only", Severity.NOTE, "at its next start it has none"),
        (Unlike("interface", "52:54:00:00:00:09", "bridge br0", ""), "live-only", Severity.WARNING, "does not come along"),
        (Unlike("usb", "0x1:0x2", "", "0x1:0x2"), "defined-only", Severity.NOTE, "next start"),
    ],
)  # fmt: skip
def test_a_device_that_only_runs_or_is_only_defined_is_told_of(
    one: Unlike, code: str, severity: Severity, words: str
) -> None:
    (found,) = assess(with_guest(unlike=(one,)), COLD)
    assert (found.code, found.severity) == (code, severity)
    assert words in found.why
    assert one.name in found.what
    assert "--config" in found.remedy or severity is Severity.NOTE


def test_what_moves_beside_the_disks_is_said() -> None:
    asleep = with_guest(managed_save=True, state=State.SHUT_OFF)
    assert [one.code for one in assess(asleep, COLD)] == ["saved-memory"]
    assert plan_for(asleep, COLD).saved == "/var/lib/libvirt/qemu/save/web.save"
    secure = with_guest(tpm="emulator")
    assert [one.code for one in assess(secure, COLD)] == ["tpm"]
    assert plan_for(secure, COLD).tpm.endswith(secure.guest.uuid)
    assert [one.code for one in assess(with_guest(checkpoints=("monday",)), COLD)] == ["checkpoints-left"]


def test_a_guest_whose_live_move_its_qemus_refuse_goes_cold() -> None:
    """Debian 13 to forky: no memory travels, so nothing of the pair matters."""
    disk = replace(good_guest().disks[0], bus="virtio")
    pair = replace(with_guest(disks=(disk,)), destination=with_destination(qemu_version=(11, 0, 0)).destination)
    assert "version-pair" in {one.code for one in assess(pair, Options())}
    assert assess(pair, COLD) == ()


def test_the_way_of_the_disks_is_said_before_and_planned() -> None:
    site = local()
    closed = replace(site, ground=replace(site.ground, transport=replace(site.ground.transport, migration_reachable=False)))  # fmt: skip
    bare = replace(site, ground=replace(site.ground, transport=replace(site.ground.transport, source_tls=False)))
    for one, options in ((closed, COLD), (bare, COLD), (site, replace(COLD, via_ssh=True))):
        assert "disks-by-ssh" in {finding.code for finding in assess(one, options)}
        assert "through ssh" in next(step.does for step in plan_for(one, options).steps if step.name == "copy-disks")
    assert "disks-by-ssh" not in {finding.code for finding in assess(site, COLD)}
    assert "not-encrypted" in {finding.code for finding in assess(bare, replace(COLD, insecure=True))}
    lacking = replace(site, ground=replace(site.ground, copy_packages=(EndTools(), EndTools(("python3-libnbd",)))))
    assert "copy-tools-missing" in {finding.code for finding in assess(lacking, COLD)}


def test_the_way_back_with_snapshots_of_the_newer_disks_is_refused_while_nothing_is_stopped() -> None:
    site = replace(with_guest(snapshots=("later",)), kept=KeptMove("r1", 0.0, ()))
    found = assess(site, Options(cold=True, rollback_loses_writes=True))
    assert {one.code for one in found} == {"loses-writes", "snapshots-stay"}


def test_checks_of_a_guest_that_stays_off_are_said_not_to_be_asked() -> None:
    found = assess(with_guest(state=State.SHUT_OFF), replace(COLD, checks=("tcp:10.0.0.1:80",)))
    assert [one.code for one in found] == ["checks-not-asked"]


def test_an_image_with_snapshots_inside_goes_as_the_bytes_of_its_file() -> None:
    site = local()
    site = replace(site, guest=replace(site.guest, snapshots=("before",)))
    assert {one.code for one in assess(site, COLD)} == {"disk-copied", "snapshots-along"}
    plan = plan_for(site, COLD)
    assert ([one.travel for one in plan.new_disks], plan.snapshots) == ([Travel.FILE], True)
    layered = replace(site, guest=replace(site.guest, disks=(replace(site.guest.disks[0], backing=("/srv/base.qcow2",)),)))  # fmt: skip
    assert "snapshots-stay" in {one.code for one in assess(layered, COLD)}
    kept = assess(layered, Options(cold=True, chain=Chain.KEEP))
    assert {one.code for one in kept} == {"disk-copied", "snapshots-along", "chain-kept"}


@pytest.mark.parametrize("kind", ["qcow2", "raw"])
def test_what_is_encrypted_goes_as_the_bytes_of_its_file_and_is_held_as_such(kind: str) -> None:
    site = local(encrypted=True, format=kind)
    assert {one.code for one in assess(site, COLD)} == {"disk-copied", "encrypted-copied"}
    plan = plan_for(site, COLD)
    assert [one.travel for one in plan.new_disks] == [Travel.FILE]
    assert [one.format for one in plan.held] == ["raw"], "nobody could open it as anything else"


def test_room_for_its_memory_matters_to_one_that_starts_alone() -> None:
    crowded = with_destination(memory_free=1 << 20)
    assert {one.code for one in assess(crowded, COLD)} >= {"memory-room"}
    off = replace(crowded, guest=replace(crowded.guest, state=State.SHUT_OFF))
    assert assess(off, COLD) == ()


def test_a_paused_guest_goes_when_it_may_be_switched_off_and_that_is_warned_of() -> None:
    found = assess(with_guest(state=State.PAUSED), Options(cold=True, force_off=True))
    assert [(one.code, one.severity) for one in found] == [("may-be-forced-off", Severity.WARNING)]


@pytest.mark.parametrize("state", [State.RUNNING, State.SHUT_OFF])
def test_shared_and_local_disks_may_go(state: State) -> None:
    assert assess(replace(good_site(), guest=replace(good_site().guest, state=state)), COLD) == ()
    site = local()
    found = assess(replace(site, guest=replace(site.guest, state=state)), COLD)
    assert [(one.code, one.severity) for one in found] == [("disk-copied", Severity.NOTE)]
    assert "stands still" in found[0].why


def test_what_cannot_be_held_and_a_link_without_a_switch_are_said() -> None:
    network = with_disk(DiskReach("vda", Reach.NETWORK, "one name"), kind="network", source="rbd:pool/web")
    assert {one.code for one in assess(network, COLD)} == {"disk-network", "not-held"}
    found = assess(with_interface(kind="network", source="lan", network_mode="hostdev"), COLD)
    assert [one.code for one in found] == ["link-without-switch"]


def test_images_are_held_once_and_shared_ones_are_known() -> None:
    site = local()
    medium = Disk("sda", "cdrom", "file", "/srv/iso", "raw", "", True, False)
    shared = Disk("vdb", "disk", "file", "/srv/other.raw", "raw", "none", False, False)
    same = replace(site.guest.disks[0], target="vdc")
    ground = replace(site.ground, disks=(*site.ground.disks, DiskReach("vdb", Reach.SAME, "seen"), DiskReach("vdc", Reach.DIFFERENT, "not seen")))  # fmt: skip
    site = replace(site, guest=replace(site.guest, disks=(*site.guest.disks, medium, shared, same)), ground=ground)
    assert [(one.target, one.shared) for one in images_to_hold(site, COLD)] == [("vda", False), ("vdb", True)]


@pytest.mark.parametrize("state", [State.RUNNING, State.SHUT_OFF])
def test_the_plan_has_an_undo_for_each_change_and_one_point_of_no_return(state: State) -> None:
    site = local(format="raw")
    plan = plan_for(replace(site, guest=replace(site.guest, state=state)), COLD)
    names = [step.name for step in plan.steps]
    assert (plan.method, plan.starts) == (Method.COLD, state is State.RUNNING)
    assert [one.travel for one in plan.new_disks] == [Travel.COPY]
    passed = [step.past_return for step in plan.steps]
    assert passed == sorted(passed)
    assert passed.index(True) == names.index("open")
    assert ("stop" in names) is ("start" in names) is plan.starts
    wanted = ["hold", "copy-disks", "arrive", "leave", *(["start", "health"] if plan.starts else []), "settle", "open"]
    assert [name for name in names if name in wanted] == wanted
    changing = [
        step
        for step in plan.steps
        if not step.past_return and step.name not in ("save-definition", "try-definition", "health", "settle")
    ]
    assert all(step.undo for step in changing)


FLAGS = (True, False)
AT_HOME = (Where.RUNNING, Where.HALTED, Where.OFF)
PAIRS = list(itertools.product(Where, Where, FLAGS, FLAGS, FLAGS, FLAGS))


def test_every_pair_has_a_verdict_and_none_makes_two_owners() -> None:
    for here, there, made, put_back, past, starts in PAIRS:
        verdict = judge_cold(Place(here), Place(there), made=made, put_back=put_back, past=past, starts=starts)
        assert verdict.reason
        given_nothing = there is Where.UNREACHABLE and here in AT_HOME and not made and not past
        if Where.UNREACHABLE in (here, there):  # unreachable is not gone, but what was never there cannot run there
            assert verdict.plain is given_nothing
        if verdict.action is Action.FORWARD:  # the destination's copy is the only one
            assert here is Where.ABSENT
            assert there is not Where.ABSENT
            assert past or not (made and put_back) or (not starts and there not in (Where.ABSENT, Where.OFF))
            assert past or not made or not starts or there is Where.RUNNING
        if verdict.action is Action.BACK:  # nothing active at the destination, unless it is ours and was not seen
            assert not past
            assert there in (Where.ABSENT, Where.OFF) or (here is Where.ABSENT and made and starts) or given_nothing
        if verdict.action is Action.ATTENTION:
            assert verdict.remedy


@pytest.mark.parametrize(
    "job", ["outgoing migration", "incoming migration", "save", "job", "backup", "snapshot", "dump"]
)
def test_only_a_job_that_takes_no_guest_away_lets_it_be_at_home(job: str) -> None:
    """Whose kind is not known may be a migration; a guest that is being saved is about to be off."""
    for here, there, made, put_back, past, starts in PAIRS:
        flags = {"made": made, "put_back": put_back, "past": past, "starts": starts}
        verdict = judge_cold(Place(here, job=job), Place(there), **flags)
        if job in ("backup", "snapshot", "dump") and here in (Where.RUNNING, Where.HALTED, Where.OFF):
            assert verdict == judge_cold(Place(here), Place(there), **flags)
        else:
            assert verdict.action is Action.WAIT


@pytest.mark.parametrize(
    ("asked", "then"),
    [
        (Asked(0, 120, by_agent=False, pressed=False, active=True, force_off=False), Then.PRESS),
        (Asked(0, 120, by_agent=True, pressed=False, active=True, force_off=False), Then.WAIT),
        (Asked(61, 120, by_agent=True, pressed=False, active=True, force_off=False), Then.PRESS),
        (Asked(119, 120, by_agent=True, pressed=True, active=True, force_off=True), Then.WAIT),
        (Asked(120, 120, by_agent=True, pressed=True, active=True, force_off=True), Then.FORCE),
        (Asked(120, 120, by_agent=True, pressed=True, active=True, force_off=False), Then.GIVE_UP),
        (Asked(0, 120, by_agent=False, pressed=False, active=False, force_off=True), Then.FORCE),
        (Asked(0, 120, by_agent=False, pressed=False, active=False, force_off=False), Then.GIVE_UP),
    ],
)
def test_a_guest_is_asked_before_it_is_forced_and_forced_only_where_that_is_allowed(asked: Asked, then: Then) -> None:
    assert decide(asked) is then


@pytest.mark.parametrize(
    ("since_asked", "timeout", "watched"), [(3, 120, 60), (100, 120, 20), (120, 120, 10), (180, 120, 10), (181, 120, 0)]
)
def test_one_that_was_asked_is_watched_for_the_rest_of_its_time_within_bounds(
    since_asked: float, timeout: float, watched: float
) -> None:
    assert watched_for(since_asked, timeout) == watched


@pytest.mark.parametrize(("copied", "waits"), [(0, 20), (20, 20), (90, 90), (3600, 600)])
def test_a_silent_host_is_waited_for_as_long_as_was_copied_to_it(copied: float, waits: float) -> None:
    assert waits_for(copied) == waits


@pytest.mark.parametrize(
    ("reach", "found"),
    [(Reach.SAME, []), (Reach.NETWORK, ["nvram-network"]), (Reach.DIFFERENT, ["nvram-stays"]), (Reach.UNPROVED, ["nvram-stays"])],
)  # fmt: skip
@pytest.mark.parametrize("options", [COLD, Options()], ids=["cold", "by its definition"])
def test_firmware_variables_that_are_no_file_are_not_copied_and_that_is_said(
    reach: Reach, found: list[str], options: Options
) -> None:
    site = with_guest(nvram_store="/dev/vg/variables", state=State.SHUT_OFF)
    site = replace(site, ground=replace(site.ground, nvram=DiskReach("nvram", reach, "what was seen")))
    assert [one.code for one in assess(site, options)] == found
    assert plan_for(site, options).nvram == ""


@pytest.mark.parametrize(
    ("nvram", "read"),
    [
        ("<nvram>/nvram/web.fd</nvram>", ("/nvram/web.fd", "")),
        ("<nvram type='file'><source file='/nvram/web.fd'/></nvram>", ("/nvram/web.fd", "")),
        ("<nvram type='block'><source dev='/dev/vg/v'/></nvram>", ("", "/dev/vg/v")),
        ("<nvram type='network'><source protocol='rbd' name='p/v'><host name='m'/></source></nvram>", ("", "rbd:p/v@m")),
        ("", ("", "")),
    ],
)  # fmt: skip
def test_where_firmware_variables_lie_is_read_from_the_definition(nvram: str, read: tuple[str, str]) -> None:
    found = definition(f"<domain><name>web</name><os>{nvram}</os></domain>")
    assert (found.nvram, found.nvram_store) == read


@pytest.mark.parametrize(
    ("site", "pools", "options", "code"),
    [
        (local(), (), COLD, "no-pool"),
        (local(), (replace(good_site().destination.pools[0], active=False),), COLD, "no-pool"),
        (local(), good_site().destination.pools, replace(COLD, map_pool={"shared": "none"}), "no-pool"),
        (with_disk(pool="shared"), (), COLD, "pool-missing"),
    ],
    ids=["of a disk that is copied", "not active", "named by hand", "of a shared disk that is named by it"],
)
def test_a_pool_that_the_destination_lacks_is_found(
    site: Site, pools: tuple[Pool, ...], options: Options, code: str
) -> None:
    site = replace(site, destination=replace(site.destination, pools=pools))
    assert [one.code for one in assess(site, options) if one.severity is Severity.BLOCKER] == [code]


def test_what_the_destination_does_not_have_is_adapted_and_said() -> None:
    elsewhere = with_machine(has_emulator=False, emulator="/usr/libexec/qemu-kvm")
    assert [one.code for one in assess(elsewhere, COLD)] == ["emulator-adapted"]
    older = with_machine(available=False, instead="pc-q35-7.2")
    found = assess(older, Options(cold=True, cpu="host-model"))
    assert {one.code for one in found} == {"machine-adapted", "cpu-adapted"}
    assert plan_for(older, Options(cold=True, cpu="host-model")).adaption == Adaption("", "pc-q35-7.2", "host-model")
    unknown = with_machine(available=False)
    assert [one.code for one in assess(unknown, COLD)] == ["machine-type"]
    unfit = replace(good_site(), cpu=CpuComparison(CpuMatch.INCOMPATIBLE, ("avx512f",)))
    assert [one.code for one in assess(unfit, COLD)] == ["cpu-incompatible"]
    assert [one.code for one in assess(unfit, Options(cold=True, cpu="Haswell"))] == ["cpu-adapted"]


@pytest.mark.parametrize(
    ("version", "watchdogs", "left"),
    [((9, 0, 0), ("itco",), "itco"), ((9, 1, 0), ("itco",), ""), ((9, 0, 0), ("i6300esb",), ""), ((9, 0, 0), (), "")],
    ids=["not known there", "known there", "one that all know", "none"],
)
def test_the_watchdog_that_libvirt_adds_by_itself_is_left_away_where_it_is_not_known(
    version: tuple[int, int, int], watchdogs: tuple[str, ...], left: str
) -> None:
    site = with_guest(watchdogs=watchdogs)
    site = replace(site, destination=replace(site.destination, libvirt_version=version))
    assert plan_for(site, COLD).adaption == Adaption(watchdog=left)
    assert [one.code for one in assess(site, COLD)] == (["watchdog-left"] if left else [])


BACK = Options(cold=True, rollback_loses_writes=True)


@pytest.mark.parametrize(
    ("kept", "code"),
    [
        (None, "nothing-kept"),
        (KeptMove("r1", 0.0, ("/srv/web.qcow2",)), "nothing-kept"),
        (KeptMove("r1", 0.0, ()), "loses-writes"),
    ],
)
def test_a_way_back_needs_what_was_left_there_and_says_what_it_loses(kept: KeptMove | None, code: str) -> None:
    assert [one.code for one in assess(replace(local(), kept=kept), BACK)] == [code]


def test_the_way_back_copies_nothing_and_names_what_it_leaves() -> None:
    site = replace(local(), kept=KeptMove("r1", 0.0, ()))
    plan = plan_for(site, BACK)
    assert (plan.take_back, plan.new_disks, plan.nvram, plan.tpm) == ("r1", (), "", "")
    assert plan.stays == {"vda": "/srv/shared/web.qcow2"}
    assert [(one.target, one.shared) for one in plan.held] == [("vda", False)]
    assert "written to, also if the move is put back" in next(step.does for step in plan.steps if step.name == "start")


MACHINE = (
    "<domain><os><type arch='x86_64' machine='pc-q35-10.0'>hvm</type></os><cpu mode='host-passthrough' migratable='on'><topology sockets='1' />"
    "<feature name='vmx' policy='disable' /></cpu><devices><emulator>/usr/bin/qemu</emulator></devices></domain>"
)


def test_a_machine_is_adapted_and_what_is_not_named_stays() -> None:
    text = adapted(MACHINE, Changes(adaption=Adaption("/usr/libexec/qemu-kvm", "pc-q35-7.2", "Haswell")))
    assert "<emulator>/usr/libexec/qemu-kvm</emulator>" in text
    assert 'machine="pc-q35-7.2"' in text
    assert (
        '<cpu mode="custom" match="exact" check="partial"><model fallback="forbid">Haswell</model><topology sockets="1" /></cpu>'
        in text
    )
    only_cpu = adapted(MACHINE, Changes(adaption=Adaption(cpu="host-model")))
    assert '<cpu mode="host-model" check="partial"><topology sockets="1" /></cpu>' in only_cpu
    assert "pc-q35-10.0" in only_cpu
    assert "/usr/bin/qemu<" in only_cpu
    assert '<cpu mode="host-model"' in adapted(
        "<domain><devices /></domain>", Changes(adaption=Adaption(cpu="host-model"))
    )


def test_only_the_watchdog_is_left_away_that_resets_and_is_of_that_model() -> None:
    others = '<watchdog model="itco" action="pause" /><watchdog model="i6300esb" action="reset" />'
    text = f"<domain><devices>{others}<watchdog model='itco' action='reset'><alias name='w' /></watchdog></devices></domain>"
    assert adapted(text, Changes(adaption=Adaption(watchdog="itco"))) == f"<domain><devices>{others}</devices></domain>"


def test_a_volume_is_held_and_copied_by_the_path_of_its_image() -> None:
    site = local(kind="file", source="/srv/shared/web.qcow2", pool="shared")
    assert [one.code for one in assess(site, COLD)] == ["disk-copied"]
    plan = plan_for(site, COLD)
    assert [one.path for one in plan.held] == [one.source for one in plan.new_disks] == ["/srv/shared/web.qcow2"]


def test_links_go_down_and_nothing_else_changes() -> None:
    text = "<domain><devices><interface type='bridge'><source bridge='br0' /><link state='up' /></interface><interface type='user'><odd /></interface></devices></domain>"
    down = adapted(text, Changes(links_down=True))
    assert down.count('<link state="down" />') == 2
    assert down.replace('<link state="down" />', "").count("<odd />") == 1
    assert adapted(text, Changes()) == text


def test_a_drive_whose_medium_was_taken_out_is_empty_at_the_destination() -> None:
    text = "<domain><devices><disk type='volume' device='cdrom'><source pool='iso' volume='one' /><backingStore /><target dev='sda' /><readonly /></disk></devices></domain>"
    assert (
        adapted(text, Changes(ejected=("sda",)))
        == '<domain><devices><disk type="file" device="cdrom"><target dev="sda" /><readonly /></disk></devices></domain>'
    )
    assert "volume=" in adapted(text, Changes(ejected=("sdb",)))


def test_a_disk_that_is_taken_out_is_gone_as_it_is_nothing_without_its_image() -> None:
    text = "<domain><devices><disk type='file'><source file='/a' /><target dev='vda' /></disk><disk type='file'><source file='/b' /><target dev='vdb' /></disk></devices></domain>"
    found = adapted(text, Changes(ejected=("vdb",)))
    assert ("/a" in found, "vdb" in found) == (True, False)
