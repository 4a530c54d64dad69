"""Pure: may this guest live on that host, moved live? Facts in, findings out, the weightiest first."""

from ferryman.assess import cpu, devices, hosts, machine, memory, network, state, storage, transport, versions
from ferryman.model.finding import Finding, by_weight
from ferryman.model.request import Options
from ferryman.model.site import Site


def assess(site: Site, options: Options) -> tuple[Finding, ...]:
    """Everything that speaks against the move, or that the operator should know before it."""
    return by_weight(
        (
            *state.findings(site, options),
            *hosts.findings(site),
            *cpu.findings(site),
            *machine.findings(site),
            *versions.findings(site),
            *devices.findings(site),
            *memory.findings(site),
            *storage.findings(site, options),
            *network.findings(site, options),
            *transport.findings(site, options),
        )
    )
