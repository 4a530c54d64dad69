"""A visit to a host: all that libvirt does not tell of it, asked in one go over ssh, because each connection costs 0.2 s or more."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from ferryman import errors
from ferryman.drivers import ssh
from ferryman.model.host import Host

CERTIFICATES = {
    "libvirt": ("/etc/pki/CA/cacert.pem", "/etc/pki/libvirt/servercert.pem", "/etc/pki/libvirt/private/serverkey.pem",
                "/etc/pki/libvirt/clientcert.pem", "/etc/pki/libvirt/private/clientkey.pem"),
    "qemu": ("/etc/pki/qemu/ca-cert.pem", "/etc/pki/qemu/server-cert.pem", "/etc/pki/qemu/server-key.pem",
             "/etc/pki/qemu/client-cert.pem", "/etc/pki/qemu/client-key.pem"),
}  # fmt: skip
MIGRATION_PORTS = (49152, 49215)  # libvirt's default range
TRY_WITHIN = 5  # seconds for each way that is tried from a host

# File systems that libvirt itself takes as shared (virFileIsSharedFSType), by the names that stat prints.
_SHARED_FILE_SYSTEMS = frozenset(
    ("nfs", "nfs4", "cifs", "smb2", "ceph", "gfs", "gfs2", "ocfs2", "afs", "fuseblk", "fuse.glusterfs", "gpfs")
)

# Each answer is one line: its kind, a tab, its value. Arguments: PEER_URI ADDRESS PORT SECONDS FILES -- DIRECTORIES -- IMAGES.
# The two ways are tried in the background, beside the rest. Port: nobody listens there yet, so a refusal is an answer.
_SCRIPT = r"""
peer=$1 address=$2 port=$3 seconds=$4
shift 4
if [ -n "$peer" ]; then
    (words=$(timeout "$seconds" virsh --connect "$peer" hostname 2>&1 </dev/null); code=$?
     printf 'peer\t%s\t%s\n' $code "$(printf '%s' "$words" | tail -n 1)") &
    (words=$(timeout "$seconds" bash -c "exec 3<>/dev/tcp/$address/$port" 2>&1); code=$?
     printf 'address\t%s\t%s\n' $code "$(printf '%s' "$words" | head -n 1)") &
