"""A migration asked for: which flags and parameters, the thread of the blocking call, and its statistics as samples."""

import threading
import time
from typing import Any

import libvirt

from ferryman import errors
from ferryman.drivers.libvirt.adapt import adapted
from ferryman.drivers.libvirt.connection import open_connection
from ferryman.drivers.libvirt.errors import translate
from ferryman.model.plan import Order
from ferryman.model.sample import Sample
from ferryman.model.units import MIB


def flags_for(order: Order) -> int:
    """libvirt's migration flags. Peer to peer, so that the migration outlives whoever asked for it."""
    flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER
    if order.mirrored:
        flags |= libvirt.VIR_MIGRATE_NON_SHARED_DISK
    if order.persistent:
        flags |= libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    if not order.options.insecure:
        flags |= libvirt.VIR_MIGRATE_TLS
    if order.vouched:  # libvirt checks all disks or none: ferryman has looked at each, or the move was refused
        flags |= libvirt.VIR_MIGRATE_UNSAFE
    if order.options.auto_converge:
        flags |= libvirt.VIR_MIGRATE_AUTO_CONVERGE
    return int(flags)


def parameters_for(order: Order, domain: libvirt.virDomain) -> dict[str, Any]:
    """libvirt's typed parameters: the way, the limits, and the definitions where they differ at the destination.

    Its bandwidth is in MiB/s, rounded up so that a small limit is not none."""
    parameters: dict[str, Any] = {libvirt.VIR_MIGRATE_PARAM_URI: order.migration_uri}
    if order.options.bandwidth:
        parameters[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH] = -(-order.options.bandwidth // MIB)
    if order.mirrored:
        parameters[libvirt.VIR_MIGRATE_PARAM_MIGRATE_DISKS] = list(order.mirrored)
    if order.changes.volumes or order.changes.networks:
        live = libvirt.VIR_DOMAIN_XML_SECURE | libvirt.VIR_DOMAIN_XML_MIGRATABLE
        parameters[libvirt.VIR_MIGRATE_PARAM_DEST_XML] = adapted(domain.XMLDesc(live), order.changes)
        if order.persistent:
            kept = libvirt.VIR_DOMAIN_XML_SECURE | libvirt.VIR_DOMAIN_XML_INACTIVE
            parameters[libvirt.VIR_MIGRATE_PARAM_PERSIST_XML] = adapted(domain.XMLDesc(kept), order.changes)
    return parameters


class LibvirtTransfer:
    """Implements ports.Transfer: the blocking call in a thread and on a connection of its own."""

    def __init__(self, uri: str, uuid: str, order: Order) -> None:
        self._uri, self._uuid, self._order = uri, uuid, order
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._call, name=f"migrate {uuid}", daemon=True)
        self._thread.start()

    def _call(self) -> None:
        try:
            connection = open_connection(self._uri)
            try:
                domain = connection.lookupByUUIDString(self._uuid)
                domain.migrateToURI3(self._order.peer_uri, parameters_for(self._order, domain), flags_for(self._order))
            finally:
                connection.close()
        except libvirt.libvirtError as error:
            self._error = translate(
                error, f"migration to {self._order.peer_uri}", f"{self._uri} or {self._order.peer_uri}"
            )
        except errors.FerrymanError as error:
            self._error = error

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    @property
    def error(self) -> Exception | None:
        return self._error


def sample_from(statistics: dict[str, Any], *, paused: bool) -> Sample:
    """A sample from libvirt's job statistics (times there are milliseconds, dirty rates pages per second)."""

    def number(name: str) -> int:
        return int(statistics.get(name, 0))

    iteration = number("memory_iteration")
    dirty_pages, page = statistics.get("memory_dirty_rate"), number("memory_page_size") or 4096
    downtime = statistics.get("downtime") if not statistics.get("memory_remaining") else None
    return Sample(
        at=time.time(),
        elapsed=number("time_elapsed") / 1000,
        setup=number("memory_processed") == 0,
        memory_total=number("memory_total"),
        memory_processed=number("memory_processed"),
        memory_remaining=number("memory_remaining"),
        memory_rate=float(statistics["memory_bps"]) if statistics.get("memory_bps") else None,
        # In the first pass QEMU has not looked yet and says 0.
        dirty_rate=float(dirty_pages) * page if dirty_pages and iteration > 1 else None,
        iteration=iteration,
        disk_total=number("disk_total"),
        disk_processed=number("disk_processed"),
        disk_remaining=number("disk_remaining"),
        expected_downtime=statistics["downtime"] / 1000 if "downtime" in statistics and downtime is None else None,
        downtime=None if downtime is None else downtime / 1000,
        auto_converge_throttle=statistics.get("auto_converge_throttle"),
        guest_paused=paused,
    )
