import time, json
import pytest
from dataclasses import replace
from lab import guests, witness
from tests.lab.test_backup import *
from tests.lab.conftest import *

XML = """<domainbackup mode='pull'><server transport='unix' socket='/run/x.sock'/><disks><disk name='vda' backup='yes' type='file' exportname='vda' backupmode='full'><scratch file='/srv/small/scratch'/></disk></disks></domainbackup>"""


def test_scratch(whole):
    with started(whole, QCOW2) as guest:
        a = whole.host("a")
        operator_wait(whole, guest)
        a.run(["sh", "-c", "mkdir -p /srv/small; mount -t tmpfs -o size=3M tmpfs /srv/small"])
        try:
            print(a.run(["virsh", "backup-begin", "kept", "/dev/stdin"], text_in=XML, check=False))
            for i in range(6):
                time.sleep(1)
                try:
                    h = guests.health(whole, guest, timeout=1)
                except RuntimeError as e:
                    h = str(e)[-100:]
                print(
                    i,
                    a.run(
                        [
                            "sh",
                            "-c",
                            "df -B1 /srv/small | tail -1; virsh domstate kept --reason; virsh domjobinfo kept | head -3; virsh domblkerror kept",
                        ],
                        check=False,
                    ).stdout,
                    h,
                )
            print(a.run(["virsh", "domjobabort", "kept"], check=False))
            time.sleep(2)
            print(
                a.run(
                    ["sh", "-c", "virsh domstate kept --reason; tail -5 /var/log/libvirt/qemu/kept.log"], check=False
                ).stdout,
                a.run(["sh", "-c", "virsh resume kept; sleep 2; virsh domstate kept --reason"], check=False).stdout,
            )
        finally:
            a.run(["sh", "-c", "virsh destroy kept; umount /srv/small"], check=False)


def operator_wait(whole, guest):
    while guests.health(whole, guest)["acknowledged"] < 3000:
        time.sleep(1)
