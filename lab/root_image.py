"""The root file system that all hosts of a lab share: one cached Debian tree, built once, read-only ever after."""

import fcntl
import hashlib
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

CACHE = Path(os.environ.get("FERRYMAN_LAB_CACHE", "/var/cache/ferryman-lab"))

PACKAGES = [
    "libvirt-daemon-system",
    "libvirt-clients",
    "libvirt-daemon-driver-qemu",
    "qemu-system-x86",
    "qemu-utils",
    "openssh-server",
    "swtpm",
    "swtpm-tools",
    "ovmf",
    "python3-libnbd",
    "python3-zstandard",
    "libnbd-bin",
    "rsync",
    "iproute2",
    "iputils-ping",
    "iputils-arping",
    "nftables",
    "netcat-openbsd",
    "tini",
    "busybox-static",
    "procps",
]
KERNEL = "linux-image-cloud-amd64"

# Left out of the tree: what no host of the lab reads.
EXCLUDED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists")


def root_image(suite: str = "trixie") -> Path:
    """The tree for that Debian suite; builds it the first time (a minute or two). Two callers at once: one builds, one waits."""
    recipe = hashlib.sha256(repr((suite, PACKAGES, KERNEL, EXCLUDED, 2)).encode()).hexdigest()[:12]
    tree = CACHE / f"root-{suite}-{recipe}"
    if tree.is_dir():
        return tree
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"{tree.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tree.is_dir():
            _build(suite, tree)
    return tree


def _build(suite: str, tree: Path) -> None:
    print(f"lab: building the hosts' root from Debian {suite} in {tree} (once, about two minutes)", flush=True)
    building = tree.with_name(f"{tree.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    log = CACHE / f"{tree.name}.log"
    with open(log, "w") as output:
        result = subprocess.run(
            [
                "mmdebstrap",
                "--variant=minbase",
                "--mode=root",
                "--aptopt=Apt::Install-Recommends false",
                f"--include={','.join(PACKAGES)}",
                f'--customize-hook=chroot "$1" sh -c \'cd /tmp && apt-get download $(apt-cache depends {KERNEL} | sed -n "s/.*Depends: //p" | head -1)'
                " && for archive in linux-image-*.deb; do dpkg-deb -x $archive /kernel; done; rm -f /tmp/*.deb'",
                suite,
                str(building),
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    if result.returncode != 0:
        tail = "\n".join(log.read_text().splitlines()[-15:])
        raise RuntimeError(f"building the lab's root failed; the whole log is {log}, its end:\n{tail}")
    for path in EXCLUDED:
        shutil.rmtree(building / path, ignore_errors=True)
    with suppress(FileNotFoundError):
        (building / "etc/hostname").unlink()
    building.rename(tree)
