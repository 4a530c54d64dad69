"""A shut-off guest: what speaks against moving its definition alone, which plan it gets, and what each pair of places means."""

import itertools
from dataclasses import replace
from typing import Any

import pytest

from ferryman.assess import assess
from ferryman.model.finding import Severity, blockers
from ferryman.model.guest import HostDevice, State
from ferryman.model.host import Host
from ferryman.model.place import Place, Where
from ferryman.model.plan import Method
from ferryman.model.request import Options
from ferryman.model.site import CpuComparison, CpuMatch, DiskReach, Reach, Segment, Site
from ferryman.plan.method import method_for, plan_for
from ferryman.verify.definition import judge_definition
from ferryman.verify.location import Action
from tests.unit.sites import good_site, with_destination, with_ground, with_interface, with_machine, with_transport

NVRAM = "/var/lib/libvirt/qemu/nvram/web_VARS.fd"


def off(site: Site | None = None, nvram: Reach | None = None, **changes: Any) -> Site:
    """The site with its guest shut off; `nvram`: how its variable store is reached."""
    here = site or good_site()
    guest = replace(here.guest, state=State.SHUT_OFF, nvram=NVRAM if nvram else "", **changes)
    reach = DiskReach("nvram", nvram, "what was seen") if nvram else None
    return replace(here, guest=guest, ground=replace(here.ground, nvram=reach))


def elsewhere() -> Site:
    here = off()
    return replace(here, ground=replace(here.ground, disks=(DiskReach("vda", Reach.DIFFERENT, "no marker", None),)))


OF_DEFINITIONS: dict[str, Site] = {
    "disk-stays": elsewhere(),
    "snapshots-stay": off(snapshots=("before",)),
    "checkpoints-stay": off(checkpoints=("monday",)),
    "managed-save-stays": off(managed_save=True),
    "tpm-state-stays": off(tpm="emulator"),
    "device-stays": off(host_devices=(HostDevice("pci", "0000:01:00.0"),)),
    "state-stays": off(state_files=("/srv/pmem/web",)),
    "nvram-unproved": off(nvram=Reach.UNPROVED),
}


@pytest.mark.parametrize("code", OF_DEFINITIONS)
def test_each_thing_that_would_be_lost_refuses_with_thing_reason_and_remedy(code: str) -> None:
    (finding,) = assess(OF_DEFINITIONS[code], Options())
    assert (finding.code, finding.severity) == (code, Severity.BLOCKER)
    assert finding.what
    assert finding.why
    assert finding.remedy


@pytest.mark.parametrize("nvram", [None, Reach.SAME, Reach.DIFFERENT])
def test_a_shut_off_guest_on_shared_storage_may_go(nvram: Reach | None) -> None:
    assert assess(off(nvram=nvram), Options()) == ()


def test_what_only_matters_to_memory_on_its_way_is_not_found() -> None:
    site = with_transport(peer_reachable=False, migration_reachable=False, source_tls=False)
    crowded = replace(site, destination=replace(site.destination, memory_free=0, qemu_version=(7, 2, 0)))
    assert assess(crowded, Options())
    assert assess(off(crowded), Options()) == ()


def test_what_speaks_against_any_move_is_found() -> None:
    other = (
        replace(with_destination().destination.guests[0], uuid="x") if with_destination().destination.guests else None
    )
    assert other is None
    assert [one.code for one in blockers(assess(off(with_interface(source="br9")), Options()))] == ["bridge-missing"]
    cpu = replace(good_site(), cpu=CpuComparison(CpuMatch.INCOMPATIBLE, ("avx512f",)))
    assert [one.code for one in blockers(assess(off(cpu), Options()))] == ["cpu-incompatible"]
    assert assess(off(cpu, cpu_mode="host-model"), Options()) == ()  # made anew where it starts


ELSEWHERE = Host("b", "qemu+tls://b/system", maintenance=True)


