"""`./dev fresh --guide`: is the guide enough? A new machine and two bare hosts, by the guide's own commands from the wheel to a proven move."""

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

from lab import fresh, guests, lifecycle, witness
from lab.guests import Guest, GuestSpec
from lab.host import PROJECT, Lab

NAME = "guide"
# Disks lie where the guide's pool is; the client's connection must outlive the move.
SPEC = GuestSpec(name="web", disks=("local",), dirty="20:8:t", autostart=True)


def prove(suite: str) -> float | None:
    """Seconds from the first package to the last command; None when one failed, or the move was not as it is promised."""
    with fresh.new_root(suite) as root:
        lab = lifecycle.up(NAME, suites=(suite, suite), bare=True)
        try:
            _take_away(lab)
            began = time.monotonic()
            Newcomer(lab, root).follow_the_guide()
            return time.monotonic() - began
        except (AssertionError, RuntimeError, subprocess.SubprocessError) as error:
            print(f"{suite}: {error}", flush=True)
            return None
        finally:
            lifecycle.down(NAME)


def commands(page: str, heading: str, number: int = 0) -> str:
    """A block of commands below a heading of the guide, with hosts by the names that they have here."""
    text = (PROJECT / "docs/guide" / page).read_text()
    section = re.split(rf"^#+ {re.escape(heading)}$", text, maxsplit=1, flags=re.MULTILINE)[1]
    block = re.findall(r"^( *)```sh\n(.*?)^ *```", section, flags=re.MULTILINE | re.DOTALL)[number][1]
    return re.sub(r"^ +", "", block, flags=re.MULTILINE).replace(".example.net", "")


class Newcomer:
    """Somebody at a new machine, with the guide."""

    def __init__(self, lab: Lab, root: Path) -> None:
        self.lab, self.root = lab, root

    def follow_the_guide(self) -> None:
        """Word for word; only questions are answered beforehand (-y, --yes)."""
        self.type(
            "apt-get update -qq\n" + commands("install.md", "Packages").replace("apt install", "apt-get install -yqq"),
            quietly=True,
        )
        self.type(commands("install.md", "ferryman") + commands("install.md", "ferryman", 1), quietly=True)
        self.type(commands("install.md", "Look"), may_end=(0, 3))  # no host is registered yet
        self._let_in()
        for host in self.lab.hosts:
            host.run(["sh", "-ec", commands("prepare-hosts.md", "Before", 2)])
        web = guests.define(self.lab, "a", SPEC)
        self.lab.host("a").run(["virsh", "start", web.name])
        guests.wait_healthy(self.lab, web)
        self.type(commands("prepare-hosts.md", "Register"))
        self.type(commands("prepare-hosts.md", "Prepare"))
        self.type(commands("prepare-hosts.md", "Check"))
        with witness.Counter(self.lab, web) as counter:
            self.type(
                re.sub(
                    r"^(ferryman migrate .*--to b)$", r"\1 --yes", commands("migrate.md", "Migrate"), flags=re.MULTILINE
                )
            )
            self._prove(web, counter)
        self.type("ferryman history && ferryman recover")
        (moved,) = json.loads(self.type("ferryman history --json", quietly=True))
        self.type(f"ferryman show {moved['request']['id']} && ferryman retire {moved['request']['id']}")

    def type(self, words: str, *, quietly: bool = False, may_end: tuple[int, ...] = (0,)) -> str:
        """Commands at the machine, which is in the lab's network once it has what it needs. Raises AssertionError with their words."""
        print(f"\n$ {words.strip().replace(chr(10), chr(10) + '$ ')}", flush=True)
        away = "apt-get" in words or "pipx" in words
        network = [] if away else ["nsenter", f"--net=/run/netns/{self.lab.topology.namespace('controller')}"]
        ended = subprocess.run([*network, *fresh.inside(self.root, f"set -e\n{words}")], env={**fresh.environment(), "DEBIAN_FRONTEND": "noninteractive"},
                               stdin=subprocess.DEVNULL, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
        if not quietly or ended.returncode not in may_end:
            print(ended.stdout, flush=True)
        assert ended.returncode in may_end, f"it ended with {ended.returncode}"
        return ended.stdout

    def _let_in(self) -> None:
        """What the guide says of ssh: a key that root at each host accepts, and the hosts' own key known."""
        keys, home = self.lab.directory / "keys", self.root / "root/.ssh"
        home.mkdir(mode=0o700)
        shutil.copy(keys / "ssh_key", home / "id_ed25519")
        (self.root / "etc/hosts").write_text(self.lab.topology.hosts_file())
        for host in self.lab.topology.hosts:
            self.type(f"ssh -o StrictHostKeyChecking=accept-new root@{host} true && ssh root@{host} true")

    def _prove(self, web: Guest, counter: witness.Counter) -> None:
        """By the witness: one copy, at the destination, no count lost, no block wrong."""
        time.sleep(0.5)
        seen = counter.report()
        assert witness.running_at(self.lab, web) == ("b",), "it does not run at b alone"
        assert (seen.lost, seen.repeated, seen.connections) == (0, 0, 1), f"its client saw {seen}"
        disk = witness.check_disk(self.lab, web, at="b", acknowledged=guests.health(self.lab, web)["acknowledged"])
        assert (disk.wrong, disk.missing) == (0, 0), f"its disk is {disk}"
        print(f"proved: {seen.counts} counts, none lost, one connection, one copy, at b", flush=True)


def _take_away(lab: Lab) -> None:
    """What the lab's hosts have beyond a new installation: pools, and keys for each other."""
    for host in lab.hosts:
        for pool in ("local", "shared"):
            host.run(["virsh", "pool-destroy", pool])
            host.run(["virsh", "pool-undefine", pool])
        host.run(["rm", "-f", "/root/.ssh/id_ed25519", "/root/.ssh/known_hosts"])
