"""Undo acts: rows written before the act they take back, so that whoever rolls back later can. Each looks before it acts."""

from collections.abc import Callable
from typing import Any

from ferryman.errors import AlreadyRunning, DriverError, FerrymanError, NeedsAttention
from ferryman.execute import another, unmaking
from ferryman.execute.settle import look
from ferryman.model.copy import CopyTask, Image
from ferryman.model.guest import Checkpoint, Snapshot
from ferryman.model.host import THIS_MACHINE
from ferryman.model.place import ABSENT, Place, Where
from ferryman.model.request import Kind, Request
from ferryman.model.units import format_duration
from ferryman.plain import from_plain
from ferryman.ports import Hypervisor, Ports

RESTORE_AUTOSTART = "restore-autostart"
REMOVE_NEW_DEFINITION = "remove-new-definition"
RESTORE_DEFINITION = "restore-definition"
REMOVE_VOLUME = "remove-volume"
INSERT_MEDIUM = "insert-medium"
RESTORE_SPEED = "restore-speed"
REMOVE_MARK = "remove-mark"
REMOVE_FILE = "remove-file"
RESTORE_FILE = "restore-file"
START_SOURCE = "start-source"
LET_REBOOT = "let-reboot"
RELEASE_IMAGES = "release-images"
DEFINE_SOURCE = "define-source"
STOP_DESTINATION = "stop-destination"
DISCARD_COPY = "discard-copy"
TAKE_BACK_DIRECTORY = "take-back-directory"
MOVE_BACK = "move-back"
END_PASSES = "end-passes"


SCRATCH = ".ferryman-{request}-{target}.scratch"  # what the guest overwrites during a pass


def undo_all(ports: Ports, request: Request) -> list[str]:
    """Carry out what is registered, last first. One failure stops no other; returns the failures, each a sentence.

    A host that does not answer is asked once, not for each act: the guest may be waiting for the next one, at the other host. What another's
    job is in the way of comes after the rest, once that job has ended, if it does in time.
    """
    while True:
        failures, hindered = _undo_each(ports, request)
        if not hindered or not another.let_pass(ports, request):
            return failures


def _undo_each(ports: Ports, request: Request) -> tuple[list[str], bool]:
    """The failures, and whether another's job is among their reasons."""
    failures: list[str] = []
    hindered = False
    seen: dict[str, Place] = {}
    left: dict[str, list[str]] = {}  # at hosts that do not answer
    for number, act, arguments in ports.records.undo_acts(request.id):
        host = arguments["host"]
        if host not in seen:
            seen[host] = ABSENT if host == THIS_MACHINE.name else look(ports.hypervisor(host), request.guest_uuid)
        if seen[host].where is Where.UNREACHABLE:
            ports.records.close_undo(number, "failed", f"{host} does not answer: {seen[host].detail}")
            left.setdefault(host, []).append(_LEAVES.get(act, act).format(**arguments))
            continue
        try:
            _ACTS[act](ports, request, arguments)
        except FerrymanError as error:
            ports.records.close_undo(number, "failed", str(error))
            failures.append(f"{act} at {host}: {error}")
            hindered = hindered or isinstance(error, AlreadyRunning)
        else:
            ports.records.close_undo(number, "done")
    failures += [f"{host} does not answer ({seen[host].detail}), and has still to be put back there: {', '.join(what)}" for host, what in left.items()]  # fmt: skip
    return failures, hindered


# What an act that could not be tried leaves at its host; of one that is not named here its own name tells.
_LEAVES = {
    REMOVE_NEW_DEFINITION: "the guest's new definition",
    RESTORE_DEFINITION: "the definition that was replaced",
    REMOVE_VOLUME: "volume {name} in pool {pool}",
    REMOVE_FILE: "{path}",
    RESTORE_FILE: "{path}",
    DISCARD_COPY: "what was copied to {path}",
    TAKE_BACK_DIRECTORY: "{path}",
    **unmaking.LEAVES,
}


def drop_all(ports: Ports, request: Request) -> None:
    """The point of no return is passed: what was registered will not be taken back. A hold is let go forward as well as back."""
    for number, act, _ in ports.records.undo_acts(request.id):
        if act != RELEASE_IMAGES:
            ports.records.close_undo(number, "dropped")


