"""Whole copies by the real copier: two endpoints, qemu-nbd at both ends, TLS between, and qemu-img as the witness."""

import os
from pathlib import Path

import pytest

from tests.copy.conftest import Copies, fill, run, same

MIB = 1 << 20


@pytest.mark.parametrize("size", [1, 65535, 65537, 3 * MIB + 513, 40 * MIB + 1])
def test_a_raw_file_of_any_size_arrives_with_exactly_its_bytes(copies: Copies, tmp_path: Path, size: int) -> None:
    fill(tmp_path / "source", size, seed=size)
    result = copies.copy(copies.task(tmp_path / "source", tmp_path / "target"))
    assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()
    assert result.source_digest == result.destination_digest
    assert result.size == size
    assert result.way == "tls"


@pytest.mark.parametrize(("kind", "target"), [("qcow2", "raw"), ("raw", "qcow2"), ("vmdk", "qcow2"), ("vhdx", "raw"), ("vpc", "qcow2")])
def test_formats_are_converted_and_the_digest_is_of_the_content(copies: Copies, tmp_path: Path, kind: str, target: str) -> None:
    fill(tmp_path / "raw", 24 * MIB, seed=3)
    options = ("-o", "force_size=on") if kind == "vpc" else ()
    run("qemu-img", "convert", "-f", "raw", "-O", kind, *options, tmp_path / "raw", tmp_path / "source")
    result = copies.copy(copies.task(tmp_path / "source", tmp_path / "target", (kind, target)))
    assert same(tmp_path / "source", kind, tmp_path / "target", target)
    plain = copies.copy(copies.task(tmp_path / "raw", tmp_path / "other", id="plain"))
    assert plain.source_digest == result.destination_digest
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".partial")]
