"""Everything that can go wrong with wire and storage: a clear error each time, nothing lost, and asked for again the copy ends well."""

import contextlib
import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ferryman import errors
from ferryman.model.copy import CopyProgress
from tests.copy.conftest import DESTINATION, SOURCE, Copies, fill, run
from tests.copy.pair import ROOT, End, attempt, relay

MIB = 1 << 20
WIRE = [(harm, seed) for harm in ("flip", "cut", "truncate") for seed in range(30)]


@pytest.mark.parametrize(
    ("harm", "seed"), [one if one[1] < 1 else pytest.param(*one, marks=pytest.mark.whole) for one in WIRE]
)
def test_a_wire_that_flips_breaks_or_ends_is_noticed_and_costs_nothing(tmp_path: Path, harm: str, seed: int) -> None:
    source, target, journals = tmp_path / "source", tmp_path / "target", tmp_path / "journals"
    source.write_bytes(os.urandom(6 * MIB + 77))
    with relay(harm, seed, 6 * MIB) as between:
        told = attempt(source, target, journals, via=between)
    assert between.done
    assert told[1]["event"] != "finished", told
    assert not target.exists(), "nothing unproved gets the name"
    assert all(one["kind"] in ("damaged", "cut", "unreached") for one in told if one["event"] == "error"), told
    assert attempt(source, target, journals)[1]["event"] == "finished"
    assert target.read_bytes() == source.read_bytes()


