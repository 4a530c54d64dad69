"""Images held at a host by detached qemu-nbd processes, so that no guest can start on them; found again by their pid files."""

import shlex
from collections.abc import Sequence

from ferryman import errors
from ferryman.drivers import ssh
from ferryman.model.host import Host
from ferryman.model.plan import Held

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


class SshKeeper:
    """Implements ports.Keeper, over ssh; at the local host directly."""

    def hold(self, host: Host, request: str, images: Sequence[Held]) -> None:
        for image in images:
            # A read-only qcow2 locks writers out; a read-only raw image locks nobody out, so it is opened writable, and
            # nobody writes to it.
            mode = "" if image.format == "raw" else "--read-only"
            answer = self._run(host, _HOLD, request, image.target, image.format, image.path, mode)
            if answer.code != 0:
                raise errors.DriverError(
                    f"image {image.path} at host {host.name}", f"it cannot be held: {_words(answer)}",
                    f"look who uses it: fuser -v {shlex.quote(image.path)}; qemu-nbd comes with qemu-utils",
                )  # fmt: skip

    def held(self, host: Host, request: str) -> tuple[str, ...]:
        return tuple(self._run(host, _HELD, request).out.split())

    def release(self, host: Host, request: str, targets: Sequence[str] = ()) -> None:
        answer = self._run(host, _RELEASE, request, *targets)
        if answer.code != 0:
            raise errors.DriverError(f"images held at host {host.name}", _words(answer), f"end it by hand: the process ids are in {DIRECTORY}/{request}")  # fmt: skip

    def check_image(self, host: Host, image: Held) -> str:
        if image.format == "raw":
            return ""
        command = ["qemu-img", "check", "-q", "-U", "-f", image.format, image.path]
        answer = ssh.run(host, command, timeout=CHECK_WITHIN)
        return "" if answer.code in (0, 63) else _words(answer)  # 63: the format has nothing to check

    @staticmethod
    def _run(host: Host, script: str, request: str, *arguments: str) -> ssh.Answer:
        return ssh.run(host, ["sh", "-c", script, "ferryman", f"{DIRECTORY}/{request}", *arguments], timeout=WITHIN)


def _words(answer: ssh.Answer) -> str:
    lines = (answer.err or answer.out).strip().splitlines()
    return lines[-1] if lines else f"it ended with {answer.code}"
