"""The mark of a move: set before anything else, seen by others, removed wherever the guest is, and only by whom it belongs to."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import libvirt
import pytest

from ferryman.assess import assess
from ferryman.drivers.database.records import DatabaseRecords
from ferryman.drivers.libvirt import mark as domain_marks
from ferryman.drivers.libvirt.xml import definition
from ferryman.errors import Refused, Unreachable
from ferryman.execute import mark as marks
from ferryman.execute import undo
from ferryman.execute.definition import define_destination
from ferryman.model.host import Host
from ferryman.model.mark import GRACE, Mark
from ferryman.model.outcome import Outcome, Status
from ferryman.model.phase import Phase
from ferryman.model.plan import Order
from ferryman.model.request import Handshake, Options, Request
from ferryman.plan.definition import definition_plan
from tests.durability.fake_hypervisor import FakeHypervisor
from tests.durability.fakes import FakeSite, records_of_both
from tests.durability.world import World, change
from tests.unit.sites import UUID, good_site
from tests.unit.test_waiting import Clock

REQUEST = Request("1111aaaa", UUID, "web", "a", "b", Options(timeout=60), "me@here", asked_at=1000.0)
OTHERS = Mark("2222bbbb", "somebody@elsewhere", 900.0, 4e9)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FakeSite]:
    records = records_of_both(tmp_path)
    records.add_request(REQUEST, "slot0")
    made = FakeSite(records, World.made(tmp_path / "world.json"))
    made.clock = Clock("1970-01-01T00:16:40Z")  # 1000 s
    yield made
    records.engine.dispose()


def mark_at(site: FakeSite, host: str) -> Mark | None:
    return site.hypervisor(host).mark(UUID)


def move(site: FakeSite) -> None:
    """As libvirt would: the guest with its metadata goes to b."""
    with site.world.opened() as content:
        content["a"], content["b"] = None, content["a"]


def end(records: DatabaseRecords, request: str, status: Status) -> None:
    records.keep_outcome(request, Outcome(status, "an end"))
    records.enter(request, Phase(status))


def test_the_mark_says_whose_since_when_and_until_when(site: FakeSite) -> None:
    marks.set_mark(site.ports, REQUEST)
    assert mark_at(site, "a") == Mark("1111aaaa", "me@here", 1000.0, 1000.0 + 60 + GRACE)
    marks.set_mark(site.ports, REQUEST)  # run again after a crash
    assert len(site.ports.records.undo_entries(REQUEST.id)) == 1


def test_a_warm_move_that_waits_for_its_time_is_marked_until_after_it(site: FakeSite) -> None:
    """It is copied ahead now, and stopped in days: until then nobody may take its mark for one that was forgotten."""
    at = datetime.fromtimestamp(1000.0 + 3 * 86400, UTC)
    waits = replace(REQUEST, options=replace(REQUEST.options, warm=True, at=at.isoformat()))
    marks.set_mark(site.ports, waits)
    assert mark_at(site, "a") == Mark("1111aaaa", "me@here", 1000.0, at.timestamp() + 60 + GRACE)
    site.ports.records.keep_facts(waits.id, {"due_at": at.timestamp() + 5})
    marks.renew(site.ports, waits)
    assert mark_at(site, "a") == Mark("1111aaaa", "me@here", 1000.0, at.timestamp() + 5 + 60 + GRACE)


def test_one_whose_turn_comes_late_is_marked_from_then_on(site: FakeSite) -> None:
    """Others of the same command went first, for longer than its timeout."""
    site.clock.sleep(7200.0)
    marks.set_mark(site.ports, REQUEST)
    assert mark_at(site, "a") == Mark("1111aaaa", "me@here", 1000.0, 8200.0 + 60 + GRACE)


def worked_at(site: FakeSite, *, hours: float) -> set[float]:
    """Looked at every half a minute; the ends that its mark had meanwhile."""
    seen = set()
    for _ in range(int(hours * 120)):
        site.clock.sleep(30.0)
        marks.keep(site.ports, WARM)
        mark = mark_at(site, "a")
        assert mark is not None
        seen.add(mark.until)
    return seen


WARM = replace(REQUEST, options=Options(warm=True))


def test_the_mark_of_a_warm_move_lasts_as_long_as_it_is_worked_at_and_is_set_rarely(site: FakeSite) -> None:
    """Else another operator's ferryman would take it away in the middle of a large copy."""
    marks.set_mark(site.ports, WARM)
    ends = worked_at(site, hours=3)
    assert len(ends) == 6 + 1  # every half an hour, its timeout
    assert max(ends) > site.clock.wall() + GRACE


