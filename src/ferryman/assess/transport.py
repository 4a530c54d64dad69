"""Can the source's libvirtd and QEMU reach the destination's, encrypted?"""

from collections.abc import Iterator

from ferryman.model.finding import Finding, blocker, note, warning
from ferryman.model.request import Options
from ferryman.model.site import Site


def findings(site: Site, options: Options) -> Iterator[Finding]:
    """Peer URI, migration address and certificates, each as tried from where it is used."""
    ways, source, destination = site.ground.transport, site.source.host.name, site.destination.host.name
    what = f"peer URI {ways.peer_uri}"
    if ways.peer_reachable is False:
        yield blocker("peer-unreachable", what, f"libvirt at {source} does not get through: {ways.peer_detail}",
                      f"ferryman host check {destination} says what is missing; or set another with host add --peer-uri")  # fmt: skip
    elif ways.peer_reachable is None:
        yield note(
            "peer-not-checked",
            what,
            f"not checked from {source}, because {ways.peer_detail}",
            f"register {source} with --ssh",
        )
    what = f"migration address {ways.migration_address}"
    if ways.migration_reachable is False:
        yield blocker("migration-unreachable", what, f"{source} does not reach it: {ways.migration_detail}",
                      f"open TCP 49152-49215 at {destination}, or set another with host add --migration-address")  # fmt: skip
    elif ways.migration_reachable is None:
        yield note(
            "migration-not-checked",
            what,
            f"not checked from {source}, because {ways.migration_detail}",
            f"register {source} with --ssh",
        )
    yield from _encryption(site, options)


def _encryption(site: Site, options: Options) -> Iterator[Finding]:
    ways = site.ground.transport
    what = f"memory of guest {site.guest.name} on the wire"
    if options.insecure:
        yield warning("not-encrypted", what, "it travels readable to everybody on the migration network (--insecure)",
                      "leave --insecure away once both hosts have QEMU's certificates")  # fmt: skip
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
