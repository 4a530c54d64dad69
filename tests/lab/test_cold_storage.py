"""Disks of every kind move cold: encrypted ones as they are, others in another format, and files that a pool names and did not make."""

import base64
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from lab import guests
from lab.guests import Guest
from lab.host import Host, Lab
from tests.lab.operators import SUCCEEDED, Operator
from tests.lab.test_cold import IMAGES, SPEC, clean, image_of, judged

pytestmark = pytest.mark.lab

LOCAL = replace(SPEC, disks=("local",))
PASSPHRASE = "open sesame"


@contextmanager
def a_secret(lab: Lab, image: str) -> Iterator[str]:
    """The UUID of a secret of libvirt's that both hosts have."""
    identity, value = str(uuid.uuid4()), base64.b64encode(PASSPHRASE.encode()).decode()
    text = f"<secret ephemeral='no' private='yes'><uuid>{identity}</uuid><usage type='volume'><volume>{image}</volume></usage></secret>"
    for host in lab.hosts:
        host.run(["virsh", "secret-define", "/dev/stdin"], text_in=text)
        host.run(["virsh", "secret-set-value", identity, value])
    try:
        yield identity
    finally:
        for host in lab.hosts:
            host.run(["virsh", "secret-undefine", identity])


def opened(host: Host, image: str, command: str) -> str:
    """What qemu-io says of the content of an encrypted image."""
    return host.run(
        ["qemu-io", "-U", "-r", "--object", f"secret,id=s,data={PASSPHRASE}", "--image-opts", "-c", command,
         f"driver=qcow2,encrypt.format=luks,encrypt.key-secret=s,file.filename={image}"]
    ).stdout  # fmt: skip


@contextmanager
def with_encrypted_data(lab: Lab) -> Iterator[Guest]:
    """A guest whose second disk is a qcow2 that only a secret opens."""
    clean(lab)
    guest, a, image = guests.define(lab, "a", LOCAL), lab.host("a"), f"{IMAGES}/stood-secret.qcow2"
    with a_secret(lab, image) as secret:
        try:
            make = (
                f"qemu-img create -q -f qcow2 --object secret,id=s,data='{PASSPHRASE}' "
                f"-o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 {image} 32M"
            )
            a.run(
                ["sh", "-c", f"for try in 1 2 3 4; do {make} && exit; done; exit 1"]
            )  # it measures the CPU, which fails on a busy machine
            a.run(["qemu-io", "--object", f"secret,id=s,data={PASSPHRASE}", "--image-opts", "-c", "write -P 7 5M 1M",
                   f"driver=qcow2,encrypt.format=luks,encrypt.key-secret=s,file.filename={image}"])  # fmt: skip
            disk = (
                f"<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/><source file='{image}'>"
                f"<encryption format='luks'><secret type='passphrase' uuid='{secret}'/></encryption></source><target dev='vdb' bus='virtio'/></disk>"
            )
            text = a.run(["virsh", "dumpxml", guest.name]).stdout
            a.run(["virsh", "define", "/dev/stdin"], text_in=text.replace("<interface", f"{disk}<interface", 1))
            a.run(["virsh", "start", guest.name])
            guests.wait_healthy(lab, guest)
            yield guest
        finally:
            guests.remove(lab, guest)
            clean(lab)


@pytest.mark.whole
def test_an_encrypted_disk_is_held_and_copied_as_it_is(whole: Lab, operator: Operator) -> None:
    with with_encrypted_data(whole) as guest:
        a = whole.host("a")
        moving = operator.start("migrate", guest.name, "--to", "b", "--yes", "--cold", crash="hold=copy-disks:before")
        operator.wait_until_held(moving)
        image = f"{IMAGES}/stood-secret.qcow2"
        refused = a.run(["qemu-io", "--object", f"secret,id=s,data={PASSPHRASE}", "--image-opts", "-c", "write 0 512",
                         f"driver=qcow2,encrypt.format=luks,encrypt.key-secret=s,file.filename={image}"], check=False)  # fmt: skip
        assert "lock" in refused.stderr, refused.stderr
        operator.let_go()
        assert moving.wait(120) == SUCCEEDED, moving.communicate()[0]
        judged(whole, guest, operator, "b")
        there = image_of(whole, "b", "vdb")
        assert "Pattern verification failed" not in opened(whole.host("b"), there, "read -P 7 5M 1M")
        assert {"encrypted-copied", "secret-named"} <= {one["code"] for one in operator.last()["findings_before"]}


@pytest.mark.whole
@pytest.mark.parametrize("wanted", ["raw", "qcow2"])
def test_disks_get_the_format_that_was_asked_for(whole: Lab, operator: Operator, wanted: str) -> None:
    other = {"raw": "qcow2", "qcow2": "raw"}[wanted]
    clean(whole)
    guest = guests.start(whole, "a", replace(SPEC, disks=(f"local:{other}",)))
    try:
        b = whole.host("b")
        moved = operator.migrate(guest, "b", "--cold", "--format", wanted)
        assert moved.returncode == SUCCEEDED, moved.stdout + moved.stderr
        judged(whole, guest, operator, "b")
        there = image_of(whole, "b", "vda")
        assert there == f"{IMAGES}/stood-0.{wanted}"
        assert f"file format: {wanted}" in b.run(["qemu-img", "info", "-U", there]).stdout
        for flag in ("--inactive", "--migratable"):
            assert f"type='{wanted}'" in b.run(["virsh", "dumpxml", flag, guest.name]).stdout
        assert "format-changed" in {one["code"] for one in operator.last()["findings_before"]}
        back = operator.migrate(guest, "a", "--cold", "--retire")  # as it is now
        assert back.returncode == SUCCEEDED, back.stdout + back.stderr
        judged(whole, guest, operator, "a")
        assert (
            f"file format: {wanted}"
            in whole.host("a").run(["qemu-img", "info", "-U", image_of(whole, "a", "vda")]).stdout
        )
    finally:
        guests.remove(whole, guest)
        clean(whole)


@pytest.mark.whole
def test_a_volume_whose_file_ferryman_made_is_found_by_its_pool(whole: Lab, operator: Operator) -> None:
    clean(whole)
    guest = guests.start(whole, "a", replace(SPEC, disks=("local:qcow2:volume",)))
    try:
        moved = operator.migrate(guest, "b", "--cold", "--chain", "keep")
        assert moved.returncode == SUCCEEDED, moved.stdout + moved.stderr
        guests.wait_healthy(whole, guest)
        assert "volume='stood-0.qcow2'" in whole.host("b").run(["virsh", "dumpxml", guest.name]).stdout
        assert "stood-0.qcow2" in whole.host("b").run(["virsh", "vol-list", "local"]).stdout
    finally:
        guests.remove(whole, guest)
        clean(whole)
