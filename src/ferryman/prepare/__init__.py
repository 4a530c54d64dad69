"""Pure: what was seen of a machine in, changes out, each with its reason and its undo. Looking and acting are drivers'."""

from ferryman.model.preparation import HOST_PLACES, Changes, MachineState, Manager, Places, Restart, Wish
from ferryman.prepare import certificates, daemon


def for_host(seen: MachineState, wish: Wish) -> Changes:
    """Everything a host needs to be source and destination over TLS."""
    from_certificates = certificates.needed(seen, wish, HOST_PLACES)
    configured = daemon.settings(seen, wish)
    restarting = daemon.restart(seen, (*from_certificates.changes, *configured.changes))
    return Changes(
        (*from_certificates.changes, *configured.changes, *restarting),
        (*from_certificates.notes, *configured.notes),
        from_certificates.new_keys,
    )


def for_controller(seen: MachineState, wish: Wish, places: Places) -> Changes:
    """What ferryman's own machine needs to speak qemu+tls."""
    return certificates.needed(seen, wish, places)


def refusal(seen: MachineState, needed: Changes) -> tuple[str, str] | None:
    """(reason, remedy) why nothing may be changed there now; None when it may."""
    if not seen.is_root:
        return "ssh does not lead to root", f"register it with --ssh root@ADDRESS, or run by hand what prepare prints for {seen.name}"  # fmt: skip
    if needed.new_keys and not seen.generator:
        return "it has neither openssl nor certtool to make a private key", f"at {seen.name}: apt install openssl"
    restarts = any(isinstance(change.act, Restart) or daemon.is_listening(change) for change in needed.changes)
    if restarts and seen.jobs:
        return f"a restart of libvirtd would break what runs there: {'; '.join(seen.jobs)}", "try again when it has ended; ferryman history tells of moves"  # fmt: skip
    if restarts and seen.manager is Manager.OTHER:
        return seen.manager_detail or "it is not known how libvirtd is started there", "start libvirtd there as a service, or with --daemon; hosts with modular daemons (virtqemud) are not prepared by ferryman"  # fmt: skip
    return None
