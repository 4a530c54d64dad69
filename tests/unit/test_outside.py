"""Looks at the outside world, made at this machine: probes, slots, and a visit to a host."""

import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from ferryman.drivers import address, link, probe, ssh
from ferryman.drivers.libvirt import between, segments
from ferryman.drivers.libvirt import visit as visits
from ferryman.drivers.libvirt.visit import Visit, visit
from ferryman.errors import BadInput
from ferryman.execute.slots import Slots
from ferryman.model.guest import Disk
from ferryman.model.host import Host
from ferryman.model.site import DiskReach, Reach, Segment
from ferryman.ports import Hypervisor
from tests.unit.sites import good_guest

HERE = Host("here", "qemu:///system")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10.0.0.1", ("10.0.0.1", 0)), ("10.0.0.1:80", ("10.0.0.1", 80)), ("[fe80::1]:80", ("fe80::1", 80)), ("fe80::1", ("fe80::1", 0))],
)  # fmt: skip
def test_a_probe_is_an_address_and_maybe_a_port(text: str, expected: tuple[str, int]) -> None:
    assert address.parse(text) == expected


@pytest.mark.parametrize("text", ["10.0.0.1:http", "10.0.0.1:0", "10.0.0.1:70000", ":80", "[fe80::1]:x"])
def test_what_is_no_probe_is_said_to_be_none(text: str) -> None:
    with pytest.raises(BadInput, match="probe"):
        address.parse(text)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost"])
def test_echoes_come_back_over_either_family(address: str) -> None:
    assert probe.asks(address, 0)


AS_NOBODY = """
import os, sys, subprocess, encodings.idna
from ferryman.drivers import probe
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
open("/proc/sys/net/ipv4/ping_group_range", "w").write(sys.argv[1])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
for address in ("127.0.0.1", "::1", "127.0.0.1"):
    try:
        print(probe.asks(address, 0, 0.5))
    except PermissionError:
        print("may not")
"""


@pytest.mark.skipif(os.getuid() != 0, reason="makes a network namespace: needs root")
@pytest.mark.parametrize(("groups", "answer"), [("0 2147483647", "True"), ("1 0", "may not")])
def test_a_user_without_rights_sends_echoes_where_the_kernel_lets_users(groups: str, answer: str) -> None:
    asked = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", AS_NOBODY, groups], capture_output=True, text=True
    )
    assert asked.stdout.split("\n")[:3] == [answer] * 3, asked.stderr


def test_a_listener_and_a_refusal_are_answers_and_silence_is_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert probe.asks("127.0.0.1", port)
    assert probe.asks("127.0.0.1", port)  # refused: somebody is there
    with socket.socket() as full:  # its queue is full: whoever asks then hears nothing
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        assert not probe.asks("127.0.0.1", full.getsockname()[1], 0.2)
        for one in waiting:
            one.close()


def test_a_slot_belongs_to_one_process_until_it_ends(tmp_path: Path) -> None:
    slots = Slots(tmp_path)
    assert slots.take_lowest() == "slot0"
    assert slots.holder("slot0") == os.getpid()
    program = (
        "import sys; from pathlib import Path; from ferryman.execute.slots import Slots; s = Slots(Path(sys.argv[1]));"
        " print(s.take('slot0'), s.take_lowest(), s.holder('slot0'), flush=True); input()"
    )
    other = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip
    assert other.stdout is not None
    assert other.stdout.readline().split() == ["False", "slot1", str(os.getpid())]
    assert slots.holder("slot1") == other.pid
    assert not slots.take("slot1")
    other.kill()
    other.communicate()
    assert slots.holder("slot1") is None
    assert slots.take("slot1")
    slots.release_all()
    assert slots.holder("slot0") is None


def test_a_visit_sees_file_systems_certificates_and_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, missing = tmp_path / "there.pem", tmp_path / "missing.pem"
    there.touch()
    monkeypatch.setattr(visits, "CERTIFICATES", {"qemu": (str(there), str(missing))})
    (tmp_path / "in").symlink_to(there)
    (tmp_path / "out").symlink_to("/proc/version")
    images = [str(tmp_path / name) for name in ("there.pem", "in", "out")]
    seen = visit(
        HERE,
        directories=[str(tmp_path), "/proc"],
        images=images,
        peer_uri="qemu+tcp://127.0.0.1:1/system",
        address="127.0.0.1",
    )
    assert seen.elsewhere == {images[2]: "/proc/version"}
    assert seen.failed == ""
    assert seen.missing == (str(missing),)
    assert seen.certificates("qemu").good is False
    assert seen.file_systems["/proc"] == "proc"
    assert set(seen.file_systems) == {str(tmp_path), "/proc"}
    assert abs(seen.clock_offset) <= seen.clock_uncertainty + 0.1
    assert "127.0.0.1" in seen.addresses
    assert all(address == "any" or ip_address(address) for address in seen.addresses)
    assert seen.peer.good is False
    assert "refused" in seen.peer.detail.lower()
    assert seen.address.good is True  # a refusal: the address is reached


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_what_a_user_may_not_see_is_not_checked_and_never_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep, key, absent = tmp_path / "private/deep/key.pem", tmp_path / "key.pem", Path("/etc/no-such-directory/cert.pem")
    deep.parent.mkdir(parents=True)
    for path in (deep, key):
        path.touch(mode=0o600)
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    monkeypatch.setattr(ssh, "command_for", lambda _host, arguments: [*nobody, *arguments])
    monkeypatch.setattr(visits, "CERTIFICATES", {"qemu": (str(deep), str(key)), "libvirt": (str(absent), str(key))})
    seen = visit(HERE)
    assert (seen.missing, seen.hidden) == ((str(absent),), (str(deep), str(key), str(key)))
    assert seen.certificates("qemu").good is None
    assert "root alone" in seen.certificates("qemu").detail
    assert seen.certificates("libvirt").good is False


