"""What can only be looked at from both hosts at once: whether a disk is the same storage, and the ways between them."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import PurePosixPath

import libvirt

from ferryman import errors
from ferryman.drivers import link
from ferryman.drivers.libvirt import host_check, storage
from ferryman.drivers.libvirt.connection import Connection
from ferryman.drivers.libvirt.devices import bridges_of, wwn
from ferryman.drivers.libvirt.segments import tasks
from ferryman.drivers.libvirt.visit import Visit, Way, visit
from ferryman.model.guest import Disk, Guest, Interface
from ferryman.model.host import Check, Host
from ferryman.model.plan import Volume
from ferryman.model.site import Clocks, DiskReach, EndTools, Ground, LinkSpeed, Reach, Segment, TransportFacts
from ferryman.ports import Hypervisor

CARRY_WITHIN = 3600.0  # seconds for a read-only image by way of this machine


class LibvirtBetween:
    """Implements ports.Between."""

    def look(self, guest: Guest, source: Hypervisor, destination: Hypervisor) -> Ground:
        images = [disk.source for disk in guest.disks if disk.kind == "file" and disk.source]
        directories = {str(PurePosixPath(image).parent) for image in images}
        peer, address = destination.host.effective_peer_uri, destination.host.effective_migration_address
        devices = sorted({interface.device for interface in guest.interfaces if _may_lead_out(interface)})
        send, listen = tasks(devices)
        files = _files(guest)
        with ThreadPoolExecutor(3) as pool:
            here = pool.submit(
                visit, source.host, directories=directories, images=images, peer_uri=peer, address=address, task=send
            )
            there = pool.submit(visit, destination.host, directories=directories, files=files, task=listen)
            stored = pool.submit(_storage, guest, source.host, destination.host)
        visits = (here.result(), there.result())
        reached, volumes, room = stored.result()
        bridges, why_not = _bridges(destination.host, visits[1])
        return Ground(
            disks=tuple(
                replace(
                    _where_it_lies(disk, one, visits[0]),
                    declared_shared=_taken_as_shared(disk, *visits),
                    declarable=visits[0].declarable,
                )
                for disk, one in reached
            ),
            transport=_transport(destination.host, visits),
            bridges=bridges,
            bridges_detail=why_not,
            volumes=volumes,
            room=room,
            segments=tuple(_segment(device, visits) for device in devices),
            lock_managers=None if _unseen(visits) else (visits[0].lock_manager, visits[1].lock_manager),
            clocks=_clocks(visits),
            lacking=_lacking(files, visits[1]),
            copy_packages=(_tools(visits[0]), _tools(visits[1])),
            nvram=_nvram(guest, source.host, destination.host) if guest.nvram or guest.nvram_store else None,
            addresses=visits[1].addresses or None,
        )

    def around(self, guest: Guest, host: Hypervisor) -> Ground:
        files = _files(guest)
        seen = visit(host.host, files=files)
        bridges, why_not = _bridges(host.host, seen)
        return Ground(
            disks=(),
            transport=TransportFacts("", None, "", "", None, "", None, None),
            bridges=bridges,
            bridges_detail=why_not,
            lacking=_lacking(files, seen),
            addresses=seen.addresses or None,
        )

    def carry(self, source: Hypervisor, path: str, destination: Hypervisor, volume: Volume) -> int:
        here, there = Connection(source.host.uri), Connection(destination.host.uri)
        what = f"carry {path} from {source.host.name} to {destination.host.name}"
        return here.act(
            what,
            lambda a: there.act(what, lambda b: storage.carry(a, path, b, volume), within=CARRY_WITHIN),
            within=CARRY_WITHIN,
        )

    def measure(self, source: Hypervisor, destination: Hypervisor) -> LinkSpeed:
        return link.measure(source.host, destination.host)

    def check(self, host: Hypervisor, others: Sequence[Hypervisor], *, measure_link: bool = False) -> tuple[Check, ...]:
        return host_check.check(host, others, measure_link=measure_link)


def _files(guest: Guest) -> list[str]:
    """What a QEMU opens of its own host's files when the guest starts."""
    return [path for path in (guest.loader, *guest.boot_files) if path]


def _lacking(files: Sequence[str], seen: Visit) -> tuple[str, ...] | None:
    if seen.failed or set(files) & set(seen.hidden):
        return None
    return tuple(path for path in files if path in seen.missing)


def _may_lead_out(interface: Interface) -> bool:
    """Whether the interface is on a device whose segment may go on at the destination; a NAT network ends at its host."""
    return bool(interface.device) and (interface.kind != "network" or interface.network_mode == "bridge")


def _segment(device: str, visits: tuple[Visit, Visit]) -> Segment:
    """What the destination heard of the frames that left the source by that device."""
    source, destination = visits
    if device not in source.sent:
        return Segment(device, None, f"{source.host.name} sent no frame: {source.deaf or 'its answer lacks it'}")
    if destination.deaf:
        return Segment(device, None, f"{destination.host.name} could not listen: {destination.deaf}")
    return Segment(device, tuple(where for sender, where in destination.heard if sender == device))


def _tools(seen: Visit) -> EndTools:
    return EndTools(seen.lacks, seen.failed)


def _unseen(visits: tuple[Visit, Visit]) -> bool:
    return any(seen.failed for seen in visits)


def _clocks(visits: tuple[Visit, Visit]) -> Clocks | None:
    if _unseen(visits):
        return None
    source, destination = visits
    return Clocks(
        destination.clock_offset - source.clock_offset, source.clock_uncertainty + destination.clock_uncertainty
    )


