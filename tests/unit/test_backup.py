"""Backups: what is read of each disk, which backup stands upon which, and what speaks against making one or bringing one back."""

from dataclasses import replace
from typing import Any

import pytest

from ferryman.assess import backup as assess_backup
from ferryman.assess import restore as assess_restore
from ferryman.execute import shelf
from ferryman.model.backup import (
    BackedUpDisk,
    Backup,
    BackupPlace,
    BackupPlan,
    Consistency,
    Manifest,
    Reading,
    SmallFile,
    place,
)
from ferryman.model.finding import Severity
from ferryman.model.guest import Disk, Guest, HostDevice, Job, State, Unlike
from ferryman.model.host import GuestOnHost, HostFacts, Network, Pool
from ferryman.model.request import Format, Options
from ferryman.model.units import GIB, MIB
from ferryman.plain import to_json
from ferryman.plan import chains
from ferryman.plan.backup import Seen, backup_plan, consistency
from ferryman.plan.restore import Found, restore_plan
from tests.unit.sites import MAC, UUID, good_guest, good_site, host_facts

PLACE = BackupPlace("this machine", "/backups/web-6a1f0f3e")
CHECKPOINT, RUN = "ferryman-backup-before", "run-1"
EARLIER = "2026-11-29T00-00-00Z"
OTHER = "6a1f0f3e-0000-4000-8000-000000000002"


def guest(**changes: Any) -> Guest:
    disk = Disk("vda", "disk", "file", "/srv/shared/web.qcow2", "qcow2", "none", False, False, 10 * GIB, 2 * GIB)
    return replace(good_guest(), disks=(disk,), **changes)


def disk(**changes: Any) -> BackedUpDisk:
    made = BackedUpDisk("vda", "vda.qcow2", GIB, 10 * GIB, "fd1:0", "qcow2", "/srv/shared/web.qcow2", "shared", remembers=True, copy="backup-before-vda")  # fmt: skip
    return replace(made, **changes)


def manifest(*disks: BackedUpDisk, **changes: Any) -> Manifest:
    files = (SmallFile("definition.xml", "0", 10),)
    made = Manifest(
        1, "web", UUID, "a", 0.0, "0.1", "before", Consistency.FROZEN, disks or (disk(),), files, CHECKPOINT, RUN
    )
    return replace(made, **changes)


def backup(name: str = EARLIER, *disks: BackedUpDisk, **changes: Any) -> Backup:
    found = manifest(*disks, **changes)
    sizes = {one.file: one.bytes for one in found.disks} | {one.name: one.bytes for one in found.files}
    return Backup(name, found, sizes={**sizes, "manifest.json": 1})


def seen(**changes: Any) -> Seen:
    return replace(
        Seen(guest(), host_facts("a").pools, (CHECKPOINT,), backup(), chain=1, agent=True, run=RUN), **changes
    )


def planned(found: Seen, options: Options | None = None) -> BackupPlan:
    return backup_plan(found, options or Options(), place=PLACE, name="2026-11-30T00-00-00Z", request="now")


def with_disk(found: Seen, **changes: Any) -> Seen:
    return replace(found, guest=replace(found.guest, disks=(replace(found.guest.disks[0], **changes),)))


# What is read


