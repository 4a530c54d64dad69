"""Whole copies by the real copier: two endpoints, qemu-nbd at both ends, TLS between, and qemu-img as the witness."""

import contextlib
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ferryman import errors
from ferryman.model.copy import Image
from tests.copy.conftest import DESTINATION, Copies, fill, run, same

MIB = 1 << 20


@pytest.mark.parametrize(
    "size", [1, 65537, 40 * MIB + 1, *(pytest.param(one, marks=pytest.mark.whole) for one in (65535, 3 * MIB + 513))]
)
def test_a_raw_file_of_any_size_arrives_with_exactly_its_bytes(copies: Copies, tmp_path: Path, size: int) -> None:
    fill(tmp_path / "source", size, seed=size)
    result = copies.copy(copies.task(tmp_path / "source", tmp_path / "target"))
    assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()
    assert result.source_digest == result.destination_digest
    assert result.size == size
    assert result.way == "tls"


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("qcow2", "raw"),
        ("vmdk", "qcow2"),
        *(
            pytest.param(*one, marks=pytest.mark.whole)
            for one in (
                ("raw", "qcow2"),
                ("vhdx", "raw"),
                ("vpc", "qcow2"),
                ("raw", "vpc"),
                ("qcow2", "vmdk"),
                ("raw", "vhdx"),
            )
        ),
    ],
)
def test_formats_are_converted_and_the_digest_is_of_the_content(
    copies: Copies, tmp_path: Path, kind: str, target: str
) -> None:
    fill(tmp_path / "raw", 24 * MIB, seed=3)
    options = ("-o", "force_size=on") if kind == "vpc" else ()
    run("qemu-img", "convert", "-f", "raw", "-O", kind, *options, tmp_path / "raw", tmp_path / "source")
    result = copies.copy(copies.task(tmp_path / "source", tmp_path / "target", (kind, target)))
    assert same(tmp_path / "source", kind, tmp_path / "target", target)
    plain = copies.copy(copies.task(tmp_path / "raw", tmp_path / "other", id="plain"))
    assert plain.source_digest == result.destination_digest
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".partial")]


def test_a_compressed_image_arrives_as_what_is_in_it(copies: Copies, tmp_path: Path) -> None:
    fill(tmp_path / "raw", 8 * MIB, seed=5)
    run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", tmp_path / "raw", tmp_path / "source")
    copies.copy(copies.task(tmp_path / "source", tmp_path / "target", ("qcow2", "qcow2")))
    assert same(tmp_path / "raw", "raw", tmp_path / "target", "qcow2")


def test_a_chain_of_three_arrives_as_one_image(copies: Copies, tmp_path: Path) -> None:
    fill(tmp_path / "raw", 8 * MIB, seed=6)
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", tmp_path / "raw", tmp_path / "base")
    run("qemu-img", "create", "-f", "qcow2", "-b", "base", "-F", "qcow2", tmp_path / "middle")
    run("qemu-io", "-c", "write -P 1 1M 64k", "-c", "write -z 2M 1M", tmp_path / "middle")
    run("qemu-img", "create", "-f", "qcow2", "-b", "middle", "-F", "qcow2", tmp_path / "top")
    run("qemu-io", "-c", "write -P 2 5M 100k", tmp_path / "top")
    copies.copy(copies.task(tmp_path / "top", tmp_path / "target", ("qcow2", "qcow2")))
    assert same(tmp_path / "top", "qcow2", tmp_path / "target", "qcow2")
    assert "backing file" not in run("qemu-img", "info", tmp_path / "target")


@pytest.mark.parametrize("kind", ["snapshots", "passphrase"])
def test_what_cannot_be_looked_into_travels_as_the_bytes_of_its_file(copies: Copies, tmp_path: Path, kind: str) -> None:
    if kind == "snapshots":
        run("qemu-img", "create", "-f", "qcow2", tmp_path / "source", "4M")
        run("qemu-io", "-c", "write -P 1 1M 64k", tmp_path / "source")
        run("qemu-img", "snapshot", "-c", "before", tmp_path / "source")
    else:
        encrypted(tmp_path / "source")
    result = copies.copy(copies.task(tmp_path / "source", tmp_path / "target", ("qcow2", "qcow2"), as_file=True))
    assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()
    assert result.size == (tmp_path / "source").stat().st_size