def release(ports: Ports, request: Request) -> str:
    """Let the held images go, whichever way the guest went; why not, when that fails: then it stays registered."""
    why = ""
    for number, act, arguments in ports.records.undo_acts(request.id):
        if act != RELEASE_IMAGES:
            continue
        try:
            ports.hypervisor(arguments["host"]).release(request.id)
        except DriverError as error:
            why = error.why
            ports.records.close_undo(number, "failed", str(error))
        else:
            ports.records.close_undo(number, "done")
    return why


def held(ports: Ports, request: Request) -> bool:
    """Whether images may still be held for that request."""
    return any(act == RELEASE_IMAGES for _, act, _ in ports.records.undo_acts(request.id))


def _still_defined(host: Hypervisor, request: Request) -> bool:
    """By a restore, whose definition could not be taken back: it needs what was made for it."""
    return request.kind is Kind.RESTORE and host.defined_for(request.guest_uuid, request.id)


def _at_source(ports: Ports, request: Request) -> Where:
    """What the source has of the guest. That of a restore is the backup, which stays as it is."""
    if request.kind is Kind.RESTORE:
        return Where.OFF
    return ports.hypervisor(request.source).place(request.guest_uuid).where


def _restore_autostart(ports: Ports, request: Request, arguments: dict[str, Any]) -> None:
    """Switch on, never off: the saved mark may be older than somebody's will."""
    source = ports.hypervisor(arguments["host"])
    place = source.place(request.guest_uuid)
    if place.where is Where.ABSENT:  # its definition could not be put back yet: without it there is nothing to switch
        raise _look_at_both(
            f"guest {request.guest} at {arguments['host']}",
            "it is not defined there, so its autostart cannot be switched on again",
        )
    if place.persistent and not place.autostart:
        source.set_autostart(request.guest_uuid, True)


def _remove_new_definition(ports: Ports, request: Request, arguments: dict[str, Any]) -> None:
    """Only what is inactive there goes, and only while the source still has the guest.

    What must stay for now is not done: as long as this row is open, that definition counts as this move's.
    """
    destination = ports.hypervisor(arguments["host"])
    there = destination.place(request.guest_uuid).where
    if there is Where.ABSENT or (
        request.kind is Kind.RESTORE and not destination.defined_for(request.guest_uuid, request.id)
    ):
        return  # somebody else's of the same UUID is left alone
    here = _at_source(ports, request)
    if there is not Where.OFF or here is Where.ABSENT:
        raise _look_at_both(
            f"definition of {request.guest} at {arguments['host']}",
            f"the guest is {there.words} there and {here.words} at {request.source}: it may be the only one",
        )
    ours = bool(ports.records.facts(request.id).get("snapshots"))  # it was told of them by us
    destination.undefine(request.guest_uuid, snapshots=ours)


def _look_at_both(what: str, why: str) -> NeedsAttention:
    return NeedsAttention(what, why, "look at both hosts with virsh list --all, then ferryman recover")


def _restore_definition(ports: Ports, request: Request, arguments: dict[str, Any]) -> None:
    destination = ports.hypervisor(arguments["host"])
    if destination.place(request.guest_uuid).where is Where.ABSENT:
        destination.define(ports.records.definition(request.id, arguments["host"]))
    place = destination.place(request.guest_uuid)
    if arguments.get("autostart") and place.where is Where.OFF and not place.autostart:
        destination.set_autostart(request.guest_uuid, True)


def leave(ports: Ports, request: Request, arguments: dict[str, Any]) -> None:
    """Say that a volume stays: whether it is ours is not known."""
    pool, name, host = arguments["pool"], arguments["name"], arguments["host"]
    text = f"left as it is: volume {name} in pool {pool} at {host}, which was not noted as made here; look whether it is of use"
    ports.records.keep_decision(request.id, text)


