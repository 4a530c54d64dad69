"""A host's hypervisor in the fake world of world.py, and one that does not answer."""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ferryman.drivers.libvirt import likeness
from ferryman.errors import DriverError, Unreachable
from ferryman.model.cpu import Cpu
from ferryman.model.filesystem import FileSystem
from ferryman.model.guest import Checkpoint, Disk, Guest, Job, Snapshot, State
from ferryman.model.host import GuestOnHost, Host, HostFacts, ImageUsers, Machine
from ferryman.model.mark import Mark
from ferryman.model.place import ABSENT, Place, Where
from ferryman.model.plan import Changes, Held, ImageFile, NewDisk, Order, Soundness, Volume
from ferryman.model.request import Handshake
from ferryman.model.sample import Sample
from ferryman.model.site import CpuComparison
from ferryman.model.units import GIB
from ferryman.plain import from_plain, to_plain
from ferryman.ports import NO_CHANGES, Console, StopWay
from tests.durability.fake_jobs import FakeJobs, no_other_job
from tests.durability.world import JOB_SECONDS, World
from tests.unit.sites import UUID, good_guest, good_site, host_facts

NVRAM = "/var/lib/libvirt/qemu/nvram/web_VARS.fd"  # of a guest that is off


class FakeTransfer:
    """Its call returned long ago; only looking tells."""

    ended = True
    error = None


def further(world: dict[str, Any]) -> tuple[Disk, ...]:
    """Its disks beside vda."""
    return tuple(Disk(one, "disk", "file", f"/srv/shared/{one}.raw", "raw", "", False, False, capacity=GIB) for one in world.get("disks", ()))  # fmt: skip