def test_a_host_that_cannot_be_visited_is_not_checked() -> None:
    seen = visit(Host("nowhere", "qemu+ssh://root@host.invalid/system"), peer_uri="x", address="y")
    assert seen.failed
    assert (seen.peer.good, seen.address.good, seen.certificates("qemu").good) == (None, None, None)
    assert seen.takes_as_shared("/srv/shared/x") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="raw sockets need root")
def test_a_frame_sent_in_one_visit_is_heard_in_another_and_ends_it_at_once() -> None:
    send, listen = segments.tasks(["lo"])
    with ThreadPoolExecutor(2) as pool:
        began = time.monotonic()
        hearing, sending = pool.submit(visit, HERE, task=listen), pool.submit(visit, HERE, task=send)
        assert sending.result().sent == ("lo",)
        assert hearing.result().heard == (("lo", "lo"),)
        assert time.monotonic() - began < segments.LISTEN_FOR
    assert (sending.result().deaf, hearing.result().deaf) == ("", "")


@pytest.mark.skipif(os.geteuid() != 0, reason="raw sockets need root")
def test_frames_of_another_probe_and_devices_that_are_not_there_are_told_apart() -> None:
    (_, listen), (send, _) = segments.tasks(["lo"]), segments.tasks(["lo", "no-such-device"])
    with ThreadPoolExecutor(2) as pool:
        hearing, sending = pool.submit(visit, HERE, task=listen), pool.submit(visit, HERE, task=send)
        assert (hearing.result().heard, hearing.result().deaf) == ((), "")
        assert sending.result().sent == ("lo",)
        assert sending.result().deaf == "no-such-device No such device"


def test_a_host_that_cannot_run_the_probe_says_why() -> None:
    seen = visit(HERE, task=segments.Task("raise SystemExit('no raw sockets here')"))
    assert seen.failed == ""
    assert seen.deaf == "no raw sockets here"
    assert visit(HERE).deaf == ""


def test_a_visit_reads_settings_as_libvirt_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = tmp_path / "qemu.conf"
    monkeypatch.setattr(visits, "_SCRIPT", visits._SCRIPT.replace("/etc/libvirt/qemu.conf", str(setting)))
    assert visit(HERE).lock_manager == ""
    setting.write_text('# lock_manager = "sanlock"\nuser = "root"\n')
    assert visit(HERE).lock_manager == ""
    setting.write_text('lock_manager = "lockd"\nshared_filesystems = [\n  "/srv/one",\n  # "/srv/old",\n]\n')
    seen = visit(HERE)
    assert (seen.lock_manager, seen.shared_directories) == ("lockd", ("/srv/one",))


def test_files_that_the_guest_needs_are_looked_at_too(tmp_path: Path) -> None:
    there, missing = tmp_path / "vmlinuz", tmp_path / "initrd"
    there.touch()
    assert str(missing) in visit(HERE, files=[str(there), str(missing)]).missing
    assert str(there) not in visit(HERE, files=[str(there), str(missing)]).missing


def test_what_was_heard_is_told_for_each_device_of_the_source() -> None:
    source = Visit(HERE, sent=("br0", "br1"))
    other = Visit(Host("b", "qemu+tls://b/system"), heard=(("br0", "br0"), ("br0", "br7")))
    assert between._segment("br0", (source, other)) == Segment("br0", ("br0", "br7"))
    assert between._segment("br1", (source, other)) == Segment("br1", ())
    assert between._segment("br2", (source, other)).heard is None
    assert "could not listen: no python3" in between._segment("br0", (source, replace(other, deaf="no python3"))).detail


def test_the_link_to_this_machine_is_measured_and_a_port_in_use_is_left_alone() -> None:
    address = f"127.{os.getpid() % 251 + 2}.{os.getpid() // 251 % 251}.1"  # two runs side by side do not meet
    here = replace(HERE, migration_address=address)
    with socket.create_server((address, link.PORTS[0])) as taken:
        speed = link.measure(here, here)
        assert speed.rate is not None, speed.detail
        assert speed.rate > 10 * 1024**2
        taken.settimeout(0.05)
        with pytest.raises(TimeoutError):
            taken.accept()


