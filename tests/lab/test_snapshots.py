"""Guests with external snapshots move stopped: every file of them once, their tree as it was, and it can be gone back to each."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from lab import guests
from lab.guests import Guest, GuestSpec
from lab.host import Lab
from tests.lab.operators import PUT_BACK, SUCCEEDED, Operator
from tests.lab.test_cold import IMAGES, SPEC, clean, image_of, judged, started

pytestmark = [pytest.mark.lab, pytest.mark.whole]

ALONE = replace(SPEC, disks=("local",), autostart=False)
ROW = 64  # KiB between two patterns, so that each lies in a cluster of its own


@contextmanager
def off(lab: Lab, spec: GuestSpec = ALONE) -> Iterator[Guest]:
    """A guest of that kind that is defined at host a and shut off; afterwards nothing of it is left."""
    clean(lab)
    guest = guests.define(lab, "a", spec)
    try:
        yield guest
    finally:
        guests.remove(lab, guest)
        clean(lab)


def virsh(lab: Lab, host: str, *words: str) -> str:
    return lab.host(host).run(["virsh", *words], timeout=120).stdout


def go_back(lab: Lab, host: str, guest: Guest, snapshot: str) -> None:
    time.sleep(1.1)  # libvirt names what is written from then on by the second
    virsh(lab, host, "snapshot-revert", guest.name, snapshot)


def write(lab: Lab, host: str, guest: Guest, pattern: int) -> None:
    """Into the image that the guest has now."""
    image = image_of(lab, host, "vda")
    lab.host(host).run(["qemu-io", "-f", "qcow2", "-c", f"write -P {pattern} {pattern * ROW}k 4k", image])


def patterns(lab: Lab, host: str) -> set[int]:
    """Those that the guest's present image shows."""
    image, found = image_of(lab, host, "vda"), set()
    for pattern in range(1, 6):
        read = ["qemu-io", "-r", "-U", "-f", "qcow2", "-c", f"read -P {pattern} {pattern * ROW}k 4k", image]
        seen = lab.host(host).run(read, check=False).stdout
        assert "bytes at offset" in seen, f"{image} cannot be read"
        if "failed" not in seen:
            found.add(pattern)
    return found


def snapshots(lab: Lab, host: str, guest: Guest) -> tuple[str, str]:
    """(their tree, the present one)."""
    tree = virsh(lab, host, "snapshot-list", guest.name, "--tree")
    return tree, virsh(lab, host, "snapshot-current", guest.name, "--name")


def described(lab: Lab, host: str, guest: Guest) -> list[str]:
    names = virsh(lab, host, "snapshot-list", guest.name, "--name").split()
    return [virsh(lab, host, "snapshot-dumpxml", guest.name, name, "--security-info") for name in names]


def files(lab: Lab, host: str) -> dict[str, str]:
    """Every file of the pool with its digest."""
    told = lab.host(host).run(["find", IMAGES, "-type", "f", "-exec", "sha256sum", "{}", "+"]).stdout
    return {line.split()[1]: line.split()[0] for line in told.splitlines()}


def content(lab: Lab, host: str, layer: dict[str, Any], which: str) -> str:
    """The digest of what one layer holds alone; of what is no image, of its bytes."""
    path = layer[which]
    if path.endswith(".mem"):
        return lab.host(host).run(["sh", "-c", f"sha256sum <{path}"]).stdout
    alone = f"driver={layer['format']},{'backing=,' if layer['format'] == 'qcow2' else ''}file.driver=file,file.filename={path}"
    text = f"qemu-img convert -U --image-opts '{alone}' -O raw /tmp/alone && sha256sum </tmp/alone; rm -f /tmp/alone"
    return lab.host(host).run(["sh", "-c", text]).stdout


def layers(operator: Operator) -> list[dict[str, Any]]:
    return list(operator.records.facts(operator.request_id())["layers"])


def test_internal_and_external_ones_with_and_without_memory_move_along(whole: Lab, operator: Operator) -> None:
    with started(whole, ALONE) as guest:
        count = guests.health(whole, guest)["count"]
        virsh(whole, "a", "snapshot-create-as", guest.name, "inside")
        virsh(whole, "a", "snapshot-create-as", guest.name, "disk", "--disk-only")
        virsh(whole, "a", "snapshot-create-as", guest.name, "whole", "--memspec", f"file={IMAGES}/stood-0.mem,snapshot=external", "--diskspec", "vda,snapshot=external")  # fmt: skip
        tree, saved = snapshots(whole, "a", guest), guests.health(whole, guest)["acknowledged"]
        moved = operator.migrate(guest, "b", "--cold")
        assert moved.returncode == SUCCEEDED, moved.stdout + moved.stderr
        judged(whole, guest, operator, "b")
        assert snapshots(whole, "b", guest) == tree
        made = layers(operator)
        assert len(made) == 4  # the image, an overlay, another, the memory
        top = image_of(whole, "b", "vda")
        for layer in made:
            if layer["path"] != top:  # which runs
                assert content(whole, "a", layer, "source") == content(whole, "b", layer, "path"), layer
        assert all(one["source_digest"] == one["destination_digest"] != "" for one in operator.last()["copies"].values())  # fmt: skip
        for name in ("whole", "inside"):
            go_back(whole, "b", guest, name)
            guests.wait_healthy(whole, guest)
            health = guests.health(whole, guest)
            assert health["wrong"] == 0
            assert health["count"] >= count
        assert saved > 0


