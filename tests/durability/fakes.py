"""Two fake hosts in one JSON file, so that they outlive a killed process as real hosts do; a fake world behind the ports.

A migration is a job with a start and a length: whoever looks after its end finds the guest moved. One whose handshake is
carried is gone when the process that carries it is.
"""

import fcntl
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from ferryman.app import Site
from ferryman.drivers.database.records import DatabaseRecords
from ferryman.errors import AlreadyRunning, DriverError, NoBitmap, Stopped, Unreachable
from ferryman.model.backup_job import BackupJob
from ferryman.model.copy import CopyProgress, CopyResult, CopyTask
from ferryman.model.cpu import Cpu
from ferryman.model.filesystem import FileSystem
from ferryman.model.guest import Checkpoint, Disk, Guest, Snapshot, State
from ferryman.model.hook import Answer, Ended, Hook
from ferryman.model.host import Check, GuestOnHost, Host, HostFacts, ImageUsers, Machine
from ferryman.model.mark import Mark
from ferryman.model.place import ABSENT, Place, Where
from ferryman.model.plan import Changes, Held, ImageFile, NewDisk, Order, Soundness, Volume
from ferryman.model.request import Handshake
from ferryman.model.sample import Sample
from ferryman.model.site import CpuComparison, DiskReach, Ground, LinkSpeed, Reach
from ferryman.model.units import GIB
from ferryman.plain import from_plain, to_plain
from ferryman.ports import NO_CHANGES, Clock, Console, Hypervisor, Ports, StopWay
from tests.durability.fake_backups import BackupCopies
from tests.unit.sites import UUID, good_guest, good_site, host_facts

JOB_SECONDS = 0.6
NVRAM = "/var/lib/libvirt/qemu/nvram/web_VARS.fd"  # of a guest that is off


