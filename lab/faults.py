"""Faults, each caused for real and each with its cure. All act inside the lab's own namespaces."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lab import lifecycle, netns, process
from lab.guests import Guest
from lab.host import Host, Lab
from lab.topology import CONTROL, MIGRATION
from lab.witness import copies

COPY_ENGINE = b"/var/cache/ferryman/copy-"  # how the word of its command line begins that names it
NETWORKS = {"all": (CONTROL, MIGRATION), CONTROL: (CONTROL,), MIGRATION: (MIGRATION,)}


# ---- links ----


def link_down(lab: Lab, host: str, network: str = "all") -> None:
    """Cut a host's cable at the switch; `network` is all, control or migration."""
    _set_links(lab, host, network, "down")


def link_up(lab: Lab, host: str, network: str = "all") -> None:
    """Plug it in again."""
    _set_links(lab, host, network, "up")


def _set_links(lab: Lab, host: str, network: str, state: str) -> None:
    for one in NETWORKS[network]:
        netns.ip("link", "set", netns.port(host, one), state, namespace=lab.topology.namespace("switch"))


@contextmanager
def cut(lab: Lab, *hosts: str, network: str = "all") -> Iterator[None]:
    """Cables cut for the length of a `with`."""
    for host in hosts:
        link_down(lab, host, network)
    try:
        yield
    finally:
        for host in hosts:
            link_up(lab, host, network)


def flap(lab: Lab, host: str, network: str = "all", *, times: int = 5, seconds: float = 0.5) -> None:
    """Cut and plug in, again and again."""
    for _ in range(times):
        with cut(lab, host, network=network):
            time.sleep(seconds)
        time.sleep(seconds)


def loss(lab: Lab, host: str, percent: int) -> None:
    """Drop that share of what comes in at a host; 0 heals."""
    if percent:
        _filter(lab, host, "loss", f"numgen random mod 100 <= {percent - 1} drop")  # nft compares with 0 to 99 only
    else:
        _unfilter(lab, host, "loss")


def partition(lab: Lab, one: str, other: str) -> None:
    """The two hosts (or a host and the controller) hear nothing of each other any more; everybody else still hears both."""
    for host, silent in ((one, other), (other, one)):
        addresses = ", ".join(lab.topology.address(silent, network) for network in (CONTROL, MIGRATION))
        _filter(lab, host, f"partition{silent}", f"ip saddr {{ {addresses} }} drop")


def one_way(lab: Lab, deaf: str, to: str) -> None:
    """`deaf` hears nothing of `to`, which still hears it."""
    addresses = ", ".join(lab.topology.address(to, network) for network in (CONTROL, MIGRATION))
    _filter(lab, deaf, f"partition{to}", f"ip saddr {{ {addresses} }} drop")


def heal(lab: Lab) -> None:
    """Take away every loss and partition, plug in every cable, let every stopped daemon and QEMU go on."""
    for member in ("controller", *(host.name for host in lab.hosts if host.up)):
        for table in netns.tool("nft", "list", "tables", namespace=lab.topology.namespace(member)).splitlines():
            if "lab" in table:
                _unfilter(lab, member, table.split()[-1].removeprefix("lab"))
    for host in lab.hosts:
        if host.up:
            link_up(lab, host.name)
            for daemon in ("libvirtd", "virtlogd"):
                continue_daemon(lab, host.name, daemon)
            for pid in host.processes():
                if process.state(pid) == "T":
                    _signal(pid, signal.SIGCONT)


def _filter(lab: Lab, host: str, name: str, rule: str) -> None:
    table = f"lab{name}"
    text = f"table inet {table} {{ chain input {{ type filter hook input priority -300; {rule}\n}}\n}}\n"
    netns.tool("nft", "-f", "-", namespace=lab.topology.namespace(host), text=text)


