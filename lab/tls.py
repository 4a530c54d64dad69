"""Certificates and ssh keys of one lab: a CA, one certificate for each member, one ssh key that all hosts trust."""

import subprocess
from collections.abc import Sequence
from pathlib import Path


def make_authority(directory: Path) -> None:
    """A CA's key and certificate in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    _openssl(
        directory, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-subj", "/CN=ferryman lab CA",
        "-keyout", "cakey.pem", "-out", "cacert.pem", "-addext", "basicConstraints=critical,CA:TRUE",
        "-addext", "keyUsage=critical,keyCertSign,cRLSign",
    )  # fmt: skip


def issue(directory: Path, name: str, alternatives: Sequence[str], *, days: int = 3650) -> tuple[Path, Path]:
    """(certificate, key) for a member, valid as server and client, signed by the CA in `directory`.

    `alternatives`: the names and addresses (DNS:… or IP:…) that it answers by.
    """
    extensions = directory / f"{name}.ext"
    extensions.write_text(
        "basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature,keyEncipherment\n"
        f"extendedKeyUsage=serverAuth,clientAuth\nsubjectAltName={','.join(alternatives)}\n"
    )
    _openssl(directory, "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key",
             "-out", f"{name}.csr")  # fmt: skip
    _openssl(directory, "x509", "-req", "-in", f"{name}.csr", "-CA", "cacert.pem", "-CAkey", "cakey.pem",
             "-CAcreateserial", "-days", str(days), "-extfile", extensions.name, "-out", f"{name}.crt")  # fmt: skip
    return directory / f"{name}.crt", directory / f"{name}.key"


def install(directory: Path, name: str, etc: Path) -> None:
    """Put a member's certificates where libvirt and QEMU look below that /etc."""
    authority = (directory / "cacert.pem").read_text()
    certificate, key = (directory / f"{name}.crt").read_text(), (directory / f"{name}.key").read_text()
    _write(etc / "pki/CA/cacert.pem", authority)
    for role in ("server", "client"):
        _write(etc / f"pki/libvirt/{role}cert.pem", certificate)
        _write(etc / f"pki/libvirt/private/{role}key.pem", key, 0o600)
        _write(etc / f"pki/qemu/{role}-cert.pem", certificate)
        _write(etc / f"pki/qemu/{role}-key.pem", key, 0o600)
    _write(etc / "pki/qemu/ca-cert.pem", authority)


def make_ssh_key(directory: Path) -> None:
    """One key pair: every host carries it as its host key and as its root's own key."""
    directory.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ferryman-lab", "-f", str(directory / "ssh_key")],
        check=True,
    )


def _openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