@pytest.mark.parametrize(
    ("found", "reading", "why"),
    [
        (seen(), Reading.BITMAP, ""),
        (seen(earlier=None), Reading.FULL, ""),
        (seen(checkpoints=()), Reading.DIGESTS, "is gone"),
        (with_disk(seen(), format="raw"), Reading.DIGESTS, "do not remember"),
        (with_disk(seen(), old=True), Reading.DIGESTS, "qcow2 (compat 0.10) images do not remember"),
        (with_disk(seen(), source="/srv/shared/other.qcow2"), Reading.DIGESTS, "in the earlier backup"),  # two disks that changed their names
        (with_disk(seen(), capacity=GIB), Reading.FULL, "smaller"),
        (with_disk(seen(), capacity=20 * GIB), Reading.DIGESTS, "larger"),
        (with_disk(seen(), target="vdb"), Reading.FULL, "no earlier backup"),
        (seen(earlier=backup(EARLIER, disk(remembers=False))), Reading.DIGESTS, "made no checkpoint"),
        (seen(checkpoints=("theirs", CHECKPOINT)), Reading.BITMAP, ""),  # libvirt joins them while the guest runs
        (seen(guest=guest(state=State.SHUT_OFF), run=""), Reading.DIGESTS, "was off since"),
        (seen(run="run-2"), Reading.DIGESTS, "was off since"),  # whatever befell its image between two runs
        (seen(run=""), Reading.DIGESTS, "was off since"),
        (seen(run="", earlier=backup(EARLIER, run="")), Reading.DIGESTS, "was off since"),  # one that knew of no runs
    ],
)  # fmt: skip
def test_what_of_a_disk_is_read(found: Seen, reading: Reading, why: str) -> None:
    (one,) = planned(found).disks
    assert one.reading is reading
    assert (why in one.why) if why else not one.why
    assert (one.upon, one.base) == (("", "") if reading is Reading.FULL else (EARLIER, "backup-before-vda"))
    assert bool(one.since) is (reading is Reading.BITMAP)


def test_each_backup_of_a_running_guest_has_a_checkpoint_of_its_own_and_the_older_ones_go() -> None:
    plan = planned(seen(checkpoints=("theirs", "ferryman-backup-older", CHECKPOINT)))
    assert plan.checkpoint == "ferryman-backup-now"
    assert plan.older == ("ferryman-backup-older", CHECKPOINT)  # nobody else's
    assert plan.disks[0].remembers
    assert not planned(with_disk(seen(), format="raw")).checkpoint  # nothing would remember it
    assert not planned(seen(guest=guest(persistent=False))).checkpoint
    before_a_move = planned(seen(moves=True))
    assert (before_a_move.checkpoint, before_a_move.older, before_a_move.disks[0].reading) == (
        "",
        (CHECKPOINT,),
        Reading.BITMAP,
    )
    assert against(seen(moves=True)) == {"backup-no-checkpoint": Severity.NOTE}


def test_one_that_is_off_is_held_and_no_checkpoint_is_made_or_relied_on() -> None:
    plan = planned(seen(guest=guest(state=State.SHUT_OFF), run=""))
    assert (plan.checkpoint, plan.older, plan.disks[0].remembers, plan.run) == ("", (), False, "")
    assert [image.path for image in plan.held] == ["/srv/shared/web.qcow2"]


def test_a_guest_that_may_write_to_none_of_its_disks_is_not_called_shut_off() -> None:
    all_read_only = with_disk(seen(), read_only=True)
    assert consistency(planned(all_read_only), frozen=False) is Consistency.READ_ONLY
    assert consistency(planned(seen(guest=guest(state=State.SHUT_OFF))), frozen=False) is Consistency.OFF
    assert consistency(planned(seen()), frozen=False) is Consistency.CRASH
    assert consistency(planned(seen()), frozen=True) is Consistency.FROZEN


def test_what_a_backup_does_not_hold_is_told_before_and_in_it() -> None:
    one = seen(
        guest=guest(host_devices=(HostDevice("virtiofs", "/srv/data"), HostDevice("pci", "0000:01:00.0"))),
        unlike=(Unlike("disk", "vdb", "", "/srv/new.raw"), Unlike("disk", "vdc", "/srv/plugged.raw", ""), Unlike("medium", "sda", "/x", "")),
    )  # fmt: skip
    missing = planned(one).not_in_it
    assert [words.split(" (")[0] for words in missing] == ["disk vdb", "the place of disk vdc", "virtiofs /srv/data", "pci 0000:01:00.0"]  # fmt: skip
    assert against(one)["backup-outside"] is Severity.WARNING
    assert not planned(seen()).not_in_it


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"boot_files": ("/boot/vmlinuz",)}, "backup-outside", "file /boot/vmlinuz of the host, from which it boots"),
        ({"snapshots": ("before",)}, "backup-snapshots", "snapshot before"),
        ({"managed_save": True, "state": State.SHUT_OFF}, "backup-saved-memory", "saved memory"),
        ({"state_files": ("/srv/nvdimm",)}, "backup-state", "state /srv/nvdimm"),
        ({"nvram_store": "rbd:vars"}, "backup-state", "firmware variables rbd:vars"),
    ],
)
def test_what_of_its_state_or_its_boot_is_not_in_it_is_told_once_and_stands_in_the_manifest(
    changes: dict[str, Any], code: str, words: str
) -> None:
    one = seen(guest=guest(**changes))
    assert planned(one).not_in_it == (words,)
    assert {code} == {found for found in against(one) if found.startswith(("backup-outside", "backup-s"))}


