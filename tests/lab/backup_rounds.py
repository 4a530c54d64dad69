"""A backup or a restore that something befalls, then `recover`, then all that must be true; drawn by soak_backup.py, or a cell of backup_matrix.py."""

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from lab import faults, guests, process, witness
from lab.digest import documented_digest
from lab.guests import POOL_PATHS, GuestSpec
from lab.host import Host, Lab
from tests.lab import befall
from tests.lab.befall import Fault
from tests.lab.operators import ATTENTION, SUCCEEDED, Operator
from tests.lab.scene import ENDED_WITHIN, Scene, told_truly

IMAGES = POOL_PATHS["local"]
PLACE = "/srv/saved"
SPEC = GuestSpec(
    name="saved", address="10.77.0.163", memory_mib=128, disks=("local",), disk_mib=96, filled_mib=48, writes_per_s=100, agent=True
)  # fmt: skip
SECOND = replace(SPEC, name="second")


def _in_place(words: str) -> befall.Act:
    """Something done at the host where the backups lie."""
    return lambda scene: void(scene.lab.host(scene.destination).run(["sh", "-c", words]))


def void(_: object) -> None:
    """What came of it is of no use."""


PLACE_FULL = Fault(
    "the place full", _in_place(f"cat /dev/zero >{PLACE}/filler 2>/dev/null; true"), _in_place(f"rm -f {PLACE}/filler"), 4.0,
    prepare=_in_place(f"mkdir -p {PLACE} && mount -t tmpfs -o size=400m tmpfs {PLACE}"),
)  # fmt: skip


@dataclass(frozen=True)
class BackupRound:
    """One command, and what befalls it."""

    what: str  # full, increment or restore
    disk: str  # as a GuestSpec writes it
    running: bool
    options: tuple[str, ...]
    moment: str  # to be held at; empty: none, the time counts from the command
    fault: Fault
    begins: float  # seconds after the moment
    lasts: float
    starts: bool = False  # a restore of the guest itself, that starts it
    left: bool = False  # another version began it and died: what befalls befalls the `recover` that takes it back

    def __str__(self) -> str:
        how = "running" if self.running else "off"
        options = " ".join(self.options) or "no options"
        return f"{self.what} of a guest that is {how}, disk {self.disk}, {options}, {self.moment or 'at once'}: {self.fault.name} after {self.begins:.1f} s for {self.lasts:.1f} s"


def play(lab: Lab, one: BackupRound) -> list[str]:
    """Carry a round out and judge it; returns what was noted. Raises AssertionError with all that is known."""
    _clean(lab)
    guest = guests.start(lab, "a", replace(SPEC, disks=(one.disk,)))
    made = Scene(lab, guest, Operator(lab, "saving", state_size="12m"), "a", "b")
    try:
        _Play(made, one).all()
    finally:
        made.operator.leave()
        faults.mend(lab)
        guests.remove(lab, guest)
        guests.remove(lab, replace(guest, spec=SECOND))
        _clean(lab)
    return made.notes


def _clean(lab: Lab) -> None:
    for host in lab.hosts:
        host.run(["sh", "-c", f"while umount {PLACE} 2>/dev/null; do :; done; rm -rf {PLACE} {IMAGES}/saved* {IMAGES}/second* {IMAGES}/.ferryman-* /var/lib/ferryman/copies; virsh pool-refresh local"])  # fmt: skip