class World:
    """The file. Every change happens under its lock."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def made(cls, path: Path, state: str = "running", **changes: Any) -> "World":
        """A guest at home in that state, on shared storage; `changes` in the file's own words (files: host -> path -> content)."""
        home = {"a": {"state": state, "autostart": True}, "b": None, "job": None, "calls": 0}
        path.write_text(json.dumps({**home, "local": False, "volumes": [], "medium": ""} | changes))
        return cls(path)

    @classmethod
    def with_local_disks(cls, path: Path) -> "World":
        """The guest's disk and medium are local; at the destination somebody has a volume of the disk's name already."""
        return cls.made(
            path, local=True, volumes=["a/srv/shared/web.qcow2", "b/srv/shared/web.qcow2"], medium="/srv/shared/iso"
        )

    @contextmanager
    def opened(self) -> Iterator[dict[str, Any]]:
        with open(self.path, "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            content = json.load(file)
            self._pass_time(content)
            yield content
            file.seek(0)
            file.truncate()
            json.dump(content, file)

    @staticmethod
    def _pass_time(content: dict[str, Any]) -> None:
        """What libvirt would have done by now."""
        job = content["job"]
        if job and job["carrier"] and not Path(f"/proc/{job['carrier']}").exists():
            content["job"] = None
        elif job and time.time() - job["started"] > JOB_SECONDS:
            content["job"] = None
            if content["a"] and content["a"]["state"] == "running":
                mark = {"mark": content["a"]["mark"]} if "mark" in content["a"] else {}  # metadata travel
                content["a"], content["b"] = None, {"state": "running", "autostart": False} | mark

    def read(self) -> dict[str, Any]:
        with self.opened() as content:
            return dict(content)


class FakeTransfer:
    """Its call returned long ago; only looking tells."""

    ended = True
    error = None


class FakeHypervisor:
    """Implements ports.Hypervisor over the file."""

    def __init__(self, host: Host, world: World) -> None:
        self.host, self.world = host, world

    def facts(self) -> HostFacts:
        return replace(host_facts(self.host.name), host=self.host, guests=self.guests())

    def guests(self) -> tuple[GuestOnHost, ...]:
        content = self.world.read()[self.host.name]
        if not content:
            return ()
        guest = good_guest()
        macs = tuple(interface.mac for interface in guest.interfaces)
        return (
            GuestOnHost(
                UUID,
                guest.name,
                "shut off" if content["state"] == "off" else content["state"],
                True,
                content["autostart"],
                macs,
                2,
                0,
                guest.memory,
                (),
                (),
            ),
        )

    def guest(self, name_or_uuid: str, *, as_defined: bool = False) -> Guest:
        world = self.world.read()
        guest = replace(
            good_guest(), host=self.host.name, autostart=world[self.host.name]["autostart"], mark=self.mark(UUID), agent=bool(world.get("agent")),
            snapshots=tuple(world.get("snapshots", ())),
        )  # fmt: skip
        if world[self.host.name]["state"] == "off":
            image = world.get("overlay", guest.disks[0].source)
            disks = tuple(replace(disk, source=image, capacity=GIB) for disk in guest.disks)
            return replace(
                guest,
                state=State.SHUT_OFF,
                nvram=NVRAM,
                disks=disks,
                checkpoints=tuple(one.name for one in self.checkpoints(UUID)),
            )
        if not world["local"]:
            return replace(guest, disks=tuple(replace(disk, capacity=GIB) for disk in guest.disks))
        image = "/srv/shared/web-2.qcow2" if self.host.name == "b" else world.get("overlay", "/srv/shared/web.qcow2")
        disk = replace(guest.disks[0], source=image, capacity=GIB, allocation=GIB)
        return replace(guest, disks=(disk, Disk("sda", "cdrom", "file", world["medium"], "raw", "", True, False)))

    def place(self, uuid: str) -> Place:
        with self.world.opened() as world:
            content = world[self.host.name]
            if content and content.get("obeys_in"):  # so many looks after it was asked
                content["obeys_in"] -= 1
                if not content["obeys_in"]:
                    del content["obeys_in"]
                    content["state"] = "off"
        if not content:
            return ABSENT
        job = (
            "outgoing migration"
            if world["job"] and self.host.name == "a"
            else "backup"
            if content.get("backup")
            else ""
        )
        failed = bool(content.get("storage_failed"))
        return Place(Where(content["state"]), True, content["autostart"], job, storage_failed=failed)

    def mark(self, uuid: str) -> Mark | None:
        text = (self.world.read()[self.host.name] or {}).get("mark")
        return None if text is None else from_plain(Mark, text)

    def set_mark(self, uuid: str, wanted: Mark | None) -> None:
        with self.world.opened() as content:
            assert not content["job"], "metadata wait for the job"
            content[self.host.name].pop("mark", None)
            if wanted is not None:
                content[self.host.name]["mark"] = to_plain(wanted)

    def virtualizations(self) -> tuple[str, ...]:
        return ("kvm",)

    def cpu_offer(self, virtualization: str) -> Cpu | None:
        return None

    def cpu_baseline(self, virtualization: str, cpus: Sequence[str]) -> Cpu:
        return Cpu("<cpu/>", "", ())

    def definition(self, uuid: str) -> str:
        return "<domain/>"

    def define(self, definition: str, changes: Changes = NO_CHANGES) -> None:
        with self.world.opened() as content:
            if self.host.name == "b" and content.get("fault"):
                raise ValueError(content["fault"])
            content[self.host.name] = content[self.host.name] or {"state": "off", "autostart": False}
            content[self.host.name].pop("links", None)
            if changes.links_down:
                content[self.host.name]["links"] = False

    def described(self, definition: str) -> Guest:
        return replace(good_guest(), host=self.host.name, state=State.SHUT_OFF, nvram=NVRAM)

    def try_definition(self, definition: str, changes: Changes) -> None:
        if why := self.world.read().get("refuses"):
            raise DriverError(f"definition of the guest, tried at {self.host.name}", why)

    def undefine(self, uuid: str, *, snapshots: bool = False) -> None:
        with self.world.opened() as content:
            assert content[self.host.name]["state"] == "off"
            content[self.host.name] = None

    def set_autostart(self, uuid: str, on: bool) -> None:
        with self.world.opened() as content:
            content[self.host.name]["autostart"] = on

    def resume(self, uuid: str) -> None:
        with self.world.opened() as content:
            here = content[self.host.name]
            assert here["state"] == "paused" or here.pop("storage_failed", False)
            assert "backup" not in here, "what stopped it is still there"
            here["state"] = "running"

    def destroy(self, uuid: str) -> None:
        with self.world.opened() as content:
            here = content[self.host.name]
            assert here["state"] in ("paused", "halted") or not here.get("links", True), (
                "only ever what stands still, or what nobody has seen"
            )
            here["state"] = "off"

    def ask_to_stop(self, uuid: str, way: StopWay) -> None:
        with self.world.opened() as content:
            assert content[self.host.name]["state"] == "running"
            if "obeys_late" in content:
                content[self.host.name]["obeys_in"] = content.pop("obeys_late")
            elif not content.get("deaf"):
                assert "backup" not in content[self.host.name], "it would end under the copy"
                content[self.host.name].update(state="off")
                content[self.host.name].pop("mark", None)  # live metadata

    def let_it_end(self, uuid: str, on: bool) -> None:
        with self.world.opened() as content:
            guest = content[self.host.name]
            assert guest["state"] != "off", "there is no QEMU to be told"
            guest.pop("ends", None)
            if on:
                guest["ends"] = True

    def start(self, uuid: str, *, paused: bool = False) -> None:
        with self.world.opened() as content:
            assert content[self.host.name]["state"] == "off"
            assert not content.get("held", {}).get(self.host.name), "its image is held"
            other = content["b" if self.host.name == "a" else "a"]
            assert not other or other["state"] == "off", "it would run twice"
            content[self.host.name].pop("ends", None)
            content[self.host.name]["state"] = "halted" if paused else "running"

    def watch(self, uuid: str, seconds: float) -> str:
        return str(self.world.read().get("befalls", ""))

    def agent_answers(self, uuid: str) -> bool:
        return bool(self.world.read().get("agent"))

    def console(self, uuid: str, *, starting: bool) -> Console:
        world = self.world.read()
        return Console(world.get("console", {}).get(self.host.name, Console.NONE))

    def snapshots(self, uuid: str) -> tuple[Snapshot, ...]:
        return ()

    def make_known(self, uuid: str, snapshots_of_it: Sequence[Snapshot], changes: Changes = NO_CHANGES) -> None:
        pass

    def make_checkpoints_known(self, uuid: str, checkpoints_of_it: Sequence[Checkpoint]) -> None:
        pass

    def image_chain(self, path: str, kind: str) -> tuple[ImageFile, ...]:
        return (ImageFile(path, kind, GIB),)

    def can_freeze(self, uuid: str) -> bool:
        return self.agent_answers(uuid)

    def freeze(self, uuid: str) -> int:
        with self.world.opened() as content:
            if content.get("agent_hangs"):
                raise DriverError("agent of guest web", "it does not answer")
            content[self.host.name]["frozen"] = True
        return 2

    def thaw(self, uuid: str) -> None:
        with self.world.opened() as content:
            if content.get("agent_gone"):
                raise DriverError("agent of guest web", "it is not connected")
            content[self.host.name].pop("frozen", None)

    def begin_backup(self, uuid: str, job: BackupJob) -> str:
        with self.world.opened() as content:
            guest = content[self.host.name]
            if content.get("offers_nothing"):
                raise DriverError("guest web", content["offers_nothing"])
            assert guest["state"] in ("running", "halted"), "nothing writes to it"
            if "backup" in guest:
                assert guest["backup"] != job.owner, "one job at a time"
                raise AlreadyRunning("guest web", "a job (backup) runs on it")
            for disk in job.disks:
                if disk.scratch in content.setdefault("scratch", []):
                    raise DriverError("guest web", f"store '{disk.scratch}' for backup of '{disk.target}' exists")
                if disk.since and (content.get("forgets") or disk.since not in guest.get("checkpoints", ())):
                    content.pop("forgets", None)
                    raise NoBitmap("guest web", f"bitmap {disk.since} is inconsistent")
            if not (dies := content.pop("dies", "")) or dies == "offered":
                guest["backup"] = job.owner
                content["scratch"] += [disk.scratch for disk in job.disks]
                content["since"] = {disk.target: disk.since for disk in job.disks}
                guest.setdefault("checkpoints", []).append(job.checkpoint)
                content.setdefault("bitmaps", []).append(job.checkpoint)
                if content.get("finds_no_room"):
                    guest.update(state="halted", storage_failed=True)
        if dies:  # in the middle of the step
            os.kill(os.getpid(), signal.SIGKILL)
        return "/run/web.sock"

    def backup_running(self, uuid: str, owner: str) -> str:
        return "/run/web.sock" if (self.world.read()[self.host.name] or {}).get("backup") == owner else ""

    def end_backup(self, uuid: str, owner: str) -> None:
        with self.world.opened() as content:
            if content[self.host.name].get("backup") == owner:
                del content[self.host.name]["backup"]
                content["scratch"] = []

    def checkpoints(self, uuid: str) -> tuple[Checkpoint, ...]:
        return tuple(Checkpoint(name, "") for name in self.world.read()[self.host.name].get("checkpoints", ()))

    def delete_checkpoint(self, uuid: str, name: str) -> None:
        with self.world.opened() as content:
            guest = content[self.host.name]
            assert "backup" not in guest, "it waits for the job"
            guest["checkpoints"].remove(name)
            if not guest["checkpoints"]:
                del guest["checkpoints"]
            if guest["state"] != "off":
                content["bitmaps"].remove(name)

    def label(self, path: str, words: str) -> None:
        with self.world.opened() as content:
            content.setdefault("labels", {})[self.host.name + path] = words

    def remove_bitmap(self, path: str, name: str) -> None:
        with self.world.opened() as content:
            assert (content[self.host.name] or {}).get("state", "off") == "off", "it is in use"
            assert not content.get("held", {}).get(self.host.name), "it is held"
            if name in content.get("bitmaps", ()):
                content["bitmaps"].remove(name)

    def room(self, directory: str) -> int | None:
        world = self.world.read()
        if world.get("scratch_fills") and "backup" in (world[self.host.name] or {}):
            return 0
        return int(world.get("room", 100 * GIB))

    def rebase(self, path: str, backing: str, backing_format: str) -> None:
        pass

    def image_snapshots(self, path: str) -> tuple[str, ...]:
        return ()

    def adapt_saved(self, path: str, changes: Changes) -> None:
        pass

    def open_links(self, uuid: str, definition: str) -> None:
        with self.world.opened() as content:
            assert content[self.host.name]["state"] == "running"
            assert not content[self.host.name].get("ends"), "a reboot of a guest that is seen must not end it"

    def volume_names(self, pool: str) -> tuple[str, ...]:
        start = f"{self.host.name}/srv/{pool}/"
        return tuple(one.removeprefix(start) for one in self.world.read()["volumes"] if one.startswith(start))

    def make_volume(self, disk: NewDisk, name: str) -> Volume:
        volume = Volume(disk.target, disk.pool, name, f"/srv/{disk.pool}/{name}")
        with self.world.opened() as content:
            assert self.host.name + volume.path not in content["volumes"]
            content["volumes"].append(self.host.name + volume.path)
        return volume

    def volume_path(self, pool: str, name: str) -> str:
        return f"/srv/{pool}/{name}" if name in self.volume_names(pool) else ""

    def remove_volume(self, path: str) -> bool:
        with self.world.opened() as content:
            if there := self.host.name + path in content["volumes"]:
                content["volumes"].remove(self.host.name + path)
            return there

    def allocation(self, path: str) -> int | None:
        return GIB if self.host.name + path in self.world.read()["volumes"] else None

    def users_of(self, path: str) -> ImageUsers:
        return ImageUsers()

    def eject(self, uuid: str, target: str) -> None:
        with self.world.opened() as content:
            content["medium"] = ""

    def medium(self, uuid: str, target: str) -> tuple[str, str]:
        medium = self.world.read()["medium"]
        return medium, medium

    def insert(self, uuid: str, target: str, live: str, config: str) -> None:
        with self.world.opened() as content:
            content["medium"] = live

    def read_file(self, path: str) -> bytes | None:
        content = self.world.read().get("files", {}).get(self.host.name, {}).get(path)
        return None if content is None else content.encode()

    def write_file(self, path: str, content: bytes) -> None:
        with self.world.opened() as world:
            world["files"][self.host.name][path] = content.decode()

    def remove_file(self, path: str) -> None:
        with self.world.opened() as world:
            world.get("files", {}).get(self.host.name, {}).pop(path, None)
            if path in world.get("scratch", ()):
                world["scratch"].remove(path)

    def hold(self, request: str, images: Sequence[Held]) -> None:
        with self.world.opened() as content:
            assert content[self.host.name]["state"] == "off", "it is in use"
            content.setdefault("held", {})[self.host.name] = [image.target for image in images]

    def held(self, request: str) -> tuple[str, ...]:
        return tuple(self.world.read().get("held", {}).get(self.host.name, ()))

    def release(self, request: str, targets: Sequence[str] = ()) -> None:
        with self.world.opened() as content:
            if self.host.name in content.get("no_ssh", ()):
                raise Unreachable(f"ssh to host {self.host.name}", "connection refused")
            held = content.get("held", {})
            held[self.host.name] = [one for one in held.get(self.host.name, ()) if targets and one not in targets]

    def pack(self, directory: str) -> str:
        return str(self.world.read().get("tpm", {}).get(self.host.name, ""))

    def unpack(self, directory: str, packed: str, request: str) -> bool:
        with self.world.opened() as content:
            before = content["tpm"].get(self.host.name, "")
            content["tpm"][self.host.name] = packed
            if before and before != packed:
                content["tpm"]["before"] = before
            return bool(before)

    def adopt(self, directory: str, request: str) -> bool:
        return bool(self.world.read()["tpm"].get("before"))

    def remove_aside(self, path: str, request: str) -> bool:
        with self.world.opened() as content:
            file = content.get("files", {}).get(self.host.name, {}).pop(path, None)
            return bool(file or (path.endswith(f".before-{request}") and content["tpm"].pop("before", "")))

    def take_back(self, directory: str, request: str) -> None:
        with self.world.opened() as content:
            content["tpm"][self.host.name] = content["tpm"].pop("before", "")

    def move_file(self, path: str, to: str) -> None:
        with self.world.opened() as content:
            files = content["files"][self.host.name]
            if path in files:
                files[to] = files.pop(path)

    def check_image(self, image: Held) -> Soundness:
        return Soundness(True)

    def file_systems(self, images: Sequence[Held], within: float) -> tuple[FileSystem, ...] | None:
        assert self.held("") == tuple(image.target for image in images), "somebody may write to them"
        return None

    def machine(self, guest: Guest) -> Machine:
        return good_site().machine

    def compare_cpu(self, guest: Guest) -> CpuComparison:
        return good_site().cpu

    def start_migration(self, uuid: str, order: Order) -> FakeTransfer:
        with self.world.opened() as content:
            assert not content["job"], "a second job was started"
            content["job"] = {
                "started": time.time(),
                "carrier": os.getpid() if order.handshake is Handshake.CARRIED else 0,
            }
            content["calls"] += 1
        return FakeTransfer()

    def sample(self, uuid: str) -> Sample | None:
        job = self.world.read()["job"]
        if not job:
            return None
        done = int((time.time() - job["started"]) / JOB_SECONDS * 1000)
        return Sample(time.time(), time.time() - job["started"], False, 1000, done, max(1000 - done, 0), 1000.0, 0.0, 1)

    def completed(self, uuid: str) -> Sample | None:
        return None

    def set_max_downtime(self, uuid: str, seconds: float) -> None:
        pass

    def memory_limit(self, uuid: str) -> int:
        return 0

    def limit_memory(self, uuid: str, rate: int) -> None:
        pass

    def limit_mirrors(self, uuid: str, targets: Sequence[str], rate: int) -> None:
        pass

    def abort(self, uuid: str) -> None:
        with self.world.opened() as content:
            content["job"] = None


class SilentHypervisor:
    """A host whose power is gone."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def __getattr__(self, name: str) -> Any:
        raise Unreachable(f"libvirtd at {self.host.uri}", "no answer within 10 s")


class FakeBetween:
    """Implements ports.Between: all is well, on shared storage or on local disks."""

    def __init__(self, world: World) -> None:
        self.world = world

    def look(self, guest: Guest, source: Hypervisor, destination: Hypervisor) -> Ground:
        apart = DiskReach("nvram", Reach.DIFFERENT, "a marker was not seen")
        ground = replace(good_site().ground, nvram=apart if guest.off else None)
        if not self.world.read()["local"]:
            return ground
        disks = tuple(DiskReach(disk.target, Reach.DIFFERENT, "not seen") for disk in guest.disks)
        return replace(ground, disks=disks, volumes={"shared": destination.volume_names("shared")})

    def carry(self, source: Hypervisor, path: str, destination: Hypervisor, volume: Volume) -> int:
        return 0

    def measure(self, source: Hypervisor, destination: Hypervisor) -> LinkSpeed:
        rate = self.world.read().get("link")
        return LinkSpeed(rate, "" if rate else "there is no link")

    def check(self, host: Hypervisor, others: Sequence[Hypervisor], *, measure_link: bool = False) -> tuple[Check, ...]:
        return ()


class FakeCopier(BackupCopies):
    """Implements ports.Copier: a copy is there at once; what it was made of is whatever the source has.

    In a world that "dies_under_the_copy" the destination's power goes as soon as the copy has begun, and it waits until it is told to end.
    """

    def __init__(self, world: World, clock: Clock) -> None:
        super().__init__(world)
        self.world, self.clock = world, clock

    def copy(
        self, task: CopyTask, source: Host, destination: Host, *, progress: Callable[[CopyProgress], None],
        cancelled: Callable[[], bool],
    ) -> CopyResult:  # fmt: skip
        if task.id.startswith("backup-"):
            return self.into(task, source, destination, cancelled)
        if task.source.location.startswith("/backups"):
            return self.out_of(task, source, destination)
        with self.world.opened() as content:
            cut, content["cuts"] = content.get("cuts", 0), max(content.get("cuts", 0) - 1, 0)
        if cut:
            raise Unreachable("the copy", "no answer from b", "look at b")
        with self.world.opened() as content:
            if task.moment not in ("", "off"):
                assert content["a"].get("backup"), "nothing freezes what is copied"
                target = task.id.rpartition("-")[2]
                assert not task.bitmap or content["since"][target] in content["brought"], (
                    "what a pass that was given up did not bring is in none"
                )
                content["frozen"] = task.moment
            else:
                assert content["a"]["state"] == "off", "it writes to what is copied"
                assert content.get("held", {}).get("a"), "nothing holds what is copied"
                assert not content.get("brought") or task.bitmap == content["brought"][-1], "it begins anew"
            assert content["b"] is None
            if content.get("copy_fails"):
                raise DriverError("the copy", content["copy_fails"])
            content.setdefault("journals", {})[task.id] = task.destination.location
            dies = content.pop("dies_under_the_copy", False)
            if dies:
                content["silent"] = [destination.name]
        while dies and not cancelled():
            self.clock.sleep(1.0)
        if dies:
            raise Stopped(f"copy {task.id}", "it was asked to end")
        while self.world.read().get("copy_lasts"):  # until it is asked to end
            time.sleep(0.05)
            if cancelled():
                raise Stopped("the copy", "it was asked to end")
        progress(CopyProgress("copying", GIB, GIB, GIB))
        with self.world.opened() as content:
            if task.moment not in ("", "off"):
                content.setdefault("brought", []).append(task.moment)
        return CopyResult(GIB, GIB, GIB, GIB, 0, 1.0, 1.0, "d1", "d1", "tls")

    def discard(self, task: CopyTask, destination: Host) -> None:
        with self.world.opened() as content:
            assert destination.name not in content.get("silent", ())
            content.get("journals", {}).pop(task.id, None)

    forget = discard


class FakeWatcher:
    """Saw nothing."""

    blackout = None

    def stop(self) -> None:
        pass


class FakeNetwork:
    """Implements ports.Network: everything answers, of a guest that is "dark" only before it is moved."""

    def __init__(self, world: World) -> None:
        self.world = world

    def watch(self, probe: str) -> FakeWatcher:
        return FakeWatcher()

    def answers(self, probe: str, within: float) -> bool | None:
        world = self.world.read()
        return bool(world["a"]) or not world.get("dark")

    def check(self, check: str, within: float) -> str:
        return ""

    def tell(self, hook: Hook, facts: Mapping[str, Any]) -> Answer:
        """Noted with where the guest is; the answers that the file has for that hook come first, then all is well."""
        with self.world.opened() as content:
            content.setdefault("told", []).append({**facts, "hook": hook.name, "home": content["a"]})
            answers = content.get("answers", {}).get(hook.name)
            return from_plain(Answer, answers.pop(0)) if answers else Answer(Ended.GOOD)

    def address_of(self, macs: Sequence[str]) -> str:
        return "192.0.2.1"

    def mac_of(self, probe: str) -> str:
        return "52:54:00:00:00:01"

    def announce(self, host: Host, macs_by_bridge: Sequence[tuple[str, str]]) -> str:
        return ""


class HastyClock:
    """Implements ports.Clock: whoever sleeps long is woken early, and told that the time has passed."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def now(self) -> float:
        return time.time() + self._ahead

    wall = now

    def sleep(self, seconds: float) -> None:
        really = min(seconds, 0.05)
        time.sleep(really)
        self._ahead += seconds - really


class FakeSite(Site):
    """The site with the fake world in it."""

    def __init__(self, records: DatabaseRecords, world: World) -> None:
        super().__init__(records)
        self.world = world
        self.clock = HastyClock()

    def hypervisor(self, name: str) -> Hypervisor:
        if name in self.world.read().get("silent", ()):
            return cast("Hypervisor", SilentHypervisor(self.host(name)))
        return FakeHypervisor(self.host(name), self.world)

    @property
    def ports(self) -> Ports:
        return Ports(
            self.records,
            self.hypervisor,
            FakeBetween(self.world),
            FakeNetwork(self.world),
            self.clock,
            FakeCopier(self.world, self.clock),
            tuple(from_plain(Hook, one) for one in self.world.read().get("hooks", ())),
        )
