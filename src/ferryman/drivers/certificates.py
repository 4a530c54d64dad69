"""Certificates: ferryman's own authorities or one that is given, signing requests, reading what a certificate says."""

import datetime
import fcntl
import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ferryman.errors import BadInput
from ferryman.model.preparation import RENEW_WITHIN, Certificate, Service

AUTHORITY_LASTS = datetime.timedelta(days=3650)
LASTS = datetime.timedelta(days=730)
EARLIER = datetime.timedelta(days=1)  # clocks may differ
KEY_BITS = 3072
_EXTENDED = {ExtendedKeyUsageOID.SERVER_AUTH: "server", ExtendedKeyUsageOID.CLIENT_AUTH: "client"}


@dataclass(frozen=True)
class Authority:
    """Somebody who signs."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    files: tuple[Path, Path]

    @property
    def name(self) -> str:
        """What it calls itself."""
        return _words(self.certificate.subject)

    @property
    def pem(self) -> bytes:
        """Its certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def own_files(directory: Path, service: Service) -> tuple[Path, Path]:
    """(certificate, key) of ferryman's own authority for a service, below the state directory."""
    return directory / "authority" / f"{service}-ca.pem", directory / "authority" / f"{service}-ca-key.pem"


def own_name(service: Service) -> str:
    """What ferryman's own authority for a service is called."""
    return f"ferryman {service} authority"


def find_own(directory: Path, service: Service, now: datetime.datetime) -> Authority | None:
    """Ferryman's own authority for a service; None when there is none yet, or it ends soon."""
    files = own_files(directory, service)
    if not all(path.exists() for path in files):
        return None
    if _left(x509.load_pem_x509_certificate(files[0].read_bytes()), now) < RENEW_WITHIN:
        return None
    return read_authority(*files, now)