class FakeHypervisor(FakeJobs):
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
                content.get("name", guest.name),
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
            good_guest(), tpm="emulator" if world.get("tpm") else "", host=self.host.name, autostart=world[self.host.name]["autostart"], mark=self.mark(UUID), agent=bool(world.get("agent")),
            snapshots=tuple(world.get("snapshots", ())),
            jobs=tuple(Job(kind) for kind in (self.place(UUID).job, world[self.host.name].get("block_job")) if kind),
        )  # fmt: skip
        if world[self.host.name]["state"] == "off":
            image = world.get("overlay", guest.disks[0].source)
            disks = tuple(replace(disk, source=image, capacity=world.get("capacity", GIB)) for disk in guest.disks)
            disks += further(world)
            return replace(
                guest,
                state=State.SHUT_OFF,
                nvram=NVRAM,
                disks=disks,
                checkpoints=tuple(one.name for one in self.checkpoints(UUID)),
            )
        if not world["local"]:
            image = world.get("overlay", guest.disks[0].source)
            return replace(
                guest, disks=tuple(replace(disk, source=image, capacity=GIB) for disk in guest.disks) + further(world)
            )
        image = "/srv/shared/web-2.qcow2" if self.host.name == "b" else world.get("overlay", "/srv/shared/web.qcow2")
        disk = replace(guest.disks[0], source=image, capacity=world.get("capacity", GIB), allocation=GIB)
        return replace(guest, disks=(disk, Disk("sda", "cdrom", "file", world["medium"], "raw", "", True, False)))

    def place(self, uuid: str) -> Place:
        with self.world.opened() as world:
            if self.host.name in world.get("deaf_to_looks", ()):  # libvirtd restarts between two calls
                raise Unreachable(f"libvirtd at {self.host.uri}", "no answer within 10 s")
            content = world[self.host.name]
            if content and content.get("obeys_in"):  # so many looks after it was asked
                content["obeys_in"] -= 1
                if not content["obeys_in"]:
                    del content["obeys_in"]
                    content["state"] = "off"
        if not content:
            return ABSENT
        if world["job"] and self.host.name == "a":
            job = "outgoing migration"
        else:
            job = "backup" if content.get("backup") else content.get("other_job", "")
        failed = bool(content.get("storage_failed"))
        return Place(Where(content["state"]), True, content["autostart"], job, storage_failed=failed)

    def mark(self, uuid: str) -> Mark | None:
        text = (self.world.read()[self.host.name] or {}).get("mark")
        return None if text is None else from_plain(Mark, text)

    def set_mark(self, uuid: str, wanted: Mark | None) -> None:
        with self.world.opened() as content:
            assert not content["job"], "metadata wait for the job"
            no_other_job(content[self.host.name])
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
        return str((self.world.read()[self.host.name] or {}).get("text", "<domain/>"))

    def differing(self, uuid: str, earlier: str, ejected: Sequence[str]) -> tuple[str, ...]:
        return likeness.differing(earlier, self.definition(uuid), ejected)

    def define(self, definition: str, changes: Changes = NO_CHANGES) -> None:
        with self.world.opened() as content:
            if self.host.name == "b" and content.get("fault"):
                raise ValueError(content["fault"])
            content[self.host.name] = content[self.host.name] or {"state": "off", "autostart": False}
            content[self.host.name].pop("links", None)
            if definition != "<domain/>":
                content[self.host.name]["text"] = definition
            if changes.links_down:
                content[self.host.name]["links"] = False

    def define_anew(self, definition: str, changes: Changes, wanted: Mark) -> None:
        with self.world.opened() as content:
            dies, lost = content.pop("dies", ""), content.pop("answer_lost", False)
            if content.pop("somebody_defines", False):
                content[self.host.name] = {"state": "off", "autostart": True}
            here = content[self.host.name]
            taken = here and (here.get("mark") or {}).get("request") != wanted.request
            if not taken and dies != "asked":
                unnamed = {"name": f"ferryman-restore-{wanted.request}"} if dies == "unnamed" else {}
                content[self.host.name] = {"state": "off", "autostart": False, "mark": to_plain(wanted)} | unnamed
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
        if taken:
            raise DriverError("guest web", "it is already defined with that UUID")
        if lost:
            raise Unreachable(f"libvirtd at {self.host.uri}", "the connection was closed")

    def defined_for(self, uuid: str, request: str) -> bool:
        with self.world.opened() as content:
            away = content.get("looks_fail", 0)
            content["looks_fail"] = max(away - 1, 0)
        if away:
            raise Unreachable(f"libvirtd at {self.host.uri}", "it is being started")
        found = self.mark(uuid)
        return found is not None and found.request == request

    def run_of(self, uuid: str) -> str:
        here = self.world.read()[self.host.name] or {"state": "off"}
        return "" if here["state"] == "off" else str(here.get("run", ""))

    def name_run(self, uuid: str, token: str) -> None:
        with self.world.opened() as content:
            assert content[self.host.name]["state"] != "off", "there is no run"
            content[self.host.name]["run"] = token

    def described(self, definition: str) -> Guest:
        tpm = "emulator" if self.world.read().get("tpm") else ""
        return replace(good_guest(), host=self.host.name, state=State.SHUT_OFF, nvram=NVRAM, tpm=tpm)

    def try_definition(self, definition: str, changes: Changes) -> None:
        if why := self.world.read().get("refuses"):
            raise DriverError(f"definition of the guest, tried at {self.host.name}", why)

    def undefine(self, uuid: str, *, snapshots: bool = False) -> None:
        with self.world.opened() as content:
            assert content[self.host.name]["state"] == "off"
            if not (fails := content.pop("undefine_fails", "")):
                content[self.host.name] = None
        if fails:
            raise DriverError("guest web", fails)

    def set_autostart(self, uuid: str, on: bool) -> None:
        with self.world.opened() as content:
            no_other_job(content[self.host.name])
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
            assert not {"backup", "other_job"} & content[self.host.name].keys(), "it would end under another's job"
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
            for live in ("ends", "run"):
                content[self.host.name].pop(live, None)
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

    def is_frozen(self, uuid: str) -> bool:
        return bool(self.world.read()[self.host.name].get("frozen"))

    def freeze(self, uuid: str) -> int:
        with self.world.opened() as content:
            assert not content[self.host.name].get("frozen"), "it is frozen already"
            if content.get("agent_hangs"):
                raise DriverError("agent of guest web", "it does not answer")
            content[self.host.name]["frozen"] = True
        return 2

    def thaw(self, uuid: str) -> None:
        with self.world.opened() as content:
            if content.get("agent_gone"):
                raise DriverError("agent of guest web", "it is not connected")
            assert content[self.host.name].get("frozen") != "by another", "that is not ours to thaw"
            content[self.host.name].pop("frozen", None)
            lapsed = content.pop("freeze_lapsed", "")
        if lapsed:
            raise DriverError("agent of guest web", lapsed)

    def is_old(self, path: str) -> bool:
        return bool(self.world.read().get("old"))

    def label(self, path: str, words: str) -> None:
        with self.world.opened() as content:
            content.setdefault("labels", {})[self.host.name + path] = words

    def remove_bitmap(self, path: str, name: str) -> None:
        with self.world.opened() as content:
            assert (content[self.host.name] or {}).get("state", "off") == "off", "it is in use"
            if self.host.name in content.get("no_ssh", ()):
                raise Unreachable(f"ssh to host {self.host.name}", "connection refused")
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
            dies = content.get("dies") == "made" and content.pop("dies")
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
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
        if self.host.name in self.world.read().get("no_ssh", ()):
            raise Unreachable(f"ssh to host {self.host.name}", "connection refused")
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
