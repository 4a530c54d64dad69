"""One move that something befalls: the guest, who moves it from where to where, and what must be true of it afterwards."""

import json
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from ferryman.plain import to_plain
from lab import faults, guests, process, witness
from lab.guests import POOL_PATHS, Guest, GuestSpec
from lab.host import Host, Lab
from tests.lab.operators import ATTENTION, PUT_BACK, REFUSED, SUCCEEDED, Operator, judge

IMAGES = POOL_PATHS["local"]
SEED = f"{IMAGES}/tried-seed.iso"  # a medium that only one host has
SHARED_SEED = "/srv/shared/tried.iso"
SPEC = GuestSpec(
    name="tried", address="10.77.0.131", memory_mib=128, disks=("local", "shared"), disk_mib=64, writes_per_s=40,
    count_every_ms=20, autostart=True, cdrom=SHARED_SEED,
)  # fmt: skip
ENDED_WITHIN = 200.0  # seconds: a silent host is asked for at most 90, an abort repeated for 90
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)


@dataclass
class Scene:
    """A guest that was found healthy at `source`. `process` is the ferryman at work, `notes` what a failure should tell."""

    lab: Lab
    guest: Guest
    operator: Operator
    source: str
    destination: str
    process: subprocess.Popen[str] | None = None
    throw_away: bool = False  # the guest's images lie where they cannot stay
    notes: list[str] = field(default_factory=list)

    def asked(self, *more: str) -> tuple[str, ...]:
        """The words of the move."""
        probe = f"{self.guest.address}:{guests.HEALTH_PORT}"
        return ("migrate", self.guest.name, "--to", self.destination, "--yes", "--probe", probe, *more)

    def start(self, arguments: tuple[str, ...], moment: str) -> None:
        """Start ferryman and wait until it stands still at that moment."""
        self.process = self.operator.start(*arguments, crash=f"hold={moment}")
        self.operator.wait_until_held(self.process)

    def virsh(self, host: str, *arguments: str, check: bool = True) -> str:
        """What virsh says at a host."""
        return self.lab.host(host).run(["virsh", *arguments], check=check).stdout

    def running_at(self) -> str:
        """The one host where a copy executes; empty when none does."""
        found = witness.running_at(self.lab, self.guest)
        assert len(found) < 2, f"the guest runs twice: {found}"
        return found[0] if found else ""

    def image_of(self, host: str, target: str) -> str:
        """What a disk of the guest is, as its definition at a host says."""
        return self.disks(host).get(target, "-")

    def disks(self, host: str) -> dict[str, str]:
        """What each of its disks is there."""
        rows = [row.split() for row in self.virsh(host, "domblklist", self.guest.name).splitlines()]
        return {row[0]: row[1] for row in rows if len(row) == 2}

    def images(self, host: str) -> set[str]:
        """Paths in the local pool's directory that are the guest's or were made for it, whole or in part."""
        names = self.lab.host(host).run(["ls", "-A", IMAGES]).stdout.split()
        return {f"{IMAGES}/{name}" for name in names if name.startswith(("tried-", ".tried-"))} - {SEED}


def made(lab: Lab, at: str = "a", spec: GuestSpec = SPEC) -> Guest:
    """The guest at a host, anew, with nothing left of an earlier one."""
    for host in lab.hosts:
        uuid = host.run(["virsh", "domuuid", SPEC.name], check=False).stdout.strip()
        if uuid:
            guests.remove(lab, Guest(SPEC, uuid, ""))
        host.run(
            ["sh", "-c", f"while umount {IMAGES} 2>/dev/null; do :; done; rm -f {IMAGES}/tried-* {IMAGES}/.tried-*"]
        )
        host.run(["virsh", "pool-refresh", "local"])
    lab.host("a").run(["sh", "-c", f"head -c 1M /dev/urandom >{SHARED_SEED}"])
    return guests.start(lab, at, spec)


def at_home(lab: Lab, guest: Guest) -> str:
    """Where the guest runs alone, whole and as it was made; empty when it does not, or something of it lies elsewhere."""
    lists = {host.name: host.run(["virsh", "list", "--all", "--name"]).stdout.split() for host in lab.hosts}
    at = [name for name, names in lists.items() if guest.name in names]
    if len(at) != 1:
        return ""
    scene = Scene(lab, guest, None, at[0], "")  # type: ignore[arg-type]
    try:
        if guests.health(lab, guest)["wrong"] or scene.running_at() != at[0]:
            return ""
    except RuntimeError:
        return ""
    scene.virsh(at[0], "autostart", guest.name)
    stray = {name: scene.images(name) - set(scene.disks(at[0]).values()) for name in lists if name == at[0]}
    stray |= {name: scene.images(name) for name in lists if name != at[0]}
    for name, paths in stray.items():
        if paths:
            lab.host(name).run(["rm", "-f", *paths])
            scene.virsh(name, "pool-refresh", "local")
    return at[0]


