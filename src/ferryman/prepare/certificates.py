"""Which certificates a machine needs, and why: missing, ending, of another authority, for other names, unreadable."""

from collections.abc import Iterator

from ferryman.model.preparation import (
    RENEW_WITHIN,
    Access,
    Change,
    Changes,
    End,
    File,
    MachineState,
    Pair,
    Place,
    Places,
    Service,
    Wish,
)
from ferryman.prepare.daemon import value_of

DAY = 86400.0
USAGES = frozenset(("digital signature", "key encipherment"))  # libvirt before 10 does not start without the second


def needed(seen: MachineState, wish: Wish, places: Places) -> Changes:
    """The authority's certificate, the certificates and their keys: only what is missing or no longer right."""
    changes: list[Change] = []
    notes: list[str] = []
    new_keys: list[Service] = []
    for service, path in places.authorities.items():
        why = _authority_fault(seen, service, path, wish)
        if why:
            changes.append(Change(f"{path}: the certificate of '{wish.authorities[service]}'", why, _undo(seen, path),
                                  Place(f"{service}-ca.pem", path, "644", seen.owner)))  # fmt: skip
        if why and path in seen.files:
            notes.append(f"{seen.name}: who trusts only the authority that {path} held until now cannot reach {service} there any more; "
                         "to go on with that one: --ca-certificate and --ca-key")  # fmt: skip
        for pair in places.pairs:
            if pair.service is not service:
                continue
            if fault := _fault(seen, pair, wish):
                changes += _new(seen, pair, fault)
                if service not in new_keys:
                    new_keys.append(service)
            else:
                changes += _access(seen, pair)
    return Changes(tuple(changes), tuple(notes), tuple(new_keys))


def _authority_fault(seen: MachineState, service: Service, path: str, wish: Wish) -> str:
    if path not in seen.files:
        return f"{service} has no authority to trust"
    if service not in seen.trusting:
        return f"it does not hold '{wish.authorities[service]}'"
    return ""


def _fault(seen: MachineState, pair: Pair, wish: Wish) -> str:
    """Why a certificate must be made anew; empty when it is right."""
    missing = [path for path in (pair.certificate, pair.key) if path not in seen.files]
    if missing:
        return f"{' and '.join(missing)} missing"
    certificate = seen.certificates.get(pair.certificate)
    if certificate is None:
        return "it is no certificate"
    if not certificate.trusted:
        return f"it is signed by '{certificate.issuer}', not by '{wish.authorities[pair.service]}'"
    left = certificate.ends_at - wish.now
    if left < RENEW_WITHIN:
        return "it has ended" if left < 0 else f"it ends in {left / DAY:.0f} days"
    if certificate.key_digest != seen.files[pair.key].key_digest:
        return f"{pair.key} is not its key"
    if pair.end is End.SERVER and (unnamed := [name for name in wish.names if name not in certificate.names]):
        return f"it does not bear {', '.join(unnamed)}"
    if lacking := (USAGES | {pair.end.value}) - certificate.usages:
        return f"its usages lack {', '.join(sorted(lacking))}"
    return ""


def _new(seen: MachineState, pair: Pair, fault: str) -> Iterator[Change]:
    mode, owner = _key_access(seen, pair.service)
    yield Change(f"{pair.key}: a new private key, made there", fault, _undo(seen, pair.key),
                 Place(f"{pair.service}.key", pair.key, mode, owner))  # fmt: skip
    yield Change(f"{pair.certificate}: a new certificate", fault, _undo(seen, pair.certificate),
                 Place(f"{pair.service}.pem", pair.certificate, "644", seen.owner))  # fmt: skip


def _access(seen: MachineState, pair: Pair) -> Iterator[Change]:
    key = seen.files[pair.key]
    mode, owner = _key_access(seen, pair.service)
    if pair.service is Service.QEMU and not _readable(key, *whom(seen)):
        why = f"QEMU runs there as {whom(seen)[0]} and cannot read it (mode {key.mode:o}, {key.owner}:{key.group})"
    elif key.mode & 0o007:
        why = f"everybody can read it (mode {key.mode:o})"
    else:
        return
    yield Change(f"{pair.key}: mode {mode}, {owner}", why, f"mode {key.mode:o}, {key.owner}:{key.group}",
                 Access(pair.key, mode, owner))  # fmt: skip


def whom(seen: MachineState) -> tuple[str, str]:
    """(user, group) that QEMU runs as there: what qemu.conf says, else the distribution's account."""
    configuration = seen.files.get("/etc/libvirt/qemu.conf")
    text = configuration.text if configuration else ""
    user, group = (value_of(text, key).strip('"') for key in ("user", "group"))
    return user or seen.qemu_user or "root", group or seen.qemu_group or "root"


def _readable(key: File, user: str, group: str) -> bool:
    if user in ("root", "+0", "0"):
        return True
    return (key.owner == user and bool(key.mode & 0o400)) or (key.group == group and bool(key.mode & 0o040))


def _key_access(seen: MachineState, service: Service) -> tuple[str, str]:
    user, group = whom(seen)
    if service is Service.QEMU and user not in ("root", "+0", "0"):
        return "640", f"root:{group}"
    return "600", seen.owner


def _undo(seen: MachineState, path: str) -> str:
    return "the one that is there now is put back" if path in seen.files else "it is removed"
