"""Single acts of a cold move at moments that no kill at a step's border meets: what a host's restart, a failure or another person did between."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ferryman.drivers.database.records import DatabaseRecords
from ferryman.errors import DriverError
from ferryman.execute import ahead, cold, copying, definition, inspection, live, storage, undo
from ferryman.execute.patience import Patience
from ferryman.execute.retire import retire
from ferryman.execute.stop import stop
from ferryman.model.copy import CopyProgress, CopyResult, CopyTask
from ferryman.model.guest import Checkpoint, Snapshot
from ferryman.model.plan import Changes, Held, Layer, Method, NewDisk, Plan, Travel, Volume
from ferryman.model.request import Handshake, Options, Request
from ferryman.plain import to_plain
from ferryman.plan.ahead import More, Pass
from ferryman.ports import Console, Ports
from tests.durability.fake_hypervisor import FakeHypervisor
from tests.durability.fakes import FakeSite, records_of_both
from tests.durability.world import World
from tests.unit.sites import UUID

REQUEST = Request("there0000", UUID, "web", "a", "b", Options(cold=True), "somebody@here", time.time())
DISK = NewDisk(
    "vda", "/srv/shared/web.qcow2", "shared", "web-2.qcow2", "qcow2", 1 << 30, 1 << 20, Travel.FILE, "/srv/shared"
)
PLAN = Plan(
    Method.COLD, "web", "a", "b", (), Handshake.CARRIED, "", "", encrypted=True, persistent=True, autostart=False, new_disks=(DISK,),
    starts=True, held=(Held("vda", DISK.source, "qcow2", shared=False),),
)  # fmt: skip
OFF, RUNNING = {"state": "off", "autostart": False}, {"state": "running", "autostart": False}
UNSEEN = RUNNING | {"links": False}


@pytest.fixture
def records(tmp_path: Path) -> Iterator[DatabaseRecords]:
    opened = records_of_both(tmp_path)
    opened.add_request(REQUEST, "slot1")
    opened.take_lease(UUID, REQUEST.id)
    opened.keep_definition(REQUEST.id, "a", "<domain/>")
    yield opened
    opened.engine.dispose()


def ports(records: DatabaseRecords, tmp_path: Path, a: Any, b: Any, **more: Any) -> Ports:
    world = World.made(tmp_path / "world.json", local=True, **({"a": a, "b": b, "journals": {"c1": "x"}} | more))
    return FakeSite(records, world).ports


def seen(tmp_path: Path) -> dict[str, Any]:
    return World(tmp_path / "world.json").read()


def registered(records: DatabaseRecords, *acts: str) -> None:
    more = {undo.DISCARD_COPY: {"copy": "c1", "path": "/srv/shared/web-2.qcow2"}}
    for act in acts:
        host = (
            "a" if act in (undo.START_SOURCE, undo.DEFINE_SOURCE, undo.RELEASE_IMAGES, undo.RESTORE_AUTOSTART) else "b"
        )
        records.register_undo(REQUEST.id, act, {"host": host} | more.get(act, {}))


ALL = (undo.RESTORE_AUTOSTART, undo.START_SOURCE, undo.RELEASE_IMAGES, undo.DISCARD_COPY, undo.REMOVE_NEW_DEFINITION,
       undo.DEFINE_SOURCE, undo.STOP_DESTINATION)  # fmt: skip


def test_an_image_that_only_others_write_to_is_looked_at_again_once_the_waiting_is_over(
    records: DatabaseRecords, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was copied ahead, days ago."""
    medium = replace(DISK, target="sda", source="/srv/shared/iso", format="raw", travel=Travel.COPY, read_only=True)
    at = ports(records, tmp_path, RUNNING, None)
    asked: list[CopyTask] = []

    def copy(task: CopyTask, *_: Any, **__: Any) -> CopyResult:
        asked.append(task)
        return CopyResult(1, 1, 1, 1, 0, 1.0, 1.0, "d1", "d1", "tls")

    monkeypatch.setattr(at.copier, "copy", copy)
    monkeypatch.setattr(ahead, "decide", lambda done: More(False, "enough"))
    plan = replace(PLAN, new_disks=(medium,))
    volumes = {"sda": to_plain(Volume("sda", "shared", "iso", "/srv/shared/iso"))}
    passes = [to_plain(Pass(1, "ferryman-there0000-1", "", complete=True, seconds=1.0))]
    records.keep_facts(REQUEST.id, {"volumes": volumes, "passes": passes})
    assert ahead.copy_ahead(at, REQUEST, plan).reason == ""
    assert ahead.catch_up(at, REQUEST, plan).reason == ""
    assert [task.source.location for task in asked] == ["/srv/shared/iso"] * 2