def make_own(directory: Path, service: Service, now: datetime.datetime) -> Authority:
    """Ferryman's own authority for a service; made when it must be, by one process at a time."""
    files = own_files(directory, service)
    files[0].parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(files[0].parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _finish(files)
        return find_own(directory, service, now) or _make(files, service, now)


def _make(files: tuple[Path, Path], service: Service, now: datetime.datetime) -> Authority:
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, own_name(service))])
    certificate = (
        _builder(name, name, key.public_key(), now, now + AUTHORITY_LASTS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(_new(files[0]), certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    _write(_new(files[1]), _private(key), 0o600)
    os.replace(_new(files[1]), files[1])
    os.replace(_new(files[0]), files[0])
    return read_authority(*files, now)


def _new(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def _finish(files: tuple[Path, Path]) -> None:
    """A process that ended after the key had its name and before the certificate had: no one else has that certificate."""
    with suppress(OSError, ValueError, TypeError):  # there is none, or it was not written to its end
        certificate = x509.load_pem_x509_certificate(_new(files[0]).read_bytes())
        key = serialization.load_pem_private_key(files[1].read_bytes(), None)
        if _digest(certificate.public_key()) == _digest(key.public_key()):
            os.replace(_new(files[0]), files[0])


def _left(certificate: x509.Certificate, now: datetime.datetime) -> float:
    return (certificate.not_valid_after_utc - now).total_seconds()


def read_authority(certificate: Path, key: Path, now: datetime.datetime) -> Authority:
    """An authority from its two files. Raises BadInput naming what is wrong with them."""
    what = f"authority {certificate}"
    try:
        read = x509.load_pem_x509_certificate(certificate.read_bytes())
        constraints = read.extensions.get_extension_for_class(x509.BasicConstraints).value
        secret = serialization.load_pem_private_key(key.read_bytes(), None)
    except x509.ExtensionNotFound as error:
        raise BadInput(
            what,
            "it is no authority: it bears no basic constraints",
            "give the certificate of one (CA:TRUE) with --ca-certificate",
        ) from error
    except TypeError as error:
        raise BadInput(
            f"key {key}",
            "it needs a passphrase",
            f"give a copy without one, readable for you alone: openssl pkey -in {key} -out COPY",
        ) from error
    except (OSError, ValueError) as error:
        raise BadInput(
            what,
            f"certificate or key cannot be read: {error}",
            "give both in PEM, each in its own file, readable for you",
        ) from error
    if not constraints.ca:
        raise BadInput(
            what, "it is no authority (CA:FALSE)", "give the certificate of one (CA:TRUE) with --ca-certificate"
        )
    if _left(read, now) < RENEW_WITHIN:
        raise BadInput(
            what,
            f"it ends on {read.not_valid_after_utc:%Y-%m-%d}, and all that it signs with it",
            "give its successor with --ca-certificate and --ca-key",
        )
    if _digest(secret.public_key()) != _digest(read.public_key()):
        raise BadInput(f"key {key}", f"it is not the key of {certificate}", "give the two that belong together")
    if not isinstance(secret, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise BadInput(f"key {key}", "it is neither RSA nor on an elliptic curve", "give an authority with such a key")
    return Authority(read, secret, (certificate, key))


def sign(authority: Authority, request: bytes, names: Sequence[str], now: datetime.datetime) -> bytes:
    """The certificate (PEM) for a request, valid as server and client for those names and addresses."""
    asked = x509.load_pem_x509_csr(request)
    return _sign(authority, asked.subject, asked.public_key(), names, now)


def make_pair(authority: Authority, name: str, names: Sequence[str], now: datetime.datetime) -> tuple[bytes, bytes]:
    """(certificate, key), for ferryman's own machine: everywhere else keys are made where they stay."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    return _sign(authority, subject, key.public_key(), names, now), _private(key)


def _sign(authority: Authority, subject: x509.Name, key: CertificatePublicKeyTypes, names: Sequence[str], now: datetime.datetime) -> bytes:  # fmt: skip
    ends = min(now + LASTS, authority.certificate.not_valid_after_utc)
    return (
        _builder(authority.certificate.subject, subject, key, now, ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(list(_EXTENDED)), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
        .sign(authority.key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )  # fmt: skip


def _builder(issuer: x509.Name, subject: x509.Name, key: CertificatePublicKeyTypes, now: datetime.datetime,
             ends: datetime.datetime) -> x509.CertificateBuilder:  # fmt: skip
    return (
        x509.CertificateBuilder().issuer_name(issuer).subject_name(subject).public_key(key)
        .serial_number(x509.random_serial_number()).not_valid_before(now - EARLIER).not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )  # fmt: skip


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs, key_encipherment=not signs, key_cert_sign=signs, crl_sign=signs,
        content_commitment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def describe(text: str, authority: Authority | None) -> Certificate | None:
    """What a certificate (PEM) says; None when it is none. Without an authority nothing is trusted."""
    try:
        read = x509.load_pem_x509_certificate(text.encode())
        usages = _usages(read)
    except ValueError:
        return None
    return Certificate(
        subject=_words(read.subject),
        issuer=_words(read.issuer),
        names=_names(read),
        ends_at=read.not_valid_after_utc.timestamp(),
        usages=usages,
        key_digest=_digest(read.public_key()),
        trusted=authority is not None and _signed_by(read, authority.certificate),
    )


def holds(text: str, authority: Authority | None) -> bool:
    """Whether a file of authorities' certificates holds that one."""
    try:
        held = x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        return False
    return authority is not None and authority.certificate in held


def _signed_by(read: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        read.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _names(read: x509.Certificate) -> tuple[str, ...]:
    try:
        alternatives = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return (
        *alternatives.get_values_for_type(x509.DNSName),
        *map(str, alternatives.get_values_for_type(x509.IPAddress)),
    )


def _usages(read: x509.Certificate) -> frozenset[str]:
    """Without the extension every usage is allowed."""
    found = set()
    try:
        usage = read.extensions.get_extension_for_class(x509.KeyUsage).value
        found |= {"key encipherment"} if usage.key_encipherment else set()
        found |= {"digital signature"} if usage.digital_signature else set()
    except x509.ExtensionNotFound:
        found |= {"key encipherment", "digital signature"}
    try:
        extended = read.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        found |= {_EXTENDED[one] for one in extended if one in _EXTENDED}
    except x509.ExtensionNotFound:
        found |= set(_EXTENDED.values())
    return frozenset(found)


def _digest(key: object) -> str:
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return hashlib.sha256(der).hexdigest()


def _words(name: x509.Name) -> str:
    common = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(common[0].value) if common else name.rfc4514_string()


def _private(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes, mode: int) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # before it gets its name
