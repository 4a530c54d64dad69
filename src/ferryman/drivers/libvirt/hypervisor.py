"""One host's libvirtd as ports.Hypervisor: looks and acts on its guests. What is observed of the host is in inventory.py."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import libvirt

from ferryman import errors
from ferryman.drivers import filesystems, keeper
from ferryman.drivers.libvirt import (
    anew,
    backup,
    checkpoints,
    console,
    files,
    inventory,
    likeness,
    mark,
    media,
    migration,
    power,
    snapshots,
    storage,
    trial,
    users,
)
from ferryman.drivers.libvirt.adapt import adapted
from ferryman.drivers.libvirt.calls import Call, guard
from ferryman.drivers.libvirt.connection import Connection
from ferryman.drivers.libvirt.errors import code
from ferryman.drivers.libvirt.jobs import job_of
from ferryman.model.backup_job import BackupJob
from ferryman.model.cpu import Cpu
from ferryman.model.filesystem import FileSystem
from ferryman.model.guest import Checkpoint, Guest, Snapshot
from ferryman.model.host import GuestOnHost, Host, HostFacts, ImageUsers, Machine
from ferryman.model.mark import Mark
from ferryman.model.place import ABSENT, Place, Where
from ferryman.model.plan import Changes, Held, ImageFile, NewDisk, Order, Soundness, Volume
from ferryman.model.sample import Sample
from ferryman.model.site import CpuComparison
from ferryman.model.units import MIB
from ferryman.ports import NO_CHANGES, Console, StopWay

T = TypeVar("T")

_ACTIVE_AS_RUNNING = (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_BLOCKED, libvirt.VIR_DOMAIN_SHUTDOWN)
# Reasons of a pause that no migration gives. (A guest suspended in the middle of one says "migration" all the same.)
_BY_OTHERS = (
    libvirt.VIR_DOMAIN_PAUSED_USER, libvirt.VIR_DOMAIN_PAUSED_IOERROR, libvirt.VIR_DOMAIN_PAUSED_WATCHDOG,
    libvirt.VIR_DOMAIN_PAUSED_DUMP, libvirt.VIR_DOMAIN_PAUSED_SAVE, libvirt.VIR_DOMAIN_PAUSED_SNAPSHOT,
    libvirt.VIR_DOMAIN_PAUSED_FROM_SNAPSHOT, libvirt.VIR_DOMAIN_PAUSED_CRASHED,
)  # fmt: skip
_STORAGE_FAILED = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR)
NO_LIMIT = (2**63 - 1) // MIB  # MiB/s: the most that libvirt takes; 0 is not "none" to every QEMU
LOOK_THROUGH_WITHIN = 300.0  # seconds for a look at all guests' images
_INACTIVE = (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_CRASHED)


class LibvirtHypervisor:
    """Implements ports.Hypervisor."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.connection = Connection(host.uri)

    # Observing

    def facts(self) -> HostFacts:
        return self.connection.look(f"host {self.host.name}", lambda link: inventory.host_facts(link, self.host))

    def guests(self) -> tuple[GuestOnHost, ...]:
        return self.connection.look(f"guests of host {self.host.name}", inventory.guests)

    def guest(self, name_or_uuid: str, *, as_defined: bool = False) -> Guest:
        found = self.connection.look(
            f"guest {name_or_uuid} at {self.host.name}",
            lambda link: inventory.guest(link, self.host.name, name_or_uuid, as_defined=as_defined),
        )
        if found is None:
            raise errors.NotFound(
                f"guest {name_or_uuid}",
                f"host {self.host.name} has none of that name or UUID",
                "ferryman guests lists all",
            )
        return found

    def described(self, definition: str) -> Guest:
        return inventory.described(self.host.name, definition)

    def machine(self, guest: Guest) -> Machine:
        return self.connection.look(f"machine types of {self.host.name}", lambda link: inventory.machine(link, guest))

    def compare_cpu(self, guest: Guest) -> CpuComparison:
        return self.connection.look(f"CPU of {self.host.name}", lambda link: inventory.compare_cpu(link, guest))

    # One guest

    def _look(self, uuid: str, what: str, function: Callable[[libvirt.virDomain], T]) -> T:
        return self.connection.look(
            f"{what} of guest {uuid} at {self.host.name}", lambda link: function(link.lookupByUUIDString(uuid))
        )

    def _act(self, uuid: str, call: Call, function: Callable[[libvirt.virDomain], object]) -> None:
        def act(link: libvirt.virConnect) -> None:
            domain = link.lookupByUUIDString(uuid)
            guard(call, job_of(domain), uuid)
            function(domain)

        self.connection.act(f"{call} of guest {uuid} at {self.host.name}", act)

    def place(self, uuid: str) -> Place:
        def look(link: libvirt.virConnect) -> Place:
            try:
                domain = link.lookupByUUIDString(uuid)
                state, reason = domain.state()
                persistent = bool(domain.isPersistent())
                return Place(
                    where=_where(state, reason),
                    persistent=persistent,
                    autostart=persistent and bool(domain.autostart()),
                    job="" if state in _INACTIVE else job_of(domain),
                    storage_failed=(state, reason) == _STORAGE_FAILED,
                    detail=f"state {state}, reason {reason}",
                )
            except libvirt.libvirtError as error:
                if code(error) == libvirt.VIR_ERR_NO_DOMAIN:
                    return ABSENT
                raise

        return self.connection.look(f"guest {uuid} at {self.host.name}", look)

    def definition(self, uuid: str) -> str:
        flags = libvirt.VIR_DOMAIN_XML_SECURE | libvirt.VIR_DOMAIN_XML_INACTIVE
        return self._look(uuid, "definition", lambda domain: str(domain.XMLDesc(flags)))

    def differing(self, uuid: str, earlier: str, ejected: Sequence[str]) -> tuple[str, ...]:
        return likeness.differing(earlier, self.definition(uuid), ejected)

    def define(self, definition: str, changes: Changes = NO_CHANGES) -> None:
        self.connection.act(
            f"define a guest at {self.host.name}", lambda link: link.defineXML(adapted(definition, changes))
        )

    def define_anew(self, definition: str, changes: Changes, wanted: Mark) -> None:
        self.connection.act(
            f"define a guest at {self.host.name}", lambda link: anew.define(link, adapted(definition, changes), wanted)
        )

    def defined_for(self, uuid: str, request: str) -> bool:
        return self.connection.look(
            f"definition of guest {uuid} at {self.host.name}", lambda link: anew.is_ours(link, uuid, request)
        )

    def try_definition(self, definition: str, changes: Changes) -> None:
        what = f"definition of the guest, tried at {self.host.name}"
        text = adapted(definition, changes)
        self.connection.look(what, lambda link: trial.try_definition(link, text, what, self.host.uri))

    def undefine(self, uuid: str, *, snapshots: bool = False) -> None:
        flags = libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | getattr(libvirt, "VIR_DOMAIN_UNDEFINE_KEEP_TPM", 0)
        flags |= libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA  # checkpoints do not travel; assess said so
        if snapshots:
            flags |= libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        self._act(uuid, Call.UNDEFINE, lambda domain: domain.undefineFlags(flags))

    def set_autostart(self, uuid: str, on: bool) -> None:
        self._act(uuid, Call.AUTOSTART, lambda domain: domain.setAutostart(int(on)))

    def resume(self, uuid: str) -> None:
        self._act(uuid, Call.RESUME, lambda domain: domain.resume())

    def destroy(self, uuid: str) -> None:
        self._act(uuid, Call.DESTROY, lambda domain: domain.destroy())

    # Stopping and starting

    def ask_to_stop(self, uuid: str, way: StopWay) -> None:
        self._act(uuid, Call.SHUTDOWN, lambda domain: power.ask_to_stop(domain, way))

    def let_it_end(self, uuid: str, on: bool) -> None:
        self._act(uuid, Call.LIFECYCLE, lambda domain: power.let_it_end(domain, on))

    def start(self, uuid: str, *, paused: bool = False) -> None:
        flags = libvirt.VIR_DOMAIN_START_PAUSED if paused else 0
        self._act(uuid, Call.START, lambda domain: domain.createWithFlags(flags))

    def watch(self, uuid: str, seconds: float) -> str:
        return self.connection.look(
            f"watch guest {uuid} at {self.host.name}",
            lambda link: power.watch(link, link.lookupByUUIDString(uuid), seconds),
            within=seconds + 30,
        )

    def agent_answers(self, uuid: str) -> bool:
        return self._look(uuid, "agent", power.agent_answers)

    def console(self, uuid: str, *, starting: bool) -> Console:
        return self.connection.look(
            f"console of guest {uuid} at {self.host.name}",
            lambda link: console.console(link, link.lookupByUUIDString(uuid), starting=starting),
        )

    def snapshots(self, uuid: str) -> tuple[Snapshot, ...]:
        return self._look(uuid, "snapshots", snapshots.read)

    def make_known(self, uuid: str, snapshots_of_it: Sequence[Snapshot], changes: Changes = NO_CHANGES) -> None:
        self._act(uuid, Call.DEFINE, lambda domain: snapshots.make_known(domain, tuple(snapshots_of_it), changes))

    def checkpoints(self, uuid: str) -> tuple[Checkpoint, ...]:
        return self._look(uuid, "checkpoints", checkpoints.read)

    def make_checkpoints_known(self, uuid: str, checkpoints_of_it: Sequence[Checkpoint]) -> None:
        self._act(uuid, Call.DEFINE, lambda domain: checkpoints.make_known(domain, tuple(checkpoints_of_it)))

    def adapt_saved(self, path: str, changes: Changes) -> None:
        def act(link: libvirt.virConnect) -> None:
            text = link.saveImageGetXMLDesc(path, libvirt.VIR_DOMAIN_SAVE_IMAGE_XML_SECURE)
            if (wanted := adapted(text, changes)) != text:
                link.saveImageDefineXML(path, wanted, 0)

        self.connection.act(f"change the definition in {path} at {self.host.name}", act)

    def open_links(self, uuid: str, definition: str) -> None:
        self._act(uuid, Call.LINK, lambda domain: power.open_links(domain, definition))

    # Backup jobs

    def can_freeze(self, uuid: str) -> bool:
        return self._look(uuid, "agent", power.can_freeze)

    def is_frozen(self, uuid: str) -> bool:
        return self._look(uuid, "agent", power.is_frozen)

    def freeze(self, uuid: str) -> int:
        def act(link: libvirt.virConnect) -> int:
            domain = link.lookupByUUIDString(uuid)
            guard(Call.FREEZE, job_of(domain), uuid)
            return power.freeze(domain)

        return self.connection.act(f"{Call.FREEZE} of guest {uuid} at {self.host.name}", act)

    def thaw(self, uuid: str) -> None:
        self._act(uuid, Call.THAW, power.thaw)

    def begin_backup(self, uuid: str, job: BackupJob) -> str:
        what = f"{Call.BACKUP} of guest {uuid} at {self.host.name}"
        return self.connection.act(what, lambda link: backup.begin(link.lookupByUUIDString(uuid), job))

    def backup_running(self, uuid: str, owner: str) -> str:
        return self._look(uuid, "backup job", lambda domain: backup.running(domain, owner))

    def end_backup(self, uuid: str, owner: str) -> None:
        self._act(uuid, Call.ABORT, lambda domain: backup.end(domain, owner))

    def delete_checkpoint(self, uuid: str, name: str) -> None:
        self._act(uuid, Call.CHECKPOINT, lambda domain: checkpoints.delete(domain, name))

    # Storage

    def volume_names(self, pool: str) -> tuple[str, ...]:
        return self.connection.look(f"pool {pool} at {self.host.name}", lambda link: storage.names_now(link, pool))

    def make_volume(self, disk: NewDisk, name: str) -> Volume:
        what = f"make volume {name} in pool {disk.pool} at {self.host.name}"
        return self.connection.act(what, lambda link: storage.make(link, disk, name))

    def volume_path(self, pool: str, name: str) -> str:
        return self.connection.look(f"pool {pool} at {self.host.name}", lambda link: storage.path_of(link, pool, name))

    def remove_volume(self, path: str) -> bool:
        return self.connection.act(f"remove {path} at {self.host.name}", lambda link: storage.remove(link, path))

    def allocation(self, path: str) -> int | None:
        return self.connection.look(f"{path} at {self.host.name}", lambda link: storage.allocation(link, path))

    def users_of(self, path: str) -> ImageUsers:
        return self.connection.look(f"who uses {path} at {self.host.name}", lambda link: users.users_of(link, path), within=LOOK_THROUGH_WITHIN)  # fmt: skip

    def medium(self, uuid: str, target: str) -> tuple[str, str]:
        return self._look(uuid, f"drive {target}", lambda domain: media.read(domain, target))

    def eject(self, uuid: str, target: str) -> None:
        self._act(uuid, Call.MEDIUM, lambda domain: media.eject(domain, target))

    def insert(self, uuid: str, target: str, live: str, config: str) -> None:
        self._act(uuid, Call.MEDIUM, lambda domain: media.insert(domain, target, live, config))

    def mark(self, uuid: str) -> Mark | None:
        return self._look(uuid, "mark", mark.read)

    def set_mark(self, uuid: str, wanted: Mark | None) -> None:
        self._act(uuid, Call.MARK, lambda domain: mark.write(domain, wanted))

    def run_of(self, uuid: str) -> str:
        return self._look(uuid, "run", mark.run)

    def name_run(self, uuid: str, token: str) -> None:
        self._act(uuid, Call.MARK, lambda domain: mark.name_run(domain, token))

    def virtualizations(self) -> tuple[str, ...]:
        return self.connection.look(f"host {self.host.name}", inventory.virtualizations)

    def cpu_offer(self, virtualization: str) -> Cpu | None:
        return self.connection.look(f"CPU of {self.host.name}", lambda link: inventory.cpu_offer(link, virtualization))

    def cpu_baseline(self, virtualization: str, cpus: Sequence[str]) -> Cpu:
        return self.connection.look(
            f"CPU baseline at {self.host.name}", lambda link: inventory.cpu_baseline(link, virtualization, cpus)
        )

    # Small files, by libvirt's storage streams: no other way to the host is needed

    def read_file(self, path: str) -> bytes | None:
        return self.connection.look(f"read {path} at {self.host.name}", lambda link: files.read(link, path))

    def write_file(self, path: str, content: bytes) -> None:
        self.connection.act(f"write {path} at {self.host.name}", lambda link: files.write(link, path, content))

    def remove_file(self, path: str) -> None:
        self.connection.act(f"remove {path} at {self.host.name}", lambda link: files.remove(link, path))

    # At the host itself, over ssh

    def hold(self, request: str, images: Sequence[Held]) -> None:
        keeper.hold(self.host, request, images)

    def held(self, request: str) -> tuple[str, ...]:
        return keeper.held(self.host, request)

    def release(self, request: str, targets: Sequence[str] = ()) -> None:
        keeper.release(self.host, request, targets)

    def pack(self, directory: str) -> str:
        return keeper.pack(self.host, directory)

    def unpack(self, directory: str, packed: str, request: str) -> bool:
        return keeper.unpack(self.host, directory, packed, request)

    def adopt(self, directory: str, request: str) -> bool:
        return keeper.adopt(self.host, directory, request)

    def remove_aside(self, path: str, request: str) -> bool:
        return keeper.remove_aside(self.host, path, request)

    def take_back(self, directory: str, request: str) -> None:
        keeper.take_back(self.host, directory, request)

    def move_file(self, path: str, to: str) -> None:
        keeper.move_file(self.host, path, to)

    def image_chain(self, path: str, kind: str) -> tuple[ImageFile, ...]:
        return keeper.image_chain(self.host, path, kind)

    def rebase(self, path: str, backing: str, backing_format: str) -> None:
        keeper.rebase(self.host, path, backing, backing_format)

    def image_snapshots(self, path: str) -> tuple[str, ...]:
        return keeper.image_snapshots(self.host, path)

    def is_old(self, path: str) -> bool:
        return keeper.is_old(self.host, path)

    def label(self, path: str, words: str) -> None:
        keeper.label(self.host, path, words)

    def remove_bitmap(self, path: str, name: str) -> None:
        keeper.remove_bitmap(self.host, path, name)

    def room(self, directory: str) -> int | None:
        return keeper.room(self.host, directory)

    def check_image(self, image: Held) -> Soundness:
        return keeper.check_image(self.host, image)

    def file_systems(self, images: Sequence[Held], within: float) -> tuple[FileSystem, ...] | None:
        return filesystems.look(self.host, images, within)

    # Migration

    def start_migration(self, uuid: str, order: Order) -> migration.LibvirtTransfer:
        return migration.LibvirtTransfer(self.host.uri, uuid, order)

    def sample(self, uuid: str) -> Sample | None:
        def read(domain: libvirt.virDomain) -> Sample | None:
            statistics = domain.jobStats()
            if statistics.get("operation") != libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT:
                return None
            state, reason = domain.state()
            return migration.sample_from(statistics, paused=_where(state, reason) is Where.PAUSED)

        return self._of_present(uuid, "job statistics", read)

    def completed(self, uuid: str) -> Sample | None:
        def read(domain: libvirt.virDomain) -> Sample | None:
            flags = libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED | libvirt.VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED
            statistics = domain.jobStats(flags)
            if not statistics.get("memory_total"):
                return None
            return migration.sample_from({**statistics, "memory_remaining": 0}, paused=False)

        return self._of_present(uuid, "completed statistics", read)

    def _of_present(self, uuid: str, what: str, read: Callable[[libvirt.virDomain], Sample | None]) -> Sample | None:
        """A guest that is gone or inactive has no statistics."""

        def look(link: libvirt.virConnect) -> Sample | None:
            try:
                return read(link.lookupByUUIDString(uuid))
            except libvirt.libvirtError as error:
                if code(error) in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID):
                    return None
                raise

        return self.connection.look(f"{what} of guest {uuid} at {self.host.name}", look)

    def set_max_downtime(self, uuid: str, seconds: float) -> None:
        self._act(uuid, Call.MAX_DOWNTIME, lambda domain: domain.migrateSetMaxDowntime(int(seconds * 1000)))

    def limit_mirrors(self, uuid: str, targets: Sequence[str], rate: int) -> None:
        def limit(domain: libvirt.virDomain) -> None:
            for target in targets:
                if domain.blockJobInfo(target):
                    domain.blockJobSetSpeed(target, rate, libvirt.VIR_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES)

        self._act(uuid, Call.MIRROR_SPEED, limit)

    def memory_limit(self, uuid: str) -> int:
        megabytes = self._look(uuid, "migration speed", lambda domain: int(domain.migrateGetMaxSpeed()))
        return 0 if megabytes >= NO_LIMIT else megabytes * MIB

    def limit_memory(self, uuid: str, rate: int) -> None:
        megabytes = -(-rate // MIB) if rate else NO_LIMIT
        self._act(uuid, Call.MAX_SPEED, lambda domain: domain.migrateSetMaxSpeed(megabytes))

    def abort(self, uuid: str) -> None:
        self._act(uuid, Call.ABORT, lambda domain: domain.abortJob())


def _where(state: int, reason: int) -> Where:
    if state in _ACTIVE_AS_RUNNING:
        return Where.RUNNING
    if state in _INACTIVE:
        return Where.OFF
    return Where.HALTED if state == libvirt.VIR_DOMAIN_PAUSED and reason in _BY_OTHERS else Where.PAUSED
