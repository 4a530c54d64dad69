"""Which job runs on a guest now, in words."""

import libvirt

from ferryman.drivers.libvirt.errors import code

_OPERATIONS = {
    libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN: "incoming migration",
    libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT: "outgoing migration",
    libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE: "save",
    libvirt.VIR_DOMAIN_JOB_OPERATION_SNAPSHOT: "snapshot",
    libvirt.VIR_DOMAIN_JOB_OPERATION_DUMP: "dump",
    getattr(libvirt, "VIR_DOMAIN_JOB_OPERATION_BACKUP", -1): "backup",
}


def job_of(domain: libvirt.virDomain) -> str:
    """The kind of the job that runs on a guest now; empty for none or for a guest that is not active."""
    try:
        statistics = domain.jobStats()
    except libvirt.libvirtError as error:
        if code(error) == libvirt.VIR_ERR_OPERATION_INVALID:
            return ""
        raise
    if statistics.get("type", 0) in (libvirt.VIR_DOMAIN_JOB_NONE, libvirt.VIR_DOMAIN_JOB_COMPLETED):
        return ""
    return _OPERATIONS.get(statistics.get("operation", -1), "job")