def _remove_volume(ports: Ports, request: Request, arguments: dict[str, Any]) -> None:
    """Only a volume that is noted as made by this request goes, and only while the source still has the guest.

    One that stopped after the transfer was asked for may have stopped at the destination, whose definition was never written.
    """
    destination = ports.hypervisor(arguments["host"])
    pool, name = arguments["pool"], arguments["name"]
    path = destination.volume_path(pool, name)
    if not path:
        return
    made = ports.records.facts(request.id).get("volumes", {}).get(arguments["target"], {})
    if (made.get("pool"), made.get("name")) != (pool, name):
        leave(ports, request, arguments)
        return
    there, here = destination.place(request.guest_uuid).where, _at_source(ports, request)
    if here is Where.OFF and ports.records.asked_at(request.id) is not None:
        raise NeedsAttention(
            f"volume {path} at {arguments['host']}", "the guest runs nowhere, and may have run upon it: it stays until the guest runs at its source again",
            f"virsh start {request.guest} at {request.source} if its disks there are the right ones, then ferryman recover",
        )  # fmt: skip
    if there not in (Where.ABSENT, Where.OFF) or here is Where.ABSENT or _still_defined(destination, request):
        raise NeedsAttention(
            f"volume {path} at {arguments['host']}", f"the guest is {there.words} there, or gone from the source: this may be its only disk",
            "look at both hosts with virsh list --all, then ferryman recover",
        )  # fmt: skip
    destination.remove_volume(path)
    kept = ports.records.facts(request.id).get("volumes", {})
    volumes = {target: volume for target, volume in kept.items() if target != arguments["target"]}
    ports.records.keep_facts(request.id, {"volumes": volumes})


def _insert_medium(ports: Ports, request: Request, arguments: dict[str, Any]) -> None:
    source = ports.hypervisor(arguments["host"])
    if source.place(request.guest_uuid).where is not Where.ABSENT:
        source.insert(request.guest_uuid, arguments["target"], arguments["live"], arguments["config"])


def _restore_speed(ports: Ports, request: Request, arguments: dict[str, Any]) -> None:
    """libvirt keeps a speed that was set under way for the guest's next migration."""
    source = ports.hypervisor(arguments["host"])
    if source.place(request.guest_uuid).where is Where.RUNNING:
        source.limit_memory(request.guest_uuid, arguments["rate"])


def _remove_mark(ports: Ports, request: Request, arguments: dict[str, Any]) -> None:
    """Where the guest is: at the source, or at the destination when somebody has moved it meanwhile."""
    source = ports.hypervisor(arguments["host"])
    if source.place(request.guest_uuid).where is not Where.ABSENT:
        take_mark_away(source, request)
    else:
        take_mark_away(ports.hypervisor(request.destination), request)


def take_mark_away(host: Hypervisor, request: Request) -> None:
    """Only a mark of this request goes."""
    if host.place(request.guest_uuid).where is Where.ABSENT:
        return
    found = host.mark(request.guest_uuid)
    if found is not None and found.request == request.id:
        host.set_mark(request.guest_uuid, None)


def _remove_file(ports: Ports, request: Request, arguments: dict[str, Any]) -> None:
    _must_not_need(ports, request, arguments).remove_file(arguments["path"])


def _restore_file(ports: Ports, request: Request, arguments: dict[str, Any]) -> None:
    destination = _must_not_need(ports, request, arguments)
    if (content := destination.read_file(arguments["before"])) is not None:
        destination.write_file(arguments["path"], content)
        destination.remove_file(arguments["before"])


def _must_not_need(ports: Ports, request: Request, arguments: dict[str, Any]) -> Hypervisor:
    """The host, once it is sure that no guest there needs the file and that the source has its own."""
    host = ports.hypervisor(arguments["host"])
    there, here = host.place(request.guest_uuid).where, _at_source(ports, request)
    if there not in (Where.ABSENT, Where.OFF) or here is Where.ABSENT or _still_defined(host, request):
        raise NeedsAttention(
            f"file {arguments['path']} at {arguments['host']}", f"the guest is {there.words} there and {here.words} at {request.source}: it may need it",
            "look at both hosts with virsh list --all, then ferryman recover",
        )  # fmt: skip
    return host


# Of a cold move


def _stop_destination(ports: Ports, request: Request, arguments: dict[str, Any]) -> None:
    """The copy that this move started and that nobody was shown yet."""
    destination = ports.hypervisor(arguments["host"])
    if destination.place(request.guest_uuid).where in (Where.ABSENT, Where.OFF):
        return
    here = ports.hypervisor(request.source).place(request.guest_uuid).where
    if ports.records.asked_at(request.id) is not None or here not in (Where.ABSENT, Where.OFF):
        raise NeedsAttention(
            f"guest {request.guest} at {arguments['host']}", f"it is {here.words} at {request.source}, or was seen at {arguments['host']} already",
            "look at both hosts with virsh list --all, then ferryman recover",
        )  # fmt: skip
    destination.destroy(request.guest_uuid)