class _Play:
    """One round under way."""

    def __init__(self, scene: Scene, one: BackupRound) -> None:
        self.scene, self.one, self.lab, self.operator = scene, one, scene.lab, scene.operator
        self.a, self.b = self.lab.host("a"), self.lab.host("b")
        self.itself = one.what == "restore" and not one.running  # it is gone, and comes back
        self.restored = SPEC.name if self.itself else "second"
        self.acknowledged = 0  # blocks that the guest had been told to be on its disk before the newest backup began

    def all(self) -> None:
        """What must be there, what befalls, and all that must be true."""
        self.one.fault.prepare(self.scene)
        if self.one.what != "full":
            self._succeeds(*self._backup())
            if self.one.what == "restore" and self.one.options:  # of a chain of two
                self._succeeds(*self._backup())
        if not self.one.running:
            self.acknowledged = guests.health(self.lab, self.scene.guest)["acknowledged"]
            self.a.run(["virsh", "destroy", SPEC.name])
        if self.itself:
            self.a.run(["virsh", "undefine", SPEC.name, "--checkpoints-metadata"])
        self._befallen(*(self._left() if self.one.left else self._asked()))
        self._settled()
        self._as_before()
        self._nothing_left()
        self._whole_ones_are_whole()
        if self.one.what != "restore" or self.restored not in self._listed(self.b):
            self._succeeds(*self._asked())
        if self.one.what != "restore":
            self._holds_what_the_guest_has()
            self._succeeds(*self._restore())
        self._restored_is_what_the_manifest_says()
        self._nothing_left()

    def _asked(self) -> tuple[str, ...]:
        return self._restore() if self.one.what == "restore" else self._backup()

    def _left(self) -> tuple[str, ...]:
        """Work of another version is taken back, not replayed."""
        copying = "copy-from-backup" if self.one.what == "restore" else "copy-to-backup"
        self.operator.run(*self._asked(), crash=f"{copying}:inside")
        with closing(sqlite3.connect(self.operator.state / "dbos.sqlite")) as database, database:
            database.execute("UPDATE workflow_status SET application_version = 'of yesterday'")
        return ("recover",)

    def _backup(self) -> tuple[str, ...]:
        if self._state() == "running":
            self.acknowledged = guests.health(self.lab, self.scene.guest)["acknowledged"]
        more = ("--full",) if self.one.what == "full" else ()
        return ("backup", SPEC.name, f"b:{PLACE}", *more, *self.one.options)

    def _restore(self) -> tuple[str, ...]:
        name = () if self.itself else ("--name", "second")
        return (
            "restore",
            f"b:{self._folders()[-1]}",
            "--to",
            "b",
            *name,
            *(("--start",) if self.one.starts else ()),
            *self.one.options,
        )

    def _state(self) -> str:
        return self.a.run(["virsh", "domstate", SPEC.name], check=False).stdout.strip()

    def _succeeds(self, *command: str) -> None:
        done = self.operator.run(*command)
        assert done.returncode == SUCCEEDED, (command, done.stdout, done.stderr, self.scene.notes)

    # What befalls

    def _befallen(self, *command: str) -> None:
        scene, fault = self.scene, self.one.fault
        if self.one.moment:
            scene.start(command, self.one.moment)
        else:
            scene.process = self.operator.start(*command)
        if self.one.begins:
            self.operator.let_go()
            time.sleep(self.one.begins)
        self._act("now", fault.cause)
        self.operator.let_go(fault.leap)
        time.sleep(self.one.lasts)
        self._act("over", fault.cure)
        assert scene.process is not None
        code = scene.process.wait(ENDED_WITHIN)
        words = scene.process.communicate()[0] or ""
        scene.notes.append(f"ended with {code}: {words[-1500:]}")
        told_truly(scene, code, words)

    def _act(self, when: str, act: Callable[[Scene], None]) -> None:
        self.scene.notes.append(f"{self.one.fault.name} {when}")
        try:
            act(self.scene)
        except (RuntimeError, OSError) as error:  # gone already
            self.scene.notes.append(f"not done: {error}")

    def _settled(self) -> None:
        faults.mend(self.lab)
        for _ in range(3):
            if not self.operator.records.requests(open_only=True):
                return
            done = self.operator.run("recover")
            self.scene.notes.append(f"recover ended with {done.returncode}: {(done.stdout + done.stderr)[-1500:]}")
            assert done.returncode in (SUCCEEDED, ATTENTION), self.scene.notes
        assert not self.operator.records.requests(open_only=True), self.scene.notes

    # What must be true

    def _as_before(self) -> None:
        """The guest runs, is off, or is gone, as before; one that was killed starts from the disk that it has."""
        guest, state = self.scene.guest, self._state()
        if self.itself:
            assert SPEC.name not in self._listed(self.a), self.scene.notes
            return
        if not self.one.running:
            assert state == "shut off", (state, self.scene.notes)
            return
        if self.one.fault.kills and state != "running":
            self.a.run(["virsh", "start", SPEC.name])
        else:
            assert state == "running", (state, self.scene.notes)
        guests.wait_healthy(self.lab, guest)
        health = guests.health(self.lab, guest)
        assert health["wrong"] == 0, (health, self.scene.notes)
        disk = witness.check_disk(self.lab, guest, at="a", acknowledged=health["acknowledged"])
        assert (disk.wrong, disk.missing) == (0, 0), (disk, self.scene.notes)
        assert not self._frozen(), self.scene.notes

    def _frozen(self) -> bool:
        log = self.a.run(["cat", f"/var/log/libvirt/qemu/{SPEC.name}-console.log"], check=False).stdout
        return log.rfind("writes nothing") > log.rfind("writes again")

    def _nothing_left(self) -> None:
        """No job, no checkpoint or bitmap but those of backups that are there, no scratch, no hold, no copy, no half folder."""
        if not self.itself:
            self._nothing_left_in_the_guest()
        for host in self.lab.hosts:
            left = host.run(["sh", "-c", f"ls -Ad {IMAGES}/.ferryman-* {PLACE}/*/.partial-* /run/ferryman/holds/* 2>/dev/null"], check=False)  # fmt: skip
            assert left.stdout == "", (host.name, left.stdout, self.scene.notes)
            for what, word in (("copy", faults.COPY_ENGINE), ("hold", b"qemu-nbd")):
                self.operator.wait_for(partial(_none, host, word), f"no {what} at {host.name} ({self.scene.notes})", 60)
        if self.restored not in self._listed(self.b):
            images = self.b.run(["sh", "-c", f"ls {IMAGES}/{self.restored}* 2>/dev/null"], check=False).stdout
            assert images == "", (images, self.scene.notes)

    def _nothing_left_in_the_guest(self) -> None:
        job = self.a.run(["virsh", "domjobinfo", SPEC.name], check=False).stdout  # of one that is off there is none
        assert "Job type:" not in job or "None" in job, (job, self.scene.notes)
        kept = {one["checkpoint"] for one in self._manifests()} - {""}
        checkpoints = set(self.a.run(["virsh", "checkpoint-list", "--name", SPEC.name]).stdout.split())
        assert checkpoints <= kept, (checkpoints, kept, self.scene.notes)
        assert self._bitmaps() <= kept, (self._bitmaps(), kept, self.scene.notes)

    def _bitmaps(self) -> set[str]:
        """Those in the guest's image, or that its QEMU has."""
        path = self.scene.guest.disk_path()
        if self._state() == "shut off":
            info = json.loads(self.a.run(["qemu-img", "info", "-U", "--output=json", path]).stdout)
            return {one["name"] for one in info.get("format-specific", {}).get("data", {}).get("bitmaps", ())}
        asked = json.dumps({"execute": "query-named-block-nodes"})
        answer = json.loads(self.a.run(["virsh", "qemu-monitor-command", SPEC.name, asked]).stdout)
        return {bitmap["name"] for node in answer["return"] for bitmap in node.get("dirty-bitmaps", ())}

    def _listed(self, host: Host) -> list[str]:
        return host.run(["virsh", "list", "--all", "--name"]).stdout.split()

    def _folders(self) -> list[str]:
        """All that call themselves whole, the newest last."""
        found = self.b.run(["sh", "-c", f"ls -d {PLACE}/*/* 2>/dev/null"], check=False).stdout.split()
        return sorted(found)

    def _manifests(self) -> list[dict[str, Any]]:
        return [json.loads(self.b.run(["cat", f"{folder}/manifest.json"]).stdout) for folder in self._folders()]

    def _whole_ones_are_whole(self) -> None:
        """By ferryman's own reading back, and by the witness."""
        if not self._folders():
            return
        listed = self.operator.run("backups", f"b:{PLACE}", "--verify")
        assert listed.returncode == SUCCEEDED, (listed.stdout, listed.stderr, self.scene.notes)
        for folder, manifest in zip(self._folders(), self._manifests(), strict=True):
            (disk,) = manifest["disks"]
            assert self._digest(f"{folder}/{disk['file']}", "b") == disk["digest"], (folder, self.scene.notes)

    def _digest(self, image: str, at: str) -> str:
        with witness.content(self.lab, image, at=at) as content:
            return documented_digest()(content.name)

    def _holds_what_the_guest_has(self) -> None:
        """The newest one: every block that the guest had been told of; of one that is off, its very disk."""
        folder, manifest = self._folders()[-1], self._manifests()[-1]
        (disk,) = manifest["disks"]
        image = f"{folder}/{disk['file']}"
        blocks = witness.judge_blocks(witness.raw_image(self.lab, image, at="b"), self.acknowledged)
        assert (blocks.wrong, blocks.missing) == (0, 0), (blocks, self.scene.notes)
        if not self.one.running:
            assert self._digest(self.scene.guest.disk_path(), "a") == disk["digest"], self.scene.notes

    def _restored_is_what_the_manifest_says(self) -> None:
        rows = [row.split() for row in self.b.run(["virsh", "domblklist", self.restored]).stdout.splitlines()]
        path = next(row[1] for row in rows if row[:1] == ["vda"])
        assert "urn:ferryman" not in self.b.run(["virsh", "dumpxml", self.restored]).stdout, self.scene.notes
        if self.one.starts:
            self._it_lives(path)
            return
        assert self._digest(path, "b") == self._manifests()[-1]["disks"][0]["digest"], self.scene.notes

    def _it_lives(self, path: str) -> None:
        """By itself, unless what befell came before its start, or killed it."""
        guest = self.scene.guest
        if self.b.run(["virsh", "domstate", self.restored]).stdout.strip() != "running":
            assert self.one.left or self.one.fault.kills or "killed" in self.one.fault.name, self.scene.notes
            self.b.run(["virsh", "start", self.restored])
        guests.wait_healthy(self.lab, guest)
        health = guests.health(self.lab, guest)
        assert health["wrong"] == 0, (health, self.scene.notes)
        disk = witness.check_disk(self.lab, guest, at="b", acknowledged=health["acknowledged"], path=path)
        assert (disk.wrong, disk.missing) == (0, 0), (disk, self.scene.notes)


def _none(host: Host, word: bytes) -> bool:
    return not process.named(host.processes(), word)
