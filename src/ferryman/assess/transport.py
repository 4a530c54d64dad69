"""Can the source's libvirtd and QEMU reach the destination's, encrypted?"""

from collections.abc import Iterator

from ferryman.model.finding import Finding, blocker, note, warning
from ferryman.model.request import Handshake, Options
from ferryman.model.site import Site
from ferryman.model.units import format_duration, format_size
from ferryman.plan import disks
from ferryman.plan.handshake import leader


def findings(site: Site, options: Options) -> Iterator[Finding]:
    """Peer URI, migration address and certificates, each as tried from where it is used."""
    yield from _handshake(site, options)
    ways, source, destination = site.ground.transport, site.source.host.name, site.destination.host.name
    what = f"migration address {ways.migration_address}"
    if not ways.migration_address:
        yield blocker("no-migration-address", f"host {destination}", f"it is registered as {site.destination.host.uri}, "
                      "which names no address that QEMU at another host could connect to",
                      f"ferryman host add {destination} {site.destination.host.uri} --migration-address ADDRESS")  # fmt: skip
    elif ways.migration_reachable is False:
        yield blocker("migration-unreachable", what, f"{source} does not reach it: {ways.migration_detail}",
                      f"open TCP 49152-49215 at {destination}, or set another: ferryman host add … --migration-address ADDRESS")  # fmt: skip
    elif ways.migration_reachable is None:
        yield note(
            "migration-not-checked",
            what,
            f"not checked from {source}, because {ways.migration_detail}",
            f"make ssh to {source} work without a password, or register it with another --ssh",
        )
    yield from _encryption(site, options)
    yield from _speed(site, options)


def _handshake(site: Site, options: Options) -> Iterator[Finding]:
    """Peer to peer or carried by ferryman, and what the latter costs."""
    ways, source, destination = site.ground.transport, site.source.host.name, site.destination.host.name
    peer = f"peer URI {ways.peer_uri}" if ways.peer_uri else f"peer URI of {destination}"
    if leader(ways, options.handshake) is Handshake.CARRIED:
        why = "as asked" if options.handshake else _obstacle(site)
        yield warning("handshake-carried", f"handshake between libvirt at {source} and at {destination}",
                      f"ferryman carries it itself ({why}): if ferryman dies or loses a host for 30 s in the transfer, libvirt "
                      f"aborts and the guest stays at {source}; if that befalls it in the switchover, the guest can stand paused "
                      "until ferryman recover",
                      f"keep ferryman running until the end{_instead(site, options)}")  # fmt: skip
    elif ways.peer_reachable is False:
        yield blocker("peer-unreachable", peer, f"libvirt at {source} does not get through: {ways.peer_detail}",
                      "leave --handshake peer away: ferryman then carries the handshake itself; or set another: ferryman host add … --peer-uri URI")  # fmt: skip
    elif ways.peer_reachable is None:
        yield note(
            "peer-not-checked",
            peer,
            f"not checked from {source}, because {ways.peer_detail}",
            f"make ssh to {source} work without a password, or register it with another --ssh",
        )


def _instead(site: Site, options: Options) -> str:
    """How the move would go peer to peer, where that was not refused by whoever asked."""
    if options.handshake:
        return "; or leave --handshake carried away"
    source, destination = site.source.host.name, site.destination.host.name
    return f"; or make them reach each other: ferryman host prepare {source} {destination}"


def _obstacle(site: Site) -> str:
    ways, source = site.ground.transport, site.source.host.name
    if ways.peer_reachable is False:
        return f"libvirt at {source} does not get through to {ways.peer_uri or 'it'}: {ways.peer_detail}"
    return f"whether libvirt at {source} gets through to {ways.peer_uri} is not known, because {ways.peer_detail}"


def _encryption(site: Site, options: Options) -> Iterator[Finding]:
    ways = site.ground.transport
    what = f"memory of guest {site.guest.name} on the wire"
    if options.insecure:
        yield warning("not-encrypted", what, "it travels readable to everybody on the migration network (--insecure)",
                      f"ferryman host prepare {site.source.host.name} {site.destination.host.name}, then leave --insecure away")  # fmt: skip
    elif False in (ways.source_tls, ways.destination_tls):
        yield blocker("no-certificates", what, f"it cannot be encrypted: {ways.tls_detail}",
                      f"ferryman host prepare {site.source.host.name} {site.destination.host.name}, or accept --insecure")  # fmt: skip
    elif None in (ways.source_tls, ways.destination_tls):
        yield note(
            "certificates-not-checked",
            what,
            f"certificates not checked: {ways.tls_detail}",
            "if they are missing, libvirt refuses and nothing is changed",
        )


def _speed(site: Site, options: Options) -> Iterator[Finding]:
    """The memory in use and the disks to be copied must cross the link at least once within the timeout."""
    link, guest = site.ground.link, site.guest
    if link is None:
        return
    what = f"link from {site.source.host.name} to {site.ground.transport.migration_address}"
    if link.rate is None:
        yield note(
            "link-not-measured",
            what,
            f"its speed was not measured, because {link.detail}",
            "it needs ssh and python3 at both hosts",
        )
        return
    rate = min(link.rate, options.bandwidth or link.rate)
    copied = sum(disk.allocation for disk in disks.to_copy(site, options))
    takes = (guest.memory_used + copied) / max(rate, 1.0)
    told = f"{format_size(link.rate)}/s measured" + (f", limited to {format_size(rate)}/s" if rate < link.rate else "")
    load = f"{format_size(guest.memory_used)} of memory" + (f" and {format_size(copied)} of disks" if copied else "")
    if takes > options.timeout:
        yield warning("link-slow", what, f"{told}: {load} need {format_duration(takes)} at least, the timeout is {format_duration(options.timeout)}",
                      "give it a longer --timeout, or move it when the link is less busy")  # fmt: skip
    else:
        yield note("link-measured", what, f"{told}: {load} need {format_duration(takes)} at least")
