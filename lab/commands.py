"""`./dev lab up|down|status|shell|guest|fault`."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from lab import faults, guests, lifecycle
from lab.host import Lab, labs, load
from lab.topology import parse_suites

_FAULTS = (
    "link-down",
    "link-up",
    "flap",
    "loss",
    "partition",
    "heal",
    "kill",
    "stop",
    "continue",
    "start",
    "kill-guest",
    "stop-guest",
    "vanish",
    "reappear",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; errors are one line that names the thing, the reason and the remedy."""
    options = _parser().parse_args(arguments)
    try:
        return _COMMANDS[options.command](options)
    except (RuntimeError, LookupError, ValueError) as error:
        print(f"lab: {error.args[0] if error.args else error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./dev lab", description="Real hosts on one machine.")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, description=text)
        one.add_argument("--name", default="demo", help="the lab (default: demo)")
        return one

    up = command("up", "bring a lab up")
    how_many = up.add_mutually_exclusive_group()
    how_many.add_argument("--hosts", type=int, default=2, help="so many hosts of Debian 13 (default: 2)")
    how_many.add_argument(
        "--suite", default="", metavar="SUITE:NUMBER,…", help="hosts of several Debians, such as bookworm:1,trixie:1"
    )
    up.add_argument("--link", default="1gbit", help="rate of every link, as tc writes it")
    up.add_argument("--bare", action="store_true", help="hosts without certificates and TLS, as Debian installs them")
    up.add_argument("--control-subnet", default="10.77.0", help="the first three numbers of its addresses")
    up.add_argument("--migration-subnet", default="10.78.0")
    command("down", "take a lab down with everything in it")
    command("status", "what runs in a lab, or which labs there are")
    shell = command("shell", "a shell, or one command, at a host or at the controller")
    shell.add_argument("host")
    shell.add_argument("run", nargs=argparse.REMAINDER, help="after --: the command")
    guest = command("guest", "make and start a guest")
    guest.add_argument("host")
    guest.add_argument("guest", nargs="?", default="web")
    guest.add_argument("--number", type=int, default=1, help="decides its address: .100 plus this")
    guest.add_argument("--dirty", default="20:10:t", help="memory rewritten: SIZE_MIB:RATE_MIB_S:z|t|r,…")
    fault = command("fault", "cause or heal a fault")
    fault.add_argument("fault", choices=_FAULTS)
    fault.add_argument("host", nargs="?", default="")
    fault.add_argument("what", nargs="?", default="", help="network, daemon, guest, other host, or percent")
    return parser


def _up(options: argparse.Namespace) -> int:
    suites = parse_suites(options.suite) if options.suite else ()
    lab = lifecycle.up(options.name, options.hosts, options.link, suites=suites, bare=options.bare,
                      subnets=(options.control_subnet, options.migration_subnet))  # fmt: skip
    hosts = ", ".join(f"{host} ({lab.topology.suite(host)})" for host in lab.topology.hosts)
    print(f"lab {lab.name} is up: hosts {hosts}, guests run under {lab.accelerator}")
    uri = "qemu+ssh://root@a/system" if options.bare else "qemu+tls://a/system"
    print(f"try: ./dev lab shell --name {lab.name} controller -- virsh -c {uri} list --all")
    return 0


def _down(options: argparse.Namespace) -> int:
    lifecycle.down(options.name)
    return 0


def _status(options: argparse.Namespace) -> int:
    try:
        lab = load(options.name)
    except LookupError:
        print(f"no lab '{options.name}'; there are: {', '.join(labs()) or 'none'}")
        return 1
    for host in lab.hosts:
        state = "up" if host.up else "down"
        daemon = "libvirtd runs" if host.up and faults.daemon_pid(lab, host.name) else "no libvirtd"
        suite = lab.topology.suite(host.name)
        print(
            f"{host.name}: {suite}, {state}, {daemon}, {lab.topology.address(host.name)}, {len(host.processes())} processes"
        )
    print(f"controller: {'up' if lab.controller.up else 'down'}, {lab.topology.address('controller')}")
    return 0


def _shell(options: argparse.Namespace) -> int:
    lab = load(options.name)
    member = lab.controller if options.host == "controller" else lab.host(options.host)
    run = options.run[1:] if options.run[:1] == ["--"] else options.run
    command = member.command(run or ["/bin/bash"])
    os.execvp(command[0], command)


def _guest(options: argparse.Namespace) -> int:
    lab = load(options.name)
    spec = guests.GuestSpec(name=options.guest, address=lab.topology.guest_address(options.number), dirty=options.dirty)
    guest = guests.start(lab, options.host, spec)
    print(
        f"{guest.name} runs at {options.host}, address {guest.address}: counts at port {guests.COUNT_PORT}, health at {guests.HEALTH_PORT}"
    )
    return 0


def _fault(options: argparse.Namespace) -> int:
    lab, host, what = load(options.name), options.host, options.what
    if options.fault == "heal":
        faults.heal(lab)
        return 0
    lab.host(host)  # a wrong name is said at once
    _cause(lab, options.fault, host, what)
    return 0


def _cause(lab: Lab, fault: str, host: str, what: str) -> None:
    match fault:
        case "link-down":
            faults.link_down(lab, host, what or "all")
        case "link-up":
            faults.link_up(lab, host, what or "all")
        case "flap":
            faults.flap(lab, host, what or "all")
        case "loss":
            faults.loss(lab, host, int(what or 10))
        case "partition":
            faults.partition(lab, host, lab.host(what).name)
        case "kill":
            faults.kill_daemon(lab, host, what or "libvirtd")
        case "stop":
            faults.stop_daemon(lab, host, what or "libvirtd")
        case "continue":
            faults.continue_daemon(lab, host, what or "libvirtd")
        case "start":
            faults.start_daemon(lab, host, what or "libvirtd")
        case "kill-guest":
            faults.signal_guest(lab, host, what, signal.SIGKILL)
        case "stop-guest":
            faults.signal_guest(lab, host, what, signal.SIGSTOP)
        case "vanish":
            faults.vanish(lab, host)
        case "reappear":
            faults.reappear(lab, host)


_COMMANDS = {"up": _up, "down": _down, "status": _status, "shell": _shell, "guest": _guest, "fault": _fault}
