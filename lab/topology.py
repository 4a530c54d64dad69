"""What a lab is made of: names, addresses and directories, all derived from parameters. Pure."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

LABS = Path(os.environ.get("FERRYMAN_LAB_DIR", "/var/lib/ferryman-lab"))

SUITES = ("bookworm", "trixie")  # Debian 12 and 13, oldest first
CONTROL, MIGRATION = "control", "migration"  # the two networks; guests are on the control network


@dataclass(frozen=True)
class Topology:
    """The parameters of a lab. `link` is tc's word for a rate, such as 1gbit; empty: not shaped."""

    name: str
    hosts: tuple[str, ...]
    suites: tuple[str, ...]  # the Debian of each host
    link: str = "1gbit"
    control_subnet: str = "10.77.0"
    migration_subnet: str = "10.78.0"
    bare: bool = False  # hosts as Debian installs them: no certificates, no TLS, ssh keys only, QEMU as its own user
    owner: int = 0  # pid of the process that made it, 0 when it should outlive its maker

    @property
    def directory(self) -> Path:
        """Everything of this lab on disk."""
        return LABS / self.name

    def namespace(self, part: str) -> str:
        """The network namespace of a host, the switch or the controller."""
        return f"fm-{self.name}-{part}"

    def suite(self, host: str) -> str:
        """The Debian suite of a host."""
        return self.suites[self.hosts.index(host)]

    def address(self, part: str, network: str = CONTROL) -> str:
        """The address of a host (.11, .12, …) or of the controller (.2) in one of the networks."""
        subnet = self.control_subnet if network == CONTROL else self.migration_subnet
        return f"{subnet}.{2 if part == 'controller' else 11 + self.hosts.index(part)}"

    def guest_address(self, number: int) -> str:
        """The address of the n-th guest, from 1."""
        return f"{self.control_subnet}.{100 + number}"

    def hosts_file(self) -> str:
        """/etc/hosts for every member."""
        lines = ["127.0.0.1 localhost", f"{self.address('controller')} controller"]
        for host in self.hosts:
            lines += [f"{self.address(host)} {host}", f"{self.address(host, MIGRATION)} {host}-migration"]
        return "\n".join(lines) + "\n"


def topology(
    name: str,
    suites: Sequence[str] = ("trixie", "trixie"),
    link: str = "1gbit",
    *,
    bare: bool = False,
    subnets: tuple[str, str] = ("10.77.0", "10.78.0"),
    owner: int = 0,
) -> Topology:
    """A lab of hosts named a, b, c, …, one of each suite given. Raises ValueError naming what cannot be used."""
    if not name.isalnum() or len(name) > 12:
        raise ValueError(f"lab name '{name}': use up to 12 letters and digits (it becomes part of interface names)")
    if not 1 <= len(suites) <= 20:
        raise ValueError(f"a lab of {len(suites)} hosts: it has 1 to 20")
    for suite in suites:
        if suite not in SUITES:
            raise ValueError(f"suite '{suite}': the lab knows {' and '.join(SUITES)}")
    for subnet in subnets:
        ip_network(f"{subnet}.0/24")  # says itself what is wrong with it
    hosts = tuple("abcdefghijklmnopqrst"[: len(suites)])
    return Topology(name, hosts, tuple(suites), link, *subnets, bare=bare, owner=owner)


def parse_suites(text: str) -> tuple[str, ...]:
    """The suite of each host from SUITE:NUMBER,…, such as bookworm:1,trixie:2. Raises ValueError."""
    suites: list[str] = []
    for item in text.split(","):
        suite, _, number = item.partition(":")
        if number and not number.isdigit():
            raise ValueError(f"--suite {item}: write SUITE:NUMBER, such as bookworm:1,trixie:1")
        suites += [suite] * int(number or 1)
    return tuple(suites)
