"""Two fake hosts in one JSON file, so that they outlive a killed process as real hosts do; a fake world behind the ports.

A migration is a job with a start and a length: whoever looks after its end finds the guest moved.
"""

import fcntl
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ferryman.app import Site
from ferryman.drivers.database.records import DatabaseRecords
from ferryman.model.guest import Guest, State
from ferryman.model.host import Check, GuestOnHost, Host, HostFacts, Machine
from ferryman.model.place import ABSENT, Place, Where
from ferryman.model.plan import Changes, NewDisk, Order, Volume
from ferryman.model.sample import Sample
from ferryman.model.site import CpuComparison, DiskReach, Ground, Reach
from ferryman.ports import NO_CHANGES, Hypervisor, Ports
from tests.unit.sites import UUID, good_guest, good_site, host_facts

JOB_SECONDS = 0.6
NVRAM = "/var/lib/libvirt/qemu/nvram/web_VARS.fd"  # of a guest that is off


class World:
    """The file. Every change happens under its lock."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def made(cls, path: Path, state: str = "running", files: dict[str, dict[str, str]] | None = None) -> "World":
        """The guest at a in that state; `files`: host -> path -> content."""
        guest = {"state": state, "autostart": True}
        content: dict[str, Any] = {"a": guest, "b": None, "job": None, "calls": 0, "volumes": [], "medium": ""}
        path.write_text(json.dumps(content | ({"files": files} if files else {})))
        return cls(path)

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
        if job and time.time() - job["started"] > JOB_SECONDS:
            content["job"] = None
            if content["a"] and content["a"]["state"] == "running":
                content["a"], content["b"] = None, {"state": "running", "autostart": False}

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
                UUID, guest.name, content["state"], True, content["autostart"], macs, 2, 0, guest.memory, (), ()
            ),
        )

    def guest(self, name_or_uuid: str) -> Guest:
        content = self.world.read()[self.host.name]
        guest = replace(good_guest(), host=self.host.name, autostart=content["autostart"])
        return replace(guest, state=State.SHUT_OFF, nvram=NVRAM) if content["state"] == "off" else guest

    def place(self, uuid: str) -> Place:
        world = self.world.read()
        content = world[self.host.name]
        if not content:
            return ABSENT
        job = "outgoing migration" if world["job"] and self.host.name == "a" else ""
        return Place(Where(content["state"]), True, content["autostart"], job)

    def definition(self, uuid: str) -> str:
        return "<domain/>"

    def define(self, xml: str, changes: Changes = NO_CHANGES) -> None:
        with self.world.opened() as content:
            content[self.host.name] = content[self.host.name] or {"state": "off", "autostart": False}

    def undefine(self, uuid: str) -> None:
        with self.world.opened() as content:
            assert content[self.host.name]["state"] == "off"
            content[self.host.name] = None

    def set_autostart(self, uuid: str, on: bool) -> None:
        with self.world.opened() as content:
            content[self.host.name]["autostart"] = on

    def resume(self, uuid: str) -> None:
        with self.world.opened() as content:
            assert content[self.host.name]["state"] == "paused"
            content[self.host.name]["state"] = "running"

    def destroy(self, uuid: str) -> None:
        with self.world.opened() as content:
            assert content[self.host.name]["state"] == "paused", "only ever a husk"
            content[self.host.name]["state"] = "off"

    def volume_names(self, pool: str) -> tuple[str, ...]:
        return tuple(
            name.split("/")[2] for name in self.world.read()["volumes"] if name.startswith(f"{self.host.name}/{pool}/")
        )

    def make_volume(self, disk: NewDisk, name: str) -> Volume:
        with self.world.opened() as content:
            assert f"{self.host.name}/{disk.pool}/{name}" not in content["volumes"]
            content["volumes"].append(f"{self.host.name}/{disk.pool}/{name}")
        return Volume(disk.target, disk.pool, name, f"{disk.pool}/{name}")

    def volume_path(self, pool: str, name: str) -> str:
        return f"{pool}/{name}" if name in self.volume_names(pool) else ""

    def remove_volume(self, path: str) -> None:
        with self.world.opened() as content:
            if f"{self.host.name}/{path}" in content["volumes"]:
                content["volumes"].remove(f"{self.host.name}/{path}")

    def allocation(self, path: str) -> int | None:
        return 1 if f"{self.host.name}/{path}" in self.world.read()["volumes"] else None

    def eject(self, uuid: str, target: str) -> None:
        with self.world.opened() as content:
            content["medium"] = ""

    def insert(self, uuid: str, target: str, path: str) -> None:
        with self.world.opened() as content:
            content["medium"] = path

    def read_file(self, path: str) -> bytes | None:
        content = self.world.read().get("files", {}).get(self.host.name, {}).get(path)
        return None if content is None else content.encode()

    def write_file(self, path: str, content: bytes) -> None:
        with self.world.opened() as world:
            world["files"][self.host.name][path] = content.decode()

    def remove_file(self, path: str) -> None:
        with self.world.opened() as world:
            world["files"][self.host.name].pop(path, None)

    def machine(self, guest: Guest) -> Machine:
        return good_site().machine

    def compare_cpu(self, guest: Guest) -> CpuComparison:
        return good_site().cpu

    def start_migration(self, uuid: str, order: Order) -> FakeTransfer:
        with self.world.opened() as content:
            assert not content["job"], "a second job was started"
            content["job"] = {"started": time.time()}
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

    def limit_mirrors(self, uuid: str, targets: Sequence[str], rate: int) -> None:
        pass

    def limit_memory(self, uuid: str, rate: int) -> None:
        pass

    def abort(self, uuid: str) -> None:
        with self.world.opened() as content:
            content["job"] = None


class FakeBetween:
    """Implements ports.Between: all is well."""

    def look(self, guest: Guest, source: Hypervisor, destination: Hypervisor) -> Ground:
        apart = DiskReach("nvram", Reach.DIFFERENT, "a marker was not seen")
        return replace(good_site().ground, nvram=apart if guest.off else None)

    def carry(self, source: Hypervisor, path: str, destination: Hypervisor, volume: Volume) -> int:
        return 0

    def check(self, host: Hypervisor, others: Sequence[Hypervisor]) -> tuple[Check, ...]:
        return ()


class FakeWatcher:
    """Saw nothing."""

    blackout = None

    def stop(self) -> None:
        pass


class FakeNetwork:
    """Implements ports.Network: everything answers."""

    def watch(self, probe: str) -> FakeWatcher:
        return FakeWatcher()

    def answers(self, probe: str, within: float) -> bool | None:
        return True

    def address_of(self, macs: Sequence[str]) -> str:
        return "192.0.2.1"

    def announce(self, host: Host, macs_by_bridge: Sequence[tuple[str, str]]) -> str:
        return ""


class HastyClock:
    """Implements ports.Clock: whoever sleeps long is woken early, and told that the time has passed."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def now(self) -> float:
        return time.time() + self._ahead

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
        return FakeHypervisor(self.host(name), self.world)

    @property
    def ports(self) -> Ports:
        return Ports(self.records, self.hypervisor, FakeBetween(), FakeNetwork(), self.clock)
