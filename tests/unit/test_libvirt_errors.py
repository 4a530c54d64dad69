"""What libvirt said when it was provoked (client 9.0, daemon 11.3), and what we make of it."""

import libvirt
import pytest

from ferryman import errors
from ferryman.drivers.libvirt.errors import lost, translate
from ferryman.drivers.libvirt.refusals import REFUSALS, translate_refusal
from tests.test_docs import finding_codes

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
    (38, "Cannot recv data: Host key verification failed.: Connection reset by peer", errors.Unreachable),
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
        (38, "Unable to read from monitor: Connection reset by peer", errors.DriverError),
        (1, "internal error: QEMU unexpectedly closed the monitor (vm='web')", errors.DriverError),
    ],
)  # fmt: skip
def test_what_a_guest_refuses(code: int, words: str, expected: type[errors.DriverError]) -> None:
    error = translate(Provoked(code, words), "migration of guest web", URI)
    assert type(error) is expected
    assert words in error.why
    assert not lost(Provoked(code, words))


# Provoked on the lab, one by one: what the source's libvirtd said of `virsh migrate --p2p`, and the reason we make of it.
HEARD = [
    (55, "Requested operation is not valid: cannot migrate domain with 1 snapshots", "snapshots (1)"),
    (55, "Requested operation is not valid: domain has active block job", "block job"),
    (1, "internal error: Attempt to migrate guest to the same host 0b9489c6-56f6-46fd-a501-414934c8e62c", "one host"),
    (81, "Unsafe migration: Migration without shared storage is unsafe", "as shared"),
    (38, "Cannot access storage file '/srv/shared/none.qcow2' (as uid:0, gid:0): No such file or directory", "cannot open the disk /srv/shared/none.qcow2"),
    (1, """internal error: process exited while connecting to monitor: 2026-11-25T03:01:17.080465Z qemu-system-x86_64: -blockdev {"node-name":"libvirt-1-format","read-only":false,"driver":"qcow2","file":"libvirt-1-storage","backing":null}: Failed to get "write" lock
Is another process using the image [/srv/shared/web-0.qcow2]?""", "holds /srv/shared/web-0.qcow2 (its write lock)"),
    (67, "unsupported configuration: Emulator '/usr/bin/qemu-system-x86_64' does not support machine type 'pc-q35-99.0'", "machine type pc-q35-99.0"),
    (38, "Cannot check QEMU binary /usr/libexec/qemu-kvm: No such file or directory", "no emulator /usr/libexec/qemu-kvm"),
    (67, "unsupported configuration: Maximum CPUs greater than specified machine type limit 4096", "at most 4096 vCPUs"),
    (1, "internal error: QEMU unexpectedly closed the monitor (vm='web'): qemu: could not open kernel file '/lab/boot/nothing': No such file or directory", "the kernel /lab/boot/nothing"),
    (38, "Unable to open file: /nowhere/console.log: No such file or directory", "cannot write /nowhere/console.log"),
    (38, "cannot set CPU affinity on process 191: Invalid argument", "pinned to CPUs"),
    (67, "unsupported configuration: NUMA node 5 is unavailable", "NUMA node 5"),
    (1, "internal error: hugetlbfs filesystem is not mounted or disabled by administrator config", "huge pages"),
    (9, "operation failed: domain 'web' already exists with uuid 259c29a5-c5ab-4ecf-835a-de4e999f7ead", "another guest (UUID 259c29a5-c5ab-4ecf-835a-de4e999f7ead) has the name web"),
    (38, "Cannot get interface MTU on 'br9': No such device", "no bridge br9"),
    (43, "Network not found: no network with matching name 'dmz'", "no network dmz"),
    (1, "internal error: unable to execute QEMU command 'object-add': Unable to access credentials /etc/pki/qemu/server-cert.pem: No such file or directory", "certificate /etc/pki/qemu/server-cert.pem is missing"),
    (9, "operation failed: job 'migration out' failed: Cannot read from TLS channel: The TLS connection was non-properly terminated.", "agreement by TLS"),
    (38, "unable to connect to server at '10.78.0.99:49152': No route to host", "the source does not reach 10.78.0.99:49152: No route to host"),
    (38, "Unable to resolve address 'host.invalid' service '49152': Temporary failure in name resolution", "does not know the name host.invalid"),
]  # fmt: skip

# Not provoked: libvirt's and QEMU's own texts, filled in.
READ = [
    (81, "Unsafe migration: Migration may lead to data corruption if disks use cache other than none or directsync", "page cache"),
    (49, "Storage pool not found: no storage pool with matching name 'fast'", "no storage pool fast"),
    (67, "unsupported configuration: storage pool 'fast' containing volume 'web.qcow2' is not active", "storage pool fast with volume web.qcow2 is not active"),
    (1, "internal error: Source host lock driver lockd different from target nop", "lock manager"),
    (1, "internal error: Missing sanlock lock state for migration cookie", "lock manager"),
    (55, "Requested operation is not valid: domain is already active as 'web'", "same UUID"),
    (55, "Requested operation is not valid: network 'dmz' is not active", "network dmz at the destination"),
    (9, "operation failed: job 'migration out' failed: qemu-system-x86_64: error while loading state for instance 0x0 of device '0000:00:02.2:00.0/virtio-blk'", "state of device 0000:00:02.2:00.0/virtio-blk"),
    (38, "Unable to read from monitor: Connection reset by peer", "one of the two QEMUs ended"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "words", "reason"), [*HEARD, *READ])
def test_each_refusal_names_thing_reason_and_remedy(code: int, words: str, reason: str) -> None:
    error = translate_refusal(Provoked(code, words), "migration to qemu+tls://b/system", URI)
    assert reason in error.why.removesuffix(words)
    assert words in error.why
    assert error.remedy
    assert "{" not in error.why.removesuffix(words) + error.remedy
    assert URI not in error.why  # the source answered: it is not to blame


def test_every_refusal_in_the_table_has_its_words_here() -> None:
    texts = [words for _, words, _ in (*HEARD, *READ)]
    first = [next((one for one in REFUSALS if one.pattern.search(words)), None) for words in texts]
    assert set(first) == set(REFUSALS)


def test_the_finding_that_says_a_refusal_beforehand_exists() -> None:
    assert {refusal.finding for refusal in REFUSALS} - {""} <= finding_codes()


def test_a_migration_of_somebody_else_is_still_that() -> None:
    words = "Requested operation is not valid: another migration job is already running for domain 'web'"
    assert type(translate_refusal(Provoked(55, words), "migration", URI)) is errors.AlreadyRunning


def test_what_no_row_knows_is_translated_as_any_other_error() -> None:
    error = translate_refusal(Provoked(39, "internal error: client socket is closed"), "migration", URI)
    assert type(error) is errors.Unreachable
    assert translate_refusal(Provoked(9, "operation failed: something new"), "migration", URI).why == "operation failed: something new"  # fmt: skip


def test_the_remedy_for_storage_that_libvirt_calls_unsafe_names_the_setting() -> None:
    assert "shared_filesystems" in translate_refusal(Provoked(81, "Unsafe migration"), "migration", URI).remedy