def _transport(host: Host, visits: tuple[Visit, Visit]) -> TransportFacts:
    """The ways to the destination `host` as the source tried them, and the certificates at both ends."""
    source, destination = visits
    peer = (
        source.peer
        if host.effective_peer_uri
        else Way(False, f"it is registered as {host.uri}, which leads another host to itself")
    )
    ours, theirs = source.certificates("qemu"), destination.certificates("qemu")
    return TransportFacts(
        peer_uri=host.effective_peer_uri,
        peer_reachable=peer.good,
        peer_detail=peer.detail,
        migration_address=host.effective_migration_address,
        migration_reachable=source.address.good,
        migration_detail=source.address.detail,
        source_tls=ours.good,
        destination_tls=theirs.good,
        tls_detail="; ".join(way.detail for way in (ours, theirs) if way.detail),
    )


def _bridges(host: Host, seen: Visit) -> tuple[tuple[str, ...] | None, str]:
    """The bridges of a host; where it could not be visited, those that libvirt's interface driver knows."""
    if not seen.failed:
        return seen.bridges, ""
    try:
        return Connection(host.uri).look("bridges", bridges_of), ""
    except errors.DriverError as error:
        return None, f"{seen.failed}, and libvirt says: {error.why}"


def _where_it_lies(disk: Disk, found: DiskReach, source: Visit) -> DiskReach:
    """A marker in a directory proves nothing of an image that is a link out of it."""
    if disk.kind == "file" and found.reach is Reach.SAME and disk.source in source.elsewhere:
        how = f"it is a link to {source.elsewhere[disk.source]}: name that in the guest's definition"
        return replace(found, reach=Reach.UNPROVED, how=how)
    return found


def _taken_as_shared(disk: Disk, source: Visit, destination: Visit) -> bool | None:
    """Whether libvirt at both hosts takes the disk's directory as shared; None when one could not be looked at.

    The source's libvirt refuses a move for it. The destination's does not ask, so it counts only where it can be told.
    """
    if disk.kind != "file":
        return None
    answers = [source.takes_as_shared(disk.source)]
    if destination.declarable is not False:
        answers.append(destination.takes_as_shared(disk.source))
    return None if None in answers else all(answers)


def _storage(
    guest: Guest, source: Host, destination: Host
) -> tuple[list[tuple[Disk, DiskReach]], dict[str, tuple[str, ...]], dict[str, int]]:
    """Each disk that has a source, with its reach and how that was found; and the destination's volumes and room by pool."""
    proved: dict[str, tuple[Reach, str]] = {}  # one marker serves all disks of a directory
    here, there = Connection(source.uri), Connection(destination.uri)
    reached = []
    for disk in guest.disks:
        if disk.source:
            reach, how = _reach(disk, here, there, proved)
            layers = [
                DiskReach(path, *_reach(replace(disk, kind="file", source=path), here, there, proved))
                for path in disk.backing
                if path.startswith("/") and reach is Reach.SAME
            ]
            reached.append((disk, DiskReach(disk.target, reach, how, layers=tuple(layers))))
    copied = any(
        one.reach in (Reach.DIFFERENT, Reach.UNPROVED) for _, one in reached
    )  # the latter if that is asked for
    room = there.look(f"room at {destination.name}", storage.room) if copied else {}  # and then the names are new too
    return reached, there.look(f"volumes of {destination.name}", storage.names), room


def _reach(disk: Disk, here: Connection, there: Connection, proved: dict[str, tuple[Reach, str]]) -> tuple[Reach, str]:
    if disk.kind == "network":
        return Reach.NETWORK, f"network storage {disk.source}"
    try:
        if disk.kind == "block":
            return here.look("LUNs", lambda a: there.look("LUNs", lambda b: _same_lun(a, b, disk.source)))
        if disk.kind == "volume":
            return Reach.UNPROVED, f"the source's libvirt does not find the volume {disk.source} as a file or device"
        directory = str(PurePosixPath(disk.source).parent)
        if directory not in proved:
            proved[directory] = here.look(
                "marker", lambda a: there.look("marker", lambda b: storage.prove_shared(a, b, directory))
            )
        return proved[directory]
    except errors.DriverError as error:
        return Reach.UNPROVED, f"could not be tried: {error.why}"


def _nvram(guest: Guest, source: Host, destination: Host) -> DiskReach:
    """Whether the directory of the variable store is one directory of both hosts; or the device, or network storage, that it is."""
    here, there = Connection(source.uri), Connection(destination.uri)
    if store := guest.nvram_store:
        kind = "block" if store.startswith("/") else "network" if ":" in store else "volume"
        return DiskReach("nvram", *_reach(Disk("nvram", "disk", kind, store, "raw", "", False, False), here, there, {}))
    directory = str(PurePosixPath(guest.nvram).parent)
    try:
        found = here.look("marker", lambda a: there.look("marker", lambda b: storage.prove_shared(a, b, directory)))
    except errors.DriverError as error:
        found = (Reach.UNPROVED, f"could not be tried: {error.why}")
    return DiskReach("nvram", *found)


def _same_lun(a: libvirt.virConnect, b: libvirt.virConnect, device: str) -> tuple[Reach, str]:
    ours, theirs = wwn(a, device), wwn(b, device)
    if not ours or not theirs:
        return Reach.UNPROVED, f"libvirt knows no WWN of {device} at {'the source' if not ours else 'the destination'}"
    if ours == theirs:
        return Reach.SAME, f"WWN {ours} at both hosts"
    return Reach.DIFFERENT, f"WWN {ours} at the source, {theirs} at the destination"