@pytest.mark.parametrize("befalls", ["a job", "silence"])
def test_what_keeps_it_from_being_set_ends_nothing_and_is_said_once(site: FakeSite, befalls: str) -> None:
    marks.set_mark(site.ports, WARM)
    set_first = mark_at(site, "a")
    change(site.world.path.parent, **({"silent": ["a"]} if befalls == "silence" else {}))
    if befalls == "a job":
        with site.world.opened() as content:
            content["a"]["other_job"] = "dump"
    for _ in range(120):
        site.clock.sleep(30.0)
        marks.keep(site.ports, WARM)
    said = [one for one in site.ports.records.report(WARM.id).decisions if "could not be made to last" in one]
    assert len(said) == 1
    with site.world.opened() as content:
        content["silent"] = []
        content["a"].pop("other_job", None)
    assert mark_at(site, "a") == set_first
    worked_at(site, hours=0.05)
    found = mark_at(site, "a")
    assert found is not None
    assert found.until > site.clock.wall() + GRACE


def test_what_is_not_marked_yet_is_not_marked_by_that(site: FakeSite) -> None:
    """It is backed up first."""
    marks.keep(site.ports, WARM)
    assert mark_at(site, "a") is None


def test_after_the_waiting_a_mark_that_is_there_is_left_alone_and_one_that_is_gone_is_set_again(site: FakeSite) -> None:
    """A job of somebody else, such as the backup of every night, is told by the pass that cannot begin: that is tried again."""
    marks.set_mark(site.ports, REQUEST)
    with site.world.opened() as content:
        content["a"]["backup"] = "backup"
    marks.set_again(site.ports, REQUEST)
    with site.world.opened() as content:
        del content["a"]["backup"], content["a"]["mark"]
    marks.set_again(site.ports, REQUEST)
    assert mark_at(site, "a") is not None
    site.hypervisor("a").set_mark(UUID, OTHERS)
    with pytest.raises(Refused):
        marks.set_again(site.ports, REQUEST)


def test_it_travels_and_is_removed_at_the_destination(site: FakeSite) -> None:
    marks.set_mark(site.ports, REQUEST)
    move(site)
    marks.remove_mark(site.ports, REQUEST)
    assert mark_at(site, "b") is None
    marks.remove_mark(site.ports, REQUEST)  # run again after a crash


@pytest.mark.parametrize("moved", [False, True])
def test_undo_removes_it_wherever_the_guest_is(site: FakeSite, moved: bool) -> None:
    marks.set_mark(site.ports, REQUEST)
    if moved:
        move(site)
    assert undo.undo_all(site.ports, REQUEST) == []
    assert mark_at(site, "b" if moved else "a") is None


def test_a_crash_between_the_row_and_the_mark_leaves_nothing_to_undo(site: FakeSite) -> None:
    site.ports.records.register_undo(REQUEST.id, undo.REMOVE_MARK, {"host": "a"})
    assert undo.undo_all(site.ports, REQUEST) == []


def test_anothers_mark_refuses_and_stays(site: FakeSite) -> None:
    site.hypervisor("a").set_mark(UUID, OTHERS)
    with pytest.raises(Refused, match="2222bbbb of somebody@elsewhere"):
        marks.set_mark(site.ports, REQUEST)
    undo.undo_all(site.ports, REQUEST)
    marks.remove_mark(site.ports, replace(REQUEST, destination="a"))
    assert mark_at(site, "a") == OTHERS


