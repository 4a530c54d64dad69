"""A visit to a host: all that libvirt does not tell of it, asked in one go over ssh, because each connection costs 0.2 s or more."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from ferryman import errors
from ferryman.drivers import ssh
from ferryman.drivers.libvirt.segments import NOTHING, Task
from ferryman.model.host import Host
from ferryman.model.preparation import HOST_PLACES, Service

CERTIFICATES = {str(service): HOST_PLACES.of(service) for service in Service}
MIGRATION_PORTS = (49152, 49215)  # libvirt's default range
TRY_WITHIN = 5  # seconds for each way that is tried from a host

# File systems that libvirt itself takes as shared (virFileIsSharedFSType), by the names that stat prints.
_SHARED_FILE_SYSTEMS = frozenset(
    ("nfs", "nfs4", "cifs", "smb2", "ceph", "gfs", "gfs2", "ocfs2", "afs", "fuseblk", "fuse.glusterfs", "gpfs")
)

# Each answer is one line: its kind, a tab, its value.
# Arguments: PEER_URI ADDRESS PORT SECONDS DATES PROGRAM (its arguments) -- FILES -- DIRECTORIES -- IMAGES.
# The two ways, the probe of segments and the packages go on in the background, beside the rest. Port: nobody listens there yet, so a
# refusal is an answer.
_SCRIPT = r"""
peer=$1 address=$2 port=$3 seconds=$4 dates=$5 program=$6
shift 6
words=
while [ "$1" != -- ]; do
    words="$words $1"
    shift
