"""When a guest's migration job begins and ends at its source, seen from beside. Runs at the controller, prints two times."""

import sys
import time

import libvirt

INTERVAL = 0.02  # seconds between two looks


def main(uri: str, uuid: str) -> None:
    """Print "ready", then the times (seconds since the epoch) of the first and of the last look that saw a job."""
    domain = libvirt.open(uri).lookupByUUIDString(uuid)
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    print("ready", flush=True)
    began = last = 0.0
    while True:
        now = time.time()
        if _job(domain):
            last = now
            if not began:
                began = now
        elif began:
            break
        time.sleep(INTERVAL)
    print(began, last, flush=True)


def _job(domain: libvirt.virDomain) -> bool:
    try:
        return bool(domain.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE)
    except libvirt.libvirtError:
        return False  # it left


if __name__ == "__main__":
    main(*sys.argv[1:])
