"""What takes back a backup that is not complete: undo acts as those in execute/undo.py, which carries them out; and how it is told."""

import shlex
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from ferryman.errors import DriverError, FerrymanError, NeedsAttention
from ferryman.execute.shelf import folder_at, host_of
from ferryman.model.backup import BackupPlace
from ferryman.model.copy import CopyTask, Image
from ferryman.model.outcome import Outcome, Status
from ferryman.model.place import Where
from ferryman.model.request import Request
from ferryman.model.units import MIB
from ferryman.ports import Hypervisor, Ports

THAW = "thaw"
END_BACKUP = "end-backup"
DISCARD_BACKUP_COPY = "discard-backup-copy"
REMOVE_FOLDER = "remove-folder"
FOLDER, MADE, REMOVED = "backup_folder", "made", "removed"  # a fact, and its values
JOB_GONE = "backup_job_gone"  # a fact: there was none any more when it was to be ended
SCRATCH_RUNS_OUT = 64 * MIB  # bytes free beside scratch files: with less a backup is ended, before the guest notices


def taken_back(ports: Ports, request: Request, error: Exception, failures: Sequence[str]) -> Outcome:
    """The end of a backup or restore that failed by that error; `failures`: what could not be taken back."""
    told = error if isinstance(error, FerrymanError) else FerrymanError(
        "a fault in ferryman", f"{type(error).__name__}: {error}", "please report it, with what ferryman show says of this request"
    )  # fmt: skip
    reason = f"{told.what}: {told.why}"
    if failures:
        return Outcome(Status.NEEDS_ATTENTION, "; ".join([reason, *failures]), remedy="mend the cause, then ferryman recover")  # fmt: skip
    status = Status.CANCELLED if ports.records.cancel_asked(request.id) else Status.FAILED
    return Outcome(status, reason, remedy=told.remedy, error=type(error).__name__)


def thaw(ports: Ports, request: Request, arguments: dict[str, Any]) -> None:
    """Noted, so that an agent that is gone by then is no reason for attention."""
    if not ports.records.facts(request.id).get("backup_thawed", False):
        ports.hypervisor(arguments["host"]).thaw(request.guest_uuid)
        ports.records.keep_facts(request.id, {"backup_thawed": True})


def _end_backup(ports: Ports, request: Request, arguments: dict[str, Any]) -> None:
    """The job, the checkpoint that it made with its bitmaps, and the scratch files that a QEMU which crashed leaves."""
    source, name = ports.hypervisor(arguments["host"]), arguments["checkpoint"]
    end_job(ports, request)
    here = source.place(request.guest_uuid).where
    if name and here is not Where.ABSENT and name in [one.name for one in source.checkpoints(request.guest_uuid)]:
        source.delete_checkpoint(request.guest_uuid, name)
    for image in arguments["images"] if name and here is Where.OFF else ():
        source.remove_bitmap(image, name)
    for path in arguments["scratch"]:
        source.remove_file(path)


def end_job(ports: Ports, request: Request) -> None:
    """The backup job."""
    for _, act, arguments in ports.records.undo_acts(request.id):
        if act == END_BACKUP:
            _end(ports, request, arguments["host"], stood_still=arguments["stood_still"])


def remove_scratch(ports: Ports, request: Request) -> None:
    """What a QEMU that crashed leaves; one that ends its job removes it itself."""
    for _, act, arguments in ports.records.undo_acts(request.id):
        if act == END_BACKUP:
            source = ports.hypervisor(arguments["host"])
            gone = ports.records.facts(request.id).get(JOB_GONE)
            gone = gone or source.place(request.guest_uuid).where in (Where.ABSENT, Where.OFF)
            for path in arguments["scratch"] if gone else ():
                source.remove_file(path)


def end_pass(ports: Ports, request: Request) -> None:
    """The job of a warm move's pass."""
    _end(ports, request, request.source, stood_still=ports.records.facts(request.id).get("pass_stood_still", False))


def _end(ports: Ports, request: Request, host: str, *, stood_still: bool) -> None:
    """A guest whose own write found no room for what it overwrote stands still; it goes on, and writes that again: whether there is room
    by now or not, nobody else lets it. `stood_still`: it did before the job began."""
    source = ports.hypervisor(host)
    if source.place(request.guest_uuid).where in (Where.ABSENT, Where.OFF):
        return
    source.end_backup(request.guest_uuid, request.id)
    if not stood_still and source.place(request.guest_uuid).storage_failed:
        source.resume(request.guest_uuid)
        ports.records.keep_decision(request.id, "the guest stood still, since what it overwrote found no room: it goes on now")  # fmt: skip


def stands_still(ports: Ports, request: Request) -> bool:
    """Whether an error of its storage has halted the guest since the job began; a look that fails tells nothing."""
    with suppress(DriverError):
        found = [arguments for _, act, arguments in ports.records.undo_acts(request.id) if act == END_BACKUP]
        return any(not one["stood_still"] and ports.hypervisor(one["host"]).place(request.guest_uuid).storage_failed for one in found)  # fmt: skip
    return False


def without_room(source: Hypervisor, directories: Iterable[str]) -> str:
    """Those of scratch files in which the guest will find none; a look that fails tells nothing."""
    with suppress(DriverError):
        rooms = {one: source.room(one) for one in directories}
        return ", ".join(one for one, room in rooms.items() if room is not None and room < SCRATCH_RUNS_OUT)
    return ""


def _discard_backup_copy(ports: Ports, request: Request, arguments: dict[str, Any]) -> None:
    task = CopyTask(arguments["copy"], Image(""), Image(arguments["path"]))
    ports.copier.discard(task, host_of(ports, arguments["host"]))


def _remove_folder(ports: Ports, request: Request, arguments: dict[str, Any]) -> None:
    """A place that is not there has lost nothing: it may not be mounted. That it is empty, and goes by our own hand, is noted before."""
    place, noted = BackupPlace(arguments["host"], arguments["path"]), ports.records.facts(request.id).get(FOLDER)
    if noted != REMOVED:
        if not folder_at(ports, place).remove(arguments["name"], request.id) and noted == MADE:
            raise NeedsAttention(f"folder {place.words}", f"it is not there, so {arguments['name']} in it could not be removed",
                                 f"mount its file system at {place.host}; or, if somebody has removed it, there: mkdir {shlex.quote(place.path)}; then ferryman recover")  # fmt: skip
        ports.records.keep_facts(request.id, {FOLDER: REMOVED})
    folder_at(ports, place).leave()


ACTS: dict[str, Callable[[Ports, Request, dict[str, Any]], None]] = {
    THAW: thaw,
    END_BACKUP: _end_backup,
    DISCARD_BACKUP_COPY: _discard_backup_copy,
    REMOVE_FOLDER: _remove_folder,
}
# What an act that could not be tried leaves at its host.
LEAVES = {
    THAW: "file systems that may be frozen",
    END_BACKUP: "its backup job",
    DISCARD_BACKUP_COPY: "what was copied to {path}",
    REMOVE_FOLDER: "{path}/{name}",
}
