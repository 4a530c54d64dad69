"""What libvirtd's configuration needs: TLS listening, the migration address, shared directories; and whether it must be restarted."""

import re
from collections.abc import Iterable, Iterator

from ferryman.model.preparation import (
    HOST_PLACES,
    TLS_PORT,
    Change,
    Changes,
    End,
    Listen,
    MachineState,
    Manager,
    Place,
    Restart,
    Service,
    Setting,
    Wish,
)

QEMU, LIBVIRTD, DEFAULTS = "/etc/libvirt/qemu.conf", "/etc/libvirt/libvirtd.conf", "/etc/default/libvirtd"
QEMU_CERTIFICATES = "/etc/pki/qemu"
# libvirtd's own places; a setting that names others would make it serve other certificates than those installed here.
_SERVED = {
    "key_file": "/etc/pki/libvirt/private/serverkey.pem",
    "cert_file": "/etc/pki/libvirt/servercert.pem",
    "ca_file": HOST_PLACES.authorities[Service.LIBVIRT],
}
_SERVER_FILES = {
    HOST_PLACES.authorities[Service.LIBVIRT],
    *(path for pair in HOST_PLACES.pairs if (pair.service, pair.end) == (Service.LIBVIRT, End.SERVER)
      for path in (pair.certificate, pair.key)),
}  # fmt: skip


def value_of(text: str, key: str) -> str:
    """A setting as it is written, of a list all of it; empty when it is not in force. The first one counts, as for libvirt."""
    found = re.search(rf"^[ \t]*{key}[ \t]*=[ \t]*(\[[^\]]*\]|[^\n#]*)", text, flags=re.MULTILINE)
    return found[1].strip() if found else ""


def listed(value: str) -> tuple[str, ...]:
    """The strings of a list; what is commented out in it is none of them."""
    return tuple(path for path in re.findall(r'"([^"]*)"|#.*', value) if path)


def settings(seen: MachineState, wish: Wish) -> Changes:
    """The settings that must change, and what could not be set."""
    notes: list[str] = []
    changes = [*_migration(seen, wish, notes), *_qemu_certificates(seen), *_served(seen), *_shared(seen, wish, notes)]
    return Changes((*changes, *_listening(seen)), tuple(notes))


def _text(seen: MachineState, path: str) -> str:
    return seen.files[path].text if path in seen.files else ""


def _set(seen: MachineState, path: str, key: str, value: str, why: str, separator: str = " = ") -> Change:
    before = value_of(_text(seen, path), key)
    undo = f"{key}{separator}{before}" if before else f"without {key}"
    return Change(f"{path}: {key}{separator}{value}", why, undo, Setting(path, key, value, separator))


def _migration(seen: MachineState, wish: Wish, notes: list[str]) -> Iterator[Change]:
    address, before = wish.migration_address, value_of(_text(seen, QEMU), "migration_host").strip('"')
    if before and before != address and not wish.migration_address_given:
        notes.append(f"{seen.name}: its qemu.conf names {before} as the migration address, and none is registered, so that ferryman takes {address}; "
                     f"if {before} is right, register the host anew with --migration-address {before} and prepare it again")  # fmt: skip
        return
    if address and before != address and (before or address != seen.hostname):
        answer = f"'{before}'" if before else f"its host name '{seen.hostname}'"
        yield _set(seen, QEMU, "migration_host", f'"{address}"', f"other hosts are told {answer} as the migration address until now")  # fmt: skip


def _qemu_certificates(seen: MachineState) -> Iterator[Change]:
    """migrate_ and nbd_ go by their own setting, else by /etc/pki/libvirt-…, else by the default_ one."""
    text = _text(seen, QEMU)
    default = value_of(text, "default_tls_x509_cert_dir").strip('"') or QEMU_CERTIFICATES
    for service in ("migrate", "nbd"):
        key = f"{service}_tls_x509_cert_dir"
        special = f"/etc/pki/libvirt-{service}" if service in seen.special else ""
        now = value_of(text, key).strip('"') or special or default
        if now.rstrip("/") != QEMU_CERTIFICATES:
            yield _set(seen, QEMU, key, f'"{QEMU_CERTIFICATES}"', f"QEMU takes the certificates in {now} for it until now")  # fmt: skip


