"""Backup jobs and checkpoints of a guest in the fake world of world.py."""

import os
import signal
from typing import Any

from ferryman.errors import AlreadyRunning, DriverError, NoBitmap
from ferryman.model.backup_job import BackupJob
from ferryman.model.guest import Checkpoint
from ferryman.model.host import Host
from tests.durability.world import World


def no_other_job(guest: dict[str, Any]) -> None:
    """Raises AlreadyRunning while one runs that, unlike a backup, lets nobody change the guest."""
    if "other_job" in guest:
        raise AlreadyRunning("guest web", f"a job ({guest['other_job']}) runs on it", "wait for its end")


class FakeJobs:
    """What FakeHypervisor has of them."""

    host: Host
    world: World

    def begin_backup(self, uuid: str, job: BackupJob) -> str:
        with self.world.opened() as content:
            guest = content[self.host.name]
            if content.get("offers_nothing"):
                raise DriverError("guest web", content["offers_nothing"])
            assert guest["state"] in ("running", "halted"), "nothing writes to it"
            if "backup" in guest:
                assert guest["backup"] != job.owner, "one job at a time"
                raise AlreadyRunning("guest web", "a job (backup) runs on it")
            no_other_job(guest)
            for disk in job.disks:
                if disk.scratch in content.setdefault("scratch", []):
                    raise DriverError("guest web", f"store '{disk.scratch}' for backup of '{disk.target}' exists")
                if disk.since and (content.get("forgets") or disk.since not in guest.get("checkpoints", ())):
                    content.pop("forgets", None)
                    raise NoBitmap("guest web", f"bitmap {disk.since} is inconsistent")
            if not (dies := content.pop("dies", "")) or dies == "offered":
                guest["backup"] = job.owner
                if content.get("thaws_itself"):
                    guest.pop("frozen", None)
                content["scratch"] += [disk.scratch for disk in job.disks]
                content["since"] = {disk.target: disk.since for disk in job.disks}
                if job.checkpoint:
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
                content[self.host.name].update(content.pop("right_after_it", {}))  # somebody else waited for that
                content["scratch"] = []

    def checkpoints(self, uuid: str) -> tuple[Checkpoint, ...]:
        return tuple(Checkpoint(name, "") for name in self.world.read()[self.host.name].get("checkpoints", ()))

    def delete_checkpoint(self, uuid: str, name: str) -> None:
        with self.world.opened() as content:
            guest = content[self.host.name]
            no_other_job(guest)
            guest["checkpoints"].remove(name)
            if not guest["checkpoints"]:
                del guest["checkpoints"]
            if guest["state"] != "off":
                content["bitmaps"].remove(name)
