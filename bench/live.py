"""A live migration by ferryman and by virsh with the same options, alternating, on a link that keeps both busy for 15 s."""

import subprocess
import sys
import time
from dataclasses import dataclass

from bench.rows import Result, Row, alone, paired
from lab import guests, lifecycle, witness
from lab.guests import Guest, GuestSpec
from lab.host import Lab

LINK = "160mbit"
OWN_WORK = 2.0  # seconds
PEER = "virsh migrate --live --p2p --tls --persistent --undefinesource --auto-converge"
DATA_MIB = 240  # random data on the local disk


@dataclass(frozen=True)
class Scene:
    """A guest that both move to and fro; `copied` tells whether its disks go along."""

    name: str
    spec: GuestSpec
    copied: bool = False


SCENES = (
    Scene("shared disk", GuestSpec(name="load", memory_mib=512, dirty="224:2:r,16:2:t")),
    Scene(
        "local disk",
        GuestSpec(name="heavy", memory_mib=256, dirty="16:2:t", disks=("local", "local"), disk_mib=512),
        True,
    ),
)


@dataclass(frozen=True)
class Times:
    """One migration, in seconds."""

    before: float  # from the command's start to the job's
    job: float  # from the job's start to the guest's first instruction at the destination
    after: float  # from the job's end to the command's
    downtime: float


def measure(pairs: int) -> Result:
    """Bring a lab up, let both move the guests to and fro, take it down."""
    name = "bench"
    lifecycle.down(name)
    lab = lifecycle.up(name, 2, LINK)
    rows: list[Row] = []
    try:
        state = lab.directory / "ferryman"
        for host in ("a", "b"):
            _ferryman(lab, str(state), "host", "add", host, f"qemu+tls://{host}/system", "--migration-address", f"{host}-migration")  # fmt: skip
        for scene in SCENES:
            guest = _made(lab, scene)
            rows += _rows(scene, *_alternate(lab, scene, guest, str(state), pairs))
            guests.remove(lab, guest)
    finally:
        lifecycle.down(name)
    shared, local = (scene.spec for scene in SCENES)
    return Result(
        "live", f"{PEER}; with local disks also --copy-storage-all",
        f"Two lab hosts, links of {LINK}, libvirt and QEMU of Debian 13 ({lab.accelerator}); TLS on, for disks too. Shared disk: a guest of "
        f"{shared.memory_mib} MiB that rewrites {shared.dirty} (MiB:MiB/s:class). Local disk: one of {local.memory_mib} MiB that rewrites "
        f"{local.dirty}, writes to its first disk and has {DATA_MIB} MiB of random data on its second.", tuple(rows),
    )  # fmt: skip


def _made(lab: Lab, scene: Scene) -> Guest:
    """The guest at a, its disks filled where they are copied, its working set written once."""
    guest = guests.define(lab, "a", scene.spec)
    a = lab.host("a")
    if scene.copied:
        raw, image = "/var/lib/libvirt/images/random.raw", guest.disk_path(1)
        size = scene.spec.disk_mib
        a.run(["sh", "-c", f"head -c {DATA_MIB}M /dev/urandom >{raw} && truncate -s {size}M {raw} && "
               f"qemu-img convert -f raw -O qcow2 {raw} {image} && rm {raw}"])  # fmt: skip
    a.run(["virsh", "start", guest.name])
    guests.wait_healthy(lab, guest)
    time.sleep(5)
    return guest


def _rows(scene: Scene, ours: list[Times], theirs: list[Times]) -> tuple[Row, ...]:
    own = [one.before + one.after for one in ours]
    jobs = [one.job for one in ours], [one.job for one in theirs]
    stops = [one.downtime * 1000 for one in ours], [one.downtime * 1000 for one in theirs]
    return (
        paired(f"{scene.name}: job start to running at the destination", "s", jobs[0], jobs[1], 1.05),
        paired(f"{scene.name}: downtime", "ms", stops[0], stops[1], 1.10),
        alone(f"{scene.name}: ferryman's own work before and after the job", "s", own, OWN_WORK),
        alone(f"{scene.name}: of it before", "s", [one.before for one in ours], None),
        alone(
            f"{scene.name}: virsh's own work before and after", "s", [one.before + one.after for one in theirs], None
        ),
    )


def _alternate(lab: Lab, scene: Scene, guest: Guest, state: str, pairs: int) -> tuple[list[Times], list[Times]]:
    """Each pair goes there and back; who begins changes from pair to pair."""
    ours: list[Times] = []
    theirs: list[Times] = []
    for number in range(pairs):
        order = (
            [("ferryman", "a", "b"), ("virsh", "b", "a")]
            if number % 2 == 0
            else [("virsh", "a", "b"), ("ferryman", "b", "a")]
        )
        for who, source, destination in order:
            command = _command(who, scene, state, guest, source, destination)
            times = _one(lab, guest, command, source, destination)
            if scene.copied:  # what both leave behind, so that names are free on the way back
                lab.host(source).run(
                    ["sh", "-c", f"rm -f /var/lib/libvirt/images/{guest.name}-*; virsh pool-refresh local"]
                )
            (ours if who == "ferryman" else theirs).append(times)
            print(f"{scene.name}, pair {number + 1}/{pairs} {who}: job {times.job:.2f} s, downtime {times.downtime * 1000:.0f} ms, "
                  f"before {times.before:.2f} s, after {times.after:.2f} s", flush=True)  # fmt: skip
            time.sleep(1)
    return ours, theirs


def _command(who: str, scene: Scene, state: str, guest: Guest, source: str, destination: str) -> list[str]:
    if who == "ferryman":
        return [
            "env",
            f"FERRYMAN_STATE_DIRECTORY={state}",
            sys.executable,
            "-m",
            "ferryman",
            "migrate",
            guest.name,
            "--to",
            destination,
            "--yes",
        ]
    options = [*PEER.split()[2:], *(["--copy-storage-all"] if scene.copied else [])]
    return ["virsh", "--connect", f"qemu+tls://{source}/system", "migrate", *options, guest.name,
            f"qemu+tls://{destination}/system", f"tcp://{destination}-migration"]  # fmt: skip


def _one(lab: Lab, guest: Guest, command: list[str], source: str, destination: str) -> Times:
    watcher = lab.controller.popen(
        [sys.executable, "-m", "bench.watch", f"qemu+tls://{source}/system", guest.uuid],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watcher.stdout is not None
    assert watcher.stdout.readline().strip() == "ready"
    started = time.time()
    mover = lab.controller.popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL
    )
    witness.wait_until_executing(lab, guest, destination, within=180)
    running = time.time()
    words, _ = mover.communicate(timeout=120)
    ended = time.time()
    if mover.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {words}")
    job_start, job_end = map(float, watcher.stdout.readline().split())
    watcher.wait(10)
    return Times(job_start - started, running - job_start, ended - job_end, _downtime(lab, guest, destination))


def _downtime(lab: Lab, guest: Guest, host: str) -> float:
    """Seconds, as the destination's libvirt says it of the migration that just ended."""
    told = lab.host(host).run(["virsh", "domjobinfo", guest.name, "--completed", "--keep-completed"]).stdout
    line = next(line for line in told.splitlines() if line.startswith("Total downtime:"))
    return float(line.split()[2]) / 1000


def _ferryman(lab: Lab, state: str, *arguments: str) -> None:
    lab.controller.run(["env", f"FERRYMAN_STATE_DIRECTORY={state}", sys.executable, "-m", "ferryman", *arguments])