def test_a_disk_that_was_attached_to_the_running_guest_alone_gets_no_volume_that_nobody_uses() -> None:
    one = found(manifest=manifest(disk(), disk(target="vdc", file="vdc.qcow2", source="/mnt/usb/plugged.raw", pool="")))
    assert [new.target for new in restore_plan(one, Options(), uuid=UUID).new_disks] == ["vda"]
    assert told(one, Options()) == {"restore-disk": Severity.WARNING}  # no pool of its own is wanted for it


def test_a_disk_that_nobody_may_write_to_is_read_from_its_image_while_the_guest_runs() -> None:
    base = replace(guest().disks[0], target="vdb", read_only=True, format="raw")
    plan = planned(seen(guest=replace(guest(), disks=(*guest().disks, base))))
    assert [one.exported for one in plan.disks] == [True, False]
    assert not plan.disks[1].scratch


def test_media_are_no_part_of_the_guest() -> None:
    drive = Disk("sda", "cdrom", "file", "/srv/shared/iso", "raw", "", True, False)
    plan = planned(seen(guest=replace(guest(), disks=(*guest().disks, drive))))
    assert (plan.left_out, [one.target for one in plan.disks]) == (("sda",), ["vda"])
    assert plan.not_in_it == ("the medium in sda",)


# Chains


def test_two_guests_of_one_name_have_folders_of_their_own_and_odd_names_lead_nowhere_else() -> None:
    assert chains.folder_of("web", UUID) == "web-6a1f0f3e"
    assert chains.folder_of("../a b", UUID) == "_a_b-6a1f0f3e"


def test_two_backups_of_one_second_have_names_of_their_own() -> None:
    assert chains.name_at(1796074812.9, ()) == "2026-11-30T21-40-12Z"
    assert chains.name_at(1796074812.9, ("2026-11-30T21-40-12Z",)) == "2026-11-30T21-40-13Z"


THREE = {"1": backup("1"), "2": backup("2", disk(upon="1")), "3": backup("3", disk(upon="2"))}


def test_a_backup_needs_all_that_it_stands_upon() -> None:
    assert chains.chain("3", THREE) == ("3", "2", "1")
    assert chains.stand_upon("1", THREE) == ("2", "3")
    assert chains.stand_upon("3", THREE) == ()
    assert chains.lacking("3", THREE) == ()
    assert chains.newest_whole(UUID, THREE) == THREE["3"]
    assert chains.newest_whole(OTHER, THREE) is None


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"1": None}, "backup 1 is not there"),
        ({"2": Backup("2", None, "its manifest.json cannot be read: torn")}, "torn"),
        ({"1": replace(THREE["1"], sizes={"definition.xml": 10})}, "1/vda.qcow2 is not there"),
        (
            {"1": replace(THREE["1"], sizes={"definition.xml": 10, "vda.qcow2": 5})},
            "has 5 bytes, and its manifest says",
        ),
        ({"3": backup("3", disk(upon="2"), format=2)}, "a newer ferryman"),
    ],
)
def test_a_chain_with_a_gap_is_not_stood_upon_and_the_gap_is_named(changed: dict[str, Backup | None], why: str) -> None:
    beside = {name: one for name, one in (THREE | changed).items() if one is not None}
    assert why in " ".join(chains.lacking("3", beside))
    newest = chains.newest_whole(UUID, beside)
    assert newest is None or newest.name in ("1", "2")


