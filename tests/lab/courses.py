"""How each step of the workflow is come to: the usual course runs all steps that no odd course claims."""

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from lab import faults, guests, witness
from lab.guests import GuestSpec
from tests.lab.scene import SEED, SHARED_SEED, SPEC, Scene

_SLOW = ("--bandwidth", "4M")  # so that something can happen while bytes flow


@dataclass(frozen=True)
class Course:
    """What is done before, and the command in which the steps run; `tidy` takes away what the course itself brought."""

    stage: Callable[[Scene], tuple[str, ...]]
    steps: frozenset[str]
    tidy: Callable[[Scene], None] = lambda scene: None
    spec: GuestSpec = SPEC  # of a guest made for this course alone, when it is another
    stopped: bool = False  # the guest runs nowhere by then
    cold: bool = False  # it is stopped for the move, or was: it may not be counted through


def course_of(step: str) -> Course:
    """The odd course that claims a step, or the usual one."""
    return next((course for course in ODD if step in course.steps), USUAL)


def _usual(scene: Scene) -> tuple[str, ...]:
    return scene.asked("--retire")


def _transferring(scene: Scene) -> tuple[str, ...]:
    """Slow enough that what befalls it befalls it while bytes flow."""
    return scene.asked("--retire", "--bandwidth", "24M")


def _replacing(scene: Scene) -> tuple[str, ...]:
    definition = guests.definition(scene.lab, scene.guest)
    scene.lab.host(scene.destination).run(["virsh", "define", "/dev/stdin"], text_in=definition)
    return scene.asked("--retire", "--replace-definition")


def _undefined_again(scene: Scene) -> None:
    """A move that was put back has put the replaced definition back too."""
    if scene.running_at() == scene.source:
        listed = scene.virsh(scene.destination, "list", "--all", "--name").split()
        assert scene.guest.name in listed, scene.notes
        scene.virsh(scene.destination, "undefine", scene.guest.name)


def _ejecting(scene: Scene) -> tuple[str, ...]:
    scene.lab.host(scene.source).run(["sh", "-c", f"head -c 1M /dev/urandom >{SEED}"])
    scene.virsh(scene.source, "change-media", scene.guest.name, "sda", SEED, "--live", "--config", "--force")
    return scene.asked("--retire", "--eject")


def _put_back(scene: Scene) -> None:
    at = scene.running_at()
    if at == scene.source:
        assert scene.image_of(at, "sda") == SEED, scene.notes
    scene.virsh(at, "change-media", scene.guest.name, "sda", SHARED_SEED, "--live", "--config", "--force")


def _timing_out(scene: Scene) -> tuple[str, ...]:
    return scene.asked(*_SLOW, "--timeout", "2s")


def _refused(scene: Scene) -> tuple[str, ...]:
    return scene.asked("--copy-storage", "never")


def _upgraded(scene: Scene) -> tuple[str, ...]:
    """Work of another version is settled, not replayed."""
    scene.operator.run(*scene.asked(), crash="autostart-off:after")
    with closing(sqlite3.connect(scene.operator.state / "dbos.sqlite")) as database, database:
        database.execute("UPDATE workflow_status SET application_version = 'of yesterday'")
    return ("recover",)


def _stalled(scene: Scene) -> tuple[str, ...]:
    """The only copy stands still and no job works on it: as after an aborted handshake."""
    scene.operator.run(*scene.asked(*_SLOW), crash="bytes")
    name = scene.guest.name
    scene.virsh(scene.source, "domjobabort", name)
    scene.operator.wait_for(lambda: name not in scene.virsh(scene.destination, "list", "--name"), "the abort", 30)
    scene.operator.wait_for(lambda: "None" in scene.virsh(scene.source, "domjobinfo", name), "no job", 30)
    scene.virsh(scene.source, "qemu-monitor-command", name, "--hmp", "stop")
    return ("recover",)


def _husk(scene: Scene) -> tuple[str, ...]:
    """The source's libvirtd dies as the destination first runs, and ferryman with it: a paused copy stays at the source."""
    for _ in range(4):
        process = scene.operator.start(*scene.asked())
        witness.wait_until_executing(scene.lab, scene.guest, scene.destination)
        faults.kill_daemon(scene.lab, scene.source)
        scene.operator.kill(process)
        faults.start_daemon(scene.lab, scene.source)
        copies = {copy.host: copy.executing for copy in witness.copies(scene.lab, scene.guest)}
        if copies == {scene.source: False, scene.destination: True}:
            return ("recover",)
        scene.notes.append(f"no husk: {copies}")
        scene.operator.run("recover")
        if scene.running_at() == scene.destination:
            scene.source, scene.destination = scene.destination, scene.source
    raise AssertionError(f"no husk in 4 tries: {scene.notes}")


