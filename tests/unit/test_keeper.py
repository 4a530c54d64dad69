"""What is done at a host itself, tried on this machine: images held and let go, small directories put in their place and taken back."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ferryman.drivers import keeper
from ferryman.errors import DriverError
from ferryman.model.host import Host
from ferryman.model.plan import Held, Soundness
from tests.copy.test_copy import encrypted

HERE = Host("here", "qemu:///system")


@pytest.fixture(autouse=True)
def holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Holds below the test's own directory; none outlives it."""
    directory = tmp_path / "holds"
    monkeypatch.setattr(keeper, "DIRECTORY", str(directory))
    yield directory
    for request in directory.glob("*") if directory.exists() else ():
        keeper.release(HERE, request.name)


def image(tmp_path: Path, kind: str) -> Held:
    path = tmp_path / f"image.{kind}"
    subprocess.run(["qemu-img", "create", "-q", "-f", kind, path, "4M"], check=True)
    return Held(f"v{kind[0]}", str(path), kind, shared=False)


def writable(one: Held) -> bool:
    """Whether a program that wants QEMU's write lock, as a guest's start does, gets it."""
    command = ["qemu-io", "-f", one.format, "-c", "write 0 512", one.path]
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.parametrize("kind", ["qcow2", "raw"])
def test_an_image_that_is_held_can_be_read_and_not_written_until_it_is_let_go(
    tmp_path: Path, kind: str, holds: Path
) -> None:
    one = image(tmp_path, kind)
    keeper.hold(HERE, "r1", [one])
    keeper.hold(HERE, "r1", [one])  # again, after a crash
    assert keeper.held(HERE, "r1") == (one.target,)
    if kind == "qcow2":  # a raw image's hold takes the lock that a guest does not share; qemu-io shares it
        assert not writable(one)
    subprocess.run(["qemu-img", "info", "-U", one.path], check=True, capture_output=True)
    keeper.release(HERE, "r1", ["another"])
    assert keeper.held(HERE, "r1") == (one.target,)
    keeper.release(HERE, "r1")
    keeper.release(HERE, "r1")
    assert keeper.held(HERE, "r1") == ()
    assert writable(one)
    assert not (holds / "r1").exists()


def test_an_encrypted_image_is_held_by_the_bytes_of_its_file_and_nobody_opens_it_as_what_it_is(tmp_path: Path) -> None:
    path, secret = tmp_path / "image", ("--object", "secret,id=s,data=geheim")
    options = "encrypt.format=luks,encrypt.key-secret=s"
    encrypted(path)
    write = ["qemu-io", *secret, "--image-opts", "-c", "write 0 512", f"driver=qcow2,{options},file.filename={path}"]
    keeper.hold(HERE, "r1", [Held("vda", str(path), "raw", shared=False)])
    refused = subprocess.run(write, capture_output=True, text=True)
    assert refused.returncode != 0
    assert "lock" in refused.stderr
    keeper.release(HERE, "r1")
    subprocess.run(write, check=True, capture_output=True)


def test_another_requests_hold_is_named_and_a_pid_that_went_to_another_process_is_left_alone(
    tmp_path: Path, holds: Path
) -> None:
    one = image(tmp_path, "qcow2")
    keeper.hold(HERE, "r1", [one])
    with pytest.raises(DriverError, match="request r1 holds it already"):
        keeper.hold(HERE, "r2", [one])
    keeper.release(HERE, "r1")
    (holds / "r3").mkdir(parents=True)
    (holds / "r3" / "vda.pid").write_text(str(os.getpid()))
    assert keeper.held(HERE, "r3") == ()
    keeper.release(HERE, "r3")  # and this test goes on


def test_a_busy_image_cannot_be_held_and_a_damaged_one_is_seen(tmp_path: Path) -> None:
    one = image(tmp_path, "qcow2")
    assert keeper.check_image(HERE, one) == Soundness(True)
    assert keeper.image_snapshots(HERE, one.path) == ()
    subprocess.run(["qemu-img", "snapshot", "-c", "before", one.path], check=True)
    assert keeper.image_snapshots(HERE, one.path) == ("before",)
    with open(one.path, "r+b") as file:  # the offset of the first cluster table
        file.seek(40)
        file.write(b"\xff" * 8)
    seen = keeper.check_image(HERE, one)
    assert not seen.sound
    assert seen.words
    with pytest.raises(DriverError, match="cannot be held"):
        keeper.hold(HERE, "r1", [one])


def test_clusters_that_take_room_for_nothing_are_no_damage(tmp_path: Path) -> None:
    one = image(tmp_path, "qcow2")
    subprocess.run(["qemu-io", "-c", "write 0 64k", one.path], check=True, capture_output=True)
    data = Path(one.path).read_bytes()
    first = int.from_bytes(
        data[40:48]
    )  # the cluster table that the header names; its first entry names the one with the data
    with open(one.path, "r+b") as file:
        file.seek(first)
        file.write(bytes(8))
    seen = keeper.check_image(HERE, one)
    assert seen.sound
    assert "qemu-img check -r leaks" in seen.words


