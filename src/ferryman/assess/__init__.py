"""Pure: may this guest live on that host, moved as it is? Facts in, findings out, the weightiest first."""

from ferryman.assess import (
    cold,
    cpu,
    definition,
    devices,
    hosts,
    machine,
    memory,
    network,
    state,
    storage,
    transport,
    versions,
    warm,
)
from ferryman.model.finding import Finding, by_weight
from ferryman.model.plan import Method
from ferryman.model.request import Options
from ferryman.model.site import Site
from ferryman.plan.method import method_for


def assess(site: Site, options: Options) -> tuple[Finding, ...]:
    """Everything that speaks against the move, or that the operator should know before it."""
    found = (
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
    match method_for(site.guest, options):
        case Method.DEFINITION:
            return by_weight(definition.findings(site, options, found))
        case Method.COLD:
            return by_weight(cold.findings(site, options, found))
        case Method.WARM:
            return by_weight((*cold.findings(site, options, found), *warm.findings(site, options)))
        case Method.LIVE:
            return by_weight(found)