def test_the_newest_is_told_by_its_time_and_stands_beside_the_next_one() -> None:
    beside = {
        "old/2026-01-01T00-00-00Z": backup("old", at=9.0),  # put away by somebody
        "before the upgrade": backup("before the upgrade", at=1.0),
        "2026-11-30T00-00-00Z": backup("2026-11-30T00-00-00Z", at=2.0),
    }
    newest = chains.newest_whole(UUID, beside)
    assert newest is not None
    assert newest.name == "2026-11-30T00-00-00Z"


@pytest.mark.parametrize("name", ["../other/vda.qcow2", "/etc/shadow", "..", ".", ""])
@pytest.mark.parametrize("where", ["file", "upon", "target", "small"])
def test_a_manifest_that_leads_out_of_its_folder_is_damaged(where: str, name: str) -> None:
    one = manifest(disk(**{where: name})) if where != "small" else manifest(files=(SmallFile(name, "0", 1),))
    if (where, name) == ("upon", ""):
        return  # it stands upon none
    with pytest.raises(ValueError, match="is damaged"):
        shelf.manifest_of(to_json(one).encode())
    assert shelf.manifest_of(to_json(manifest()).encode()) == manifest()


def test_chains_that_lead_in_a_circle_end() -> None:
    circle = {"1": backup("1", disk(upon="2")), "2": backup("2", disk(upon="1"))}
    assert chains.chain("1", circle) == ("1", "2")
    assert chains.stack("1", "vda", circle) == ("1", "2")


@pytest.mark.parametrize(
    ("text", "found"),
    [("/backups/", BackupPlace("this machine", "/backups")), ("c:/srv", BackupPlace("c", "/srv")), ("c:/srv//x/../web/./1/", BackupPlace("c", "/srv/web/1")), ("/", BackupPlace("this machine", "/"))],
)  # fmt: skip
def test_a_place_is_read_as_it_is_typed(text: str, found: BackupPlace) -> None:
    assert place(text) == found
    assert place(found.words) == found


@pytest.mark.parametrize("text", ["backups", "c:srv", "c:", ""])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:/PATH"):
        place(text)


# What speaks against a backup

CHANGED = replace(guest().disks[0], target="vdb")
BACKUP_CASES: dict[str, tuple[Seen, dict[str, Any]]] = {
    "backup-encrypted": (with_disk(seen(), encrypted=True), {}),
    "backup-unreadable": (with_disk(seen(guest=guest(state=State.SHUT_OFF)), kind="network", source="rbd:p/i"), {}),
    "backup-job": (seen(guest=guest(jobs=(Job("backup"),))), {}),
    "backup-scratch": (seen(), {"scratch_room": {"/srv/shared": MIB}}),
    "backup-scratch-tight": (seen(), {"scratch_room": {"/srv/shared": GIB}}),
    "backup-room": (seen(earlier=None), {"room": GIB}),
    "backup-not-frozen": (seen(agent=False), {}),
    "backup-frozen-already": (seen(agent=False, frozen=True), {}),
    "backup-compared": (seen(checkpoints=()), {}),
    "backup-no-checkpoint": (with_disk(seen(), format="raw"), {}),
    "backup-media": (seen(guest=replace(guest(), disks=(Disk("sda", "cdrom", "file", "/x", "raw", "", True, False),))), {}),
    "backup-outside": (seen(guest=guest(host_devices=(HostDevice("virtiofs", "/srv/data"),))), {}),
    "backup-snapshots": (seen(guest=guest(snapshots=("one",))), {}),
    "backup-sliced": (with_disk(seen(), sliced=True), {}),
    "backup-saved-memory": (seen(guest=guest(state=State.SHUT_OFF, managed_save=True)), {}),
    "backup-state": (seen(guest=guest(state_files=("/nvdimm",))), {}),
    "backup-same-host": (seen(), {"at": "a"}),
}  # fmt: skip
BLOCKS = {"backup-encrypted", "backup-unreadable", "backup-job", "backup-scratch"}


