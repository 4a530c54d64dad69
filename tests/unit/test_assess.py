"""Each finding appears where its cause is, and nowhere on a site where everything is right."""

from dataclasses import replace
from typing import Any

import pytest

from ferryman.assess import assess
from ferryman.assess.cpu import losses
from ferryman.model.cpu import Cpu, HostLoss
from ferryman.model.finding import Severity, blockers
from ferryman.model.guest import Disk, HostDevice, Job, State
from ferryman.model.host import GuestOnHost, Host, Network
from ferryman.model.mark import Mark
from ferryman.model.request import CopyStorage, Handshake, Options
from ferryman.model.site import Clocks, CpuComparison, CpuMatch, DiskReach, LinkSpeed, Reach, Segment, Site
from ferryman.model.units import GIB, MIB
from ferryman.plan.steps import live_plan
from tests.test_docs import finding_codes
from tests.unit.sites import (
    FIRMWARE,
    MAC,
    UUID,
    good_guest,
    good_site,
    host_facts,
    with_destination,
    with_disk,
    with_ground,
    with_guest,
    with_interface,
    with_machine,
    with_transport,
)
from tests.unit.test_ahead import OF_WARM
from tests.unit.test_assess_definition import OF_DEFINITIONS
from tests.unit.test_backup import OF_BACKUPS
from tests.unit.test_cold import OF_COLD

BLOCKER, WARNING, NOTE = Severity.BLOCKER, Severity.WARNING, Severity.NOTE


MARK = Mark("1234abcd", "somebody@elsewhere", 1_000_000.0, 1_002_400.0)