def test_a_source_that_lost_its_holds_after_the_copy_is_not_left_for_what_was_copied(
    records: DatabaseRecords, tmp_path: Path
) -> None:
    """Its host restarted while no ferryman was there: the guest may have run, and its disks are newer than the copies."""
    site = ports(records, tmp_path, OFF, OFF)
    end = cold.leave(site, REQUEST, PLAN)
    assert "vda was not held all the time at a" in end.reason
    assert seen(tmp_path)["a"] == OFF
    site = ports(records, tmp_path, OFF, OFF, held={"a": ["vda"]})
    assert cold.leave(site, REQUEST, PLAN).reason == ""
    assert seen(tmp_path)["a"] is None


def test_a_disk_copied_before_a_crash_still_gets_its_layers_named(
    records: DatabaseRecords, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it stands upon whatever has the old path at the destination."""
    named: list[tuple[str, ...]] = []
    monkeypatch.setattr(FakeHypervisor, "rebase", lambda _, *paths: named.append(paths))
    result = CopyResult(1, 1, 1, 1, 0, 1.0, 1.0, "d1", "d1", "tls")
    volume = Volume("vda", "shared", "web-2.qcow2", "/srv/shared/web-2.qcow2")
    top = Layer("vda", DISK.source, "qcow2", volume.path, below="/srv/base.qcow2")
    layer = Layer("vda", "/srv/base.qcow2", "qcow2", "/srv/shared/base.qcow2")
    records.keep_facts(
        REQUEST.id,
        {
            "volumes": {"vda": to_plain(volume)},
            "layers": [to_plain(top), to_plain(layer)],
            "copies": {"vda": to_plain(result), "vda.1": to_plain(result)},
        },
    )
    site = ports(records, tmp_path, OFF, None, held={"a": ["vda"]})
    assert copying.copy_disks(site, REQUEST, PLAN).reason == ""
    assert named == [(volume.path, layer.path, "qcow2")]


def test_what_cannot_be_stopped_at_the_destination_keeps_its_disks_and_stays_this_moves(
    records: DatabaseRecords, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stuck(*_: Any) -> None:
        raise DriverError("destroy of guest web at b", "no answer within 60 s")

    with monkeypatch.context() as patched:
        patched.setattr(FakeHypervisor, "destroy", stuck)
        site = ports(records, tmp_path, None, UNSEEN, held={"a": ["vda"]})
        registered(records, *ALL)
        assert len(undo.undo_all(site, REQUEST)) == len(ALL)
    now = seen(tmp_path)
    assert (now["a"], now["b"], now["held"], now["journals"]) == (None, UNSEEN, {"a": ["vda"]}, {"c1": "x"})
    assert definition.made(site, REQUEST)  # so the next recover puts it back, and does not go forward
    assert undo.undo_all(site, REQUEST) == []
    now = seen(tmp_path)
    assert (now["a"], now["b"]) == (RUNNING | {"autostart": True}, None)
    assert (now["held"], now["journals"]) == ({"a": []}, {})


def test_a_source_that_takes_no_definition_leaves_the_destinations_and_all_is_put_back_later(
    records: DatabaseRecords, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise DriverError("define a guest at a", "no space left")

    with monkeypatch.context() as patched:
        patched.setattr(FakeHypervisor, "define", full)
        site = ports(records, tmp_path, None, UNSEEN, held={"a": ["vda"]})
        registered(records, *ALL)
        assert undo.undo_all(site, REQUEST)
    assert seen(tmp_path)["b"] == OFF | {"links": False}
    assert definition.made(site, REQUEST)
    assert undo.undo_all(site, REQUEST) == []
    assert (seen(tmp_path)["a"], seen(tmp_path)["b"]) == (RUNNING | {"autostart": True}, None)


def test_checkpoints_are_kept_before_the_definition_goes_and_made_known_again_with_it(
    records: DatabaseRecords, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Checkpoint("first", "<domaincheckpoint/>"), Checkpoint("second", "<domaincheckpoint/>")
    known: list[Checkpoint] = []
    monkeypatch.setattr(FakeHypervisor, "checkpoints", lambda *_: (first, second))
    monkeypatch.setattr(FakeHypervisor, "make_checkpoints_known", lambda _, _uuid, those: known.extend(those))
    registered(records, undo.REMOVE_NEW_DEFINITION)
    with monkeypatch.context() as patched:
        patched.setattr(FakeHypervisor, "undefine", lambda *_, **_more: 1 / 0)  # it dies where the definition would go
        with pytest.raises(ZeroDivisionError):
            cold.leave(ports(records, tmp_path, OFF, OFF, held={"a": ["vda"]}), REQUEST, PLAN)
    assert undo.undo_all(ports(records, tmp_path, None, OFF), REQUEST) == []
    assert known == [first, second]


def test_snapshots_are_made_known_again_after_a_crash_between_that_and_the_definition(
    records: DatabaseRecords, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[str] = []
    monkeypatch.setattr(FakeHypervisor, "make_known", lambda _, _uuid, those: known.extend(one.name for one in those))
    records.keep_facts(REQUEST.id, {"snapshots": [to_plain(Snapshot("before", "<domainsnapshot/>", current=True))]})
    site = ports(records, tmp_path, OFF, OFF)
    registered(records, undo.REMOVE_NEW_DEFINITION, undo.DEFINE_SOURCE)
    assert undo.undo_all(site, REQUEST) == []
    assert known == ["before"]


def test_a_guest_that_runs_at_the_destination_already_is_stopped_there_if_it_goes_back(
    records: DatabaseRecords, tmp_path: Path
) -> None:
    site = ports(records, tmp_path, None, UNSEEN)
    assert cold.start(site, REQUEST, PLAN).reason == ""
    assert [act for _, act, _ in records.undo_acts(REQUEST.id)] == [undo.STOP_DESTINATION]


@pytest.mark.parametrize("begun", [True, False])
def test_one_that_still_runs_is_not_stopped_long_after_it_was_asked_for(
    records: DatabaseRecords, tmp_path: Path, begun: bool
) -> None:
    site = ports(records, tmp_path, RUNNING, None)
    if begun:
        registered(records, undo.START_SOURCE)
    site.clock.sleep(3600)
    assert "too late" in stop(site, REQUEST, PLAN, fresh=False).reason
    assert seen(tmp_path)["a"] == RUNNING


def test_a_medium_that_was_taken_out_is_not_in_the_definition_that_was_kept_before(
    records: DatabaseRecords, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would not start: the destination does not have it."""
    changes: list[Changes] = []
    monkeypatch.setattr(FakeHypervisor, "define", lambda _, _text, wanted: changes.append(wanted))
    site = ports(records, tmp_path, OFF, None)
    assert cold.arrive(site, REQUEST, replace(PLAN, ejected=("sda",))).reason == ""
    assert [(one.ejected, one.links_down) for one in changes] == [(("sda",), True)]


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        (Console.ANSWERS, Console.ANSWERS, ""),
        (Console.ANSWERS, Console.SILENT, "its console answered before, and does not at b"),
        (Console.ANSWERS, Console.BUSY, ""),  # somebody has it open, and sees for themselves
        (Console.ANSWERS, Console.NONE, "its console answered before, and does not at b"),
        (Console.SILENT, Console.SILENT, ""),
        (Console.BUSY, Console.SILENT, ""),
    ],
)
def test_a_console_that_answered_before_the_stop_must_answer_again(
    records: DatabaseRecords, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: Console, after: Console, why: str
) -> None:
    monkeypatch.setattr(cold, "ANSWERS_WITHIN", 0.1)
    site = ports(records, tmp_path, RUNNING, None, console={"a": before, "b": after})
    assert stop(site, REQUEST, PLAN, fresh=True).reason == ""
    assert records.facts(REQUEST.id)["console_before"] is (before is Console.ANSWERS)
    World(tmp_path / "world.json").path.write_text(json.dumps(seen(tmp_path) | {"a": None, "b": UNSEEN}))
    assert why in cold.health(site, REQUEST, PLAN).reason
    assert bool(cold.health(site, REQUEST, PLAN).reason) is bool(why)