@pytest.mark.parametrize(
    ("code", "site"),
    [
        ("maintenance", off(with_destination(host=ELSEWHERE))),
        ("emulator-missing", off(with_machine(has_emulator=False))),
        ("boot-file-missing", off(with_ground(lacking=("/boot/k",)), boot_files=("/boot/k",))),
        ("boot-files-not-checked", off(with_ground(lacking=None), boot_files=("/boot/k",))),
        ("vcpu-limit", off(vcpus=300)),
        ("pinned-cpus", off(pinned_cpus=(70,))),
        ("numa-nodes", off(numa_nodes=(5,))),
        ("other-segment", off(with_ground(segments=(Segment("br0", ()),)))),
        ("segment-not-checked", off(with_ground(segments=()))),
        ("private-network", off(with_interface(kind="network", source="lan", network_mode="nat"))),
    ],
)
def test_what_the_destination_must_have_when_the_guest_starts_there_is_found(code: str, site: Site) -> None:
    assert [one.code for one in assess(site, Options())] == [code]


@pytest.mark.parametrize("state", State)
def test_only_a_guest_that_was_stopped_in_order_moves_by_its_definition(state: State) -> None:
    guest = replace(good_site().guest, state=state)
    assert method_for(guest, Options()) is (Method.DEFINITION if state is State.SHUT_OFF else Method.LIVE)


@pytest.mark.parametrize(("nvram", "copied"), [(None, ""), (Reach.SAME, ""), (Reach.DIFFERENT, NVRAM)])
def test_the_plan_names_every_step_with_its_undo_and_one_point_of_no_return(nvram: Reach | None, copied: str) -> None:
    plan = plan_for(off(nvram=nvram), Options(replace_definition=True))
    assert (plan.method, plan.nvram) == (Method.DEFINITION, copied)
    names = [step.name for step in plan.steps]
    assert ("copy-nvram" in names) is bool(copied)
    assert names.index("define-destination") < names.index("undefine-source") < names.index("autostart-on")
    passed = [step.past_return for step in plan.steps]
    assert passed == sorted(passed)
    assert passed.index(True) == names.index("undefine-source")
    changing = [step for step in plan.steps if not step.past_return and step.name not in ("save-definition", "settle")]
    assert all(step.undo for step in changing)


PAIRS = list(itertools.product(Where, Where, (True, False), (True, False), (True, False)))


def test_every_pair_has_a_verdict_and_none_leaves_two_owners() -> None:
    for here, there, made, put_back, past in PAIRS:
        verdict = judge_definition(Place(here), Place(there), made=made, put_back=put_back, past=past)
        assert verdict.reason
        if Where.UNREACHABLE in (here, there):
            assert not verdict.plain
        if (
            verdict.action is Action.FORWARD
        ):  # the source's definition is removed: it must be inactive, and the twin there
            assert here in (Where.OFF, Where.ABSENT)
            assert there is not Where.ABSENT
            assert here is Where.ABSENT or made
        if verdict.action is Action.BACK:  # autostart is switched on again at the source: nothing may run beside it
            assert here is not Where.ABSENT
            assert there in (Where.ABSENT, Where.OFF)
        if verdict.action is Action.ATTENTION:
            assert verdict.remedy


@pytest.mark.parametrize(
    ("made", "put_back", "past", "action"),
    [
        (True, False, False, Action.FORWARD),
        (True, True, False, Action.BACK),
        (False, False, False, Action.BACK),
        (False, False, True, Action.ATTENTION),
        (True, False, True, Action.FORWARD),
    ],
)
def test_two_definitions_go_forward_only_when_the_second_is_ours(
    made: bool, put_back: bool, past: bool, action: Action
) -> None:
    two = Place(Where.OFF, True)
    assert judge_definition(two, two, made=made, put_back=put_back, past=past).action is action


def test_a_job_at_the_source_is_waited_for() -> None:
    saving = Place(Where.RUNNING, True, job="save")
    assert judge_definition(saving, Place(Where.ABSENT), made=False, put_back=False, past=False).action is Action.WAIT


def test_the_checkpoint_of_our_own_backup_stays_behind_and_keeps_nobody_here() -> None:
    (finding,) = assess(off(checkpoints=("ferryman-backup-1234abcd",)), Options())
    assert finding.code == "checkpoints-left"
    mixed = assess(off(checkpoints=("ferryman-backup-1234abcd", "monday")), Options())
    assert [one.code for one in mixed] == ["checkpoints-stay"]
