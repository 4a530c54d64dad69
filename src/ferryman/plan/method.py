"""Which way a guest goes, and the plan for it."""

from ferryman.model.guest import Guest
from ferryman.model.plan import Method, Plan
from ferryman.model.request import Options
from ferryman.model.site import Site
from ferryman.plan.cold import cold_plan
from ferryman.plan.definition import definition_plan
from ferryman.plan.steps import live_plan


def method_for(guest: Guest, options: Options) -> Method:
    """As asked; otherwise a shut-off guest has nothing that could move live, and every other state is the live move's to
    accept or refuse."""
    if options.warm:
        return Method.WARM
    if options.cold:
        return Method.COLD
    return Method.DEFINITION if guest.off else Method.LIVE


def plan_for(site: Site, options: Options) -> Plan:
    """The plan of the method that fits the guest."""
    match method_for(site.guest, options):
        case Method.COLD | Method.WARM:
            return cold_plan(site, options)
        case Method.DEFINITION:
            return definition_plan(site, options)
        case Method.LIVE:
            return live_plan(site, options)