def test_branches_go_along_and_strangers_files_of_the_same_names_are_left_alone(whole: Lab, operator: Operator) -> None:
    """Going back to "one" removes what was written since "two", and leaves an overlay that "two" knows nothing of."""
    with off(whole) as guest:
        write(whole, "a", guest, 1)
        virsh(whole, "a", "snapshot-create-as", guest.name, "one", "--disk-only")
        write(whole, "a", guest, 2)
        virsh(whole, "a", "snapshot-create-as", guest.name, "two", "--disk-only")
        write(whole, "a", guest, 3)
        removed = image_of(whole, "a", "vda")
        go_back(whole, "a", guest, "one")
        write(whole, "a", guest, 4)
        assert patterns(whole, "a") == {1, 4}
        assert removed not in files(whole, "a")
        strangers = [removed, *files(whole, "a")]
        whole.host("b").run(["sh", "-c", "for one; do echo mine >$one; done", "sh", *strangers])
        tree = snapshots(whole, "a", guest)
        moved = operator.migrate(guest, "b", "--cold", "--retire")
        assert moved.returncode == SUCCEEDED, moved.stdout + moved.stderr
        assert snapshots(whole, "b", guest) == tree
        assert patterns(whole, "b") == {1, 4}
        for name, wanted in (("two", {1, 2}), ("one", {1}), ("two", {1, 2})):
            go_back(whole, "b", guest, name)  # libvirt removes what was written since
            assert patterns(whole, "b") == wanted, name
        for path in strangers:
            assert whole.host("b").run(["cat", path]).stdout == "mine\n", path
        ours = files(whole, "b").keys() - set(strangers)
        assert len(ours) == 3, ours  # the first image, what "two" was made upon, and what is written to now
        virsh(whole, "b", "start", guest.name)
        guests.wait_healthy(whole, guest)


def test_put_back_the_source_has_all_as_it_was(whole: Lab, operator: Operator) -> None:
    with off(whole) as guest:
        for number, name in enumerate(("one", "two"), 1):
            write(whole, "a", guest, number)
            virsh(whole, "a", "snapshot-create-as", guest.name, name, "--disk-only")
        go_back(whole, "a", guest, "one")
        before = (snapshots(whole, "a", guest), described(whole, "a", guest), files(whole, "a"))
        moving = operator.start("migrate", guest.name, "--to", "b", "--yes", "--cold", crash="hold=leave:after")
        operator.wait_until_held(moving)
        assert guest.name not in virsh(whole, "a", "list", "--all", "--name").split()
        assert operator.run("cancel", operator.request_id()).returncode == SUCCEEDED
        operator.let_go()
        assert moving.wait(120) == PUT_BACK, moving.communicate()[0]
        assert (snapshots(whole, "a", guest), described(whole, "a", guest), files(whole, "a")) == before
        assert guest.name not in virsh(whole, "b", "list", "--all", "--name").split()
        assert files(whole, "b") == {}
        go_back(whole, "a", guest, "two")
        assert patterns(whole, "a") == {1, 2}


def test_on_shared_storage_only_what_libvirt_knows_of_them_moves(whole: Lab, operator: Operator) -> None:
    with off(whole, replace(ALONE, disks=("shared",))) as guest:
        write(whole, "a", guest, 1)
        virsh(whole, "a", "snapshot-create-as", guest.name, "one", "--disk-only")
        write(whole, "a", guest, 2)
        tree, image = snapshots(whole, "a", guest), image_of(whole, "a", "vda")
        moved = operator.migrate(guest, "b", "--cold")
        assert moved.returncode == SUCCEEDED, moved.stdout + moved.stderr
        assert (snapshots(whole, "b", guest), image_of(whole, "b", "vda")) == (tree, image)
        assert not operator.last()["copies"]
        go_back(whole, "b", guest, "one")
        assert patterns(whole, "b") == {1}


def test_one_who_goes_back_to_a_snapshot_under_the_copy_is_seen_and_keeps_what_they_have(
    whole: Lab, operator: Operator
) -> None:
    with off(whole) as guest:
        write(whole, "a", guest, 1)
        virsh(whole, "a", "snapshot-create-as", guest.name, "one", "--disk-only")
        write(whole, "a", guest, 2)
        moving = operator.start("migrate", guest.name, "--to", "b", "--yes", "--cold", crash="hold=copy-disks:after")
        operator.wait_until_held(moving)
        go_back(whole, "a", guest, "one")
        operator.let_go()
        assert moving.wait(120) == PUT_BACK, moving.communicate()[0]
        assert "went back to one" in operator.last()["outcome"]["reason"]
        assert patterns(whole, "a") == {1}
        assert guest.name not in virsh(whole, "b", "list", "--all", "--name").split()
        assert files(whole, "b") == {}


def test_a_plan_names_them_and_what_could_not_come_along_refuses_it(whole: Lab, operator: Operator) -> None:
    with off(whole) as guest:
        virsh(whole, "a", "snapshot-create-as", guest.name, "one", "--disk-only", "--diskspec", f"vda,file={IMAGES}/stood-one.qcow2")  # fmt: skip
        planned = operator.run("migrate", guest.name, "--to", "b", "--cold", "--dry-run")
        assert planned.returncode == SUCCEEDED, planned.stdout + planned.stderr
        assert "the files that its snapshots keep" in planned.stdout
        found = json.loads(operator.run("assess", guest.name, "--to", "b", "--cold", "--json").stdout)["findings"]
        assert {one["code"] for one in found} >= {"snapshots-along", "disk-copied"}
