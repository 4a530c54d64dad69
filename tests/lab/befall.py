"""What can befall a move, each caused for real while ferryman is held at a step, and taken away again."""

import signal
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from ferryman.plan.steps import WORKFLOW_STEPS
from lab import faults
from tests.lab.operators import ATTENTION
from tests.lab.scene import IMAGES, Scene

Act = Callable[[Scene], None]
# In a cold move: while the guest is off, and once it has started at the destination.
_OFF = ("hold", "copy-tpm", "copy-saved", "copy-disks", "arrive", "leave", "start")
_SEEN_THERE = ("health", "open", "release", "forget-passes")
_ODD_ENDS = (
    "end-passes",
    "enter-rolling-back",
    "resume-source",
    "undo",
    "undo-refused",
    "retry",
    "read-facts",
    "destroy-husk",
)


def _nothing(scene: Scene) -> None:
    """The cure of what is over by itself."""


def anywhere(step: str) -> bool:
    """It can happen at every step."""
    return True


def _before_the_transfer(step: str) -> bool:
    return WORKFLOW_STEPS.index(step) < WORKFLOW_STEPS.index("transfer")


def _until_it_is_verified(step: str) -> bool:
    """What happens after the last look is no business of the report."""
    return step in _ODD_ENDS or WORKFLOW_STEPS.index(step) < WORKFLOW_STEPS.index("verify")


def _while_it_is_at_the_source(step: str) -> bool:
    if step in (*_OFF, *_SEEN_THERE):
        return False
    return _before_the_transfer(step) or step == "transfer" or (step in _ODD_ENDS and step != "destroy-husk")


def _once_it_is_at_the_destination(step: str) -> bool:
    late = WORKFLOW_STEPS.index(step) >= WORKFLOW_STEPS.index("transfer")
    return step in _SEEN_THERE or (late and step not in _ODD_ENDS)


def _while_volumes_are_written(step: str) -> bool:
    return WORKFLOW_STEPS.index("make-volumes") <= WORKFLOW_STEPS.index(step) <= WORKFLOW_STEPS.index("transfer")


def _while_a_copy_runs(step: str) -> bool:
    """Only there are endpoints, and ssh sessions that stay."""
    return step in ("copy-ahead", "copy-disks")


def _while_nothing_is_open(step: str) -> bool:
    """A file system with files open for writing cannot be made read-only."""
    return _before_the_transfer(step) and step not in ("replace-definition", "eject-media", "start", "health")


def _not_before_its_time(step: str) -> bool:
    """One that waits for its time waits until the clock shows it, however far that was set back."""
    return step not in ("look-ahead", "wait")


@dataclass(frozen=True)
class Fault:
    """One thing that befalls. It is caused while ferryman is held, which is let go; `seconds` later it is taken away."""

    name: str
    cause: Act
    cure: Act = _nothing
    seconds: float = 0.0
    at: Callable[[str], bool] = anywhere  # at which steps it can happen, or means something
    kills: bool = False  # it may kill the guest's only copy
    bites: str = ""  # the step where it does most harm: each test run tries it there
    leap: float = 0.0  # of ferryman's wall clock
    prepare: Act = _nothing  # before the move is asked for


# ferryman itself


def _signal(scene: Scene, number: signal.Signals) -> None:
    assert scene.process is not None
    if scene.process.poll() is None:
        scene.operator.kill(scene.process, number)


def _kill(scene: Scene) -> None:
    _signal(scene, signal.SIGKILL)


def _stop(scene: Scene) -> None:
    _signal(scene, signal.SIGSTOP)


def _wake(scene: Scene) -> None:
    """Nobody took over meanwhile: the slot is held by whoever stands still."""
    assert scene.process is not None
    if scene.process.poll() is None and scene.operator.records.requests(open_only=True):
        other = scene.operator.run("recover")
        assert other.returncode in (0, ATTENTION), other.stderr
        assert "is being carried out by process" in other.stderr or not scene.operator.records.requests(open_only=True)
    _signal(scene, signal.SIGCONT)


