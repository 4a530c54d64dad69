"""Laws that hold for everything Hypothesis can think of."""

import math
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from ferryman.assess import assess
from ferryman.drivers.database import schema
from ferryman.drivers.database.records import DatabaseRecords
from ferryman.execute.follow import NO_BYTE_FOR, Action, Watch, decide
from ferryman.model.finding import Severity, blockers
from ferryman.model.guest import Disk, HostDevice, Interface, State
from ferryman.model.host import GuestOnHost
from ferryman.model.phase import ENDS, FOLLOWS, Phase, may_follow
from ferryman.model.place import Place, Where
from ferryman.model.request import Options, Request
from ferryman.model.sample import Sample
from ferryman.model.site import CpuComparison, CpuMatch, DiskReach, Reach, Site
from ferryman.model.units import GIB, format_duration, format_size, parse_duration, parse_size
from ferryman.plain import from_json, from_plain, to_json, to_plain
from ferryman.plan.steps import live_plan
from ferryman.report.progress import UNKNOWN, advance
from ferryman.report.timeline import rounds
from ferryman.verify.location import Action as Settled
from ferryman.verify.location import judge
from tests.unit.sites import UUID, good_site, host_facts

sizes = st.integers(0, 2**44)
samples = st.builds(
    Sample,
    at=st.floats(0, 1e9),
    elapsed=st.floats(0, 1e5),
    setup=st.booleans(),
    memory_total=sizes,
    memory_processed=sizes,
    memory_remaining=sizes,
    memory_rate=st.none() | st.floats(0, 1e11),
    dirty_rate=st.none() | st.floats(0, 1e11),
    iteration=st.integers(0, 50),
    disk_processed=sizes,
    disk_remaining=sizes,
)
places = st.builds(
    Place, st.sampled_from(Where), st.booleans(), st.booleans(), st.sampled_from(["", "outgoing migration"])
)


# Phases


def test_every_phase_is_in_the_table_and_can_be_reached_and_left() -> None:
    assert set(FOLLOWS) == set(Phase)
    reached = {Phase.QUEUED}
    while more := {later for phase in reached for later in FOLLOWS[phase]} - reached:
        reached |= more
    assert reached == set(Phase)
    for phase in set(Phase) - ENDS:
        assert FOLLOWS[phase]


@given(st.sampled_from(Phase))
def test_after_completing_nothing_rolls_back(phase: Phase) -> None:
    if phase in (Phase.COMPLETING, Phase.VERIFYING):
        assert not {Phase.ROLLING_BACK, Phase.FAILED, Phase.CANCELLED} & set(FOLLOWS[phase])
    assert may_follow(phase, phase)


# Places


@given(places, places)
def test_every_pair_has_a_verdict_and_the_dangerous_ones_are_left_alone(source: Place, destination: Place) -> None:
    verdict = judge(source, destination)
    assert verdict.reason
    if source.job or Where.UNREACHABLE in (source.where, destination.where):
        assert not verdict.plain
    if source.where is Where.RUNNING and destination.where in (Where.RUNNING, Where.PAUSED, Where.STALLED):
        assert not verdict.plain
    if verdict.action is Settled.FORWARD_OVER_HUSK:
        assert (source.where, destination.where) == (Where.STALLED, Where.RUNNING)
    if verdict.action is Settled.BACK_RESUME:
        assert (source.where, source.persistent, destination.where) == (Where.STALLED, True, Where.ABSENT)
    if verdict.action is Settled.STALE:
        assert source.where is Where.STALLED
        assert verdict.remedy


# Undo


@given(st.lists(st.sampled_from(["x", "y", "z", "w"]), max_size=12))
@settings(max_examples=30, deadline=None)
def test_undo_runs_last_first_and_registers_once(acts: list[str]) -> None:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    schema.metadata.create_all(engine)
    records = DatabaseRecords(engine)
    records.add_request(Request("r1", UUID, "web", "a", "b"), "slot0")
    for act in acts:
        records.register_undo("r1", act, {"host": "a"})
    assert [act for _, act, _ in records.undo_acts("r1")] == list(reversed(list(dict.fromkeys(acts))))
    for number, _, _ in records.undo_acts("r1")[:1]:
        records.close_undo(number, "failed", "why")
    assert len(records.undo_acts("r1")) == len(set(acts))  # a failed one is tried again
    for number, _, _ in records.undo_acts("r1"):
        records.close_undo(number, "done")
    assert records.undo_acts("r1") == ()
    engine.dispose()


