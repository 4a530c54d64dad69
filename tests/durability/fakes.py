"""The other ports in the fake world of world.py, and the site made of them."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from ferryman.app import Site
from ferryman.drivers.database.records import DatabaseRecords, open_records
from ferryman.errors import DriverError, Stopped, Unreachable
from ferryman.model.copy import CopyProgress, CopyResult, CopyTask
from ferryman.model.guest import Guest
from ferryman.model.hook import Answer, Ended, Hook
from ferryman.model.host import Check, Host
from ferryman.model.plan import Volume
from ferryman.model.site import DiskReach, Ground, LinkSpeed, Reach
from ferryman.model.units import GIB
from ferryman.plain import from_plain
from ferryman.ports import Clock, Hypervisor, Ports
from tests.durability.fake_backups import BackupCopies
from tests.durability.fake_hypervisor import FakeHypervisor, SilentHypervisor
from tests.durability.world import World
from tests.unit.sites import good_site


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

    def around(self, guest: Guest, host: Hypervisor) -> Ground:
        return good_site().ground

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
                known = content.get("brought", ())[-1:]
                assert not known or task.bitmap == (
                    "" if content.get("old") or content.get("other_run") else known[0]
                ), "it begins anew"
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
        self.clock: Clock = HastyClock()

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


def records_of_both(state: Path) -> DatabaseRecords:
    """New records, or those that are there, in which the world's two hosts are registered."""
    records = open_records(state)
    for name in ("a", "b"):
        records.add_host(Host(name, f"qemu+tls://{name}/system"))
    return records