def against(
    found: Seen, *, scratch_room: Any = None, room: int = 100 * GIB, at: str = "this machine"
) -> dict[str, Severity]:
    plan = backup_plan(found, Options(), place=BackupPlace(at, "/b"), name="n", request="now")
    free = scratch_room or {"/srv/shared": 100 * GIB}
    told = assess_backup.findings(found, plan, scratch_room=free, room=room)
    assert all("{" not in one.what + one.why + one.remedy for one in told)
    return {one.code: one.severity for one in told}


def test_nothing_speaks_against_backing_up_a_good_guest() -> None:
    assert against(seen()) == {}


@pytest.mark.parametrize("code", BACKUP_CASES)
def test_what_speaks_against_a_backup_or_should_be_known(code: str) -> None:
    found, more = BACKUP_CASES[code]
    told = against(found, **more)
    assert code in told
    assert (told[code] is Severity.BLOCKER) is (code in BLOCKS)


def test_a_directory_of_scratch_files_that_is_not_there_refuses() -> None:
    assert against(seen(), scratch_room={"/srv/shared": None})["backup-scratch"] is Severity.BLOCKER


# Bringing back


def found(**changes: Any) -> Found:
    there = replace(host_facts("b"), guests=())
    made = Found(
        manifest(),
        BackupPlace("c", "/b/web/1"),
        (),
        guest(state=State.SHUT_OFF),
        there,
        good_site().machine,
        good_site().ground,
        {},
        {"shared": ()},
        {},
    )
    return replace(made, **changes)


def there(**changes: Any) -> HostFacts:
    return replace(host_facts("b"), **changes)


def on_host(name: str, uuid: str, mac: str) -> GuestOnHost:
    return GuestOnHost(uuid, name, "running", True, False, (mac,), 1, 0, 0, (), ())


NETWORKED = replace(guest(), interfaces=(replace(good_guest().interfaces[0], kind="network", source="gone"),))
RESTORE_CASES: dict[str, tuple[Found, Options]] = {
    "restore-damaged": (found(lacking=("vda.qcow2 is not there",)), Options()),
    "restore-exists": (found(elsewhere={"a": "it is running there"}), Options()),
    "restore-name-taken": (found(there=there(guests=(on_host("web", OTHER, "x"),))), Options()),
    "restore-mac-taken": (found(there=there(guests=(on_host("other", OTHER, MAC),))), Options()),
    "restore-no-pool": (found(manifest=manifest(disk(pool="fast", source="/fast/x"))), Options()),
    "restore-room": (found(there=there(pools=(Pool("shared", "dir", True, True, "/srv/shared", MIB),))), Options()),
    "restore-network": (found(guest=NETWORKED), Options()),
    "restore-machine": (found(machine=replace(good_site().machine, available=False, why_not="unknown")), Options()),
    "restore-maintenance": (found(there=there(host=replace(host_facts("b").host, maintenance=True))), Options()),
    "restore-adapted": (found(machine=replace(good_site().machine, available=False, instead="pc-q35-9.0")), Options()),
    "restore-device": (found(guest=guest(host_devices=(HostDevice("pci", "0:1"),))), Options()),
    "restore-secret": (found(guest=guest(secrets=("s",)), there=there(secrets=())), Options()),
    "restore-second": (found(), Options(name="second")),
    "restore-disk": (found(guest=replace(guest(), disks=(*guest().disks, replace(guest().disks[0], target="vdb")))), Options()),
    "restore-media": (found(manifest=manifest(left_out=("sda",))), Options()),
    "restore-state": (found(guest=guest(nvram="/var/lib/nvram/web_VARS.fd")), Options()),
}  # fmt: skip
REFUSED = {"restore-damaged", "restore-exists", "restore-name-taken", "restore-no-pool", "restore-room", "restore-network", "restore-machine", "restore-maintenance"}  # fmt: skip
OF_BACKUPS = {*BACKUP_CASES, *RESTORE_CASES}


