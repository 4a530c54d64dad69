"""`ferryman copy` as a program: places and formats, what it prints, its exit codes, and Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ferryman.app.copies import Copies as Asked
from ferryman.app.copies import format_of
from ferryman.app.site import Site
from ferryman.drivers.copy import SshCopier
from ferryman.drivers.database.records import open_records
from ferryman.errors import BadInput, NotFound
from ferryman.model.copy import CopyTask, Image
from ferryman.model.host import Host
from tests.copy.conftest import fill, same

MIB = 1 << 20
SUCCEEDED, REFUSED, STOPPED = 0, 3, 4


def command(tmp_path: Path, *arguments: object) -> subprocess.Popen[str]:
    """The program in a state directory of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "ferryman", "copy", *map(str, arguments)], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        env={**os.environ, "FERRYMAN_STATE_DIRECTORY": str(tmp_path / "state"), "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip


def test_what_it_did_is_printed_and_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    fill(tmp_path / "one.raw", 20 * MIB, seed=1)
    copying = command(tmp_path, tmp_path / "one.raw", tmp_path / "two.qcow2")
    out, err = copying.communicate(timeout=60)
    assert copying.returncode == SUCCEEDED, err
    assert "within one host" in out
    assert out.count("fd1:") == 2
    assert same(tmp_path / "one.raw", "raw", tmp_path / "two.qcow2", "qcow2")
    again = command(tmp_path, tmp_path / "one.raw", tmp_path / "two.qcow2")
    _, err = again.communicate(timeout=60)
    assert again.returncode == REFUSED
    assert "--update" in err
    told = command(tmp_path, tmp_path / "one.raw", tmp_path / "two.qcow2", "--update", "--json")
    out, err = told.communicate(timeout=60)
    assert told.returncode == SUCCEEDED, err
    end = json.loads(out.splitlines()[-1])
    assert (end["event"], end["written"]) == ("end", 0)
    assert end["source_digest"] == end["destination_digest"]


def test_ctrl_c_leaves_it_so_that_the_same_command_goes_on(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(os.urandom(48 * MIB))
    arguments = (tmp_path / "one", tmp_path / "two", "--bandwidth", "16M", "--json")
    copying = command(tmp_path, *arguments)
    assert copying.stdout
    while "copying" not in copying.stdout.readline():
        assert copying.poll() is None
    time.sleep(0.5)
    copying.send_signal(signal.SIGINT)
    _, err = copying.communicate(timeout=60)
    assert copying.returncode == STOPPED, err
    assert "goes on where it was" in err
    assert not (tmp_path / "two").exists()
    on = command(tmp_path, *arguments[:2], "--json")
    out, err = on.communicate(timeout=60)
    assert on.returncode == SUCCEEDED, err
    assert json.loads(out.splitlines()[-1])["wire"] < 48 * MIB
    assert (tmp_path / "two").read_bytes() == (tmp_path / "one").read_bytes()


def asked(tmp_path: Path) -> Asked:
    """The application's part with one host that nobody reaches."""
    records = open_records(tmp_path)
    records.add_host(Host("b", "qemu+ssh://root@b.invalid/system"))
    return Asked(Site(records), SshCopier())


def wish(source: str = "", destination: str = "", **more: object) -> CopyTask:
    """What the command asks for; formats only."""
    return CopyTask("", Image("", source), Image("", destination), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "destination", "given", "formats"),
    [
        ("/a/x.qcow2", "b:/y.raw", wish(), ("qcow2", "raw")),
        ("/a/x.vhd", "b:/y", wish(), ("vpc", "vpc")),
        ("/a/x", "b:/y.img", wish(), ("raw", "raw")),
        ("/a.qcow2/x", "b:/y", wish(), ("raw", "raw")),
        ("/a/x.qcow2", "b:/dev/vg/y", wish(), ("qcow2", "raw")),
        ("/a/x.qcow2", "b:/y", wish("raw", "vmdk"), ("raw", "vmdk")),
        ("/a/x.qcow2", "b:/y.raw", wish(as_file=True), ("qcow2", "qcow2")),
        ("b:nbd://c/d", "/y.qcow2", wish(), ("raw", "qcow2")),
    ],
)
def test_formats_are_what_names_promise_unless_they_are_given(
    tmp_path: Path, source: str, destination: str, given: CopyTask, formats: tuple[str, str]
) -> None:
    task, _, _ = asked(tmp_path).task(source, destination, given)
    assert (task.source.format, task.destination.format) == formats


def test_a_copy_has_the_same_id_whenever_it_is_asked_for(tmp_path: Path) -> None:
    copies = asked(tmp_path)
    ids = [
        copies.task("/a", place, given)[0].id
        for place in ("b:/c", "b:/d")
        for given in (
            wish(),
            wish(),
            wish(existing="update"),
            wish(size=MIB),
            wish(preallocation="full"),
            wish("", "vmdk"),
        )
    ]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 10
    assert copies.task("./a", "/b", wish())[0].source.location == os.path.abspath("a")


@pytest.mark.parametrize("place", ["a", "b:", "b:volume", "b:/", ""])
def test_a_place_that_is_none_is_refused_with_what_to_write(tmp_path: Path, place: str) -> None:
    with pytest.raises(BadInput) as caught:
        asked(tmp_path).task("/a", place, wish())
    assert "/PATH" in caught.value.remedy


def test_an_unknown_host_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="host c"):
        asked(tmp_path).task("c:/a", "/b", wish())
    assert format_of("/a/b.QCOW2") == "qcow2"