# Progress


@given(st.lists(samples, max_size=30))
def test_progress_never_runs_backwards_and_never_passes_its_end(taken: list[Sample]) -> None:
    progress, shown = UNKNOWN, 0.0
    for sample in taken:
        progress = advance(progress, sample)
        if progress.fraction is not None:
            assert shown <= progress.fraction < 1
            shown = progress.fraction
        if progress.left is not None:
            assert progress.left >= 0
            assert math.isfinite(progress.left)


@given(st.lists(samples, max_size=30))
def test_rounds_hold_nothing_negative(taken: list[Sample]) -> None:
    for one in rounds(taken):
        assert min(one.duration, one.sent, one.remaining) >= 0


# Watching


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6), st.booleans(), st.sampled_from(["", "somebody"]))
def test_nothing_is_aborted_after_the_switchover_began(
    elapsed: float, timeout: float, idle: float, paused: bool, by: str
) -> None:
    decision = decide(Watch(elapsed, timeout, idle, 1.0 if paused else None, by))
    assert decision.reason
    wanted = bool(by) or (timeout > 0 and elapsed > timeout) or idle > NO_BYTE_FOR
    assert (decision.action is Action.ABORT) == (wanted and not paused)
    if decision.action is Action.ABORT:
        assert decision.cancelled == bool(by)


# Assess


def _site(
    state: State, reach: Reach, match: CpuMatch, free: int, device: bool, kind: str, clash: str, empty: bool
) -> Site:
    site = good_site()
    others = {
        "": (),
        "name": (GuestOnHost("x", "web", "running", True, False, (), 1, 0, 0, (), ()),),
        "uuid": (GuestOnHost(UUID, "web", "shut off", True, False, (), 1, 0, 0, (), ()),),
    }[clash]
    disk = Disk("vda", "disk", "file", "" if empty else "/srv/shared/x", "qcow2", "none", False, False)
    return replace(
        site,
        guest=replace(
            site.guest,
            state=state,
            disks=(disk,),
            host_devices=(HostDevice("usb", "1:2"),) if device else (),
            interfaces=(Interface("52:54:00:00:00:02", kind, "br0", "virtio"),),
        ),
        destination=replace(host_facts("b"), memory_free=free * GIB, guests=others),
        ground=replace(site.ground, disks=(DiskReach("vda", reach, "seen", True),)),
        cpu=CpuComparison(match, (), "words"),
    )


sites = st.builds(
    _site,
    st.sampled_from(State),
    st.sampled_from(Reach),
    st.sampled_from(CpuMatch),
    st.integers(0, 64) ,
    st.booleans(),
    st.sampled_from(["bridge", "network", "direct", "user", "hostdev", "strange"]),
    st.sampled_from(["", "name", "uuid"]),
    st.booleans(),
)  # fmt: skip


@given(sites, st.booleans(), st.booleans())
def test_findings_are_whole_and_ordered(site: Site, insecure: bool, replaced: bool) -> None:
    found = assess(site, Options(insecure=insecure, replace_definition=replaced))
    weights = [list(Severity).index(finding.severity) for finding in found]
    assert weights == sorted(weights)
    for finding in found:
        assert finding.what
        assert finding.why
        assert finding.remedy or finding.severity is Severity.NOTE
        assert "{" not in finding.remedy.replace("{guest}", "")


@given(sites)
def test_more_room_never_adds_a_blocker(site: Site) -> None:
    roomier = replace(site, destination=replace(site.destination, memory_free=site.destination.memory_free + 100 * GIB))
    assert len(blockers(assess(roomier, Options()))) <= len(blockers(assess(site, Options())))


@given(sites)
def test_a_plan_passes_the_point_of_no_return_once(site: Site) -> None:
    passed = [step.past_return for step in live_plan(site, Options()).steps]
    assert passed == sorted(passed)


# Plain values and units


@given(samples)
def test_nouns_survive_storage(sample: Sample) -> None:
    assert from_plain(Sample, to_plain(sample)) == sample
    assert from_plain(Sample, from_json(to_json(sample))) == sample


@given(st.integers(0, 2**50), st.floats(0, 1e6))
def test_units_never_fail_and_read_what_they_write(size: int, seconds: float) -> None:
    assert abs(parse_size(format_size(size)) - size) <= max(1, size * 0.05)
    assert format_duration(seconds)
    assert parse_duration(f"{int(seconds)}s") == int(seconds)
