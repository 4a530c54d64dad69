"""What is done at a host itself: images held by detached qemu-nbd processes, found again by their pid files; small directories
packed and put in their place."""

import json
import shlex
from collections.abc import Sequence
from typing import Any

from ferryman import errors
from ferryman.drivers import ssh
from ferryman.model.host import Host
from ferryman.model.plan import Held, ImageFile, Soundness

DIRECTORY = "/run/ferryman/holds"
WITHIN = 30.0  # seconds for one call
CHECK_WITHIN = 3600.0  # seconds to look through an image's tables

# A hold is TARGET.pid in the request's directory, and a process whose command line names the socket beside it: a pid that
# was given to another process since is left alone.
_SHELL = """
set -u
holds=$1; shift
alive() { [ -s "$1.pid" ] && tr '\\0' ' ' <"/proc/$(cat "$1.pid")/cmdline" 2>/dev/null | grep -qF -- "$1.sock"; }
"""
_HOLD = (
    _SHELL
    + """
target=$1 format=$2 path=$3 mode=$4
mkdir -p "$holds" && chmod 0700 "$holds" || exit
alive "$holds/$target" && exit
for file in "${holds%/*}"/*/*.pid; do
    one=${file%.pid}
    [ -e "$file" ] && [ "${one%/*}" != "$holds" ] && alive "$one" || continue
    if tr '\\0' '\\n' <"/proc/$(cat "$file")/cmdline" | grep -qxF -- "$path"; then
        other=${one%/*}
        echo "request ${other##*/} holds it already" >&2
        exit 1
    fi
done
rm -f "$holds/$target.sock"
exec qemu-nbd --fork --persistent $mode --format="$format" --socket="$holds/$target.sock" --pid-file="$holds/$target.pid" "$path" </dev/null
"""
)
_HELD = _SHELL + """for file in "$holds"/*.pid; do one=${file%.pid}; alive "$one" && echo "${one##*/}"; done; exit 0"""
_RELEASE = (
    _SHELL
    + """
[ $# -gt 0 ] || for file in "$holds"/*.pid; do [ -e "$file" ] && set -- "$@" "$(basename "$file" .pid)"; done
for target in "$@"; do
    one=$holds/$target
    if alive "$one"; then
        kill "$(cat "$one.pid")"
        tries=0
        while alive "$one" && [ $tries -lt 100 ]; do sleep 0.05; tries=$((tries + 1)); done
        alive "$one" && { echo "the process $(cat "$one.pid") that holds $target does not end" >&2; exit 1; }
    fi
    rm -f "$one.pid" "$one.sock"
done
rmdir "$holds" 2>/dev/null
exit 0
"""
)

LARGEST = 32 * 1024**2  # bytes of a directory that is packed: a TPM's state has some hundred KiB
_PACK = """
set -eu
[ -d "$1" ] || exit 0
[ "$(du -sb "$1" | cut -f1)" -lt "$2" ] || { echo "$1 holds more than $2 bytes" >&2; exit 1; }
cd "$1"
packed=$(mktemp)
trap 'rm -f "$packed"' EXIT
tar --sort=name --mtime=@0 --exclude='./.ferryman-*' -cf "$packed" .
base64 "$packed"
"""
# A mark inside says whose it is, so that done twice it is done once, and that only it is taken back.
_UNPACK = """
set -eu
directory=$1 request=$2
if [ -e "$directory/.ferryman-$request" ]; then exit 0; fi
fresh=$directory.new-$request
rm -rf "$fresh"
mkdir -p "$fresh"
base64 -d | tar -C "$fresh" -xpf -
: >"$fresh/.ferryman-$request"
if [ -e "$directory" ]; then
    if [ -n "$(ls -A "$directory")" ]; then mv "$directory" "$directory.before-$request"; echo kept; else rmdir "$directory"; fi
fi
mv "$fresh" "$directory"
"""
_TAKE_BACK = """
set -eu
directory=$1 request=$2
rm -rf "$directory.new-$request"
if [ -e "$directory/.ferryman-$request" ]; then rm -rf "$directory"; fi
if [ -e "$directory.before-$request" ] && [ ! -e "$directory" ]; then mv "$directory.before-$request" "$directory"; fi
"""
_ADOPT = """
set -eu
rm -f "$1/.ferryman-$2"
if [ -e "$1.before-$2" ]; then echo kept; fi
"""
# Nothing but what ferryman itself put aside for that request goes.
_REMOVE_ASIDE = """
set -eu
case "$1" in /*.before-"$2") ;; *) echo "$1 was not put aside for request $2" >&2; exit 1;; esac
if [ -e "$1" ]; then rm -rf "$1"; echo removed; fi
"""
_MOVE = """[ -e "$1" ] || exit 0; [ ! -e "$2" ] || { echo "$2 is there already" >&2; exit 1; }; mv "$1" "$2" """