def other(
    name: str = "other",
    uuid: str = "another",
    state: str = "shut off",
    macs: tuple[str, ...] = (),
    vcpus: int = 1,
    memory: int = GIB,
) -> GuestOnHost:
    return GuestOnHost(uuid, name, state, True, False, macs, vcpus, 0, memory, (), ())


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
    "checkpoints": (with_guest(checkpoints=("monday",)), WARNING),
    "being-moved": (with_guest(mark=MARK), BLOCKER),
    "mark-stale": (replace(with_guest(mark=MARK), observed_at=MARK.until + 1), BLOCKER),
    "mark-left": (replace(with_guest(mark=MARK), mark_is_over=True), NOTE),
    "maintenance": (with_destination(host=Host("b", "qemu+tls://b/system", maintenance=True, maintenance_reason="new disks")), BLOCKER),
    "clock-skew": (with_ground(clocks=Clocks(-2.0, 0.5)), WARNING),
    "lock-manager": (with_ground(lock_managers=("lockd", "")), BLOCKER),
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
    "machine-type": (with_machine(available=False, why_not="unknown machine"), BLOCKER),
    "emulator-missing": (with_machine(has_emulator=False), BLOCKER),
    "boot-file-missing": (replace(with_ground(lacking=("/lab/vmlinuz",)), guest=replace(good_guest(), boot_files=("/lab/vmlinuz",))), BLOCKER),
    "boot-files-not-checked": (replace(with_ground(lacking=None), guest=replace(good_guest(), loader="/own/firmware.fd")), NOTE),
    "version-pair": (with_destination(qemu_version=(2, 8, 0)), BLOCKER),
    "version-untried": (with_destination(qemu_version=(10, 1, 0)), NOTE),
    "version-backwards": (with_destination(qemu_version=(7, 2, 0)), WARNING),
    "host-device": (with_guest(host_devices=(HostDevice("pci", "0000:01:00.0"),)), BLOCKER),
    "tpm-device": (with_guest(tpm="passthrough"), BLOCKER),
    "secret-missing": (replace(with_guest(secrets=("s1",)), destination=replace(host_facts("b"), secrets=("s2",))), BLOCKER),
    "secret-named": (replace(with_guest(secrets=("s1",)), destination=replace(host_facts("b"), secrets=("s1",))), NOTE),
    "tpm": (with_guest(tpm="emulator"), NOTE),
    "tpm-missing": (replace(with_machine(tpm_backends=()), guest=replace(good_guest(), tpm="emulator")), BLOCKER),
    "medium-present": (with_disk(device="cdrom", read_only=True), NOTE),
    "vcpu-limit": (with_guest(vcpus=289), BLOCKER),
    "vcpus-overcommitted": (with_destination(guests=(other(state="running", vcpus=7),)), NOTE),
    "vcpus-crowded": (with_destination(guests=(other(state="running", vcpus=31),)), WARNING),
    "pinned-cpus": (with_guest(pinned_cpus=(2, 3, 8, 9)), BLOCKER),
    "numa-nodes": (with_guest(numa_nodes=(0, 1)), BLOCKER),
    "memory-overcommitted": (with_destination(guests=(other(state="running", memory=61 * GIB),)), WARNING),
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
    "copied-sliced": (copied(sliced=True), BLOCKER),
    "no-pool": (copied(source="/srv/nowhere/web.qcow2"), BLOCKER),
    "no-room": (copied(capacity=900 * GIB, allocation=200 * GIB), BLOCKER),
    "room-tight": (copied(capacity=900 * GIB, allocation=20 * GIB), WARNING),
    "pool-missing": (replace(with_disk(pool="shared"), destination=replace(host_facts("b"), pools=())), BLOCKER),
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
    "segment-not-checked": (with_ground(segments=(Segment("br0", None, "no python3"),)), NOTE),
    "other-segment": (with_ground(segments=(Segment("br0", ()),)), WARNING),
    "private-network": (with_interface(kind="network", source="lan", network_mode="nat"), WARNING),
    "network-missing": (with_interface(kind="network", source="dmz"), BLOCKER),
    "network-inactive": (
        replace(with_interface(kind="network", source="dmz"), destination=replace(host_facts("b"), networks=(Network("dmz", False, ""),))),
        BLOCKER,
    ),
    "portgroup-missing": (with_interface(kind="network", source="lan", portgroup="vlan7"), BLOCKER),
    "filter-missing": (replace(with_interface(filter="ours"), destination=replace(host_facts("b"), filters=("theirs",))), BLOCKER),
    "filter-not-checked": (with_interface(filter="ours"), NOTE),
    "listen-missing": (replace(with_ground(addresses=("192.0.2.2",)), guest=replace(good_guest(), listens=("192.0.2.1",))), BLOCKER),
    "listen-not-checked": (with_guest(listens=("192.0.2.1",)), NOTE),
    "seclabel-missing": (replace(with_destination(security_models=("none", "dac")), guest=replace(good_guest(), security_models=("selinux",))), BLOCKER),
    "direct-interface": (with_interface(kind="direct", source="eth0", device="eth0"), WARNING),
    "user-network": (with_interface(kind="user"), BLOCKER),
    "interface-kind": (with_interface(kind="ethernet"), WARNING),
    "handshake-carried": (with_transport(peer_reachable=False, peer_detail="refused"), WARNING),
    "no-migration-address": (with_transport(migration_address="", migration_reachable=None), BLOCKER),
    "migration-unreachable": (with_transport(migration_reachable=False, migration_detail="no route"), BLOCKER),
    "migration-not-checked": (with_transport(migration_reachable=None, migration_detail="no ssh"), NOTE),
    "no-certificates": (with_transport(destination_tls=False, tls_detail="b lacks them"), BLOCKER),
    "certificates-not-checked": (with_transport(source_tls=None, tls_detail="no ssh"), NOTE),
}  # fmt: skip
PEER, CARRIED = Options(handshake=Handshake.PEER), Options(handshake=Handshake.CARRIED)
WITH_OPTIONS = {
    "peer-unreachable": (with_transport(peer_reachable=False, peer_detail="refused"), PEER),
    "peer-not-checked": (with_transport(peer_reachable=None, peer_detail="no ssh"), PEER),
    "definition-replaced": (with_destination(guests=(other("web", UUID),)), Options(replace_definition=True)),
    "not-encrypted": (good_site(), Options(insecure=True)),
    "cap-shared": (copied(), Options(bandwidth=MIB)),
    "medium-ejected": (copied(device="cdrom", read_only=True), Options(eject=True)),
    "link-slow": (with_ground(link=LinkSpeed(1 * MIB)), Options(timeout=60)),
    "link-measured": (with_ground(link=LinkSpeed(100 * MIB)), Options(timeout=60)),
    "link-not-measured": (with_ground(link=LinkSpeed(None, "no python3")), Options()),
}
AFTERWARDS = {
    "not-announced",
    "answer-not-checked",
    "guest-dark",
    "long-blackout",
    "check-failed",
    "forced-off",
    "file-system-damaged",
    "file-systems-not-checked",
    "file-systems-sound",
}  # test_verify.py


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
    assert {finding.code for finding in blockers(found)} == {code} & {"peer-unreachable"}


