"""Each finding appears where its cause is, and nowhere on a site where everything is right."""

from dataclasses import replace
from typing import Any

import pytest

from ferryman.assess import assess
from ferryman.model.finding import Severity, blockers
from ferryman.model.guest import Disk, HostDevice, Job, State
from ferryman.model.host import GuestOnHost, Machine, Network
from ferryman.model.request import CopyStorage, Options
from ferryman.model.site import CpuComparison, CpuMatch, DiskReach, Reach, Site
from ferryman.model.units import GIB, MIB
from tests.test_docs import finding_codes
from tests.unit.sites import (
    MAC,
    UUID,
    good_site,
    host_facts,
    with_destination,
    with_disk,
    with_ground,
    with_guest,
    with_interface,
    with_transport,
)

BLOCKER, WARNING, NOTE = Severity.BLOCKER, Severity.WARNING, Severity.NOTE


def other(
    name: str = "other", uuid: str = "another", state: str = "shut off", macs: tuple[str, ...] = ()
) -> GuestOnHost:
    return GuestOnHost(uuid, name, state, True, False, macs, 1, 0, GIB, (), ())


def reach(kind: Reach, declared: bool | None = True) -> DiskReach:
    return DiskReach("vda", kind, "what was seen", declared)


def undeclarable() -> DiskReach:
    return DiskReach("vda", Reach.SAME, "what was seen", False, False)


def copied(**changes: Any) -> Site:
    return with_disk(reach(Reach.DIFFERENT, False), **{"capacity": 20 * GIB, "allocation": 5 * GIB, **changes})


CASES: dict[str, tuple[Site, Severity]] = {
    "not-running": (with_guest(state=State.PAUSED), BLOCKER),
    "job-running": (with_guest(jobs=(Job("backup"),)), BLOCKER),
    "snapshots": (with_guest(snapshots=("before-upgrade",)), BLOCKER),
    "checkpoints": (with_guest(checkpoints=("monday",)), NOTE),
    "managed-save": (with_guest(managed_save=True), NOTE),
    "transient": (with_guest(persistent=False), NOTE),
    "same-host": (replace(good_site(), destination=host_facts("a")), BLOCKER),
    "active-at-destination": (with_destination(guests=(other("web", UUID, "running"),)), BLOCKER),
    "defined-at-destination": (with_destination(guests=(other("web", UUID),)), BLOCKER),
    "name-taken": (with_destination(guests=(other("web"),)), BLOCKER),
    "mac-taken": (with_destination(guests=(other(macs=(MAC,)),)), BLOCKER),
    "cpu-incompatible": (replace(good_site(), cpu=CpuComparison(CpuMatch.INCOMPATIBLE, ("avx512f",))), BLOCKER),
    "cpu-passthrough": (with_guest(cpu_mode="host-passthrough"), WARNING),
    "cpu-not-compared": (replace(good_site(), cpu=CpuComparison(CpuMatch.UNKNOWN, detail="no")), WARNING),
    "architecture": (with_destination(architecture="aarch64"), BLOCKER),
    "machine-type": (replace(good_site(), machine=Machine("", "pc-q35-10.0", False, "unknown machine")), BLOCKER),
    "version-pair": (with_destination(qemu_version=(2, 8, 0)), BLOCKER),
    "version-backwards": (with_destination(qemu_version=(7, 2, 0)), WARNING),
    "host-device": (with_guest(host_devices=(HostDevice("pci", "0000:01:00.0"),)), BLOCKER),
    "tpm-device": (with_guest(tpm="passthrough"), BLOCKER),
    "tpm": (with_guest(tpm="emulator"), NOTE),
    "memory-room": (with_destination(memory_free=1 * GIB), BLOCKER),
    "memory-tight": (with_destination(memory_free=4 * GIB), WARNING),
    "vcpus": (with_guest(vcpus=16), WARNING),
    "hugepages-room": (with_guest(hugepage_size=2 * MIB), BLOCKER),
    "hugepages-unknown": (replace(with_guest(hugepage_size=1), destination=replace(host_facts("b"), hugepages_free={})), WARNING),
    "disk-unproved": (with_disk(reach(Reach.UNPROVED)), BLOCKER),
    "disk-copied": (copied(), NOTE),
    "chain-flattened": (copied(backing=("/srv/local/base.qcow2",)), NOTE),
    "raw-allocated": (copied(format="raw"), NOTE),
    "copied-shareable": (copied(shareable=True), BLOCKER),
    "no-pool": (copied(source="/srv/nowhere/web.qcow2"), BLOCKER),
    "no-room": (copied(capacity=900 * GIB, allocation=200 * GIB), BLOCKER),
    "room-tight": (copied(capacity=900 * GIB, allocation=20 * GIB), WARNING),
    "layer-not-shared": (
        with_disk(replace(reach(Reach.SAME), layers=(DiskReach("/var/lib/base.qcow2", Reach.DIFFERENT, "not seen"),))), BLOCKER,
    ),
    "shared-not-checked": (with_disk(reach(Reach.SAME, None), cache="writeback"), NOTE),
    "disk-network": (with_disk(reach(Reach.NETWORK), kind="network", source="rbd:pool/web"), NOTE),
    "no-image-lock": (with_disk(reach(Reach.SAME, None), kind="block", source="/dev/mapper/lun"), WARNING),
    "shared-not-declared": (with_disk(reach(Reach.SAME, False)), BLOCKER),
    "shared-vouched": (with_disk(undeclarable()), WARNING),
    "disk-cache": (with_disk(reach(Reach.SAME, None), kind="block", source="/dev/lun", cache="writeback"), BLOCKER),
    "disk-shareable": (with_disk(shareable=True), NOTE),
    "bridge-missing": (with_interface(source="br9"), BLOCKER),
    "bridge-not-checked": (with_ground(bridges=None, bridges_detail="no ssh"), NOTE),
    "network-missing": (with_interface(kind="network", source="dmz"), BLOCKER),
    "network-inactive": (
        replace(with_interface(kind="network", source="dmz"), destination=replace(host_facts("b"), networks=(Network("dmz", False, ""),))),
        BLOCKER,
    ),
    "direct-interface": (with_interface(kind="direct", source="eth0"), WARNING),
    "user-network": (with_interface(kind="user"), BLOCKER),
    "interface-kind": (with_interface(kind="ethernet"), WARNING),
    "peer-unreachable": (with_transport(peer_reachable=False, peer_detail="refused"), BLOCKER),
    "peer-not-checked": (with_transport(peer_reachable=None, peer_detail="no ssh"), NOTE),
    "migration-unreachable": (with_transport(migration_reachable=False, migration_detail="no route"), BLOCKER),
    "migration-not-checked": (with_transport(migration_reachable=None, migration_detail="no ssh"), NOTE),
    "no-certificates": (with_transport(destination_tls=False, tls_detail="b lacks them"), BLOCKER),
    "certificates-not-checked": (with_transport(source_tls=None, tls_detail="no ssh"), NOTE),
}  # fmt: skip
WITH_OPTIONS = {
    "definition-replaced": (with_destination(guests=(other("web", UUID),)), Options(replace_definition=True)),
    "not-encrypted": (good_site(), Options(insecure=True)),
    "cap-shared": (copied(), Options(bandwidth=MIB)),
    "medium-ejected": (copied(device="cdrom", read_only=True), Options(eject=True)),
}
AFTERWARDS = {"not-announced", "answer-not-checked", "guest-dark", "long-blackout"}  # test_verify.py