def told(one: Found, options: Options) -> dict[str, Severity]:
    plan = restore_plan(one, options, uuid=OTHER if options.name else UUID)
    return {finding.code: finding.severity for finding in assess_restore.findings(one, plan, options)}


def test_nothing_speaks_against_bringing_a_good_guest_back() -> None:
    assert told(found(), Options()) == {}


@pytest.mark.parametrize("code", RESTORE_CASES)
def test_what_speaks_against_a_restore_or_should_be_known(code: str) -> None:
    severities = told(*RESTORE_CASES[code])
    assert code in severities
    assert (severities[code] is Severity.BLOCKER) is (code in REFUSED)


LARGE = disk(bytes=MIB, upon="full")  # an increment


@pytest.mark.parametrize(
    ("kind", "free", "least", "fits"),
    [
        ("dir", 2 * MIB, {}, True),
        ("dir", 2 * MIB, {"vda": GIB}, False),
        ("dir", 2 * GIB, {"vda": GIB}, True),
        ("logical", 2 * GIB, {"vda": GIB}, False),  # whole from the beginning
        ("logical", 20 * GIB, {"vda": GIB}, True),
    ],
)
def test_there_must_be_room_for_what_a_disk_holds_at_least(kind: str, free: int, least: Any, fits: bool) -> None:
    pools = (Pool("shared", kind, True, True, "/srv/shared", free),)
    assert ("restore-room" in told(found(manifest=manifest(LARGE), there=there(pools=pools), least=least), Options())) is not fits  # fmt: skip


def test_a_disk_holds_as_much_at_least_as_the_largest_of_its_images() -> None:
    beside = {"1": backup("1", disk(bytes=4 * GIB)), "2": backup("2", disk(upon="1", bytes=MIB)), "other": backup("other", disk(bytes=9 * GIB))}  # fmt: skip
    assert [chains.least(name, "vda", beside) for name in ("1", "2")] == [4 * GIB, 4 * GIB]
    (new,) = restore_plan(found(least={"vda": 4 * GIB}), Options(), uuid=UUID).new_disks
    assert new.allocation == 4 * GIB


def test_a_drive_is_empty_also_where_its_medium_was_in_the_definition_alone() -> None:
    iso = Disk("sda", "cdrom", "file", "/iso/x.iso", "raw", "", True, False)
    one = found(guest=replace(guest(), disks=(*guest().disks, iso, replace(iso, target="sdb", source=""))))
    plan = restore_plan(one, Options(), uuid=UUID)
    assert (plan.emptied, plan.missing) == (("sda",), ())
    assert told(one, Options()) == {"restore-media": Severity.NOTE}
    assert restore_plan(replace(one, manifest=manifest(left_out=("sda", "fda"))), Options(), uuid=UUID).emptied == ("sda", "fda")  # fmt: skip


GROUND = good_site().ground
STARTS_NOT: dict[str, Found] = {
    "bridge-missing": found(ground=replace(GROUND, bridges=("br1",))),
    "boot-file-missing": found(guest=guest(boot_files=("/boot/vmlinuz",)), ground=replace(GROUND, lacking=("/boot/vmlinuz",))),
    "filter-missing": found(guest=replace(guest(), interfaces=(replace(good_guest().interfaces[0], filter="clean"),)), there=there(filters=())),
    "listen-missing": found(guest=guest(listens=("192.0.2.7",)), ground=replace(GROUND, addresses=("192.0.2.8",))),
    "pinned-cpus": found(guest=guest(pinned_cpus=(99,))),
}  # fmt: skip


@pytest.mark.parametrize("code", STARTS_NOT)
def test_what_keeps_it_from_starting_there_stands_in_the_way_where_it_is_to_be_started(code: str) -> None:
    one = STARTS_NOT[code]
    assert told(one, Options()) == {code: Severity.WARNING}
    assert told(one, Options(start=True)) == {code: Severity.BLOCKER}