@pytest.mark.parametrize("address", ["192.0.2.77", "host.invalid"])
def test_a_link_that_cannot_be_measured_says_why(address: str) -> None:
    speed = link.measure(HERE, replace(HERE, migration_address=address))
    assert speed.rate is None
    assert speed.detail.startswith("here says: ")


def test_what_libvirt_takes_as_shared() -> None:
    seen = Visit(HERE, shared_directories=("/srv/shared",), file_systems={"/srv/shared/deep": "ext2/ext3", "/mnt": "nfs", "/var": "xfs"})  # fmt: skip
    assert seen.takes_as_shared("/srv/shared/deep/disk.qcow2") is True
    assert seen.takes_as_shared("/mnt/disk.raw") is True
    assert seen.takes_as_shared("/var/disk.raw") is False
    assert seen.takes_as_shared("/elsewhere/disk.raw") is None


def test_a_setting_that_libvirt_does_not_have_declares_nothing() -> None:
    listed = Visit(HERE, shared_directories=("/srv/shared",), file_systems={"/srv/shared": "xfs"})
    assert replace(listed, declarable=True).takes_as_shared("/srv/shared/disk.qcow2") is True
    assert replace(listed, declarable=False).takes_as_shared("/srv/shared/disk.qcow2") is False
    known_by_itself = replace(listed, file_systems={"/srv/shared": "nfs"}, declarable=False)
    assert known_by_itself.takes_as_shared("/srv/shared/disk.qcow2") is True


def test_only_the_source_must_know_the_directory_as_shared_where_the_destination_cannot() -> None:
    disk = Disk("vda", "disk", "file", "/srv/shared/disk.qcow2", "qcow2", "none", False, False)
    told = Visit(HERE, shared_directories=("/srv/shared",), file_systems={"/srv/shared": "xfs"}, declarable=True)
    untold, old = replace(told, shared_directories=()), replace(told, declarable=False)
    assert between._taken_as_shared(disk, told, told) is True
    assert between._taken_as_shared(disk, told, untold) is False
    assert between._taken_as_shared(disk, told, old) is True
    assert between._taken_as_shared(disk, old, told) is False
    assert between._taken_as_shared(disk, told, replace(told, failed="no ssh")) is None


def test_a_marker_proves_nothing_of_an_image_that_is_a_link_out_of_its_directory() -> None:
    disk = Disk("vda", "disk", "file", "/srv/shared/disk.qcow2", "qcow2", "none", False, False)
    plain, linked = Visit(HERE), Visit(HERE, elsewhere={disk.source: "/var/disk.qcow2"})
    same, different = DiskReach("vda", Reach.SAME, "seen"), DiskReach("vda", Reach.DIFFERENT, "not seen")
    assert between._where_it_lies(disk, same, plain) == same
    assert between._where_it_lies(disk, same, linked).reach is Reach.UNPROVED
    assert between._where_it_lies(disk, different, linked) == different


def test_the_setting_is_read_as_libvirt_writes_it() -> None:
    assert visits._listed(['shared_filesystems = [   "/srv/shared",   "/srv/other/" ] ']) == (
        "/srv/shared",
        "/srv/other",
    )
    assert visits._listed([]) == ()


def test_the_watcher_sees_how_long_nobody_answered() -> None:
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)
    address = listening.getsockname()
    watcher = probe.ThreadedWatcher(f"127.0.0.1:{address[1]}")
    time.sleep(0.4)
    accepted = []
    listening.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            accepted.append(listening.accept())
    listening.listen(0)  # from now on the queue is full after one: connections hang
    time.sleep(1.0)
    listening.listen(64)
    for one, _ in accepted:
        one.close()
    time.sleep(0.4)
    watcher.stop()
    listening.close()
    assert watcher.blackout is not None
    assert 0.7 < watcher.blackout < 1.8


def test_a_watcher_that_was_never_answered_knows_no_blackout() -> None:
    watcher = probe.ThreadedWatcher("127.0.0.1:1")  # refused is an answer
    time.sleep(0.2)
    watcher.stop()
    assert watcher.blackout is not None
    silent = probe.ThreadedWatcher("host.invalid:1")
    time.sleep(0.2)
    silent.stop()
    assert silent.blackout is None


def test_a_host_alone_says_what_a_guest_that_is_nowhere_would_find_there(tmp_path: Path) -> None:
    (kernel := tmp_path / "vmlinuz").touch()
    guest = replace(good_guest(), loader="/nowhere/code.fd", boot_files=(str(kernel), "/nowhere/initrd"))
    ground = between.LibvirtBetween().around(guest, cast("Hypervisor", SimpleNamespace(host=HERE)))
    assert ground.lacking == ("/nowhere/code.fd", "/nowhere/initrd")
    assert (ground.bridges, ground.addresses) == (visit(HERE).bridges, visit(HERE).addresses)