done
shift
ends() {
    case $1 in *key.pem) return ;; esac
    end=$(openssl x509 -in "$1" -noout -enddate 2>/dev/null </dev/null) &&
        printf 'ends\t%s\t%s\n' "$1" "$(date --date="${end#notAfter=}" +%s)"
}
hidden() {  # it is there, or lies in a directory that we may not look into
    directory=${1%/*}
    while [ ! -d "${directory:-/}" ]; do directory=${directory%/*}; done
    [ -e "$1" ] || [ ! -x "${directory:-/}" ]
}
[ "$dates" = no ] || command -v openssl >/dev/null || printf 'undated\t\n'
unset SSH_AUTH_SOCK  # a key that an agent lends us is none of libvirtd's
if [ -n "$program" ]; then
    (set -f; said=$(python3 -ISc "$program" $words 2>&1 </dev/null) || said=$(printf 'deaf\t%s' "$(printf '%s' "$said" | tail -n 1)")
     printf '%s\n' "$said") &
fi
if [ -n "$peer" ] && [ "$(id -u)" != 0 ]; then  # libvirtd connects as root, with root's keys and certificates
    printf 'peer\t126\t%s\n' "$(id -un)"
elif [ -n "$peer" ]; then
    (words=$(timeout "$seconds" virsh --connect "$peer" hostname 2>&1 </dev/null); code=$?
     printf 'peer\t%s\t%s\n' $code "$(printf '%s' "$words" | tail -n 1)") &
fi
if [ -n "$address" ]; then
    (words=$(timeout "$seconds" bash -c "exec 3<>/dev/tcp/$address/$port" 2>&1); code=$?
     printf 'address\t%s\t%s\n' $code "$(printf '%s' "$words" | head -n 1)") &
fi
printf 'clock\t%s\n' "$(date +%s.%N)"
(command -v qemu-nbd >/dev/null && command -v qemu-img >/dev/null || printf 'lacks\tqemu-utils\n'  # what an endpoint of a disk copy needs
 /usr/bin/python3 -Ic 'import importlib.util as found
for module, package in ("nbd", "python3-libnbd"), ("zstandard", "python3-zstandard"):
    if not found.find_spec(module): print("lacks", package, sep="\t")' 2>/dev/null </dev/null || printf 'lacks\tpython3\n') &
for bridge in /sys/class/net/*/bridge; do
    [ -d "$bridge" ] && printf 'bridge\t%s\n' "$(basename "$(dirname "$bridge")")"
done
ip -oneline address show 2>/dev/null | sed -n 's|^.* inet6\{0,1\} \([^ /]*\).*|own\t\1|p'
[ "$(cat /proc/sys/net/ipv4/ip_nonlocal_bind 2>/dev/null)" != 1 ] || printf 'own\tany\n'
while [ "$1" != -- ]; do
    if [ ! -r "$1" ] && hidden "$1"; then printf 'hidden\t%s\n' "$1"
    elif [ ! -r "$1" ]; then printf 'missing\t%s\n' "$1"
    elif [ "$dates" = yes ]; then ends "$1"
    fi
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
sed -n 's/^[[:space:]]*lock_manager[[:space:]]*=[[:space:]]*"\(.*\)".*/lock\t\1/p' /etc/libvirt/qemu.conf 2>/dev/null
sed -n '/^[[:space:]]*shared_filesystems/,/\]/p' /etc/libvirt/qemu.conf 2>/dev/null | sed '/^[[:space:]]*#/d' | tr '\n' ' ' | sed 's/^/shared\t/'
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
    addresses: tuple[str, ...] = ()  # its own; "any" where a program may listen on others too
    missing: tuple[str, ...] = ()  # files that are not there
    hidden: tuple[str, ...] = ()  # those that whom it was visited as may not see
    ends: dict[str, float] = field(default_factory=dict)  # certificate file -> when it ends, where dates were asked for
    lacks: tuple[str, ...] = ()  # packages that copies of disks need and that are not there
    dated: bool = True  # whether there is a program there that can tell
    clock_offset: float = 0.0  # its clock minus ours, seconds
    clock_uncertainty: float = 0.0
    shared_directories: tuple[str, ...] = ()  # libvirt's setting shared_filesystems
    declarable: bool | None = None  # whether its libvirt has that setting: its QEMU driver bears the name, or not
    file_systems: dict[str, str] = field(default_factory=dict)  # directory -> kind
    elsewhere: dict[str, str] = field(default_factory=dict)  # images that are links out of their directory -> where to
    peer: Way = Way(None, "not asked")
    address: Way = Way(None, "not asked")
    lock_manager: str = ""  # libvirt's setting; empty: none
    sent: tuple[str, ...] = ()  # devices out of which the probe's frames went
    heard: tuple[tuple[str, str], ...] = ()  # (device of the other host, own device) of each frame that was heard
    deaf: str = ""  # why the probe could not be made here

    def certificates(self, service: str) -> Way:
        """Whether all certificate files of a service can be read at the host."""
        if self.failed:
            return Way(None, f"certificates at {self.host.name} not checked, because {self.failed}")
        missing = [path for path in CERTIFICATES[service] if path in self.missing]
        if len(missing) == len(CERTIFICATES[service]):
            return Way(False, f"{self.host.name} has no certificates of {service} in /etc/pki")
        hidden = [path for path in CERTIFICATES[service] if path in self.hidden]
        if hidden and not missing:
            return Way(None, f"{self.host.name} shows {', '.join(hidden)} to root alone, and is not visited as root")
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
    files: Iterable[str] = (),
    images: Iterable[str] = (),
    peer_uri: str = "",
    address: str = "",
    task: Task = NOTHING,
    dates: bool = False,
) -> Visit:
    """Look at a host over ssh: whether files can be read, what directories are on, where images lead, and what `task` finds of segments.

    With `peer_uri` and `address`, try those two ways from it; with `dates`, ask when certificates end. Never raises.
    """
    wanted = [*(path for paths in CERTIFICATES.values() for path in paths), *files]
    arguments = [peer_uri, address, str(MIGRATION_PORTS[0]), str(TRY_WITHIN), "yes" if dates else "no", task.program, *task.arguments, "--", *wanted,
                 "--", *sorted(set(directories)), "--", *images]  # fmt: skip
    began = time.time()
    try:
        answer = ssh.run(host, ["sh", "-c", _SCRIPT, "visit", *arguments])
    except errors.DriverError as error:
        return _failed(host, error.why)
    lines = [line.split("\t") for line in answer.out.splitlines() if "\t" in line]
    clock = next((float(value[1]) for value in lines if value[0] == "clock" and _is_number(value[1])), None)
    if clock is None:
        why = f"{host.name} did not answer as expected: {(answer.err or answer.out).strip()[:200]}"
        return _failed(host, why)
    # The clock is read at the beginning: half a round trip after we asked, less than the whole visit in any case.
    uncertainty = (time.time() - began) / 2
    return Visit(
        host,
        bridges=tuple(sorted(value[1] for value in lines if value[0] == "bridge")),
        addresses=tuple(value[1] for value in lines if value[0] == "own"),
        missing=tuple(value[1] for value in lines if value[0] == "missing"),
        hidden=tuple(value[1] for value in lines if value[0] == "hidden"),
        ends={value[1]: float(value[2]) for value in lines if value[0] == "ends" and _is_number(value[2])},
        lacks=tuple(value[1] for value in lines if value[0] == "lacks"),
        dated=not any(value[0] == "undated" for value in lines),
        clock_offset=clock - began - uncertainty,
        clock_uncertainty=uncertainty,
        declarable=next((value[1] == "yes" for value in lines if value[0] == "declarable"), None),
        shared_directories=_listed([value[1] for value in lines if value[0] == "shared"]),
        file_systems={value[1]: value[2] for value in lines if value[0] == "filesystem"},
        elsewhere={value[1]: value[2] for value in lines if value[0] == "elsewhere"},
        peer=_peer_way(host, next((value for value in lines if value[0] == "peer"), None)),
        address=_address_way(host, next((value for value in lines if value[0] == "address"), None)),
        lock_manager=next((value[1] for value in lines if value[0] == "lock"), ""),
        sent=tuple(value[1] for value in lines if value[0] == "sent"),
        heard=tuple((value[1], value[2]) for value in lines if value[0] == "heard"),
        deaf="; ".join(
            " ".join(value[1:]).strip() or "python3 gave no answer" for value in lines if value[0] in ("deaf", "unsent")
        ),
    )


def _failed(host: Host, why: str) -> Visit:
    return Visit(host, why, peer=Way(None, why), address=Way(None, why), deaf=why)


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
    if code == 126:
        return Way(None, f"its libvirtd connects as root, and it is visited as {words}")
    if code == 124:
        words = f"no answer within {TRY_WITHIN} s"
    return Way(code == 0, "" if code == 0 else words.removeprefix("error: ") or f"virsh ended with {code}")


def _address_way(host: Host, line: Sequence[str] | None) -> Way:
    if line is None:
        return Way(None, "not asked")
    code, words = int(line[1]), line[2]
    if code == 0 or "refused" in words.lower():
        return Way(True)
    if code == 127:
        return Way(None, f"{host.name} has no bash")
    return Way(False, words.rpartition("bash: ")[2] or f"no answer within {TRY_WITHIN} s")