def test_another_firmware_and_another_bridge_are_looked_for_under_their_names() -> None:
    firmware = "/usr/share/OVMF/other.fd"
    lacking = found(guest=guest(loader=firmware), ground=replace(GROUND, lacking=(firmware,)))
    assert told(lacking, Options()) == {"boot-file-missing": Severity.WARNING}
    assert told(replace(lacking, ground=replace(GROUND, lacking=None)), Options()) == {"boot-files-not-checked": Severity.NOTE}  # fmt: skip
    assert told(STARTS_NOT["bridge-missing"], Options(map_network={"br0": "br1"})) == {}


def test_a_tpm_whose_state_was_not_backed_up_is_told() -> None:
    assert told(found(guest=guest(tpm="emulator")), Options())["restore-state"] is Severity.WARNING
    kept = manifest(files=(SmallFile("tpm.tar", "0", 1),))
    assert "restore-state" not in told(found(guest=guest(tpm="emulator"), manifest=kept), Options())


def test_firmware_variables_that_are_another_guests_are_left_alone() -> None:
    path = "/nvram/second_VARS.fd"
    other = replace(on_host("renamed", UUID, "x"), nvram=path)
    one = found(guest=guest(nvram="/nvram/web_VARS.fd"), there=there(guests=(other,)), manifest=manifest(files=(SmallFile("nvram", "0", 1),)))  # fmt: skip
    assert told(one, Options(name="second"))["restore-name-taken"] is Severity.BLOCKER
    assert "restore-name-taken" not in told(one, Options(name="third"))


def test_a_second_guest_may_stand_beside_the_first_and_is_told_apart_by_all_that_tells_guests_apart() -> None:
    one = found(elsewhere={"a": "it is running there"}, guest=guest(nvram="/nvram/web_VARS.fd"), manifest=manifest(files=(SmallFile("nvram", "0", 1),)))  # fmt: skip
    assert "restore-exists" not in told(one, Options(name="second"))
    plan = restore_plan(one, Options(name="second"), uuid=OTHER)
    assert plan.identity is not None
    assert (plan.identity.name, plan.identity.uuid, plan.nvram) == ("second", OTHER, "/nvram/second_VARS.fd")
    assert plan.identity.macs != (MAC,)
    assert plan.identity.macs[0].startswith("52:54:00:")
    assert plan.identity == restore_plan(one, Options(name="second"), uuid=OTHER).identity  # asked twice
    assert plan.new_disks[0].name == "second-vda.qcow2"


@pytest.mark.parametrize(
    ("options", "pools", "expected"),
    [
        (Options(), (), ("shared", "web.qcow2", "qcow2", "")),
        (Options(map_pool={"shared": "fast"}), (), ("fast", "web.qcow2", "qcow2", "")),
        (Options(map_pool={"/srv/shared": "fast"}), (), ("fast", "web.qcow2", "qcow2", "")),
        (Options(map_pool={"shared": "lvm"}), (), ("lvm", "web.raw", "raw", "qcow2")),
        (Options(format=Format.RAW), (), ("shared", "web.raw", "raw", "qcow2")),
        (Options(), ("web.qcow2",), ("shared", "web-2.qcow2", "qcow2", "")),  # never over what is there
    ],
)
def test_where_a_disk_goes(options: Options, pools: tuple[str, ...], expected: tuple[str, ...]) -> None:
    pool = Pool("shared", "dir", True, True, "/srv/shared", 100 * GIB)
    all_pools = (
        pool,
        replace(pool, name="fast", path="/fast"),
        replace(pool, name="lvm", kind="logical", path="/dev/vg"),
    )
    one = found(there=there(pools=all_pools), volumes={"shared": pools})
    (new,) = restore_plan(one, options, uuid=UUID).new_disks
    assert (new.pool, new.name, new.format, new.converted_from) == expected
    assert (new.source, new.capacity) == ("/b/web/1/vda.qcow2", 10 * GIB)


def test_a_network_may_be_named_otherwise() -> None:
    one = found(guest=NETWORKED, there=there(networks=(Network("lan", True, "br0"),)))
    assert "restore-network" not in told(one, Options(map_network={"gone": "lan"}))
