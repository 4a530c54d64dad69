"""Up and down: a lab comes up from its topology alone and leaves nothing behind, also after a crash or a kill."""

import fcntl
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from lab import netns, process, small, tls
from lab.accelerator import kvm_runs
from lab.host import Controller, Host, Lab, labs, load, save
from lab.root_image import root_image
from lab.topology import LABS, SUITES, Topology, topology
from lab.workload.initrd import make_boot_files

CONFIGURATION = Path(__file__).parent / "configuration"
_holders: list[subprocess.Popen[bytes]] = []  # started here; they outlive us, or are reaped when their lab goes down


def up(
    name: str = "demo",
    hosts: int = 2,
    link: str = "1gbit",
    *,
    suites: Sequence[str] = (),
    bare: bool = False,
    subnets: tuple[str, str] = ("10.77.0", "10.78.0"),
    owner: int = 0,
) -> Lab:
    """Bring a lab up; one that is up with the same parameters is returned as it is, anything else of that name is taken down.

    `suites`: the Debian of each host, instead of so many hosts of Debian 13. `subnets`: of the control and the migration network.
    """
    wanted = topology(name, suites or ("trixie",) * hosts, link, bare=bare, subnets=subnets, owner=owner)
    LABS.mkdir(parents=True, exist_ok=True)
    with open(LABS / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(LookupError):
            lab = load(name)
            if lab.topology == wanted and lab.controller.up and all(host.up for host in lab.hosts):
                return lab
        _clean(wanted)
        return _raise(wanted)


def _raise(wanted: Topology) -> Lab:
    trees = {suite: root_image(suite) for suite in SUITES if suite in wanted.suites}
    wanted.directory.mkdir(parents=True)
    (wanted.directory / "shared").mkdir()
    with ThreadPoolExecutor() as pool:
        lab = Lab(wanted, "kvm" if all(pool.map(kvm_runs, trees.values())) else "tcg")
    save(lab)  # before anything is made, so that a killed `up` is found and cleaned
    newest = [suite for suite in SUITES if suite in trees][-1]
    make_boot_files(trees[newest], wanted.directory / "boot")
    netns.make_switch(wanted)
    for member in ("controller", *wanted.hosts):
        netns.connect(wanted, member)
    _make_keys(wanted)
    _start_controller(lab.controller)
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(lambda host: _start_host(host, trees[wanted.suite(host.name)]), lab.hosts):
            pass
    return lab


def _make_keys(wanted: Topology) -> None:
    keys = wanted.directory / "keys"
    tls.make_ssh_key(keys)
    if wanted.bare:
        return
    tls.make_authority(keys)

    def issue(member: str) -> None:
        names = [f"DNS:{member}", f"IP:{wanted.address(member)}"]
        if member != "controller":
            names += [f"DNS:{member}-migration", f"IP:{wanted.address(member, 'migration')}"]
        tls.issue(keys, member, names)

    for member in ("controller", *wanted.hosts):  # one after another: they share the CA's serial number
        issue(member)


def _start_controller(controller: Controller) -> None:
    upper = controller.directory / "etc"
    upper.mkdir(parents=True)
    keys = controller.topology.directory / "keys"
    if not controller.topology.bare:
        tls.install(keys, "controller", upper)
    (upper / "hosts").write_text(controller.topology.hosts_file())
    ssh = upper / "ssh"
    (ssh / "ssh_config.d").mkdir(parents=True)
    shutil.copy(keys / "ssh_key", ssh / "lab_key")
    (ssh / "lab_known_hosts").write_text(_known_hosts(controller.topology))
    (ssh / "ssh_config.d/lab.conf").write_text(
        "Host *\n  IdentityFile /etc/ssh/lab_key\n  UserKnownHostsFile /etc/ssh/lab_known_hosts\n"
    )
    (controller.directory / "work").mkdir()
    _start_init(controller, ["unshare", "--mount", "--fork", "--kill-child"], "controller-init", ())


def _known_hosts(wanted: Topology) -> str:
    key = (wanted.directory / "keys/ssh_key.pub").read_text().rsplit(" ", 1)[0]
    names = [
        f"{host},{wanted.address(host)},{host}-migration,{wanted.address(host, 'migration')}" for host in wanted.hosts
    ]
    return "".join(f"{name} {key}\n" for name in names)


def _start_host(host: Host, tree: Path) -> None:
    lab, directory = host.topology, host.directory
    for part in ("upper", "work", "root"):
        (directory / part).mkdir(parents=True, exist_ok=True)
    if not (directory / "upper/etc").exists():  # a host that reappears keeps its disk
        _configure(host, tree)
    _start_init(
        host,
        ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child"],
        "host-init",
        (str(tree), host.name, str(lab.directory / "shared"), str(lab.directory / "boot")),
    )
    start_daemons(host)
    if not (directory / "pools-made").exists():
        for pool, path in (("local", "/var/lib/libvirt/images"), ("shared", "/srv/shared")):
            host.run(["virsh", "pool-define-as", pool, "dir", "--target", path])
            host.run(["virsh", "pool-autostart", pool])
            host.run(["virsh", "pool-start", pool])
        (directory / "pools-made").touch()


def _configure(host: Host, tree: Path) -> None:
    etc, keys = host.directory / "upper/etc", host.topology.directory / "keys"
    (etc / "libvirt").mkdir(parents=True, exist_ok=True)
    if host.topology.bare:
        for name in ("libvirtd.conf", "qemu.conf"):  # what Debian installs, and what namespaces need
            shutil.copy(tree / "etc/libvirt" / name, etc / "libvirt" / name)
            with open(etc / "libvirt" / name, "a") as file:
                file.write((CONFIGURATION / f"bare-{name}").read_text().format(uuid=uuid.uuid4()))
    else:
        tls.install(keys, host.name, etc)
        for name in ("libvirtd.conf", "qemu.conf"):
            text = (CONFIGURATION / name).read_text()
            more = (
                CONFIGURATION / f"{name}.{host.topology.suite(host.name)}"
            )  # what only the libvirt of that suite knows
            if more.exists():
                text += more.read_text()
            (etc / "libvirt" / name).write_text(text.format(uuid=uuid.uuid4(), name=host.name))
    (etc / "hosts").write_text(host.topology.hosts_file())
    (etc / "hostname").write_text(f"{host.name}\n")
    (etc / "ssh/sshd_config.d").mkdir(parents=True)
    (etc / "ssh/sshd_config.d/lab.conf").write_text("PermitRootLogin prohibit-password\nUsePAM no\nUseDNS no\n")
    for path, mode in (("etc/ssh/ssh_host_ed25519_key", 0o600), ("root/.ssh/id_ed25519", 0o600)):
        target = host.directory / "upper" / path
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copy(keys / "ssh_key", target)
        target.chmod(mode)
    shutil.copy(keys / "ssh_key.pub", host.directory / "upper/root/.ssh/authorized_keys")
    (host.directory / "upper/root").chmod(0o700)
    (host.directory / "upper/root/.ssh").chmod(0o700)
    (host.directory / "upper/root/.ssh/known_hosts").write_text(_known_hosts(host.topology))


def _start_init(member: Host | Controller, unshare: list[str], script: str, arguments: tuple[str, ...]) -> None:
    """Start the process that holds a member's namespaces, and write down which it is."""
    namespace = member.topology.namespace(member.name)
    with open(member.directory / "init.log", "a") as log:
        outer = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{namespace}", "--", *unshare, "/bin/sh", str(CONFIGURATION / script),
             str(member.directory), *arguments],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    _holders.append(outer)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        inner = process.children(outer.pid)
        if inner and _settled(inner[0]):
            (member.directory / "init").write_text(f"{inner[0]} {process.start_time(inner[0])}")
            return
        if outer.poll() is not None:
            break
        time.sleep(0.02)
    words = (member.directory / "init.log").read_text()
    raise RuntimeError(f"{member.name} of lab {member.topology.name} did not start: {words.strip()[-500:]}")


