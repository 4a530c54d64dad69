"""What libvirt said when it was provoked (client 9.0, daemon 11.3), and what we make of it."""

import libvirt
import pytest

from ferryman import errors
from ferryman.drivers.libvirt.errors import lost, translate

URI = "qemu+tls://a/system"


class Provoked(libvirt.libvirtError):  # type: ignore[misc]
    """A libvirt error with the code and the words that were seen."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.err = (code, 7, words, 2, words, None, None, -1, -1)


CONNECTION = [
    # A daemon that died in the handshake: it closed at once, after our first packet, or by a reset.
    (45, "authentication failed: TLS handshake failed The TLS connection was non-properly terminated.", errors.Unreachable),
    (45, "authentication failed: TLS handshake failed Error in the pull function.", errors.Unreachable),
    # Something that does not speak TLS there.
    (45, "authentication failed: TLS handshake failed An unexpected TLS packet was received.", errors.Insecure),
    (45, "authentication failed: TLS handshake failed Error decoding the received TLS packet.", errors.Insecure),
    # Another authority signed theirs, or ours; ours are missing.
    (45, "authentication failed: Failed to verify peer's certificate", errors.Insecure),
    (38, "Our own certificate /x/clientcert.pem failed validation against /x/cacert.pem: The certificate hasn't got a known issuer.", errors.Insecure),
    (38, "Cannot read CA certificate '/x/cacert.pem': No such file or directory", errors.Insecure),
    # Nobody there.
    (38, "unable to connect to server at '127.0.0.1:42317': Connection refused", errors.Unreachable),
    (38, "Unable to resolve address 'nohost' service '16514': Temporary failure in name resolution", errors.Unreachable),
    (38, "Cannot recv data: ssh: connect to host a port 23: Connection refused: Connection reset by peer", errors.Unreachable),
    (38, "Cannot recv data: nobody@a: Permission denied (publickey,password).: Connection reset by peer", errors.Unreachable),
    (38, "End of file while reading data: nc: /nowhere: No such file or directory: Input/output error", errors.Unreachable),
    (38, "Failed to connect socket to '/nowhere': No such file or directory", errors.Unreachable),
    (39, "internal error: client socket is closed", errors.Unreachable),
    (1, "internal error: received hangup event on socket; connection closed due to keepalive timeout", errors.Unreachable),
]  # fmt: skip


@pytest.mark.parametrize(("code", "words", "expected"), CONNECTION)
def test_what_befell_a_connection_is_told_by_its_words(
    code: int, words: str, expected: type[errors.DriverError]
) -> None:
    error = translate(Provoked(code, words), "guests of host a", URI)
    assert type(error) is expected
    assert URI in error.why
    assert words in error.why
    assert error.remedy
    assert lost(Provoked(code, words)) is (expected is errors.Unreachable)


@pytest.mark.parametrize(
    ("code", "words", "expected"),
    [
        (55, "Requested operation is not valid: another migration job is already running for domain 'web'", errors.AlreadyRunning),
        (68, "Timed out during operation: cannot acquire state change lock (held by monitor=remoteDispatchDomainMigratePerform3Params)", errors.Timeout),
        (55, "Requested operation is not valid: domain is not running", errors.DriverError),
        (81, "Unsafe migration: Migration without shared storage is unsafe", errors.DriverError),
    ],
)  # fmt: skip
def test_what_a_guest_refuses(code: int, words: str, expected: type[errors.DriverError]) -> None:
    error = translate(Provoked(code, words), "migration of guest web", URI)
    assert type(error) is expected
    assert words in error.why
    assert not lost(Provoked(code, words))


def test_the_remedy_for_storage_that_libvirt_calls_unsafe_names_the_setting() -> None:
    assert "shared_filesystems" in translate(Provoked(81, "Unsafe migration"), "migration", URI).remedy