def test_a_disk_with_a_passphrase_is_refused_with_how_to_copy_it(copies: Copies, tmp_path: Path) -> None:
    encrypted(tmp_path / "source")
    with pytest.raises(errors.DriverError, match="only its passphrase opens it") as caught:
        copies.copy(copies.task(tmp_path / "source", tmp_path / "target", ("qcow2", "raw")))
    assert "--as-file" in caught.value.remedy
    assert not (tmp_path / "target").exists()


def encrypted(path: Path) -> None:
    """A qcow2 with a passphrase. Making one measures the CPU, which fails on a busy machine."""
    for last in (False, False, False, False, True):
        with contextlib.nullcontext() if last else contextlib.suppress(subprocess.CalledProcessError):
            run("qemu-img", "create", "-f", "qcow2", "--object", "secret,id=s,data=geheim",
                "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", path, "4M")  # fmt: skip
            return


def test_where_writes_to_the_source_cannot_be_seen_the_result_says_so(copies: Copies, tmp_path: Path) -> None:
    fill(tmp_path / "source", MIB, seed=1)
    assert copies.copy(copies.task(tmp_path / "source", tmp_path / "one")).watched
    server = subprocess.Popen(
        ["qemu-nbd", "--persistent", "--read-only", "-f", "raw", "-k", tmp_path / "socket", tmp_path / "source"]
    )
    try:
        for _ in range(200):
            if (tmp_path / "socket").exists():
                break
            time.sleep(0.02)
        task = copies.task(tmp_path / "source", tmp_path / "two", id="two")
        result = copies.copy(replace(task, source=Image(f"nbd+unix:///?socket={tmp_path}/socket")))
    finally:
        server.terminate()
        server.wait()
    assert not result.watched
    assert (tmp_path / "two").read_bytes() == (tmp_path / "source").read_bytes()


def test_an_empty_disk_and_a_full_one(copies: Copies, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    os.truncate(tmp_path / "empty", 50 * MIB)
    result = copies.copy(copies.task(tmp_path / "empty", tmp_path / "target"))
    assert result.wire < 2000
    assert (tmp_path / "target").stat().st_size == 50 * MIB
    assert (tmp_path / "target").stat().st_blocks * 512 <= 4096
    (tmp_path / "full").write_bytes(os.urandom(20 * MIB))
    result = copies.copy(copies.task(tmp_path / "full", tmp_path / "other", ("raw", "qcow2"), id="full"))
    assert same(tmp_path / "full", "raw", tmp_path / "other", "qcow2")
    assert 20 * MIB <= result.wire < 20 * MIB * 1.01, "what cannot be packed passes as it is"


def test_a_huge_sparse_disk_costs_what_is_in_it(copies: Copies, tmp_path: Path) -> None:
    size = 1 << 40
    fill(tmp_path / "source", size, seed=9, parts=50, largest=4 * MIB)
    result = copies.copy(copies.task(tmp_path / "source", tmp_path / "target", ("raw", "qcow2")))
    assert result.size == size
    assert result.source_digest == result.destination_digest
    assert result.read < 260 * MIB
    assert (tmp_path / "target").stat().st_blocks * 512 < 260 * MIB
    assert result.seconds + result.verify_seconds < 30


def test_preallocation_takes_the_storage_beforehand(copies: Copies, tmp_path: Path) -> None:
    fill(tmp_path / "source", 8 * MIB, seed=10)
    copies.copy(copies.task(tmp_path / "source", tmp_path / "target", preallocation="falloc", size=12 * MIB))
    assert (tmp_path / "target").stat().st_size == 12 * MIB
    assert (tmp_path / "target").stat().st_blocks * 512 >= 12 * MIB
    assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes() + bytes(4 * MIB)


@pytest.mark.parametrize("verify", ["full", "written", pytest.param("none", marks=pytest.mark.whole)])
def test_of_an_older_copy_only_what_differs_crosses_the_wire(copies: Copies, tmp_path: Path, verify: str) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(48 * MIB))
    copies.copy(copies.task(source, tmp_path / "target"))
    with open(source, "r+b") as file:
        for block in range(3, 768, 40):  # one block of forty, and one that becomes zero
            file.seek(block * 65536 + 100)
            file.write(os.urandom(1000))
        file.seek(30 * MIB)
        file.write(bytes(65536))
    changed = len(range(3, 768, 40)) * 65536
    result = copies.copy(copies.task(source, tmp_path / "target", id="again", existing="update", verify=verify))
    assert (tmp_path / "target").read_bytes() == source.read_bytes()
    assert changed <= result.wire <= changed * 1.10
    assert result.written == changed
    assert bool(result.destination_digest) == (verify != "none")