def _settled(pid: int) -> bool:
    """Whether the set-up script is done: it ends by becoming the reaper, or sleep."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip() in ("tini", "sleep")
    return False


def start_daemons(host: Host) -> None:
    """sshd, virtlogd and libvirtd of a host; returns when libvirtd answers."""
    host.run(["/usr/sbin/sshd"])
    host.run(["/usr/sbin/virtlogd", "--daemon"])
    start_libvirtd(host)


def start_libvirtd(host: Host, within: float = 30) -> None:
    """Start a host's libvirtd and wait until it answers."""
    if host.topology.bare:  # as the distribution's init script does
        host.run(["/bin/sh", "-c", ". /etc/default/libvirtd; exec /usr/sbin/libvirtd --daemon $LIBVIRTD_ARGS"])
    else:
        host.run(["/usr/sbin/libvirtd", "--daemon", "--listen"])
    deadline = time.monotonic() + within
    while host.run(["virsh", "version"], check=False).returncode != 0:
        if time.monotonic() > deadline:
            log = host.root / "var/log/libvirt/libvirtd.log"
            raise RuntimeError(f"libvirtd of {host.name} does not answer; its log is {log}")
        time.sleep(0.1)


def reappear(lab: Lab, host: Host) -> None:
    """A vanished host comes back with the disk it had."""
    _start_host(host, root_image(lab.topology.suite(host.name)))


def down(name: str) -> None:
    """Take a lab down with everything that belongs to it, whatever state it is in. Nothing else is touched."""
    LABS.mkdir(parents=True, exist_ok=True)
    with open(LABS / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(LookupError):
            _clean(load(name).topology)
        (LABS / f"{name}.lock").unlink(missing_ok=True)


def _clean(wanted: Topology) -> None:
    """End the processes in the lab's namespaces, then remove namespaces and files. Mounts end with their namespaces."""
    known = wanted
    with suppress(LookupError):
        known = load(wanted.name).topology
    members: list[Host | Controller] = [Host(name, known) for name in known.hosts]
    for member in (*members, Controller("controller", known)):
        process.end(*member.init)
    for part in ("switch", "controller", *known.hosts):
        for pid in process.in_network_namespace(known.namespace(part)):
            process.end(pid, process.start_time(pid))
    _holders[:] = [holder for holder in _holders if holder.poll() is None]
    netns.remove(known)
    small.remove_all(known.directory)
    if known.directory.exists():
        shutil.rmtree(known.directory)


def clean_abandoned() -> list[str]:
    """Take down the labs whose owner is gone (those of test runs that crashed); returns their names."""
    abandoned = [
        name for name in labs() if (owner := load(name).topology.owner) and not os.path.exists(f"/proc/{owner}")
    ]
    for name in abandoned:
        down(name)
    return abandoned
