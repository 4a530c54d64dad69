"""Certificates as openssl sees them, who shares no code with ours; and authorities that cannot be used."""

import datetime
import os
import subprocess
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from ferryman.drivers import certificates
from ferryman.errors import BadInput
from ferryman.model.preparation import Service

NOW = datetime.datetime.now(datetime.UTC)
NAMES = ("a", "a-migration", "10.0.0.1", "fe80::1")


def openssl(*arguments: str, directory: Path, text: bytes = b"") -> str:
    return subprocess.run(
        ["openssl", *arguments], cwd=directory, input=text, capture_output=True, check=True
    ).stdout.decode()


@pytest.fixture
def request_made(tmp_path: Path) -> bytes:
    openssl("req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=a", "-keyout", "a.key", "-out", "a.csr", directory=tmp_path)  # fmt: skip
    return (tmp_path / "a.csr").read_bytes()


def test_own_authority_signs_what_openssl_verifies_for_both_ends(tmp_path: Path, request_made: bytes) -> None:
    authority = certificates.make_own(tmp_path, Service.LIBVIRT, NOW)
    certificate, key = certificates.own_files(tmp_path, Service.LIBVIRT)
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.parent.stat().st_mode & 0o777 == 0o700
    assert certificates.make_own(tmp_path, Service.LIBVIRT, NOW).pem == authority.pem  # made once
    (tmp_path / "a.pem").write_bytes(certificates.sign(authority, request_made, NAMES, NOW))
    for purpose in ("sslserver", "sslclient"):
        checked = openssl("verify", "-x509_strict", "-purpose", purpose, "-CAfile", str(certificate), "a.pem", directory=tmp_path)  # fmt: skip
        assert "a.pem: OK" in checked
    text = openssl("x509", "-in", "a.pem", "-noout", "-text", directory=tmp_path)
    assert "Digital Signature, Key Encipherment" in text
    assert "DNS:a, DNS:a-migration, IP Address:10.0.0.1, IP Address:FE80:0:0:0:0:0:0:1" in text


def test_a_certificate_is_read_back_as_it_was_asked_for(tmp_path: Path, request_made: bytes) -> None:
    authority = certificates.make_own(tmp_path, Service.QEMU, NOW)
    other = certificates.make_own(tmp_path / "other", Service.QEMU, NOW)
    pem = certificates.sign(authority, request_made, NAMES, NOW).decode()
    said = certificates.describe(pem, authority)
    assert said is not None
    assert (said.subject, said.issuer, set(said.names), said.trusted) == ("a", "ferryman qemu authority", set(NAMES), True)  # fmt: skip
    assert said.usages == {"key encipherment", "digital signature", "server", "client"}
    assert abs(said.ends_at - (NOW + certificates.LASTS).timestamp()) < 2
    public = subprocess.run(["openssl", "pkey", "-in", "a.key", "-pubout", "-outform", "DER"], cwd=tmp_path, capture_output=True).stdout  # fmt: skip
    digest = openssl("dgst", "-sha256", "-r", directory=tmp_path, text=public).split()[0]
    assert said.key_digest == digest
    # The same name, another key: a name proves nothing.
    wrong = certificates.describe(pem, other)
    assert wrong is not None
    assert not wrong.trusted
    assert certificates.describe("no certificate", authority) is None
    both = authority.pem.decode() + other.pem.decode()
    assert certificates.holds(both, other)
    assert not certificates.holds(authority.pem.decode(), other)


def given(directory: Path, *more: str, days: int = 3650) -> tuple[Path, Path]:
    directory.mkdir(exist_ok=True)
    openssl("req", "-x509", "-newkey", "rsa:2048", "-days", str(days), "-subj", "/CN=ours", "-keyout", "key.pem",
            "-out", "ca.pem", *(more or ("-nodes",)), directory=directory)  # fmt: skip
    return directory / "ca.pem", directory / "key.pem"


def test_a_given_authority_signs(tmp_path: Path, request_made: bytes) -> None:
    files = given(tmp_path / "given", days=100)
    authority = certificates.read_authority(*files, NOW)
    (tmp_path / "a.pem").write_bytes(certificates.sign(authority, request_made, NAMES, NOW))
    assert "OK" in openssl("verify", "-CAfile", str(files[0]), "a.pem", directory=tmp_path)
    said = certificates.describe((tmp_path / "a.pem").read_text(), authority)
    assert said is not None
    assert said.ends_at <= authority.certificate.not_valid_after_utc.timestamp()  # never after who signed it


def test_an_authority_that_cannot_be_used_is_named_with_the_reason(tmp_path: Path) -> None:
    good, key = given(tmp_path / "good")
    _, other_key = given(tmp_path / "other")
    locked = given(tmp_path / "locked", "-passout", "pass:secret")
    ending = given(tmp_path / "ending", "-nodes", days=20)
    leaf = given(tmp_path / "leaf", "-nodes", "-addext", "basicConstraints=CA:FALSE")
    for files, words in (
        ((good, other_key), "not the key"),
        (locked, "passphrase"),
        (ending, "it ends on"),
        (leaf, "no authority"),
        ((tmp_path / "nowhere", key), "cannot be read"),
        ((key, key), "cannot be read"),
    ):
        with pytest.raises(BadInput, match=words):
            certificates.read_authority(*files, NOW)


def test_an_own_authority_that_ends_soon_is_followed_by_another(tmp_path: Path) -> None:
    first = certificates.make_own(tmp_path, Service.QEMU, NOW - certificates.AUTHORITY_LASTS)
    assert certificates.make_own(tmp_path, Service.QEMU, NOW).pem != first.pem


@pytest.mark.parametrize("renewed", [True, False])
@pytest.mark.parametrize("done", [0, 1])
def test_a_crash_while_one_is_made_leaves_one_that_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renewed: bool, done: int
) -> None:
    """Killed when so many of the two files had their names."""
    if renewed:
        certificates.make_own(tmp_path, Service.QEMU, NOW - certificates.AUTHORITY_LASTS)
    original, calls = os.replace, []

    def dies(source: Path, destination: Path) -> None:
        calls.append(source)
        if len(calls) > done:
            raise KeyboardInterrupt
        original(source, destination)

    monkeypatch.setattr(os, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        certificates.make_own(tmp_path, Service.QEMU, NOW)
    monkeypatch.undo()
    authority = certificates.make_own(tmp_path, Service.QEMU, NOW)
    assert authority.certificate.not_valid_after_utc > NOW + certificates.AUTHORITY_LASTS / 2
    certificate, key = certificates.own_files(tmp_path, Service.QEMU)
    assert {path.name for path in certificate.parent.iterdir()} == {certificate.name, key.name, "lock"}
    assert key.stat().st_mode & 0o777 == 0o600


def test_two_processes_that_make_one_at_the_same_time_have_the_same(tmp_path: Path) -> None:
    with ProcessPoolExecutor(3, get_context("spawn")) as pool:
        made = list(pool.map(own_pem, [tmp_path] * 3))
    assert len(set(made)) == 1
    assert certificates.make_own(tmp_path, Service.QEMU, NOW).pem == made[0]


def own_pem(directory: Path) -> bytes:
    return certificates.make_own(directory, Service.QEMU, NOW).pem