def test_a_guest_that_was_switched_off_is_looked_through_while_its_images_are_held(
    records: DatabaseRecords, tmp_path: Path
) -> None:
    site = ports(records, tmp_path, None, RUNNING, held={"a": ["vda"]})
    cold.release(site, REQUEST, PLAN)  # it shut down by itself
    assert inspection.looked(records.facts(REQUEST.id)) is None
    assert "file_systems" not in records.facts(REQUEST.id)
    site = ports(records, tmp_path, None, RUNNING, held={"a": ["vda"]})
    registered(records, undo.RELEASE_IMAGES)
    records.keep_facts(REQUEST.id, {"forced_off": True})
    cold.release(site, REQUEST, PLAN)
    looked = inspection.looked(records.facts(REQUEST.id))
    assert looked is not None
    assert "apt install libguestfs-tools" in looked.why_not
    assert DISK.source in looked.by_hand
    assert seen(tmp_path)["held"] == {"a": []}
    cold.release(site, REQUEST, PLAN)  # again, after a crash: they are not held any more, and not looked at again


def test_a_cancel_that_comes_at_the_point_of_no_return_is_said_to_be_too_late(
    records: DatabaseRecords, tmp_path: Path
) -> None:
    site = ports(records, tmp_path, None, UNSEEN)
    registered(records, undo.REMOVE_NEW_DEFINITION)
    records.ask_cancel(REQUEST.id, "somebody")
    assert cold.enter_completing(site, REQUEST) == "somebody"  # before it
    cold.open_links(site, REQUEST, PLAN)
    assert records.decisions(REQUEST.id)[-1].startswith("the cancel by somebody came too late")
    assert cold.enter_completing(site, REQUEST) == ""