def test_a_good_site_has_no_finding() -> None:
    assert assess(good_site(), Options()) == ()


@pytest.mark.parametrize("code", CASES)
def test_each_cause_has_its_finding(code: str) -> None:
    site, severity = CASES[code]
    found = {finding.code: finding for finding in assess(site, Options())}
    assert code in found
    assert found[code].severity is severity
    if severity is not NOTE:
        assert found[code].remedy
    if severity is not BLOCKER:
        assert not blockers(found.values())


@pytest.mark.parametrize("code", WITH_OPTIONS)
def test_each_option_has_its_finding(code: str) -> None:
    found = assess(*WITH_OPTIONS[code])
    assert code in {finding.code for finding in found}
    assert not blockers(found)


def test_a_disk_that_may_not_be_copied_and_is_not_shared_is_a_blocker() -> None:
    found = {one.code: one for one in assess(copied(), Options(copy_storage=CopyStorage.NEVER))}
    assert found["disk-not-shared"].severity is BLOCKER
    assert "--copy-storage auto" in found["disk-not-shared"].remedy
    assert "disk-copied" not in found


def test_no_finding_is_without_a_test() -> None:
    assert set(CASES) | set(WITH_OPTIONS) | AFTERWARDS | {"disk-not-shared"} == finding_codes()


@pytest.mark.parametrize("state", [state for state in State if state not in (State.RUNNING, State.BLOCKED)])
def test_every_state_but_running_refuses_with_its_own_sentence(state: State) -> None:
    (finding,) = blockers(assess(with_guest(state=state), Options()))
    assert finding.code == "not-running"
    assert "{" not in finding.remedy


def test_missing_features_are_named() -> None:
    (finding,) = blockers(assess(CASES["cpu-incompatible"][0], Options()))
    assert "avx512f" in finding.why


def test_an_empty_drive_is_no_matter() -> None:
    empty = Disk("sda", "cdrom", "file", "", "raw", "", True, False)
    site = good_site()
    assert not assess(replace(site, guest=replace(site.guest, disks=(*site.guest.disks, empty))), Options())


def test_a_guest_without_disks_has_no_image_lock() -> None:
    assert {finding.code for finding in assess(with_guest(disks=()), Options())} == {"no-image-lock"}


def test_insecure_needs_no_certificates() -> None:
    site = with_transport(source_tls=False, destination_tls=False)
    assert not blockers(assess(site, Options(insecure=True)))


def test_a_mac_of_the_guest_itself_at_the_destination_is_no_clash() -> None:
    site = with_destination(guests=(other("web", UUID, macs=(MAC,)),))
    assert "mac-taken" not in {finding.code for finding in assess(site, Options())}