def test_who_comes_without_the_token_is_sent_away_and_holds_nothing_up(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(os.urandom(2 * MIB))
    strangers: list[socket.socket] = []

    def crowd(port: int) -> int:
        for said in (b"GET / HTTP/1.0\r\n\r\n", b"\xff" * 5000, b"", b"\0\0\0\x02{}"):
            strangers.append(socket.create_connection(("127.0.0.1", port)))
            strangers[-1].sendall(said)
        return port

    assert attempt(tmp_path / "source", tmp_path / "target", tmp_path / "journals", via=crowd)[1]["event"] == "finished"
    for one in strangers:
        one.close()
    assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()


def test_a_source_that_is_written_to_is_noticed(copies: Copies, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(24 * MIB))
    task = copies.task(source, tmp_path / "target", bandwidth=24 * MIB)
    written = threading.Event()

    def meddle(one: CopyProgress) -> None:
        if one.phase == "copying" and one.done > 4 * MIB and not written.is_set():
            with open(source, "r+b") as file:
                file.write(b"somebody else was here")
            written.set()

    with pytest.raises(errors.SourceChanged, match="somebody wrote to it"):
        copies.copier().copy(task, SOURCE, DESTINATION, progress=meddle, cancelled=lambda: False)
    assert written.is_set()
    assert not (tmp_path / "target").exists()
    result = copies.copy(task)
    assert (tmp_path / "target").read_bytes() == source.read_bytes()
    assert result.wire < 3 * MIB, "what was there already did not cross again"


@pytest.mark.parametrize("verify", ["full", "written"])
def test_a_source_that_changed_between_two_attempts_is_not_taken_for_what_it_was(tmp_path: Path, verify: str) -> None:
    """The journal speaks of the old one, and its time of modification was set back."""
    source, target, journals = tmp_path / "source", tmp_path / "older", tmp_path / "journals"
    source.write_bytes(os.urandom(40 * MIB))
    target.write_bytes(bytes(40 * MIB))
    with relay("cut", 1, 40 * MIB) as between:
        between._at = 36 * MIB
        attempt(source, target, journals, via=between, existing="update")
    times = source.stat()
    with open(source, "r+b") as file:
        file.seek(MIB)
        file.write(b"somebody was here")
    os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
    told = attempt(source, target, journals, existing="update", verify=verify)
    assert told[1]["event"] == "finished"
    assert target.read_bytes() == source.read_bytes()
    assert told[1]["written"] < 12 * MIB, "what is there already is compared, not sent again"


def test_what_is_not_this_copys_own_is_left_alone(copies: Copies, tmp_path: Path) -> None:
    fill(tmp_path / "source", 4 * MIB, seed=1)
    (tmp_path / "target").write_text("somebody else's")
    with pytest.raises(errors.DriverError, match="not this copy's own"):
        copies.copy(copies.task(tmp_path / "source", tmp_path / "target"))
    assert (tmp_path / "target").read_text() == "somebody else's"


def test_what_appears_at_the_destination_meanwhile_is_left_alone(copies: Copies, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(os.urandom(8 * MIB))

    def meddle(_: CopyProgress) -> None:
        (tmp_path / "target").write_text("somebody else's")

    task = copies.task(tmp_path / "source", tmp_path / "target", bandwidth=8 * MIB)
    with pytest.raises(errors.DriverError, match="something appeared there"):
        copies.copier().copy(task, SOURCE, DESTINATION, progress=meddle, cancelled=lambda: False)
    assert (tmp_path / "target").read_text() == "somebody else's"
    (tmp_path / "target").unlink()
    copies.copy(task)
    assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()


def test_a_destination_that_is_too_small_is_refused_untouched(copies: Copies, tmp_path: Path) -> None:
    fill(tmp_path / "source", 4 * MIB, seed=1)
    run("qemu-img", "create", "-f", "qcow2", tmp_path / "target", "2M")
    before = (tmp_path / "target").read_bytes()
    with pytest.raises(errors.DriverError, match="it has 2097152 bytes, the source 4194304"):
        copies.copy(copies.task(tmp_path / "source", tmp_path / "target", ("raw", "qcow2"), existing="update"))
    assert (tmp_path / "target").read_bytes() == before


@contextlib.contextmanager
def mounted(path: Path, options: str) -> Iterator[Path]:
    """A small file system in memory."""
    path.mkdir()
    run("mount", "-t", "tmpfs", "-o", options, "tmpfs", path)
    try:
        yield path
    finally:
        run("umount", "--lazy", path)


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_a_full_destination_is_named_and_with_room_the_copy_goes_on(copies: Copies, tmp_path: Path, kind: str) -> None:
    (tmp_path / "source").write_bytes(os.urandom(40 * MIB))
    with mounted(tmp_path / "small", "size=24m") as small:
        task = copies.task(tmp_path / "source", small / "target", ("raw", kind))
        with pytest.raises(errors.DriverError, match=r"no space|No space|full"):
            copies.copy(task)
        run("mount", "-o", "remount,size=64m", small)
        result = copies.copy(task)
        assert result.source_digest == result.destination_digest
        assert result.wire < 30 * MIB


def test_a_read_only_destination_is_named(copies: Copies, tmp_path: Path) -> None:
    fill(tmp_path / "source", 4 * MIB, seed=1)
    with mounted(tmp_path / "fixed", "size=24m,ro") as fixed, pytest.raises(errors.DriverError, match=r"[Rr]ead-only"):
        copies.copy(copies.task(tmp_path / "source", fixed / "target"))


def test_an_image_that_one_may_not_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(bytes(MIB))
    (tmp_path / "source").chmod(0o600)
    for path in (tmp_path, *tmp_path.parents[:-2]):
        path.chmod(path.stat().st_mode | 0o055)
    with contextlib.closing(End(("setpriv", "--reuid=65534", "--clear-groups"))) as end:
        end.say("source", location=str(tmp_path / "source"), format="raw")
        told = end.hear()
    assert (told["event"], told["kind"]) == ("error", "permission")
    assert "Permission denied" in told["why"]
    assert told["remedy"]


def test_a_place_where_one_may_not_write_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, *tmp_path.parents[:-2]):
        path.chmod(path.stat().st_mode | 0o055)
    for name, mode in (("journals", 0o777), ("images", 0o755)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
    with contextlib.closing(End(("setpriv", "--reuid=65534", "--clear-groups"))) as end:
        end.say("destination", copy="one", location=str(tmp_path / "images/target"), kind="raw", length=MIB, fingerprint="f",
                directory=str(tmp_path / "journals"))  # fmt: skip
        told = end.hear()
    assert (told["event"], told["kind"], told["again"]) == ("error", "permission", False)
    assert "Permission denied" in told["why"]
    assert not os.listdir(tmp_path / "images")


def test_a_source_that_is_not_there_or_is_no_such_image_is_named(copies: Copies, tmp_path: Path) -> None:
    with pytest.raises(errors.DriverError, match="No such file"):
        copies.copy(copies.task(tmp_path / "nothing", tmp_path / "target"))
    fill(tmp_path / "source", MIB, seed=1)
    with pytest.raises(errors.DriverError, match=r"[Ii]mage is not in qcow2 format"):
        copies.copy(copies.task(tmp_path / "source", tmp_path / "target", ("qcow2", "raw")))
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_an_image_that_a_guest_writes_to_is_not_copied_over(copies: Copies, tmp_path: Path, kind: str) -> None:
    fill(tmp_path / "source", 4 * MIB, seed=1)
    run("qemu-img", "create", "-f", kind, tmp_path / "target", "4M")
    guest = subprocess.Popen(["qemu-nbd", "--persistent", "-f", kind, "-k", tmp_path / "socket", tmp_path / "target"])
    try:
        for _ in range(200):
            if (tmp_path / "socket").exists():
                break
            threading.Event().wait(0.02)
        with pytest.raises(errors.DriverError, match="another process has it open"):
            copies.copy(copies.task(tmp_path / "source", tmp_path / "target", ("raw", kind), existing="update"))
    finally:
        guest.terminate()
        guest.wait()


def test_stopped_by_its_operator_a_copy_goes_on_later(copies: Copies, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(os.urandom(24 * MIB))
    task = copies.task(tmp_path / "source", tmp_path / "target", bandwidth=16 * MIB)
    with pytest.raises(errors.Stopped):
        copies.copy(task, cancelled=lambda: bool(copies.seen))
    assert not (tmp_path / "target").exists()
    result = copies.copy(task)
    assert result.wire < 24 * MIB
    assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()


def test_certificates_of_another_authority_are_refused(copies: Copies, tmp_path: Path) -> None:
    from lab import tls

    fill(tmp_path / "source", MIB, seed=1)
    tls.make_authority(tmp_path / "keys")
    tls.issue(tmp_path / "keys", "there", ["DNS:elsewhere"])
    tls.install(tmp_path / "keys", "there", tmp_path / "etc")
    with pytest.raises(errors.Insecure, match=r"127\.0\.0\.1"):
        copies.copy(copies.task(tmp_path / "source", tmp_path / "target", via_ssh=False), root=str(tmp_path))


def test_what_is_on_storage_is_proved_and_a_storage_that_lies_is_found_out(tmp_path: Path) -> None:
    """The journal says what was sent; the image is changed behind it before it is read back."""
    source, target, journals = tmp_path / "source", tmp_path / "target", tmp_path / "journals"
    source.write_bytes(os.urandom(40 * MIB))
    with relay("cut", 1, 40 * MIB) as between:
        between._at = 36 * MIB
        attempt(source, target, journals, via=between)
    partial = next(path for path in tmp_path.iterdir() if path.name.endswith(".partial"))
    with open(partial, "r+b") as file:
        file.seek(MIB)
        file.write(b"rot")
    told = attempt(source, target, journals)
    assert (told[1]["event"], told[1]["kind"]) == ("error", "differs"), told
    assert "first at byte 0" in told[1]["why"]
    assert attempt(source, target, journals)[1]["event"] == "finished"
    assert target.read_bytes() == source.read_bytes()


def test_the_port_is_closed_as_soon_as_the_sender_is_in(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(os.urandom(4 * MIB))
    refused, over = threading.Event(), threading.Event()

    def knock(port: int) -> None:
        while not over.wait(0.05):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
            except ConnectionRefusedError:
                refused.set()
                return

    def beside(port: int) -> int:
        threading.Thread(target=knock, args=(port,), daemon=True).start()
        return port

    told = attempt(tmp_path / "source", tmp_path / "target", tmp_path / "journals", via=beside, bandwidth=2 * MIB)
    over.set()
    assert told[1]["event"] == "finished"
    assert refused.is_set()


def test_a_host_without_the_libraries_says_what_to_install() -> None:
    """Python without its site directories stands for a host where nothing was installed."""
    done = subprocess.run(
        ["/usr/bin/python3", "-S", "-m", "ferryman_copy"],
        cwd=ROOT / "src",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    told = json.loads(done.stdout)
    assert done.returncode == 3
    assert (told["event"], told["remedy"]) == ("error", "apt install python3-libnbd")


def test_an_endpoint_hears_its_controller_while_an_order_takes_long(tmp_path: Path) -> None:
    """Making an image with all of its storage takes longer than a controller may be silent."""
    slow = tmp_path / "bin" / "qemu-img"
    slow.parent.mkdir()
    slow.write_text('#!/bin/sh\nsleep 4\nexec /usr/bin/qemu-img "$@"\n')
    slow.chmod(0o755)
    end = subprocess.Popen(
        ["/usr/bin/python3", "-c", "from ferryman_copy import endpoint; endpoint.SILENCE = 1.5; endpoint.main()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "PATH": f"{slow.parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert end.stdin is not None
    assert end.stdout is not None
    with end.stdout, end:
        order = {"do": "destination", "copy": "slow", "location": str(tmp_path / "target"), "kind": "raw", "length": MIB,
                 "fingerprint": "f", "directory": str(tmp_path / "journals"), "preallocation": "full"}  # fmt: skip
        end.stdin.write(json.dumps(order) + "\n")
        for _ in range(12):
            threading.Event().wait(0.5)
            with contextlib.suppress(BrokenPipeError):
                end.stdin.write('{"do": "stay"}\n')
        end.stdin.close()
        told = [json.loads(line)["event"] for line in end.stdout]
        assert [event for event in told if event != "progress"] == ["hello", "ready"]
        assert end.wait(10) == 0
