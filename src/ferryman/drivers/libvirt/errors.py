"""libvirt's errors, translated once: a code (and sometimes words) in, one of our errors out, made from the original."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

import libvirt

from ferryman import errors

# Under these libvirt reports everything that befalls a connection; only the words tell what it was.
_CONNECTION_CODES = (
    libvirt.VIR_ERR_SYSTEM_ERROR,
    libvirt.VIR_ERR_RPC,
    libvirt.VIR_ERR_INTERNAL_ERROR,
    libvirt.VIR_ERR_NO_CONNECT,
    libvirt.VIR_ERR_INVALID_CONN,
    libvirt.VIR_ERR_AUTH_FAILED,
)


@dataclass(frozen=True)
class _Words:
    """What a connection error means when its words match."""

    pattern: re.Pattern[str]
    error: type[errors.DriverError]
    why: str
    remedy: str


def _words(pattern: str, error: type[errors.DriverError], why: str, remedy: str) -> _Words:
    return _Words(re.compile(pattern, re.IGNORECASE), error, why, remedy)


# Words that come under a connection's codes and tell of something else, such as a QEMU that died: its monitor broke off.
_NO_CONNECTION = re.compile(
    r"(?:qemu|from|to|the) monitor|qemu unexpectedly|process exited|execute QEMU|cannot (?:create|open|access|stat|unlink) (?:path|file|volume|directory)",
    re.IGNORECASE,
)

# The first that matches counts. tests/unit/test_libvirt_errors.py holds what libvirt really said in each case.
_TABLE = (
    # A libvirtd that dies in a TLS handshake looks like a failed authentication; it is none.
    _words(
        r"non-properly terminated|error in the (?:pull|push) function",
        errors.Unreachable, "{uri} broke off the connection",
        "look whether its libvirtd runs and stays up: systemctl status libvirtd",
    ),
    _words(
        r"certificate|TLS handshake|gnutls|x509|TLS packet",
        errors.Insecure, "the TLS connection to {uri} failed",
        "ferryman host prepare HOST makes them right; or compare the certificates at both ends: who signed them, which names they bear, whether they have ended",
    ),
    _words(
        r"resolve (?:address|hostname)",
        errors.Unreachable, "{uri} names a host that is not known here",
        "check the name in the URI, or put it into DNS or /etc/hosts",
    ),
    _words(
        r"host key verification",
        errors.Unreachable, "the host of {uri} is not known here",
        "log in once by hand and compare the key that it shows: ssh {target} true",
    ),
    _words(
        r"permission denied",
        errors.Unreachable, "{uri} does not let us in",
        "check the user in the URI; it must need no password: ssh-copy-id {target}, or put ~/.ssh/id_*.pub of this machine "
        "into ~/.ssh/authorized_keys there. Try: ssh {target} true",
    ),
    _words(
        r"client socket is closed|keepalive|connection (?:reset|closed|refused)|cannot (?:recv|send) data|broken pipe"
        r"|end of file|unable to connect|failed to connect|no route|timed out|channel error|unreachable",
        errors.Unreachable, "no answer from {uri}",
        "look whether the host is up and its libvirtd runs and listens: systemctl status libvirtd, ss -ltn",
    ),
)  # fmt: skip
_LOG = "libvirt's log at the host may say more: journalctl -u libvirtd"
_BUSY = re.compile(r"already running|is already being migrated|migration job", re.IGNORECASE)

_REMEDIES: dict[int, str] = {
    libvirt.VIR_ERR_OPERATION_TIMEOUT: "another job holds the guest: virsh domjobinfo shows it; wait for its end",
    libvirt.VIR_ERR_CPU_INCOMPATIBLE: "give the guest a CPU that both hosts have: ferryman cpu baseline HOST HOST names one",
    libvirt.VIR_ERR_AUTH_FAILED: "check the user in the URI and its rights at the host: it must be root or in the group libvirt",
    libvirt.VIR_ERR_OPERATION_DENIED: "the user in the URI lacks the right: use root, or a user in the group libvirt",
}


def code(error: libvirt.libvirtError) -> int:
    """libvirt's number for the error; 0 when it carries none."""
    return int(error.get_error_code() or 0)


def lost(error: libvirt.libvirtError) -> bool:
    """Whether the connection went away: the outcome of the call is unknown."""
    meaning = _meaning(error)
    return meaning is not None and meaning.error is errors.Unreachable


def _meaning(error: libvirt.libvirtError) -> _Words | None:
    if code(error) not in _CONNECTION_CODES or _NO_CONNECTION.search(str(error)):
        return None
    return next((words for words in _TABLE if words.pattern.search(str(error))), None)


def translate(error: libvirt.libvirtError, what: str, uri: str) -> errors.DriverError:
    """Our error for libvirt's, naming `what` was being done and where."""
    number, words = code(error), str(error).strip()
    if (meaning := _meaning(error)) is not None:
        return meaning.error(
            what, f"{meaning.why.format(uri=uri)}: {words}", meaning.remedy.format(target=urlsplit(uri).netloc)
        )
    if number == libvirt.VIR_ERR_OPERATION_INVALID and _BUSY.search(words):
        return errors.AlreadyRunning(
            what, f"another job already works on the guest: {words}", "virsh domjobinfo shows it; wait for its end"
        )
    if number == libvirt.VIR_ERR_OPERATION_TIMEOUT:
        return errors.Timeout(what, words, _REMEDIES[number])
    return errors.DriverError(what, words, _REMEDIES.get(number, _LOG))
