"""The file systems in images that nobody writes to, looked through at their host by libguestfs. Not a byte of them is changed."""

import re
from collections.abc import Sequence

from ferryman import errors
from ferryman.drivers import ssh
from ferryman.model.filesystem import Condition, FileSystem
from ferryman.model.host import Host
from ferryman.model.plan import Held

# One appliance for all images, since a file system may lie on several. It writes to an overlay that goes with it: so each
# program may do what it does when the guest starts (replay a journal, mend what needs no question) before it judges.
# Arguments: SECONDS, then guestfish's options. Each answer is one line: its kind, a tab, its value.
_LOOK = r"""
set -u
seconds=$1; shift
command -v guestfish >/dev/null || { echo absent; exit 0; }
export LIBGUESTFS_BACKEND=direct LC_ALL=C
until=$(($(date +%s) + seconds))
said=$(mktemp) && trap 'rm -f "$said"' EXIT
eval "$(guestfish --listen --ro "$@" 2>>"$said" </dev/null)"
[ -n "${GUESTFISH_PID:-}" ] || { printf 'failed\t%s\n' "$(tail -n 1 "$said")"; exit 0; }
# One that is not ready hears neither a word nor a gentle signal; its appliance ends when it is gone.
trap 'rm -f "$said"; timeout 2 guestfish --remote exit >/dev/null 2>&1; kill -9 "$GUESTFISH_PID" 2>/dev/null' EXIT
fish() {  # one command: 0 when nothing was complained of, 124 when there was no time, 125 when libguestfs has it not
    command=$1; shift
    left=$((until - $(date +%s)))
    [ $left -gt 0 ] || return 124
    : >"$said"
    # The sign before it keeps the appliance alive when it fails, and hides that from whoever looks at its end alone.
    timeout "$left" guestfish --remote -- "-$command" "$@" 2>>"$said" </dev/null || return
    ! grep -q 'not available' "$said" || return 125
    ! grep -q 'libguestfs: error' "$said"
}
fish run >/dev/null || { code=$?; [ $code = 124 ] && echo late || printf 'failed\t%s\n' "$(tail -n 1 "$said")"; exit 0; }
found=$(fish list-filesystems) || { printf 'failed\t%s\n' "$(tail -n 1 "$said")"; exit 0; }
look() {
    case $2 in
        ext[234]) fish e2fsck "$1" correct:true ;;
        xfs) fish mount "$1" / && fish umount / && code=$(fish xfs-repair "$1" nomodify:true) && [ "$code" = 0 ] ;;
        btrfs) fish btrfs-fsck "$1" ;;
        vfat) code=$(fish fsck vfat "$1") && [ "$code" -lt 4 ] ;;
        ntfs) fish ntfsfix "$1" ;;
        *) return 125 ;;
    esac
}
printf '%s\n' "$found" | while IFS=' ' read -r device kind; do
    [ -n "$device" ] || continue
    look "${device%:}" "$kind" >/dev/null
    printf 'system\t%s\t%s\t%s\t%s\n' "${device%:}" "$kind" $? "$(tr '\n\t' '  ' <"$said")"
done
"""
_UNKNOWN = {124: "there was no time left", 125: "there is no check for it"}
_NOTHING_IN_IT = ("swap", "unknown")
ALLOWANCE = 30.0  # seconds for what is around the looking


def look(host: Host, images: Sequence[Held], within: float) -> tuple[FileSystem, ...] | None:
    """All that libguestfs finds in them, together; None where it is not installed. Raises errors.DriverError."""
    options = [word for image in images for word in (f"--format={image.format}", "-a", image.path)]
    answer = ssh.run(host, ["sh", "-c", _LOOK, "ferryman", str(int(within)), *options], timeout=within + ALLOWANCE)
    found = []
    for line in answer.out.splitlines():
        match line.split("\t"):
            case ["absent"]:
                return None
            case ["late"]:
                raise errors.DriverError(f"file systems at host {host.name}", f"libguestfs was not ready within {within:.0f} s", "by hand it may take as long as it needs: without hardware virtualisation that is minutes")  # fmt: skip
            case ["failed", words]:
                raise errors.DriverError(f"file systems at host {host.name}", words or "libguestfs failed, and did not say why", "libguestfs-test-tool there tells what is amiss")  # fmt: skip
            case ["system", device, kind, code, words] if kind not in _NOTHING_IN_IT:
                found.append(_system(_name(device, images), kind, int(code), words))
    return tuple(found)


def _system(name: str, kind: str, code: int, words: str) -> FileSystem:
    if code == 0:
        return FileSystem(name, kind, Condition.SOUND)
    if code in _UNKNOWN:
        return FileSystem(name, kind, Condition.UNKNOWN, _UNKNOWN[code])
    return FileSystem(name, kind, Condition.DAMAGED, words.strip().removeprefix("libguestfs: error: "))


def _name(device: str, images: Sequence[Held]) -> str:
    """libguestfs calls the images /dev/sda, /dev/sdb, … in their order: back to the guest's own names of its disks."""
    found = re.fullmatch(r"/dev/sd([a-z])(\d*)", device)
    number = ord(found[1]) - ord("a") if found else len(images)
    return f"{images[number].target}{found[2]}" if found and number < len(images) else device