def _unfilter(lab: Lab, host: str, name: str) -> None:
    netns.tool("nft", "delete", "table", "inet", f"lab{name}", namespace=lab.topology.namespace(host), check=False)


# ---- processes ----


def daemon_pid(lab: Lab, host: str, daemon: str = "libvirtd") -> int:
    """A host's daemon as the machine numbers it; 0 when it does not run."""
    for pid in lab.host(host).processes():
        with suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text().strip() == daemon and process.state(pid) != "Z":
                return pid
    return 0


def kill_daemon(lab: Lab, host: str, daemon: str = "libvirtd") -> None:
    """SIGKILL; returns when it is gone."""
    pid = daemon_pid(lab, host, daemon)
    _signal(pid, signal.SIGKILL)
    while process.state(pid) not in ("", "Z"):
        time.sleep(0.01)


def stop_daemon(lab: Lab, host: str, daemon: str = "libvirtd") -> None:
    """SIGSTOP: it is there, and silent. Returns when it stands still."""
    pid = daemon_pid(lab, host, daemon)
    _signal(pid, signal.SIGSTOP)
    while process.state(pid) not in ("T", "", "Z"):
        time.sleep(0.01)


def continue_daemon(lab: Lab, host: str, daemon: str = "libvirtd") -> None:
    """SIGCONT."""
    if pid := daemon_pid(lab, host, daemon):
        _signal(pid, signal.SIGCONT)


def start_daemon(lab: Lab, host: str, daemon: str = "libvirtd") -> None:
    """Start a daemon that was killed, unless it runs."""
    if not daemon_pid(lab, host, daemon):
        if daemon == "libvirtd":
            lifecycle.start_libvirtd(lab.host(host))
        else:
            lab.host(host).run([f"/usr/sbin/{daemon}", "--daemon"])


def kill_guest_process(lab: Lab, host: str, guest: Guest) -> None:
    """SIGKILL to the QEMU of a guest at a host."""
    for copy in copies(lab, guest, look=0):
        if copy.host == host:
            _signal(copy.pid, signal.SIGKILL)


def signal_guest(lab: Lab, host: str, name: str, number: signal.Signals) -> None:
    """A signal to the QEMU of the guest of that name at a host."""
    for pid in lab.host(host).processes():
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"qemu-system" in words[0] and any(word.startswith(f"guest={name},".encode()) for word in words):
                _signal(pid, number)
                return
    raise RuntimeError(f"no guest '{name}' runs at {host}")


def kill_copy(lab: Lab, host: str) -> None:
    """SIGKILL to the end of a disk copy that runs at a host. Raises RuntimeError when none does."""
    ends = process.named(lab.host(host).processes(), COPY_ENGINE)
    for pid in ends or [0]:
        _signal(pid, signal.SIGKILL)


def kill_ssh(lab: Lab) -> None:
    """SIGKILL to every ssh that runs at the controller. Raises RuntimeError when none does."""
    sessions = process.named(process.in_network_namespace(lab.topology.namespace("controller")), b"ssh")
    for pid in sessions or [0]:
        _signal(pid, signal.SIGKILL)


def _signal(pid: int, number: signal.Signals) -> None:
    if not pid:
        raise RuntimeError("there is no such process at that host")
    os.kill(pid, number)


# ---- hosts ----


def vanish(lab: Lab, host: str) -> None:
    """The power goes: cables dead first, then every process at once."""
    link_down(lab, host)
    process.end(*lab.host(host).init)


def reappear(lab: Lab, host: str) -> Host:
    """The power comes back: the host boots with the disk it had."""
    link_up(lab, host)
    lifecycle.reappear(lab, lab.host(host))
    return lab.host(host)


def mend(lab: Lab) -> None:
    """Every host up and healed, with its libvirtd, whatever befell it."""
    for host in lab.hosts:
        if not host.up:
            reappear(lab, host.name)
    heal(lab)
    for host in lab.hosts:
        start_daemon(lab, host.name)