def _define_source(ports: Ports, request: Request, arguments: dict[str, Any]) -> None:
    """Only while nothing of it is active at the destination."""
    source = ports.hypervisor(arguments["host"])
    here = source.place(request.guest_uuid).where
    if here is Where.ABSENT:
        _destination_is(ports, request, Where.ABSENT, Where.OFF)
        source.define(ports.records.definition(request.id, arguments["host"]))
    elif here is not Where.OFF:
        return
    make_known_again(ports, request)  # also when a crash came between the two


def make_known_again(ports: Ports, request: Request) -> None:
    """What libvirt at the source knew of the guest beside the definition that it has again. Snapshots first: 9.0 takes none beside a checkpoint."""
    source, facts = ports.hypervisor(request.source), ports.records.facts(request.id)
    if told := facts.get("snapshots"):
        source.make_known(request.guest_uuid, [from_plain(Snapshot, one) for one in told])
    if told := facts.get("checkpoints"):
        source.make_checkpoints_known(request.guest_uuid, [from_plain(Checkpoint, one) for one in told])


def _start_source(ports: Ports, request: Request, arguments: dict[str, Any]) -> None:
    """It ran there before. Only once the destination says that it does not have the guest."""
    source, facts = ports.hypervisor(arguments["host"]), ports.records.facts(request.id)
    here = source.place(request.guest_uuid).where
    if here is Where.ABSENT:
        raise NeedsAttention(f"guest {request.guest} at {arguments['host']}", "it is not defined there, so it cannot be started again",
                             "look at both hosts with virsh list --all, then ferryman recover")  # fmt: skip
    if "asked_to_stop" in facts and "stopped_at" not in facts:
        here = _whether_it_ends(ports, request, here, facts["asked_to_stop"])
    if here is not Where.OFF:
        return
    _destination_is(ports, request, Where.ABSENT)
    paused = bool(facts.get("stood_still"))
    source.start(request.guest_uuid, paused=paused)
    how = f", paused: it stood still before (virsh resume {request.guest} lets it go on)" if paused else ""
    ports.records.keep_decision(request.id, f"started {request.guest} again at {arguments['host']}{how}")


# Nobody can take back the wish that a guest shut down. So it is watched for as long as it was given, within these bounds.
LEAST_WATCHED, MOST_WATCHED = 10.0, 60.0  # seconds
_WATCH_EVERY = 0.5


def watched_for(since_asked: float, stop_timeout: float) -> float:
    """Pure. For how many more seconds one that was asked so long ago, and has not shut down, may be expected to; 0 when that is long ago."""
    if since_asked > stop_timeout + MOST_WATCHED:
        return 0.0
    return min(max(stop_timeout - since_asked, LEAST_WATCHED), MOST_WATCHED)


def _whether_it_ends(ports: Ports, request: Request, here: Where, asked_at: float) -> Where:
    """Watch a guest that was asked to shut down and was not seen to; where it is then."""
    source, now = ports.hypervisor(request.source), ports.clock.now()
    until = now + watched_for(now - asked_at, request.options.stop_timeout)
    while here is Where.RUNNING and ports.clock.now() < until:
        ports.clock.sleep(_WATCH_EVERY)
        here = source.place(request.guest_uuid).where
    waited = format_duration(ports.clock.now() - asked_at)
    told = {
        Where.OFF: f"{request.guest} has shut down after all, {waited} after it was asked to",
        Where.RUNNING: f"{request.guest} was asked to shut down, and goes on running {waited} later: if it still does it, virsh start {request.guest} at {source.host.name} starts it again",
    }  # fmt: skip
    if here in told:
        ports.records.keep_decision(request.id, told[here])
    return here