def test_another_that_marks_at_the_same_moment_is_seen(site: FakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    original = FakeHypervisor.set_mark

    def later_one_wins(self: FakeHypervisor, uuid: str, mark: Mark | None) -> None:
        original(self, uuid, mark)
        original(self, uuid, OTHERS)

    monkeypatch.setattr(FakeHypervisor, "set_mark", later_one_wins)
    with pytest.raises(Refused, match="somebody@elsewhere"):
        marks.set_mark(site.ports, REQUEST)


def test_a_job_of_somebody_else_refuses_before_the_mark(site: FakeSite) -> None:
    site.hypervisor("a").start_migration(UUID, Order(Handshake.PEER, "", "", True, Options()))
    with pytest.raises(Refused, match="not ours"):
        marks.set_mark(site.ports, REQUEST)
    assert mark_at(site, "a") is None


@pytest.mark.parametrize(
    ("status", "over"),
    [(Status.SUCCEEDED, True), (Status.FAILED, True), (Status.NEEDS_ATTENTION, False), (None, False)],
)
def test_a_mark_of_our_own_is_over_when_its_request_has_ended(
    site: FakeSite, status: Status | None, over: bool
) -> None:
    earlier = replace(REQUEST, id="3333cccc")
    site.ports.records.add_request(earlier, "slot0")
    if status is not None:
        end(site.records, earlier.id, status)
    left = Mark(earlier.id, "me@here", 500.0, 1e12)
    assert marks.is_over(site.ports.records, left) is over
    site.hypervisor("a").set_mark(UUID, left)
    if over:
        marks.set_mark(site.ports, REQUEST)
        found = mark_at(site, "a")
        assert found is not None
        assert found.request == REQUEST.id
    else:
        with pytest.raises(Refused, match="3333cccc"):
            marks.set_mark(site.ports, REQUEST)


def test_a_mark_of_other_records_is_never_known_to_be_over(site: FakeSite) -> None:
    assert not marks.is_over(site.ports.records, OTHERS)
    assert not marks.is_over(site.ports.records, None)


def test_a_mark_that_may_be_true_is_only_removed_by_force_and_a_stale_one_at_once(site: FakeSite) -> None:
    assert site.unmark("web") is None
    site.hypervisor("a").set_mark(UUID, OTHERS)
    with pytest.raises(Refused, match="may still be moving it"):
        site.unmark("web")
    assert site.unmark("web", force=True) == OTHERS
    assert mark_at(site, "a") is None
    stale = replace(OTHERS, until=999.0)
    site.hypervisor("a").set_mark(UUID, stale)
    assert site.unmark("web") == stale


def test_a_guest_that_we_are_moving_ourselves_keeps_its_mark(site: FakeSite) -> None:
    marks.set_mark(site.ports, REQUEST)
    site.records.take_lease(UUID, REQUEST.id)
    with pytest.raises(Refused, match="request 1111aaaa holds it"):
        site.unmark("web", force=True)
    assert mark_at(site, "a") is not None


def test_maintenance_is_kept_with_the_host_also_when_it_is_registered_anew(site: FakeSite) -> None:
    site.add(Host("c", "qemu+tls://c/system"))
    site.set_maintenance("c", True, "new disks")
    site.add(Host("c", "qemu+ssh://root@c/system"))
    again = site.host("c")
    assert (again.uri, again.maintenance, again.maintenance_reason) == ("qemu+ssh://root@c/system", True, "new disks")
    site.set_maintenance("c", False, "new disks")
    assert (site.host("c").maintenance, site.host("c").maintenance_reason) == (False, "")


def test_a_mark_that_cannot_be_removed_is_said_and_fails_no_move(
    site: FakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks.set_mark(site.ports, REQUEST)
    move(site)

    def silent(self: FakeHypervisor, uuid: str, mark: Mark | None) -> None:
        raise Unreachable("host b", "no answer")

    monkeypatch.setattr(FakeHypervisor, "set_mark", silent)
    marks.remove_mark(site.ports, REQUEST)
    (told,) = site.records.decisions(REQUEST.id)
    assert "stays" in told
    assert "ferryman unmark web" in told
    assert mark_at(site, "b") is not None


# A guest that is shut off


@pytest.fixture
def off(site: FakeSite) -> FakeSite:
    with site.world.opened() as content:
        content["a"]["state"] = "off"
    return site


def test_a_shut_off_guest_bears_it_in_its_definition_and_an_undo_takes_it_away(off: FakeSite) -> None:
    marks.set_mark(off.ports, REQUEST)
    assert mark_at(off, "a") == Mark("1111aaaa", "me@here", 1000.0, 1000.0 + 60 + GRACE)
    assert undo.undo_all(off.ports, REQUEST) == []
    assert mark_at(off, "a") is None


def test_of_two_ferrymen_that_move_one_shut_off_guest_one_is_refused(off: FakeSite) -> None:
    off.hypervisor("a").set_mark(UUID, OTHERS)
    with pytest.raises(Refused, match="2222bbbb of somebody@elsewhere"):
        marks.set_mark(off.ports, REQUEST)
    found = assess(replace(good_site(), guest=off.hypervisor("a").guest(UUID)), Options())
    assert {one.code for one in found} >= {"being-moved"}


def test_another_that_marked_it_after_our_looks_is_seen_before_anything_is_defined(off: FakeSite) -> None:
    marks.set_mark(off.ports, REQUEST)
    off.records.take_lease(UUID, REQUEST.id)
    off.hypervisor("a").set_mark(UUID, OTHERS)
    plan = definition_plan(good_site(), Options())
    with pytest.raises(Refused, match="2222bbbb of somebody@elsewhere"):
        define_destination(off.ports, REQUEST, plan, True)
    assert off.world.read()["b"] is None


_DOMAIN = (
    "<domain type='test'><name>web</name><uuid>{uuid}</uuid><memory>1000</memory><os><type>hvm</type></os></domain>"
)


def test_libvirt_keeps_it_with_the_definition_of_a_guest_that_is_off_and_live_with_one_that_runs() -> None:
    """By libvirt's own test driver. A marked guest that was started bears it twice, and is rid of both at once."""
    link = libvirt.open("test:///default")
    domain = link.defineXML(_DOMAIN.format(uuid=UUID))
    inactive = libvirt.VIR_DOMAIN_XML_INACTIVE
    try:
        domain_marks.write(domain, OTHERS)
        assert domain_marks.read(domain) == OTHERS == definition(domain.XMLDesc(inactive)).mark
        domain.create()
        assert domain_marks.read(domain) == OTHERS
        domain_marks.write(domain, None)
        assert domain_marks.read(domain) is None
        assert definition(domain.XMLDesc(inactive)).mark is None
        domain_marks.write(domain, OTHERS)
        assert domain_marks.read(domain) == OTHERS
        assert definition(domain.XMLDesc(inactive)).mark is None
    finally:
        domain.destroy()
        domain.undefine()
        link.close()
