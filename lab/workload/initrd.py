"""Kernel and initrd of the lab's guests: Debian's kernel, busybox, a few drivers and the workload."""

import fcntl
import hashlib
import lzma
import os
import shutil
import struct
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
MODULES = (  # those that a kernel has built in are left out: the first five in Debian 13's
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci",
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
    "drivers/block/virtio_blk",
    "fs/efivarfs/efivarfs",
    "drivers/acpi/button",
    "drivers/input/evdev",
)


def make_boot_files(tree: Path, target: Path) -> None:
    """Write vmlinuz, vmlinux and initrd into `target`, from the cache beside the root tree when they were made before."""
    sources = hashlib.sha256(
        b"".join((HERE / name).read_bytes() for name in ("workload.c", "init", "mark", "power", "agent", "initrd.py"))
    )
    made = tree.with_name(f"boot-{tree.name}-{sources.hexdigest()[:12]}")
    with open(tree.with_name("boot.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.is_dir():
            building = tree.with_name("boot.building")
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir()
            _build(tree, building)
            building.rename(made)
    target.mkdir(parents=True, exist_ok=True)
    for name in ("vmlinuz", "vmlinux", "initrd"):
        shutil.copy(made / name, target / name)


def _build(tree: Path, target: Path) -> None:
    kernel = next((tree / "kernel/boot").glob("vmlinuz-*"))
    shutil.copy(kernel, target / "vmlinuz")
    (target / "vmlinux").write_bytes(_unpacked(kernel.read_bytes()))
    modules = next((tree / "kernel").glob("**/lib/modules/*"))  # Debian 12's package has them in /lib
    content = target / "content"
    for directory in ("bin", "modules"):
        (content / directory).mkdir(parents=True)
    shutil.copy(tree / "usr/bin/busybox", content / "bin/busybox")
    for script in ("init", "mark", "power", "agent"):
        shutil.copy(HERE / script, content / script)
        (content / script).chmod(0o755)
    built_in = (modules / "modules.builtin").read_text().split()
    for module in (module for module in MODULES if f"kernel/{module}.ko" not in built_in):
        file = next(
            (modules / "kernel" / module).parent.glob(f"{Path(module).name}.ko*")
        )  # Debian 12 does not pack them
        data = lzma.decompress(file.read_bytes()) if file.suffix == ".xz" else file.read_bytes()
        (content / "modules" / f"{Path(module).name}.ko").write_bytes(data)
    subprocess.run(
        ["gcc", "-O2", "-static", "-pthread", "-o", str(content / "bin/workload"), str(HERE / "workload.c")], check=True
    )
    names = [str(path.relative_to(content)) for path in sorted(content.rglob("*"))]
    archive = subprocess.run(
        ["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"], cwd=content, input="\n".join(names).encode(),
        capture_output=True, check=True, env={**os.environ},
    ).stdout  # fmt: skip
    (target / "initrd").write_bytes(archive)
    shutil.rmtree(content)


def _unpacked(kernel: bytes) -> bytes:
    """The kernel inside, which QEMU starts by itself: unpacking it is a third of what a guest's start costs where the CPU is emulated.

    Where it lies is in Linux' Documentation/arch/x86/boot.rst: setup_sects, payload_offset, payload_length.
    """
    offset, length = struct.unpack_from("<II", kernel, 0x248)
    begin = (kernel[0x1F1] + 1) * 512 + offset
    packed = kernel[begin : begin + length]
    if packed.startswith(b"\xfd7zXZ"):
        return lzma.LZMADecompressor().decompress(packed)  # Debian 12's
    program = "import sys, zstandard as z; sys.stdout.buffer.write(z.ZstdDecompressor().decompressobj().decompress(sys.stdin.buffer.read()))"
    return subprocess.run(["/usr/bin/python3", "-c", program], input=packed, capture_output=True, check=True).stdout