def test_a_disk_that_may_not_be_copied_and_is_not_shared_is_a_blocker() -> None:
    found = {one.code: one for one in assess(copied(), Options(copy_storage=CopyStorage.NEVER))}
    assert found["disk-not-shared"].severity is BLOCKER
    assert "--copy-storage auto" in found["disk-not-shared"].remedy
    assert "disk-copied" not in found


def test_no_finding_is_without_a_test() -> None:
    documented = (
        set(CASES)
        | set(WITH_OPTIONS)
        | AFTERWARDS
        | set(OF_DEFINITIONS)
        | OF_COLD
        | OF_WARM
        | OF_BACKUPS
        | {"disk-not-shared", "version-trouble", "copy-impossible"}
    )
    assert documented == finding_codes()


@pytest.mark.parametrize(
    "state", [state for state in State if state not in (State.RUNNING, State.BLOCKED, State.SHUT_OFF)]
)
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


@pytest.mark.parametrize(
    ("reachable", "wanted", "handshake", "codes"),
    [
        (True, None, Handshake.PEER, set()),
        (False, None, Handshake.CARRIED, {"handshake-carried"}),
        (None, None, Handshake.CARRIED, {"handshake-carried"}),
        (True, Handshake.CARRIED, Handshake.CARRIED, {"handshake-carried"}),
        (True, Handshake.PEER, Handshake.PEER, set()),
        (None, Handshake.PEER, Handshake.PEER, {"peer-not-checked"}),
        (False, Handshake.PEER, Handshake.PEER, {"peer-unreachable"}),
    ],
)
def test_who_leads_the_handshake_is_chosen_by_what_the_source_reaches_and_said(
    reachable: bool | None, wanted: Handshake | None, handshake: Handshake, codes: set[str]
) -> None:
    site, options = with_transport(peer_reachable=reachable, peer_detail="why not"), Options(handshake=wanted)
    found = assess(site, options)
    assert {finding.code for finding in found} == codes
    assert live_plan(site, options).handshake is handshake
    if wanted is None and codes:
        assert "why not" in found[0].why


def test_a_carried_handshake_changes_nothing_of_what_the_data_needs() -> None:
    site = with_transport(peer_reachable=False, migration_reachable=False, destination_tls=False)
    against = {finding.code for finding in blockers(assess(site, CARRIED))}
    assert against == {"migration-unreachable", "no-certificates"}


def test_insecure_needs_no_certificates() -> None:
    site = with_transport(source_tls=False, destination_tls=False)
    assert not blockers(assess(site, Options(insecure=True)))


def test_a_mac_of_the_guest_itself_at_the_destination_is_no_clash() -> None:
    site = with_destination(guests=(other("web", UUID, macs=(MAC,)),))
    assert "mac-taken" not in {finding.code for finding in assess(site, Options())}


def codes(site: Site, options: Options | None = None) -> set[str]:
    return {finding.code for finding in assess(site, options or Options())}


def test_a_mark_names_who_moves_the_guest_since_when_and_what_to_do() -> None:
    (finding,) = assess(with_guest(mark=MARK), Options())
    assert "request 1234abcd of somebody@elsewhere since 1970-01-12 13:46:40 UTC" in finding.why
    (stale,) = assess(replace(with_guest(mark=MARK), observed_at=MARK.until + 1), Options())
    assert "ferryman unmark web" in stale.remedy


def test_a_stale_mark_on_a_guest_with_a_job_is_not_stale() -> None:
    site = replace(with_guest(mark=MARK, jobs=(Job("outgoing migration"),)), observed_at=MARK.until + 1)
    assert {"being-moved", "job-running"} == codes(site)


def test_clocks_that_differ_by_less_than_the_look_can_tell_are_no_finding() -> None:
    assert not codes(with_ground(clocks=Clocks(1.4, 0.5)))
    assert not codes(with_ground(clocks=None))


def test_lock_managers_that_are_alike_or_unseen_are_no_finding() -> None:
    assert not codes(with_ground(lock_managers=("lockd", "lockd")))
    assert not codes(with_ground(lock_managers=None))


def test_firmware_that_the_emulator_offers_needs_no_look_at_files() -> None:
    assert not codes(replace(with_ground(lacking=None), guest=replace(good_guest(), loader=FIRMWARE)))
    own = replace(with_ground(lacking=("/own.fd",)), guest=replace(good_guest(), loader="/own.fd"))
    assert codes(own) == {"boot-file-missing"}


