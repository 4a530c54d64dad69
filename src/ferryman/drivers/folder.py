"""A directory of a host, or of this machine, that backups are kept in: small files written to stay, folders that get their name last."""

import base64
import hashlib
import json
import posixpath
from collections.abc import Iterator
from typing import Any

from ferryman import errors
from ferryman.drivers import ssh
from ferryman.model.backup import MANIFEST, PARTIAL
from ferryman.model.host import Host

WITHIN = 60.0  # seconds for one call: a file of 64 MiB goes by way of ssh's standard input
SLICE = 20.0  # seconds after which removing tells that it is not done, and is asked to go on
ONE_FILE_WITHIN = 600.0  # seconds: a file system may take that long for a large one

# Folders whose name begins with a dot are under way, or not ours.
_MANIFESTS = f"""
[ -d "$1" ] || exit 0
cd "$1" || exit
find . -maxdepth 3 -name {MANIFEST} -type f ! -path '*/.*/*' | while IFS= read -r file; do
    printf '%s\\n' "${{file%/*}}"
    base64 -w0 "$file"; echo
    find "${{file%/*}}" -maxdepth 1 -type f -printf '%f\\t%s\\n' | base64 -w0; echo
done
"""
_MAKE = """
set -eu
umask 077
mkdir -p "$1"
mkdir -p "$1/$2"
"""
_READ = """
[ -d "$1" ] || { echo "it is not there: is its file system mounted?" >&2; exit 1; }
[ -e "$1/$2" ] || exit 44
exec base64 "$1/$2"
"""
_WRITE = """
set -eu
umask 077
base64 -d >"$1/$2.new"
sync "$1/$2.new"
mv -f "$1/$2.new" "$1/$2"
sync "$1/${2%/*}"
dd if="$1/$2" iflag=nocache count=0 status=none
sha256sum <"$1/$2"
"""
_SIZES = """cd "$1/$2" && find . -maxdepth 1 -type f -printf '%f\\t%s\\n' """
_PUBLISH = f"""
set -eu
cd "$1"
if [ ! -d "$2" ] && [ -e "$3/{MANIFEST}" ]; then exit 0; fi
[ ! -e "$3" ] || {{ echo "$1/$3 is there already" >&2; exit 1; }}
sync "$2"
mv -T "$2" "$3"
sync .
"""
# The name says that it is under way, and whose it is: nothing else goes. What remains of it when that is interrupted is never taken for a
# backup: its manifest goes first of all. It ends with 45 when there is more, with 44 when there is no such directory: where it is not mounted nothing is gone.
_REMOVE = f"""
set -eu
case "$2" in */*) exit 1;; {PARTIAL}*-"$3") ;; *) echo "$2 is not of request $3" >&2; exit 1;; esac
[ -d "$1" ] || exit 44
rm -f "$1/$2/{MANIFEST}"
code=0
timeout "$4" rm -rf "$1/$2" || code=$?
[ "$code" != 124 ] || exit 45
exit "$code"
"""
_LEAVE = """rmdir "$1" 2>/dev/null || :"""

# Of the file system that it will lie in, where it is not there yet.
_ROOM = """
directory=$1
while [ ! -d "$directory" ]; do directory=$(dirname "$directory"); done
df --output=avail -B1 "$directory"
"""


class HostFolder:
    """Implements ports.Folder."""

    def __init__(self, host: Host, path: str) -> None:
        self._host, self._path = host, path

    def manifests(self) -> dict[str, tuple[bytes, dict[str, int]]]:
        lines = self._do(_MANIFESTS).splitlines()
        return {
            name.removeprefix("./"): (base64.b64decode(manifest), _sizes(base64.b64decode(sizes).decode()))
            for name, manifest, sizes in zip(lines[::3], lines[1::3], lines[2::3], strict=True)
        }

    def make(self, name: str) -> None:
        self._do(_MAKE, name)

    def read(self, name: str) -> bytes | None:
        answer = ssh.run(self._host, ["sh", "-c", _READ, "ferryman", self._path, name], timeout=WITHIN)
        if answer.code == 44:
            return None
        return base64.b64decode(self._good(answer).out)

    def write(self, name: str, content: bytes) -> None:
        seen = self._do(_WRITE, name, text=base64.encodebytes(content).decode()).split()[0]
        if seen != hashlib.sha256(content).hexdigest():
            raise errors.DriverError(f"file {self._path}/{name} at {self._host.name}", "what is read back is not what was written",
                                     "look whether its file system is damaged: dmesg")  # fmt: skip

    def sizes(self, name: str) -> dict[str, int]:
        return _sizes(self._do(_SIZES, name))

    def layers(self, name: str) -> tuple[str, ...]:
        command = ["qemu-img", "info", "-U", "-f", "qcow2", "--backing-chain", "--output=json", f"{self._path}/{name}"]
        answer = self._good(ssh.run(self._host, command, timeout=WITHIN))
        return tuple(posixpath.normpath(file) for one in json.loads(answer.out) for file in _files(one))

    def publish(self, partial: str, name: str) -> None:
        self._do(_PUBLISH, partial, name)

    def remove(self, partial: str, request: str) -> bool:
        arguments = [self._path, partial, request, f"{SLICE:g}"]
        while (
            answer := ssh.run(
                self._host, ["sh", "-c", _REMOVE, "ferryman", *arguments], timeout=SLICE + ONE_FILE_WITHIN
            )
        ).code == 45:
            pass  # a file has gone at least: the one that was under way at the end of the slice
        if answer.code == 44:
            return False
        self._good(answer)
        return True

    def leave(self) -> None:
        self._do(_LEAVE)

    def room(self) -> int | None:
        answer = ssh.run(self._host, ["sh", "-c", _ROOM, "ferryman", self._path], timeout=WITHIN)
        return int(answer.out.split()[-1]) if answer.code == 0 else None

    def _do(self, script: str, *arguments: str, text: str = "") -> str:
        return self._good(
            ssh.run(self._host, ["sh", "-c", script, "ferryman", self._path, *arguments], timeout=WITHIN, text=text)
        ).out

    def _good(self, answer: ssh.Answer) -> ssh.Answer:
        if answer.code != 0:
            lines = answer.err.strip().splitlines()
            raise errors.DriverError(
                f"folder {self._path} at {self._host.name}", lines[-1] if lines else f"it ended with {answer.code}",
                "look at its file system: df, mount, ls -ld",
            )  # fmt: skip
        return answer


def _files(layer: dict[str, Any]) -> Iterator[str]:
    """The files of one layer: a qcow2 image may keep its data in another one."""
    yield str(layer["filename"])
    if outside := layer.get("format-specific", {}).get("data", {}).get("data-file"):
        yield str(outside)


def _sizes(listed: str) -> dict[str, int]:
    """By the files' names."""
    return {name: int(size) for name, _, size in (line.rpartition("\t") for line in listed.splitlines())}