fi
printf 'clock\t%s\n' "$(date +%s.%N)"
for bridge in /sys/class/net/*/bridge; do
    [ -d "$bridge" ] && printf 'bridge\t%s\n' "$(basename "$(dirname "$bridge")")"
done
while [ "$1" != -- ]; do
    [ -r "$1" ] || printf 'missing\t%s\n' "$1"
    shift
done
shift
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    printf 'filesystem\t%s\t%s\n' "$1" "$(stat --file-system --format=%T "$1" 2>/dev/null)"
    shift
done
[ $# -eq 0 ] || shift
for image in "$@"; do
    real=$(readlink -f "$image")
    [ "${real%/*}" = "$(readlink -f "${image%/*}")" ] || printf 'elsewhere\t%s\t%s\n' "$image" "$real"
done
for driver in /usr/lib*/libvirt/connection-driver/libvirt_driver_qemu.so /usr/lib/*/libvirt/connection-driver/libvirt_driver_qemu.so; do
    [ -r "$driver" ] || continue
    grep -q shared_filesystems "$driver" && known=yes || known=no
    printf 'declarable\t%s\n' "$known"
done
sed -n '/^[[:space:]]*shared_filesystems/,/\]/p' /etc/libvirt/qemu.conf 2>/dev/null | tr '\n' ' ' | sed 's/^/shared\t/'
echo
wait
"""


@dataclass(frozen=True)
class Way:
    """Whether a way is open, tried from the host where it is used. `good` None: not tried, `detail` says why."""

    good: bool | None
    detail: str = ""


@dataclass(frozen=True)
class Visit:
    """What was seen. When the host could not be visited, `failed` says why and everything else is empty."""

    host: Host
    failed: str = ""
    bridges: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()  # certificate files that cannot be read there
    clock_offset: float = 0.0  # its clock minus ours, seconds
    clock_uncertainty: float = 0.0
    shared_directories: tuple[str, ...] = ()  # libvirt's setting shared_filesystems
    declarable: bool | None = None  # whether its libvirt has that setting: its QEMU driver bears the name, or not
    file_systems: dict[str, str] = field(default_factory=dict)  # directory -> kind
    elsewhere: dict[str, str] = field(default_factory=dict)  # images that are links out of their directory -> where to
    peer: Way = Way(None, "not asked")
    address: Way = Way(None, "not asked")

    def certificates(self, service: str) -> Way:
        """Whether all certificate files of a service can be read at the host."""
        if self.failed:
            return Way(None, f"certificates at {self.host.name} not checked, because {self.failed}")
        missing = [path for path in CERTIFICATES[service] if path in self.missing]
        return Way(not missing, f"{self.host.name} lacks {', '.join(missing)}" if missing else "")

    def takes_as_shared(self, path: str) -> bool | None:
        """Whether libvirt there takes the storage of that path as shared; None when it was not looked at."""
        directory = str(PurePosixPath(path).parent)
        if self.failed or directory not in self.file_systems:
            return None
        if self.file_systems[directory] in _SHARED_FILE_SYSTEMS:
            return True
        if self.declarable is False:  # it reads over what it does not know
            return False
        return any(PurePosixPath(directory).is_relative_to(shared) for shared in self.shared_directories)


def visit(
    host: Host,
    *,
    directories: Iterable[str] = (),
    images: Iterable[str] = (),
    peer_uri: str = "",
    address: str = "",
) -> Visit:
    """Look at a host over ssh; with `peer_uri` and `address`, try those two ways from it. Never raises."""
    files = [path for paths in CERTIFICATES.values() for path in paths]
    arguments = [
        peer_uri,
        address,
        str(MIGRATION_PORTS[0]),
        str(TRY_WITHIN),
        *files,
        "--",
        *sorted(set(directories)),
        "--",
        *images,
    ]
    began = time.time()
    try:
        answer = ssh.run(host, ["sh", "-c", _SCRIPT, "visit", *arguments])
    except errors.DriverError as error:
        return Visit(host, error.why, peer=Way(None, error.why), address=Way(None, error.why))
    lines = [line.split("\t") for line in answer.out.splitlines() if "\t" in line]
    clock = next((float(value[1]) for value in lines if value[0] == "clock" and _is_number(value[1])), None)
    if clock is None:
        why = f"{host.name} did not answer as expected: {(answer.err or answer.out).strip()[:200]}"
        return Visit(host, why, peer=Way(None, why), address=Way(None, why))
    # The clock is read at the beginning: half a round trip after we asked, less than the whole visit in any case.
    uncertainty = (time.time() - began) / 2
    return Visit(
        host,
        bridges=tuple(sorted(value[1] for value in lines if value[0] == "bridge")),
        missing=tuple(value[1] for value in lines if value[0] == "missing"),
        clock_offset=clock - began - uncertainty,
        clock_uncertainty=uncertainty,
        declarable=next((value[1] == "yes" for value in lines if value[0] == "declarable"), None),
        shared_directories=_listed([value[1] for value in lines if value[0] == "shared"]),
        file_systems={value[1]: value[2] for value in lines if value[0] == "filesystem"},
        elsewhere={value[1]: value[2] for value in lines if value[0] == "elsewhere"},
        peer=_peer_way(host, next((value for value in lines if value[0] == "peer"), None)),
        address=_address_way(host, next((value for value in lines if value[0] == "address"), None)),
    )


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()


def _listed(settings: Sequence[str]) -> tuple[str, ...]:
    """The paths in: shared_filesystems = [ "/srv/shared", "/srv/other/" ]."""
    words = " ".join(settings).split('"')
    return tuple(word.rstrip("/") or "/" for word in words if word.startswith("/"))


def _peer_way(host: Host, line: Sequence[str] | None) -> Way:
    if line is None:
        return Way(None, "not asked")
    code, words = int(line[1]), line[2]
    if code == 127:
        return Way(None, f"{host.name} has no virsh")
    if code == 124:
        words = f"no answer within {TRY_WITHIN} s"
    return Way(code == 0, "" if code == 0 else words or f"virsh ended with {code}")


def _address_way(host: Host, line: Sequence[str] | None) -> Way:
    if line is None:
        return Way(None, "not asked")
    code, words = int(line[1]), line[2]
    if code == 0 or "refused" in words.lower():
        return Way(True)
    if code == 127:
        return Way(None, f"{host.name} has no bash")
    return Way(False, words.rpartition("bash: ")[2] or f"no answer within {TRY_WITHIN} s")