def ended(
    scene: Scene, *, killed: bool, counter: witness.Counter | None, tidy: Callable[[Scene], None] = lambda scene: None
) -> None:
    """All that must be true once the process has ended and what befell it is over. `tidy` takes away what the test brought.

    `killed`: a copy of the guest itself was killed, so that it may run nowhere, and counts are lost with it.
    """
    process = scene.process
    assert process is not None
    code = process.wait(ENDED_WITHIN)
    words = process.communicate()[0] or ""
    scene.notes.append(f"ended with {code}: {words[-1500:]}")
    told_truly(scene, code, words)
    for attempt in range(3):
        if not scene.operator.records.requests(open_only=True):
            break
        if attempt and killed:
            revived(scene)
        recovered = scene.operator.run("recover")
        scene.notes.append(
            f"recover ended with {recovered.returncode}: {(recovered.stdout + recovered.stderr)[-1500:]}"
        )
        assert recovered.returncode in (SUCCEEDED, ATTENTION), scene.notes
    assert not scene.operator.records.requests(open_only=True), scene.notes
    if killed:
        revived(scene)
    at = scene.running_at()
    assert at, (scene.notes, "the guest runs nowhere")
    if scene.operator.records.requests(limit=1):
        _the_end_is_true(scene, at, killed=killed)
    _nothing_is_left_unsaid(scene, at)
    _nothing_works_on(scene)
    tidy(scene)
    if counter is not None and not killed:
        scene.operator.wait_for(lambda: counter.report().quiet < 1, "counts to come again", 30)
        seen = counter.report()
        assert (seen.lost, seen.repeated, seen.connections) == (0, 0, 1), (seen, scene.notes)
    guests.wait_healthy(scene.lab, scene.guest)  # one that was stopped may still be starting
    judge(scene.lab, scene.guest, at=at, operator=scene.operator, image=scene.image_of(at, "vda"))


def _the_end_is_true(scene: Scene, at: str, *, killed: bool) -> None:
    """The report's end fits where the guest is."""
    outcome = scene.operator.last()["outcome"]
    assert outcome["running_at"] in ("", at) or killed, (at, outcome, scene.notes)
    if outcome["status"] == "succeeded":
        assert at == scene.destination, (outcome, scene.notes)
    elif outcome["status"] in ("failed", "cancelled"):
        assert at == scene.source, (outcome, scene.notes)


def told_truly(scene: Scene, code: int, words: str) -> None:
    """The exit code says what the records say, or that they could not be written."""
    if code in KILLED:
        return
    report = scene.operator.last() if scene.operator.records.requests(limit=1) else None
    phase = report["phase"] if report else ""
    if code == SUCCEEDED:
        assert phase in ("succeeded", "failed", "refused", "cancelled"), (phase, words)  # of recover: settled
        assert phase == "succeeded" or "request" in words, (phase, words)
    elif code == REFUSED:
        assert phase in ("refused", ""), (phase, words)  # it may not even have become a request
    elif code == PUT_BACK:
        assert phase in ("failed", "cancelled"), (phase, words)
    else:
        assert code == ATTENTION, (code, words)
        unwritten = str(scene.operator.state) in words
        assert phase == "needs attention" or unwritten, (phase, words)
        assert "Traceback" not in words, words


def revived(scene: Scene) -> None:
    """Somebody starts the killed guest again where its definition is, or does as the remedy says."""
    if witness.running_at(scene.lab, scene.guest):
        return
    listed = [host.name for host in scene.lab.hosts if scene.guest.name in scene.virsh(host.name, "list", "--all", "--name").split()]  # fmt: skip
    if len(listed) == 2:  # the destination had taken over, and ended
        remedy = scene.operator.last()["outcome"]["remedy"]
        name, old, new = scene.guest.name, scene.source, scene.destination
        if f"virsh start {name} there" in remedy:  # nothing was asked for, and the other definition was there before
            listed = [old]
        else:
            assert f"virsh destroy {name} at {old}, virsh start {name} at {new}" in remedy, (remedy, scene.notes)
            scene.virsh(old, "destroy", name)
            listed = [new]
    assert len(listed) == 1, f"the definition is at {listed}: {scene.notes}"
    scene.virsh(listed[0], "start", scene.guest.name, check=False)
    guests.wait_healthy(scene.lab, scene.guest)


def _nothing_is_left_unsaid(scene: Scene, at: str) -> None:
    """A volume that no guest uses is named by a report, at its host."""
    said = ""
    for request in scene.operator.records.requests():
        report = scene.operator.records.report(request.id, with_samples=False)  # what ferryman show prints
        said += json.dumps(to_plain([report.left_to_retire, report.decisions]))
    for host in scene.lab.hosts:
        used = set(scene.disks(at).values()) if host.name == at else set()
        for path in scene.images(host.name) - used:
            name = path.rsplit("/", 1)[1]
            assert path in said or f"volume {name}" in said, (f"{path} at {host.name} is named nowhere", scene.notes)


def _nothing_works_on(scene: Scene) -> None:
    """No end of a copy and no hold is left at a host, whatever became of those who started it."""
    for host in scene.lab.hosts:
        for what, word in (("copy", faults.COPY_ENGINE), ("hold", b"qemu-nbd")):
            scene.operator.wait_for(partial(_none, host, word), f"no {what} at {host.name} ({scene.notes})", 60)


def _none(host: Host, word: bytes) -> bool:
    return not process.named(host.processes(), word)


def retired(scene: Scene) -> None:
    """What the move left at its source is removed when it is asked for."""
    done = scene.operator.run("retire", scene.operator.request_id())
    assert done.returncode == SUCCEEDED, (done.stdout, done.stderr, scene.notes)
    assert not scene.images(scene.source), scene.notes


def moved_again(scene: Scene, *more: str) -> None:
    """A second attempt succeeds."""
    if scene.running_at() != scene.source:
        return
    again = scene.operator.run(*scene.asked("--retire", *more))
    assert again.returncode == SUCCEEDED, (again.stdout, again.stderr, scene.notes)
    judge(scene.lab, scene.guest, at=scene.destination, operator=scene.operator,
          image=scene.image_of(scene.destination, "vda"))  # fmt: skip


def pause(seconds: float) -> None:
    """Let what befell ferryman last."""
    time.sleep(seconds)