def _served(seen: MachineState) -> Iterator[Change]:
    for key, path in _SERVED.items():
        now = value_of(_text(seen, LIBVIRTD), key).strip('"')
        if now and now != path:
            yield _set(seen, LIBVIRTD, key, f'"{path}"', f"libvirtd serves {now} until now")


def _shared(seen: MachineState, wish: Wish, notes: list[str]) -> Iterator[Change]:
    if not wish.shared_directories:
        return
    if not seen.knows_shared_filesystems:
        notes.append(f"{seen.name}: its libvirt has no setting shared_filesystems (before 11): ferryman vouches for a disk there that it "
                     "proved to be shared, if its cache mode is none or directsync")  # fmt: skip
        return
    before = listed(value_of(_text(seen, QEMU), "shared_filesystems"))
    new = [path for path in wish.shared_directories if path.rstrip("/") not in {one.rstrip("/") for one in before}]
    if new:
        value = "[ " + ", ".join(f'"{path}"' for path in (*before, *new)) + " ]"
        yield _set(seen, QEMU, "shared_filesystems", value, f"libvirt does not take {', '.join(new)} as shared")


def _listening(seen: MachineState) -> Iterator[Change]:
    """Without socket activation: libvirtd listens when it is told to, by listen_tls (which is the default) and --listen."""
    if seen.manager is Manager.SOCKETS:
        return
    if value_of(_text(seen, LIBVIRTD), "listen_tls") == "0":
        yield _set(seen, LIBVIRTD, "listen_tls", "1", "libvirtd does not listen for TLS")
    arguments = value_of(_text(seen, DEFAULTS), "LIBVIRTD_ARGS").strip("\"'")
    if DEFAULTS in seen.files and not _tells_to_listen(arguments) and not (seen.listens and _tells_to_listen(seen.arguments)):  # fmt: skip
        yield _set(seen, DEFAULTS, "LIBVIRTD_ARGS", f'"{f"{arguments} --listen".strip()}"',
                   "at its next start libvirtd would not listen for TLS", "=")  # fmt: skip


def _tells_to_listen(arguments: str) -> bool:
    return bool({"--listen", "-l"} & set(arguments.split()))


def is_listening(change: Change) -> bool:
    """Whether a change makes the TLS socket listen, which starts libvirtd anew too."""
    return isinstance(change.act, Listen)


def restart(seen: MachineState, before: Iterable[Change]) -> tuple[Change, ...]:
    """What makes libvirtd take up the changes before; nothing when it need not."""
    running = len(seen.guests)
    guests = {0: "no guest runs", 1: "the guest that runs goes on"}.get(running, f"the {running} guests that run go on")
    undo = "libvirtd is started anew as it was"
    if seen.manager is Manager.SOCKETS and not seen.listens:
        return (Change("libvirtd-tls.socket: enabled and started; libvirtd restarted", f"libvirtd does not listen on port {TLS_PORT}",
                       "the socket is disabled; " + undo, Listen()),)  # fmt: skip
    touched = [change for change in before if _is_read_at_start(change)]
    if not touched and seen.listens:
        return ()
    more = ("--listen",) if seen.manager is Manager.ARGUMENTS and not _tells_to_listen(seen.arguments) else ()
    why = "it reads what was changed when it starts" if seen.listens else f"it does not listen on port {TLS_PORT}"
    what = f"libvirtd: restarted{' with --listen' if more else ''} ({guests})"
    return (Change(what, why, undo, Restart(seen.manager, more)),)


def _is_read_at_start(change: Change) -> bool:
    match change.act:
        case Setting(path=path):
            return path in (QEMU, LIBVIRTD)
        case Place(path=path):
            return path in _SERVER_FILES
        case _:
            return False