def _shut_off(scene: Scene) -> tuple[str, ...]:
    """A guest that does not run moves by its definition alone."""
    scene.virsh(scene.source, "destroy", scene.guest.name)
    return ("migrate", scene.guest.name, "--to", scene.destination, "--yes")


def _in(seconds: float) -> str:
    """A moment as `--at` takes it."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="seconds")


def _waiting(scene: Scene) -> tuple[str, ...]:
    return scene.asked("--retire", "--at", _in(12))


def _cold(scene: Scene) -> tuple[str, ...]:
    return scene.asked("--cold")


def _forecast(scene: Scene) -> tuple[str, ...]:
    """Whether it fits is reckoned before the guest is stopped."""
    return scene.asked("--cold", "--give-up-at", _in(7200))


def _copying(scene: Scene) -> tuple[str, ...]:
    return scene.asked("--cold", "--bandwidth", "12M")


def _warm(scene: Scene) -> tuple[str, ...]:
    """Slow enough that what befalls it befalls it during the first pass."""
    return scene.asked("--warm", "--bandwidth", "12M")


def _warm_waiting(scene: Scene) -> tuple[str, ...]:
    return scene.asked("--warm", "--at", _in(20))


def _warm_given_up(scene: Scene) -> tuple[str, ...]:
    """Left in its first pass by another version: its backup job still runs, and is ended before anything is judged."""
    scene.operator.run(*scene.asked("--warm", "--bandwidth", "4M"), crash="pass:1")
    with closing(sqlite3.connect(scene.operator.state / "dbos.sqlite")) as database, database:
        database.execute("UPDATE workflow_status SET application_version = 'of yesterday'")
    return ("recover",)


def _asleep(scene: Scene) -> tuple[str, ...]:
    """Put to sleep with its memory saved; it stays asleep."""
    scene.virsh(scene.source, "managedsave", scene.guest.name)
    return ("migrate", scene.guest.name, "--to", scene.destination, "--yes", "--cold", "--retire")


def _tried_again(scene: Scene) -> tuple[str, ...]:
    """The destination's libvirtd is away at the first try, and comes back before the second one."""
    faults.kill_daemon(scene.lab, scene.destination)

    def come_back() -> None:
        with suppress(RuntimeError):  # the host itself is gone meanwhile, and comes back with its daemon
            faults.start_daemon(scene.lab, scene.destination)

    threading.Timer(15.0, come_back).start()
    return scene.asked("--retire", "--retry", "2")


def _daemon_is_back(scene: Scene) -> None:
    faults.start_daemon(scene.lab, scene.destination)


def _husk_destroyed(scene: Scene) -> None:
    """It was there, and ferryman says what it did."""
    told = scene.operator.records.decisions(scene.operator.request_id())
    assert any("destroyed the stalled copy" in text for text in told), (told, scene.notes)


_FILLED = replace(SPEC, filled_mib=48)
USUAL = Course(_usual, frozenset())
ODD = (
    Course(_waiting, frozenset({"look-ahead", "wait", "begin"})),
    Course(_transferring, frozenset({"transfer"})),
    Course(_replacing, frozenset({"replace-definition"}), _undefined_again),
    Course(_ejecting, frozenset({"eject-media"}), _put_back),
    Course(_timing_out, frozenset({"enter-rolling-back", "undo"})),
    Course(_refused, frozenset({"undo-refused"})),
    Course(_upgraded, frozenset({"read-facts"})),
    Course(_stalled, frozenset({"resume-source"})),
    Course(_husk, frozenset({"destroy-husk"}), _husk_destroyed),
    Course(_tried_again, frozenset({"retry", "wait-to-retry"}), _daemon_is_back),
    Course(
        _shut_off,
        frozenset({"copy-nvram", "define-destination"}),
        spec=replace(SPEC, disks=("shared",), nvram=True, cdrom="", memory_mib=256),
        stopped=True,
    ),
    Course(_forecast, frozenset({"foresee"}), cold=True),
    Course(
        _cold,
        frozenset(
            {
                "save-snapshots",
                "try-definition",
                "stop",
                "hold",
                "arrive",
                "leave",
                "start",
                "health",
                "open",
                "release",
            }
        ),
        cold=True,
    ),
    Course(_copying, frozenset({"copy-disks"}), spec=_FILLED, cold=True),
    Course(_warm, frozenset({"free-to-copy", "copy-ahead", "free-to-stop", "forget-passes"}), spec=_FILLED, cold=True),
    Course(_warm_waiting, frozenset({"catch-up"}), spec=_FILLED, cold=True),
    Course(_warm_given_up, frozenset({"end-passes"}), spec=_FILLED, cold=True),
    Course(
        _asleep,
        frozenset({"copy-tpm", "copy-saved"}),
        spec=replace(SPEC, disks=("shared",), tpm=True, cdrom="", memory_mib=192),
        stopped=True,
        cold=True,
    ),
)