def test_asked_for_again_a_complete_copy_answers_at_once_until_it_is_forgotten(copies: Copies, tmp_path: Path) -> None:
    fill(tmp_path / "source", 4 * MIB, seed=1)
    task = copies.task(tmp_path / "source", tmp_path / "target")
    first, second = copies.copy(task), copies.copy(task)
    assert second.source_digest == first.source_digest
    assert (second.read, second.wire) == (0, 0)
    copies.copier().forget(task, DESTINATION)
    with pytest.raises(errors.DriverError, match="not this copy's own"):
        copies.copy(task)


def test_a_copy_that_need_not_be_remembered_leaves_nothing_behind(copies: Copies, tmp_path: Path) -> None:
    fill(tmp_path / "source", 4 * MIB, seed=1)
    copies.copy(copies.task(tmp_path / "source", tmp_path / "target", keep_journal=False))
    assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"source", "target", "journals"}
    assert not list((tmp_path / "journals").iterdir())


def test_discarding_removes_what_the_copy_made_and_nothing_else(copies: Copies, tmp_path: Path) -> None:
    fill(tmp_path / "source", 4 * MIB, seed=1)
    (tmp_path / "older").write_bytes(bytes(4 * MIB))
    made, updated = (
        copies.task(tmp_path / "source", tmp_path / "target"),
        copies.task(tmp_path / "source", tmp_path / "older", id="u", existing="update"),
    )
    for task in (made, updated):
        copies.copy(task)
        copies.copier().discard(task, DESTINATION)
        copies.copier().discard(task, DESTINATION)
    assert not (tmp_path / "target").exists()
    assert (tmp_path / "older").read_bytes() == (tmp_path / "source").read_bytes()
    assert not list((tmp_path / "journals").iterdir())


def test_a_cap_on_bandwidth_is_kept(copies: Copies, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(os.urandom(12 * MIB))
    result = copies.copy(copies.task(tmp_path / "source", tmp_path / "target", bandwidth=8 * MIB))
    assert result.seconds > 1.2


def test_a_copy_that_ended_is_not_believed_once_its_image_is_gone_or_its_source_was_written(
    copies: Copies, tmp_path: Path
) -> None:
    fill(tmp_path / "source", 3 * MIB, seed=11)
    task = copies.task(tmp_path / "source", tmp_path / "target")
    first = copies.copy(task)
    again = copies.copy(task)  # asked again it says what it said
    assert (again.read, again.destination_digest) == (0, first.source_digest)
    (tmp_path / "target").unlink()
    assert copies.copy(task).destination_digest == first.source_digest
    assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()
    fill(tmp_path / "source", 3 * MIB, seed=12)
    assert copies.copy(task).source_digest != first.source_digest
    assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()


def test_through_ssh_between_two_names_of_this_machine_is_within_it(copies: Copies, tmp_path: Path) -> None:
    fill(tmp_path / "source", 2 * MIB, seed=1)
    assert copies.copy(copies.task(tmp_path / "source", tmp_path / "target", via_ssh=True)).way == "local"
    assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()
    other = replace(copies.task(tmp_path / "source", tmp_path / "other"), id="other")
    assert copies.copy(other, root=str(tmp_path)).way == "local", "there are no certificates"