def test_the_cpus_that_the_destination_lacks_are_named_and_those_of_both_are_offered() -> None:
    (finding,) = assess(with_guest(pinned_cpus=(2, 3, 8, 9, 11)), Options())
    assert "CPU 8-9,11" in finding.why
    assert "0-7" in finding.remedy
    assert not codes(replace(with_destination(cpu_ids=()), guest=replace(good_guest(), pinned_cpus=(99,))))


def test_guests_that_are_off_count_for_no_cpu_and_no_memory() -> None:
    assert not codes(with_destination(guests=(other(vcpus=100, memory=1000 * GIB),)))


def test_an_address_that_every_host_has_is_no_matter_and_a_name_is_not_judged() -> None:
    def listening(*addresses: str, own: tuple[str, ...] = ("192.0.2.2",), **guest: Any) -> set[str]:
        return codes(
            replace(with_ground(addresses=own), guest=replace(good_guest(), listens=tuple(addresses), **guest))
        )

    assert not listening("0.0.0.0", "::", "127.0.0.1", "::1", "192.0.2.2")
    assert listening("console.example") == {"listen-not-checked"}
    assert listening("192.0.2.1", own=("192.0.2.2", "any")) == set()  # as where an address moves between hosts
    assert listening(listen_networks=("lan",)) == set()
    assert listening(listen_networks=("dmz",)) == {"listen-missing"}


def test_filters_and_labels_that_are_there_are_no_finding() -> None:
    filtered = replace(with_interface(filter="ours"), destination=replace(host_facts("b"), filters=("ours",)))
    assert not codes(filtered)
    labelled = replace(
        with_destination(security_models=("apparmor",)), guest=replace(good_guest(), security_models=("apparmor",))
    )
    assert not codes(labelled)
    assert not codes(with_guest(security_models=("apparmor",)))  # the destination does not say


def test_a_frame_heard_elsewhere_names_where() -> None:
    (finding,) = assess(with_ground(segments=(Segment("br0", ("br7",)),)), Options())
    assert finding.code == "other-segment"
    assert "on br7, not on br0" in finding.why


def test_a_network_in_bridge_mode_is_probed_by_its_bridge_and_others_end_at_their_host() -> None:
    lan = with_interface(kind="network", source="lan", network_mode="bridge", device="br0")
    assert not codes(lan)
    elsewhere = replace(lan, ground=replace(lan.ground, segments=(Segment("br0", ()),)))
    assert codes(elsewhere) == {"other-segment"}
    nat = replace(lan, destination=replace(lan.destination, networks=(Network("lan", True, "virbr0", True, "nat"),)))
    assert codes(nat) == {"private-network"}


def test_a_macvtap_is_right_when_its_device_was_heard_on_the_same_name() -> None:
    site = with_interface(kind="direct", source="eno1", device="eno1")
    assert codes(replace(site, ground=replace(site.ground, segments=(Segment("eno1", ("eno1",)),)))) == set()
    assert codes(replace(site, ground=replace(site.ground, segments=(Segment("eno1", ()),)))) == {"other-segment"}


def test_a_limit_of_the_operator_counts_when_it_is_lower_than_the_link() -> None:
    site = with_ground(link=LinkSpeed(1000 * MIB))
    (finding,) = assess(site, Options(bandwidth=1 * MIB, timeout=60))
    assert finding.code == "link-slow"
    assert "limited to 1 MiB/s" in finding.why


def test_what_each_host_gives_up_for_a_common_cpu() -> None:
    offers = {"a": Cpu("", "Skylake", ("avx", "avx2", "sse")), "b": Cpu("", "Nehalem", ("sse",))}
    assert losses(offers, Cpu("", "Nehalem", ("sse",))) == (HostLoss("a", "Skylake", ("avx", "avx2")), HostLoss("b", "Nehalem", ()))  # fmt: skip


def test_a_disk_that_is_copied_crosses_the_link_too() -> None:
    site = with_disk(reach(Reach.DIFFERENT), capacity=20 * GIB, allocation=6 * GIB)
    site = replace(site, ground=replace(site.ground, link=LinkSpeed(100 * MIB)))
    by_code = {finding.code: finding for finding in assess(site, Options(timeout=60))}
    assert "3 GiB of memory and 6 GiB of disks need 1 min 32 s" in by_code["link-slow"].why
