"""Which way the bytes of copied disks will take between two hosts. drivers/copy does it, and tries the next when this one is closed."""

from enum import StrEnum

from ferryman.model.request import Options
from ferryman.model.site import Site


class Way(StrEnum):
    """The ways of a copy, as its result names them."""

    TLS = "tls"
    PLAIN = "plain"
    SSH = "ssh"


def way_of_disks(site: Site, options: Options) -> tuple[Way, str]:
    """The way, and why it is not the direct one; by ssh where the direct one is known to be closed or could not be encrypted."""
    ways = site.ground.transport
    if options.via_ssh:
        return Way.SSH, "as asked"
    if not ways.migration_address:
        return Way.SSH, f"{site.destination.host.name} has no migration address"
    if ways.migration_reachable is False:
        return Way.SSH, f"{site.source.host.name} does not reach {ways.migration_address}: {ways.migration_detail}"
    if options.insecure:
        return Way.PLAIN, ""
    if False in (ways.source_tls, ways.destination_tls):
        return Way.SSH, f"the direct way could not be encrypted: {ways.tls_detail}"
    return Way.TLS, ""