def test_links_that_were_opened_are_not_set_up_anew_by_who_comes_later(
    records: DatabaseRecords, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its definition may have been changed since."""
    site = ports(records, tmp_path, None, UNSEEN)
    registered(records, undo.REMOVE_NEW_DEFINITION)
    cold.open_links(site, REQUEST, PLAN)
    monkeypatch.setattr(FakeHypervisor, "define", None)
    cold.open_links(site, REQUEST, PLAN)


def test_a_definition_that_was_replaced_comes_back_with_its_autostart(records: DatabaseRecords, tmp_path: Path) -> None:
    site = ports(records, tmp_path, RUNNING, OFF | {"autostart": True})
    live.replace_definition(site, REQUEST)
    assert seen(tmp_path)["b"] is None
    assert undo.undo_all(site, REQUEST) == []
    assert seen(tmp_path)["b"] == OFF | {"autostart": True}


def test_what_the_destination_had_before_is_named_and_goes_when_the_move_is_retired(
    records: DatabaseRecords, tmp_path: Path
) -> None:
    tpm, store = "/var/lib/libvirt/swtpm/x", "/nvram/web_VARS.fd"
    site = ports(records, tmp_path, OFF, None, tpm={"a": "new", "b": "old"}, files={"a": {store: "new"}, "b": {store: "old"}})  # fmt: skip
    plan = replace(PLAN, new_disks=(), starts=False, tpm=tpm, nvram=store)
    assert cold.copy_nvram(site, REQUEST, plan).reason == ""
    assert copying.copy_tpm(site, REQUEST, plan).reason == ""
    World.made(tmp_path / "world.json", **{**seen(tmp_path), "a": None, "b": OFF})
    cold.note_left(site, REQUEST, plan)
    undo.drop_all(site, REQUEST)
    told = " ".join(records.decisions(REQUEST.id))
    assert f"{tpm}.before-{REQUEST.id} at b" in told
    assert f"{store}.before-{REQUEST.id} at b" in told
    assert {(one.path, one.removed) for one in retire(site, REQUEST)} == {
        (f"{tpm}.before-{REQUEST.id}", True),
        (f"{store}.before-{REQUEST.id}", True),
    }
    assert retire(site, REQUEST) == []
    assert (seen(tmp_path)["tpm"], seen(tmp_path)["files"]["b"]) == ({"a": "new", "b": "new"}, {store: "new"})


def test_a_way_back_says_that_it_writes_to_the_disks_that_were_left(records: DatabaseRecords, tmp_path: Path) -> None:
    site = ports(records, tmp_path, None, OFF)
    assert cold.start(site, REQUEST, replace(PLAN, take_back="earlier")).reason == ""
    assert "the disks that were left at b are written to from now on" in records.decisions(REQUEST.id)[-1]


@pytest.mark.parametrize("registered_at", ["never", "taken back", "still there"])
def test_a_silent_destination_is_no_obstacle_once_it_has_nothing_of_the_guest(
    records: DatabaseRecords, tmp_path: Path, registered_at: str
) -> None:
    site = ports(records, tmp_path, OFF, None)
    registered(records, undo.START_SOURCE)
    if registered_at != "never":
        registered(records, undo.REMOVE_NEW_DEFINITION)
    if registered_at == "taken back":
        records.close_undo(records.undo_acts(REQUEST.id)[0][0], "done")
    World.made(tmp_path / "world.json", **{**seen(tmp_path), "silent": ["b"]})
    failures = undo.undo_all(site, REQUEST)
    assert bool(failures) is (registered_at == "still there")
    assert seen(tmp_path)["a"] == (OFF if failures else RUNNING)


@pytest.mark.parametrize(
    ("silent", "moved", "ends"),
    [(["b"], 0, True), (["b"], 300, False), (["a", "b"], 0, False), ([], 0, False)],
    ids=["the destination alone", "after a long copy", "both: the fault is here", "neither"],
)
def test_a_silent_destination_is_waited_for_as_long_as_there_is_something_to_lose(
    records: DatabaseRecords, tmp_path: Path, silent: list[str], moved: float, ends: bool
) -> None:
    site = ports(records, tmp_path, OFF, None, silent=silent)
    patience = Patience(site, REQUEST, lambda _: None)
    site.clock.sleep(moved)
    patience.moved(CopyProgress("copying", 1, 2, 1))
    assert not patience.ends()
    site.clock.sleep(25)
    assert patience.ends() is ends
    records.ask_cancel(REQUEST.id, "somebody")
    assert patience.ends()


def test_one_that_was_not_asked_to_stop_yet_is_not_watched(records: DatabaseRecords, tmp_path: Path) -> None:
    """A cancel is quick then."""
    site = ports(records, tmp_path, RUNNING, None)
    registered(records, undo.START_SOURCE)
    began = site.clock.now()
    assert undo.undo_all(site, REQUEST) == []
    assert site.clock.now() - began < 5
    assert records.decisions(REQUEST.id) == ()


@pytest.mark.parametrize("travel", [Travel.FILE, Travel.COPY])
def test_libvirt_looks_anew_for_an_image_that_it_did_not_make_before_the_guest_is_defined(
    records: DatabaseRecords, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, travel: Travel
) -> None:
    """A disk that is named as a volume is looked up by its pool when the guest starts."""
    looked: list[tuple[str, Any]] = []

    def names(_: FakeHypervisor, pool: str) -> tuple[str, ...]:
        looked.append((pool, seen(tmp_path)["b"]))
        return ()

    monkeypatch.setattr(FakeHypervisor, "volume_names", names)
    site = ports(records, tmp_path, OFF, None, held={"a": ["vda"]})
    assert cold.arrive(site, REQUEST, replace(PLAN, new_disks=(replace(DISK, travel=travel),))).reason == ""
    assert looked == ([("shared", None)] if travel is Travel.FILE else [])


def test_a_disk_that_changes_its_format_is_read_as_what_it_was_and_named_as_what_it_is(
    records: DatabaseRecords, tmp_path: Path
) -> None:
    raw = replace(DISK, name="web.raw", format="raw", travel=Travel.COPY, converted_from="qcow2")
    plan, site = replace(PLAN, new_disks=(raw,)), ports(records, tmp_path, OFF, None, held={"a": ["vda"]})
    asked: list[CopyTask] = []
    monkey = site.copier.copy

    def copy(task: CopyTask, *more: Any, **named: Any) -> CopyResult:
        asked.append(task)
        return monkey(task, *more, **named)

    site.copier.copy = copy  # type: ignore[method-assign]
    storage.make_volumes(site, REQUEST, plan)
    assert copying.copy_disks(site, REQUEST, plan).reason == ""
    assert [(one.source.format, one.destination.format) for one in asked] == [("qcow2", "raw")]
    assert [one.format for one in storage.changes(site, REQUEST, plan).volumes] == ["raw"]