_CHAIN = """
[ -e "$1" ] || exit 0
exec qemu-img info -U -f "$2" --backing-chain --output=json "$1"
"""


def hold(host: Host, request: str, images: Sequence[Held]) -> None:
    """Open each image so that no guest can start on it; the processes outlive this one."""
    for image in images:
        # A read-only qcow2 locks writers out; a read-only raw image locks nobody out, so it is opened writable, and
        # nobody writes to it.
        mode = "" if image.format == "raw" else "--read-only"
        answer = _run(host, _HOLD, request, image.target, image.format, image.path, mode)
        if answer.code != 0:
            raise errors.DriverError(
                f"image {image.path} at host {host.name}", f"it cannot be held: {_words(answer)}",
                f"look who uses it: fuser -v {shlex.quote(image.path)}; qemu-nbd comes with qemu-utils",
            )  # fmt: skip


def held(host: Host, request: str) -> tuple[str, ...]:
    """The targets that are held for that request now."""
    return tuple(_run(host, _HELD, request).out.split())


def release(host: Host, request: str, targets: Sequence[str] = ()) -> None:
    """Let them go, all when none is named."""
    answer = _run(host, _RELEASE, request, *targets)
    if answer.code != 0:
        raise errors.DriverError(f"images held at host {host.name}", _words(answer), f"end it by hand: the process ids are in {DIRECTORY}/{request}")  # fmt: skip


def pack(host: Host, directory: str) -> str:
    """A small directory with owners and modes, as text; empty when there is none."""
    return _do(host, _PACK, directory, str(LARGEST), what=f"directory {directory}").out


def unpack(host: Host, directory: str, packed: str, request: str) -> bool:
    """Put it in its place; True when what was there before is kept beside it."""
    answer = _do(host, _UNPACK, directory, request, what=f"directory {directory}", text=packed)
    return "kept" in answer.out


def take_back(host: Host, directory: str, request: str) -> None:
    """Remove what was unpacked for that request, and put back what was there before."""
    _do(host, _TAKE_BACK, directory, request, what=f"directory {directory}")


def adopt(host: Host, directory: str, request: str) -> bool:
    """Take the mark away: nothing will be taken back; True when what was there before is kept beside it."""
    return "kept" in _do(host, _ADOPT, directory, request, what=f"directory {directory}").out


def remove_aside(host: Host, path: str, request: str) -> bool:
    """Remove what was put aside for that request; False: there was none."""
    return "removed" in _do(host, _REMOVE_ASIDE, path, request, what=path).out


def move_file(host: Host, path: str, to: str) -> None:
    """Give a file another name in its file system."""
    _do(host, _MOVE, path, to, what=f"file {path}")


def _do(host: Host, script: str, *arguments: str, what: str, text: str = "") -> ssh.Answer:
    answer = ssh.run(host, ["sh", "-c", script, "ferryman", *arguments], timeout=WITHIN, text=text)
    if answer.code != 0:
        raise errors.DriverError(f"{what} at host {host.name}", _words(answer), "look at the file system there: df, mount, dmesg")  # fmt: skip
    return answer


def image_chain(host: Host, path: str, kind: str) -> tuple[ImageFile, ...]:
    """An image and the layers below it, top first; nothing when there is no such file. Also of one that is in use.

    The format is never guessed: what a guest writes at the beginning of a raw image may look like the header of another.
    """
    answer = ssh.run(host, ["sh", "-c", _CHAIN, "ferryman", path, kind], timeout=WITHIN)
    if answer.code != 0:
        raise errors.DriverError(f"image {path} at host {host.name}", _words(answer), "look at it: qemu-img info; the program comes with qemu-utils")  # fmt: skip
    chain = json.loads(answer.out or "[]")
    return tuple(ImageFile(str(one["filename"]), str(one["format"]), int(one.get("actual-size", 0))) for one in chain)