def test_a_chain_is_told_top_first_and_stands_upon_what_it_is_told_to(tmp_path: Path) -> None:
    base, middle, top, moved = (str(tmp_path / name) for name in ("base.raw", "middle.qcow2", "top.qcow2", "moved.raw"))
    subprocess.run(["qemu-img", "create", "-q", "-f", "raw", base, "1M"], check=True)
    for path, below, kind in ((middle, base, "raw"), (top, middle, "qcow2")):
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", below, "-F", kind, path], check=True)
    assert chain(top) == [(top, "qcow2"), (middle, "qcow2"), (base, "raw")]
    os.rename(base, moved)
    keeper.rebase(HERE, middle, moved, "raw")
    assert chain(top)[2] == (moved, "raw")
    assert chain(base) == []  # it is not there any more


def test_what_a_guest_writes_into_a_raw_image_is_not_taken_for_the_header_of_another(tmp_path: Path) -> None:
    """Else it could have any file of the host copied along as a layer below it."""
    sly, secret = str(tmp_path / "sly.raw"), str(tmp_path / "secret")
    subprocess.run(["qemu-img", "create", "-q", "-f", "raw", secret, "1M"], check=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw", sly], check=True)
    assert chain(sly, "raw") == [(sly, "raw")]


def chain(path: str, kind: str = "qcow2") -> list[tuple[str, str]]:
    return [(one.path, one.format) for one in keeper.image_chain(HERE, path, kind)]


@pytest.mark.parametrize("before", [None, "older"])
def test_a_directory_arrives_with_its_modes_and_is_taken_back(tmp_path: Path, before: str | None) -> None:
    source, place = tmp_path / "source", tmp_path / "there" / "state"
    (source / "tpm2").mkdir(parents=True)
    (source / "tpm2" / "permall").write_bytes(b"\0secret\n")
    (source / "tpm2" / "permall").chmod(0o600)
    (tmp_path / "there").mkdir()
    if before:
        place.mkdir()
        (place / "old").write_text(before)
    packed = keeper.pack(HERE, str(source))
    assert keeper.unpack(HERE, str(place), packed, "r1") is bool(before)
    keeper.unpack(HERE, str(place), packed, "r1")  # again, after a crash
    assert keeper.pack(HERE, str(place)) == packed
    assert (place / "tpm2" / "permall").read_bytes() == b"\0secret\n"
    assert (place / "tpm2" / "permall").stat().st_mode & 0o777 == 0o600
    keeper.take_back(HERE, str(place), "r1")
    keeper.take_back(HERE, str(place), "r1")
    assert [path.name for path in (tmp_path / "there").iterdir()] == (["state"] if before else [])
    if before:
        assert (place / "old").read_text() == before
    assert keeper.pack(HERE, str(tmp_path / "nothing")) == ""


def test_a_directory_that_arrived_loses_its_mark_and_what_was_there_before_goes_when_it_is_told_to(
    tmp_path: Path,
) -> None:
    source, place = tmp_path / "source", tmp_path / "state"
    source.mkdir()
    (source / "permall").write_text("new")
    assert keeper.unpack(HERE, str(place), keeper.pack(HERE, str(source)), "r1") is False
    assert keeper.adopt(HERE, str(place), "r1") is False
    assert [path.name for path in place.iterdir()] == ["permall"]
    assert keeper.unpack(HERE, str(place), keeper.pack(HERE, str(source)), "r2") is True
    assert keeper.adopt(HERE, str(place), "r2") is True
    keeper.take_back(HERE, str(place), "r1")  # nothing is any more
    with pytest.raises(DriverError, match="was not put aside for request r1"):
        keeper.remove_aside(HERE, f"{place}.before-r2", "r1")
    with pytest.raises(DriverError, match="was not put aside for request r2"):
        keeper.remove_aside(HERE, str(place), "r2")
    assert keeper.remove_aside(HERE, f"{place}.before-r2", "r2") is True
    assert keeper.remove_aside(HERE, f"{place}.before-r2", "r2") is False
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "state"]


def test_a_file_gets_another_name_once_and_never_over_another(tmp_path: Path) -> None:
    one, other = tmp_path / "save", tmp_path / "aside"
    one.write_text("memory")
    keeper.move_file(HERE, str(one), str(other))
    keeper.move_file(HERE, str(one), str(other))
    assert (other.read_text(), one.exists()) == ("memory", False)
    one.write_text("newer")
    with pytest.raises(DriverError, match="there already"):
        keeper.move_file(HERE, str(one), str(other))
    assert other.read_text() == "memory"


def test_a_directory_that_cannot_be_read_to_the_end_is_not_taken_for_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ends' halves would be alike, so nothing later would notice."""
    state, programs = tmp_path / "state", tmp_path / "programs"
    state.mkdir()
    (state / "permall").write_text("secret")
    programs.mkdir()
    tar = programs / "tar"
    tar.write_text(
        '#!/bin/sh\nPATH=/usr/bin:/bin tar "$@"\necho "permall: Read error: Input/output error" >&2\nexit 2\n'
    )
    tar.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    with pytest.raises(DriverError, match="Read error"):
        keeper.pack(HERE, str(state))