def _move_meanwhile(scene: Scene) -> None:
    """ferryman stands still, and somebody moves the guest with virsh to wherever it is not."""
    _stop(scene)
    at = scene.running_at()
    if not at:
        return
    old = scene.image_of(at, "vda")
    other = scene.destination if at == scene.source else scene.source
    copied = ["--copy-storage-all", "--migrate-disks", "vda"] if scene.guest.spec.disks[0] == "local" else []
    moved = scene.lab.controller.run(
        ["virsh", "-c", f"qemu+tls://{at}/system", "migrate", "--live", "--p2p", "--tls", "--persistent", "--undefinesource",
         *copied, scene.guest.name, f"qemu+tls://{other}/system", f"tcp://{other}-migration"], check=False)  # fmt: skip
    scene.notes.append(f"virsh moved it from {at} to {other}: {moved.returncode} {moved.stderr.strip()}")
    if moved.returncode == 0:
        scene.virsh(other, "autostart", scene.guest.name)  # which does not travel
        if old.startswith(IMAGES):
            scene.lab.host(at).run(["rm", old])  # what virsh leaves is not for ferryman to name


# Processes of the hosts


def _kill_copy(end: str) -> Act:
    return lambda scene: faults.kill_copy(scene.lab, getattr(scene, end))


def _kill_ssh(scene: Scene) -> None:
    faults.kill_ssh(scene.lab)


def _kill_daemon(end: str) -> Act:
    return lambda scene: faults.kill_daemon(scene.lab, getattr(scene, end))


def _start_daemon(end: str) -> Act:
    return lambda scene: faults.start_daemon(scene.lab, getattr(scene, end))


def _kill_guest(end: str) -> Act:
    return lambda scene: faults.kill_guest_process(scene.lab, getattr(scene, end), scene.guest)


def _signal_guest(end: str, number: signal.Signals) -> Act:
    def act(scene: Scene) -> None:
        with suppress(RuntimeError):  # none is there now
            faults.signal_guest(scene.lab, getattr(scene, end), scene.guest.name, number)

    return act


def _vanish(end: str) -> Act:
    return lambda scene: faults.vanish(scene.lab, getattr(scene, end))


def _reappear(end: str) -> Act:
    def act(scene: Scene) -> None:
        faults.reappear(scene.lab, getattr(scene, end))

    return act


# The network


def _heal(scene: Scene) -> None:
    faults.heal(scene.lab)


def _cut(end: str) -> Act:
    return lambda scene: faults.link_down(scene.lab, getattr(scene, end))


def _flap(scene: Scene) -> None:
    """One short cut while ferryman is held, more as it goes on."""
    scene.operator.let_go()
    faults.flap(scene.lab, scene.destination, times=4, seconds=0.4)


def _one_way(scene: Scene) -> None:
    faults.one_way(scene.lab, scene.destination, scene.source)


def _loss(scene: Scene) -> None:
    faults.loss(scene.lab, scene.destination, 20)


def _partition(*ends: str) -> Act:
    def act(scene: Scene) -> None:
        if not ends:
            faults.partition(scene.lab, scene.source, scene.destination)
        for end in ends:
            faults.partition(scene.lab, getattr(scene, end), "controller")

    return act


# Storage


def _small_pool(scene: Scene) -> None:
    """The destination's local pool is a file system of its own."""
    host = scene.lab.host(scene.destination)
    size = 48 + scene.guest.spec.filled_mib
    host.run(["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", IMAGES])
    host.run(["virsh", "pool-refresh", "local"])
    scene.throw_away = True


def _fill_pool(scene: Scene) -> None:
    scene.lab.host(scene.destination).run(["sh", "-c", f"cat /dev/zero >{IMAGES}/filler 2>/dev/null; true"])


def _empty_pool(scene: Scene) -> None:
    scene.lab.host(scene.destination).run(["rm", "-f", f"{IMAGES}/filler"])


def _remount(how: str) -> Act:
    def act(scene: Scene) -> None:
        scene.lab.host(scene.destination).run(["mount", "-o", f"remount,{how}", IMAGES])

    return act