def rebase(host: Host, path: str, backing: str, backing_format: str) -> None:
    """Write into a qcow2 image's header where the layer below it is."""
    command = ["qemu-img", "rebase", "-u", "-f", "qcow2", "-b", backing, "-F", backing_format, path]
    answer = ssh.run(host, command, timeout=WITHIN)
    if answer.code != 0:
        raise errors.DriverError(f"image {path} at host {host.name}", f"the layer below it could not be named: {_words(answer)}", "look at both images: qemu-img info")  # fmt: skip


def image_snapshots(host: Host, path: str) -> tuple[str, ...]:
    """The snapshots inside a qcow2 image. Also of one that is in use."""
    return tuple(str(one["name"]) for one in _info(host, path).get("snapshots", ()))


def is_old(host: Host, path: str) -> bool:
    """Whether a qcow2 image is of version 2 (compat 0.10), whose header has no place for bitmaps. Also of one that is in use."""
    return _info(host, path)["format-specific"]["data"]["compat"] == "0.10"  # type: ignore[no-any-return]


def _info(host: Host, path: str) -> dict[str, Any]:
    answer = ssh.run(host, ["qemu-img", "info", "-U", "-f", "qcow2", "--output=json", path], timeout=WITHIN)
    if answer.code != 0:
        raise errors.DriverError(f"image {path} at host {host.name}", _words(answer), "look at it: qemu-img info; the program comes with qemu-utils")  # fmt: skip
    return dict(json.loads(answer.out))


LABEL = "user.ferryman"  # an extended attribute: getfattr -d shows it
_LABEL = """
import os, sys
name, path, words = sys.argv[1:]
if words:
    os.setxattr(path, name, words.encode())
elif name in os.listxattr(path):
    os.removexattr(path, name)
"""


def label(host: Host, path: str, words: str) -> None:
    """Write words beside a file's content, for whoever finds it; empty: take them away."""
    answer = ssh.run(host, ["python3", "-c", _LABEL, LABEL, path, words], timeout=WITHIN)
    if answer.code != 0:
        raise errors.DriverError(f"file {path} at host {host.name}", f"it cannot be marked: {_words(answer)}", "its file system has no room for that (user_xattr)")  # fmt: skip


_REMOVE_BITMAP = """
[ -e "$1" ] || exit 0
qemu-img info -U -f qcow2 --output=json "$1" | tr -d '" ,' | grep -qxF -- "name:$2" || exit 0
exec qemu-img bitmap --remove -f qcow2 "$1" "$2"
"""


def remove_bitmap(host: Host, path: str, name: str) -> None:
    """Take a bitmap out of a qcow2 image that nobody has open."""
    answer = ssh.run(host, ["sh", "-c", _REMOVE_BITMAP, "ferryman", path, name], timeout=WITHIN)
    if answer.code != 0:
        raise errors.DriverError(f"bitmap {name} in image {path} at host {host.name}", f"it cannot be removed: {_words(answer)}",
                                 f"once nobody has it open: qemu-img bitmap --remove {shlex.quote(path)} {name}")  # fmt: skip


def room(host: Host, directory: str) -> int | None:
    """Bytes that are free there; None when there is no such directory."""
    answer = ssh.run(host, ["df", "--output=avail", "-B1", directory], timeout=WITHIN)
    return int(answer.out.split()[-1]) if answer.code == 0 else None


_LEAKED = 3  # of qemu-img check: clusters that nothing refers to, as a guest leaves them that was switched off


def check_image(host: Host, image: Held) -> Soundness:
    """Whether an image's own structure is sound."""
    if image.format == "raw":
        return Soundness(True)
    command = ["qemu-img", "check", "-q", "-U", "-f", image.format, image.path]
    answer = ssh.run(host, command, timeout=CHECK_WITHIN)
    if answer.code == _LEAKED:
        return Soundness(True, "some clusters take room for nothing, which harms nobody (qemu-img check -r leaks)")
    return (
        Soundness(True) if answer.code in (0, 63) else Soundness(False, _words(answer))
    )  # 63: the format has nothing to check


def _run(host: Host, script: str, request: str, *arguments: str) -> ssh.Answer:
    return ssh.run(host, ["sh", "-c", script, "ferryman", f"{DIRECTORY}/{request}", *arguments], timeout=WITHIN)


def _words(answer: ssh.Answer) -> str:
    lines = (answer.err or answer.out).strip().splitlines()
    return lines[-1] if lines else f"it ended with {answer.code}"