def _destination_is(ports: Ports, request: Request, *allowed: Where) -> None:
    """A destination that never had the guest's definition need not be asked: it may be the very thing that failed.

    Nor need it answer once that definition was taken back.
    """
    defined = [one for one in ports.records.undo_entries(request.id) if one.act == REMOVE_NEW_DEFINITION]
    if not defined:
        return
    there = look(ports.hypervisor(request.destination), request.guest_uuid).where
    if there is Where.UNREACHABLE and all(one.state == "done" for one in defined):
        return
    if there not in allowed:
        raise NeedsAttention(
            f"guest {request.guest}", f"it is {there.words} at {request.destination}",
            "look at both hosts with virsh list --all, then ferryman recover",
        )  # fmt: skip


def _discard_copy(ports: Ports, request: Request, arguments: dict[str, Any]) -> None:
    """The journal, and the file of an image that the copy made itself; a volume that it was written to is another act's."""
    task = CopyTask(arguments["copy"], Image(""), Image(arguments["path"]))
    ports.copier.discard(task, _must_not_need(ports, request, arguments).host)


def _take_back_directory(ports: Ports, request: Request, arguments: dict[str, Any]) -> None:
    _must_not_need(ports, request, arguments).take_back(arguments["path"], request.id)


def _move_back(ports: Ports, request: Request, arguments: dict[str, Any]) -> None:
    ports.hypervisor(arguments["host"]).move_file(arguments["to"], arguments["path"])


def _release_images(ports: Ports, request: Request, arguments: dict[str, Any]) -> None:
    """Not while the guest is active at the destination: then nothing else keeps the source's images from being written to."""
    _destination_is(ports, request, Where.ABSENT, Where.OFF)
    ports.hypervisor(arguments["host"]).release(request.id)


def _let_reboot(ports: Ports, request: Request, arguments: dict[str, Any]) -> None:
    source = ports.hypervisor(arguments["host"])
    if source.place(request.guest_uuid).where in (Where.RUNNING, Where.PAUSED, Where.HALTED):
        source.let_it_end(request.guest_uuid, False)


def _end_passes(ports: Ports, request: Request, arguments: dict[str, Any]) -> None:
    """The backup job, our checkpoints with their bitmaps, and the scratch files that a QEMU which crashed leaves."""
    source, facts = ports.hypervisor(arguments["host"]), ports.records.facts(request.id)
    here = source.place(request.guest_uuid).where
    if here is Where.ABSENT:
        raise _look_at_both(f"checkpoints of {request.guest} at {arguments['host']}", "the guest is not defined there")
    unmaking.end_pass(ports, request)
    ours = [one.name for one in source.checkpoints(request.guest_uuid) if one.name.startswith(f"ferryman-{request.id}-")]  # fmt: skip
    try:
        for name in ours:
            source.delete_checkpoint(request.guest_uuid, name)
    except AlreadyRunning as error:
        raise AlreadyRunning(f"checkpoints of {request.guest}: {', '.join(ours)}", error.why, error.remedy) from error
    for disk in facts.get("plan", {}).get("ahead", ()):
        if here is Where.OFF and disk["remembers"]:
            for one in facts.get("passes", ()):
                source.remove_bitmap(disk["source"], one["moment"])
        source.remove_file(f"{disk['scratch'].rstrip('/')}/{SCRATCH.format(request=request.id, target=disk['target'])}")


_ACTS: dict[str, Callable[[Ports, Request, dict[str, Any]], None]] = {
    RESTORE_AUTOSTART: _restore_autostart,
    REMOVE_NEW_DEFINITION: _remove_new_definition,
    RESTORE_DEFINITION: _restore_definition,
    REMOVE_VOLUME: _remove_volume,
    INSERT_MEDIUM: _insert_medium,
    RESTORE_SPEED: _restore_speed,
    REMOVE_MARK: _remove_mark,
    REMOVE_FILE: _remove_file,
    RESTORE_FILE: _restore_file,
    STOP_DESTINATION: _stop_destination,
    DEFINE_SOURCE: _define_source,
    START_SOURCE: _start_source,
    RELEASE_IMAGES: _release_images,
    LET_REBOOT: _let_reboot,
    DISCARD_COPY: _discard_copy,
    TAKE_BACK_DIRECTORY: _take_back_directory,
    MOVE_BACK: _move_back,
    **unmaking.ACTS,
    END_PASSES: _end_passes,
}
