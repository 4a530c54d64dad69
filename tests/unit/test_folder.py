"""Folders of backups, by the scripts that run at a host, on this machine: what is written, found, named and removed."""

import os
import subprocess
from pathlib import Path

import pytest

from ferryman.drivers import folder as driver
from ferryman.drivers.folder import HostFolder
from ferryman.errors import DriverError
from ferryman.model.host import THIS_MACHINE


@pytest.fixture
def folder(tmp_path: Path) -> HostFolder:
    """One whose name has a blank, that is not there yet."""
    return HostFolder(THIS_MACHINE, str(tmp_path / "my backups" / "web"))


def test_what_is_written_is_read_and_is_nobody_elses(folder: HostFolder, tmp_path: Path) -> None:
    folder.make(".partial-1-r")
    folder.make(".partial-1-r")
    content = bytes(range(256)) * 1000
    folder.write(".partial-1-r/nvram", b"older")
    folder.write(".partial-1-r/nvram", content)
    assert folder.read(".partial-1-r/nvram") == content
    assert folder.read(".partial-1-r/other") is None
    assert folder.sizes(".partial-1-r") == {"nvram": len(content)}
    made = tmp_path / "my backups/web/.partial-1-r"
    assert made.stat().st_mode & 0o77 == (made / "nvram").stat().st_mode & 0o77 == 0


def test_a_folder_that_is_not_there_has_no_backups_and_some_room(folder: HostFolder) -> None:
    assert folder.manifests() == {}
    assert (folder.room() or 0) > 0


def test_only_what_has_its_name_is_found_and_it_is_named_once(folder: HostFolder, tmp_path: Path) -> None:
    for name, text in ((".partial-2-r", b"{}"), ("1", b'{"a": 1}')):
        folder.make(name)
        folder.write(f"{name}/manifest.json", text)
    assert folder.manifests() == {"1": (b'{"a": 1}', {"manifest.json": 8})}
    above = HostFolder(THIS_MACHINE, str(tmp_path / "my backups"))
    assert list(above.manifests()) == ["web/1"]
    assert list(HostFolder(THIS_MACHINE, str(tmp_path / "my backups/web/1")).manifests()) == ["."]
    folder.publish(".partial-2-r", "2")
    folder.publish(".partial-2-r", "2")  # again, after a crash
    assert sorted(folder.manifests()) == ["1", "2"]


def test_a_name_that_is_taken_is_left_alone(folder: HostFolder) -> None:
    folder.make(".partial-1-r")
    folder.make("1")
    folder.write("1/mine", b"x")
    with pytest.raises(DriverError, match="is there already"):
        folder.publish(".partial-1-r", "1")
    assert folder.read("1/mine") == b"x"


def test_only_what_is_under_way_for_that_request_is_removed(folder: HostFolder, tmp_path: Path) -> None:
    folder.make(".partial-1-r")
    folder.make(".partial-1-other")
    folder.make("1")
    for name in ("1", ".partial-1-other", "../web", "."):
        with pytest.raises(DriverError):
            folder.remove(name, "r")
    assert folder.remove(".partial-1-r", "r")
    assert folder.remove(".partial-1-r", "r")
    folder.leave()
    assert sorted(one.name for one in (tmp_path / "my backups/web").iterdir()) == [".partial-1-other", "1"]


def test_where_the_directory_itself_is_missing_nothing_is_called_gone(folder: HostFolder, tmp_path: Path) -> None:
    assert not folder.remove(".partial-1-r", "r")
    with pytest.raises(DriverError, match="is its file system mounted"):
        folder.read("1/manifest.json")
    folder.leave()
    folder.make(".partial-1-r")
    folder.remove(".partial-1-r", "r")
    folder.leave()
    assert not (tmp_path / "my backups/web").exists()


def test_the_layers_of_an_image_are_told_by_where_they_are(folder: HostFolder, tmp_path: Path) -> None:
    for name in ("1", "2"):
        folder.make(name)
    place = tmp_path / "my backups/web"
    create = ["qemu-img", "create", "-q", "-f", "qcow2"]
    subprocess.run([*create, place / "1/vda.qcow2", "1M"], check=True)
    subprocess.run([*create, "-b", "../1/vda.qcow2", "-F", "qcow2", place / "2/vda.qcow2"], check=True)
    assert folder.layers("2/vda.qcow2") == (f"{place}/2/vda.qcow2", f"{place}/1/vda.qcow2")
    (place / "1/vda.qcow2").unlink()
    with pytest.raises(DriverError):
        folder.layers("2/vda.qcow2")


def test_a_file_that_an_image_keeps_its_data_in_is_one_of_its_layers(folder: HostFolder, tmp_path: Path) -> None:
    folder.make("1")
    place = tmp_path / "my backups/web/1"
    secret = tmp_path / "secret"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={secret},data_file_raw=on", place / "vda.qcow2", "1M"], check=True)  # fmt: skip
    assert folder.layers("1/vda.qcow2") == (f"{place}/vda.qcow2", str(secret))


def test_what_takes_long_to_remove_is_removed_bit_by_bit_and_never_looks_whole(
    folder: HostFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "bin"
    slow.mkdir()
    left = f'ls -A "{tmp_path}/my backups/web/.partial-1-r"'
    (slow / "rm").write_text(
        f'#!/bin/sh\nfor last; do :; done\n[ -d "$last" ] || exec /bin/rm "$@"\n{left} >>{tmp_path}/seen; echo -- >>{tmp_path}/seen\n'
        'for one in "$last"/*; do /bin/rm "$one"; sleep 0.3; done\nexec rmdir "$last"\n'
    )
    (slow / "rm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow}:{os.environ['PATH']}")
    for name, within in (("WITHIN", 0.5), ("SLICE", 0.5), ("ONE_FILE_WITHIN", 5.0)):
        monkeypatch.setattr(driver, name, within)
    folder.make(".partial-1-r")
    for name in ("manifest.json", "a", "b", "c", "d"):
        (tmp_path / "my backups/web/.partial-1-r" / name).write_text(name)
    folder.remove(".partial-1-r", "r")
    assert not any((tmp_path / "my backups/web").iterdir())
    looks = (tmp_path / "seen").read_text().split("--\n")
    assert len(looks) > 2  # it was asked to go on
    assert not any("manifest.json" in look for look in looks)


def test_a_file_where_a_folder_should_be_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "web").write_text("")
    with pytest.raises(DriverError, match=r"Not a directory|File exists"):
        HostFolder(THIS_MACHINE, str(tmp_path / "web")).make("1")


def test_what_does_not_come_back_as_it_was_written_is_an_error(
    folder: HostFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.make("1")
    monkeypatch.setattr(driver, "_WRITE", driver._WRITE.replace("sync", "echo spoiled >>$1/$2.new; sync", 1).replace("$1/$2.new;", '"$1/$2.new";'))  # fmt: skip
    with pytest.raises(DriverError, match="not what was written"):
        folder.write("1/nvram", b"x")