# The records


def _lock(scene: Scene) -> None:
    """Another program begins to write, and does not end."""
    for name in ("ferryman", "dbos"):
        file = scene.operator.state / f"{name}.sqlite"
        if not file.exists():  # not yet
            continue
        database = sqlite3.connect(file, isolation_level=None)
        database.execute("BEGIN IMMEDIATE")
        _locks.append(database)


_locks: list[sqlite3.Connection] = []


def _unlock(scene: Scene) -> None:
    while _locks:
        _locks.pop().close()


def _fill_state(scene: Scene) -> None:
    scene.lab.controller.run(["sh", "-c", f"cat /dev/zero >{scene.operator.state}/filler 2>/dev/null; true"])


def _empty_state(scene: Scene) -> None:
    """Not before the process has ended: who frees a disk frees it later."""
    assert scene.process is not None
    with suppress(subprocess.TimeoutExpired):
        scene.process.wait(120)
    scene.lab.controller.run(["rm", "-f", f"{scene.operator.state}/filler"])


SOURCE, DESTINATION = "source", "destination"
FAULTS = (
    Fault("ferryman killed", _kill),
    Fault("ferryman stopped for 30 s", _stop, _wake, 30.0),
    Fault("ferryman stopped, the guest moved by virsh meanwhile", _move_meanwhile, _wake, at=_until_it_is_verified),
    *(
        fault
        for end in (SOURCE, DESTINATION)
        for fault in (
            Fault(f"libvirtd killed at the {end}", _kill_daemon(end), _start_daemon(end), 8.0),
            Fault(f"libvirtd restarted at the {end}", _kill_daemon(end), _start_daemon(end)),
            Fault(f"link cut at the {end}", _cut(end), _heal, 5.0),
            Fault(f"ferryman cut off from the {end}", _partition(end), _heal, 12.0),
            Fault(f"{end} host gone", _vanish(end), _reappear(end), 2.0, kills=True),
        )
    ),
    *(
        Fault(
            f"QEMU stopped at the {end}",
            _signal_guest(end, signal.SIGSTOP),
            _signal_guest(end, signal.SIGCONT),
            6.0,
            where,
            bites="transfer" if end == SOURCE else "",
        )
        for end, where in ((SOURCE, _while_it_is_at_the_source), (DESTINATION, _once_it_is_at_the_destination))
    ),
    Fault("QEMU killed at the source", _kill_guest(SOURCE), at=_while_it_is_at_the_source, kills=True),
    Fault("QEMU killed at the destination", _kill_guest(DESTINATION), at=_once_it_is_at_the_destination, kills=True),
    Fault("link flapping", _flap, _heal, bites="transfer"),
    Fault("one-way cut", _one_way, _heal, 5.0, bites="transfer"),
    Fault("loss", _loss, _heal, 5.0, bites="transfer"),
    Fault("hosts parted from each other", _partition(), _heal, 5.0, bites="transfer"),
    Fault("ferryman cut off from both", _partition(SOURCE, DESTINATION), _heal, 12.0),
    Fault(
        "destination disk full",
        _fill_pool,
        _empty_pool,
        8.0,
        _while_volumes_are_written,
        prepare=_small_pool,
        bites="transfer",
    ),
    Fault("destination read-only", _remount("ro"), _remount("rw"), 6.0, _while_nothing_is_open, prepare=_small_pool),
    Fault("database locked", _lock, _unlock, 35.0, bites="transfer"),
    Fault("state directory full", _fill_state, _empty_state, bites="transfer"),
    Fault("clock leaps forward", _nothing, leap=7200.0, bites="transfer"),
    Fault("clock leaps back", _nothing, at=_not_before_its_time, leap=-7200.0),
    Fault("sender killed", _kill_copy(SOURCE), at=_while_a_copy_runs, bites="copy-disks"),
    Fault("receiver killed", _kill_copy(DESTINATION), at=_while_a_copy_runs, bites="copy-disks"),
    Fault("ssh killed", _kill_ssh, at=_while_a_copy_runs, bites="copy-disks"),
)
