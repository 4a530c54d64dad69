"""A migration asked for: which flags and parameters, the thread of the blocking call, and its statistics as samples."""

import threading
from contextlib import ExitStack
from typing import Any

import libvirt

from ferryman import errors
from ferryman.drivers import clock
from ferryman.drivers.libvirt.adapt import adapted
from ferryman.drivers.libvirt.connection import KEEPALIVE_OF_DAEMONS, open_connection
from ferryman.drivers.libvirt.refusals import translate_refusal
from ferryman.model.plan import Order
from ferryman.model.request import Handshake
from ferryman.model.sample import Sample
from ferryman.model.units import MIB


def flags_for(order: Order) -> int:
    """libvirt's migration flags. Peer to peer, unless carried, so that the migration outlives whoever asked for it."""
    flags = libvirt.VIR_MIGRATE_LIVE
    if order.handshake is Handshake.PEER:
        flags |= libvirt.VIR_MIGRATE_PEER2PEER
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
    if order.bandwidth:
        parameters[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH] = -(-order.bandwidth // MIB)
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
    """Implements ports.Transfer: the blocking call in a thread and on connections of its own."""

    def __init__(self, uri: str, uuid: str, order: Order) -> None:
        self._uri, self._uuid, self._order = uri, uuid, order
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._call, name=f"migrate {uuid}", daemon=True)
        self._thread.start()

    def _call(self) -> None:
        order, carried = self._order, self._order.handshake is Handshake.CARRIED
        try:
            with ExitStack() as opened:
                source = _opened(opened, self._uri, carried)
                domain = source.lookupByUUIDString(self._uuid)
                if carried:
                    destination = _opened(opened, order.destination_uri, carried)
                    domain.migrate3(destination, parameters_for(order, domain), flags_for(order))
                else:
                    domain.migrateToURI3(order.destination_uri, parameters_for(order, domain), flags_for(order))
        except libvirt.libvirtError as error:
            self._error = translate_refusal(
                error, f"migration to {order.destination_uri}", f"{self._uri} or {order.destination_uri}"
            )
        except errors.FerrymanError as error:
            self._error = error

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    @property
    def error(self) -> Exception | None:
        return self._error


def _opened(stack: ExitStack, uri: str, carried: bool) -> libvirt.virConnect:
    """A connection that the stack closes; one that carries the handshake is as patient as the daemons' own are."""
    connection = open_connection(uri, keepalive=KEEPALIVE_OF_DAEMONS) if carried else open_connection(uri)
    stack.callback(connection.close)
    return connection


def sample_from(statistics: dict[str, Any], *, paused: bool) -> Sample:
    """A sample from libvirt's job statistics (times there are milliseconds, dirty rates pages per second)."""

    def number(name: str) -> int:
        return int(statistics.get(name, 0))

    iteration = number("memory_iteration")
    dirty_pages, page = statistics.get("memory_dirty_rate"), number("memory_page_size") or 4096
    downtime = statistics.get("downtime") if not statistics.get("memory_remaining") else None
    return Sample(
        at=clock.now(),
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
