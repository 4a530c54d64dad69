"""libvirt's errors, translated once: a code (and sometimes words) in, one of our errors out, made from the original."""

import re

import libvirt

from ferryman import errors

# What libvirt says when the other side went away in the middle of a call; the call's outcome is unknown then.
_LOST = re.compile(
    r"client socket is closed|keepalive|connection (?:reset|closed)|cannot (?:recv|send) data|broken pipe|end of file"
    r"|unable to connect|no route|timed out|channel error|connection refused",
    re.IGNORECASE,
)
_TLS = re.compile(r"certificate|TLS handshake|gnutls|x509", re.IGNORECASE)
_BUSY = re.compile(r"already running|is already being migrated|migration job", re.IGNORECASE)

_REMEDIES: dict[int, str] = {
    libvirt.VIR_ERR_MIGRATE_UNSAFE: "put the disks on storage that libvirt knows as shared: in /etc/libvirt/qemu.conf of "
    "both hosts list its directory in shared_filesystems",
    libvirt.VIR_ERR_OPERATION_TIMEOUT: "another job holds the guest: virsh domjobinfo shows it; wait for its end",
    libvirt.VIR_ERR_CPU_INCOMPATIBLE: "give the guest a CPU model that both hosts have",
    libvirt.VIR_ERR_AUTH_FAILED: "check the credentials in the URI and the rights at the host",
    libvirt.VIR_ERR_OPERATION_DENIED: "the connection is read-only or the user lacks the right; use a privileged URI",
}


def code(error: libvirt.libvirtError) -> int:
    """libvirt's number for the error; 0 when it carries none."""
    return int(error.get_error_code() or 0)


def lost(error: libvirt.libvirtError) -> bool:
    """Whether the connection went away: the outcome of the call is unknown."""
    return code(error) in _CONNECTION_CODES and bool(_LOST.search(str(error)))


_CONNECTION_CODES = (
    libvirt.VIR_ERR_SYSTEM_ERROR,
    libvirt.VIR_ERR_RPC,
    libvirt.VIR_ERR_INTERNAL_ERROR,
    libvirt.VIR_ERR_NO_CONNECT,
    libvirt.VIR_ERR_INVALID_CONN,
)


def translate(error: libvirt.libvirtError, what: str, uri: str) -> errors.DriverError:
    """Our error for libvirt's, naming `what` was being done and where."""
    number, words = code(error), str(error).strip()
    if number in _CONNECTION_CODES and _TLS.search(words):
        return errors.Insecure(
            what,
            f"the TLS connection to {uri} failed: {words}",
            "compare the certificates at both ends: who signed them, which names they bear, whether they have expired",
        )
    if lost(error):
        return errors.Unreachable(
            what, f"no answer from {uri}: {words}", "check that the host is up and its libvirtd listens there"
        )
    if number == libvirt.VIR_ERR_OPERATION_INVALID and _BUSY.search(words):
        return errors.AlreadyRunning(
            what, f"another job already works on the guest: {words}", "virsh domjobinfo shows it; wait for its end"
        )
    if number == libvirt.VIR_ERR_OPERATION_TIMEOUT:
        return errors.Timeout(what, words, _REMEDIES[number])
    return errors.DriverError(what, words, _REMEDIES.get(number, ""))
