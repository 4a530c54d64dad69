"""A copy from beginning to end: both endpoints, the way between them, and as many attempts as cuts make necessary."""

import contextlib
import queue
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ferryman import errors
from ferryman.drivers.copy.endpoint import Endpoint
from ferryman.drivers.copy.examination import examined
from ferryman.drivers.copy.tunnel import Tunnel
from ferryman.drivers.folder import HostFolder
from ferryman.model.copy import CopyProgress, CopyResult, CopyTask, Digest, Image
from ferryman.model.host import Host

PORTS = (49152, 49215)  # libvirt's migration range: what firewalls between the hosts have open
CONNECTIONS = 4
TUNNELS = 2
PATIENCE = 600.0  # seconds after which a cut copy is given up: in which nothing moved, or nothing came to stay in FRUITLESS attempts
FRUITLESS = 3
DEAD_AFTER = 30.0  # seconds in which what one end gives to a connection does not arrive at the other; a lossy link has long pauses too
DEAD_FOR_CERTAIN = (
    2.0  # an end that stood still itself tells the same of its connections, until it has read what came meanwhile
)
LOOK_EVERY = 0.2
DISCARDED_WITHIN = 60.0
OPENED_WITHIN = 900.0  # seconds for an image to be opened; one that is made with all of its storage may take any time, as long as it grows

_CLASSES: dict[str, type[errors.DriverError]] = {
    "base": errors.NoBase,
    "bitmap": errors.NoBitmap,
    "changed": errors.SourceChanged,
    "differs": errors.Mismatch,
    "insecure": errors.Insecure,
}
_TELLING = ("unreached", "damaged", "cut", "gone")  # what says most first; other kinds say more than all of these


class _Cut(Exception):
    """An attempt ended early, and another may do better."""

    def __init__(self, why: errors.DriverError, *, before_data: bool = False) -> None:
        super().__init__(why)
        self.why, self.before_data = why, before_data


@dataclass
class _Sums:
    """What all attempts together did."""

    attempts: int = 0
    started: bool = False  # both endpoints answered, at least once
    read: int = 0
    sent: int = 0
    wire: int = 0
    way: str = ""
    seconds: float = 0.0
    last: tuple[str, int] = ("", -1)
    moved_at: float = field(default_factory=time.monotonic)
    kept: int = -1  # groups that the journal had, at most: what moved and is not there may have to move again
    gained_at: float = field(default_factory=time.monotonic)
    fruitless: int = 0  # attempts in a row that moved something, of which nothing stayed

    def judge(self, kept: int, moved_at: float) -> bool:
        """Judge an attempt that ended, by what was before it. Whether anything of it stayed."""
        if self.kept > kept:
            self.gained_at, self.fruitless = time.monotonic(), 0
        elif self.moved_at > moved_at:
            self.fruitless += 1
        return self.kept > kept

    def hopeless(self, patience: float) -> bool:
        """Whether to give up. A network may be away for as long as patience lasts; a fault that comes again each time is no network."""
        now = time.monotonic()
        again = self.fruitless >= FRUITLESS and now - self.gained_at > patience
        return again or now - self.moved_at > patience


class SshCopier:
    """Copies disks between hosts that ssh reaches, or this machine itself."""

    def __init__(self, *, patience: float = PATIENCE, ports: tuple[int, int] = PORTS, journals: str = "",
                 connections: int = CONNECTIONS, root: str = "") -> None:  # fmt: skip
        """`journals`: their directory at the destination, by default one that the endpoint chooses; `root`: where the hosts' /etc/pki
        lies instead of /."""
        self._patience, self._ports, self._journals = patience, ports, journals
        self._connections, self._root = connections, root

    def copy(
        self,
        task: CopyTask,
        source: Host,
        destination: Host,
        *,
        progress: Callable[[CopyProgress], None],
        cancelled: Callable[[], bool],
    ) -> CopyResult:
        """Carry a copy out, or on. Raises errors.DriverError; what was done stays done then, for the same id."""
        sums = _Sums(way=self._first_way(task, source, destination))
        pause = 0.5
        while True:
            before = (sums.kept, sums.moved_at)
            try:
                return _Attempt(self, task, source, destination, sums, progress, cancelled).run()
            except _Cut as cut:
                if (
                    cut.before_data
                    and task.via_ssh is None
                    and sums.way == "tls"
                    and isinstance(cut.why, errors.Insecure | errors.NoWay)
                ):
                    sums.way = "ssh" if source.effective_ssh or destination.effective_ssh else "local"
                    continue
                if (
                    not sums.started
                    or isinstance(cut.why, errors.Insecure)
                    or (cut.before_data and isinstance(cut.why, errors.NoWay) and sums.last[1] < 0)
                ):
                    raise cut.why from cut
                if sums.judge(*before):
                    pause = 0.5
                if sums.hopeless(self._patience - pause):
                    raise cut.why from cut
                _wait(pause, cancelled, task)
                pause = min(pause * 2, 15.0)

    def _first_way(self, task: CopyTask, source: Host, destination: Host) -> str:
        remote = source.effective_ssh or destination.effective_ssh
        if source.name == destination.name or not (remote or destination.effective_migration_address):
            return "local"
        if task.via_ssh:
            return "ssh" if remote else "local"  # two names of this machine
        if not destination.effective_migration_address and task.via_ssh is None:
            return "ssh"
        return "plain" if task.insecure else "tls"

    def discard(self, task: CopyTask, destination: Host) -> None:
        """Remove the journal, and the image, complete or not, unless it was there before this copy."""
        self._forget(task, destination, keep_image=False)

    def forget(self, task: CopyTask, destination: Host) -> None:
        """Remove the journal of a copy that is complete: the id is free for another."""
        self._forget(task, destination, keep_image=True)

    def digest(self, image: Image, host: Host, *, progress: Callable[[CopyProgress], None], cancelled: Callable[[], bool]) -> Digest:  # fmt: skip
        """Read an image with all that it stands upon."""
        return examined(image, host, progress=progress, cancelled=cancelled, translated=translated)

    def folder(self, host: Host, path: str) -> HostFolder:
        """A directory of a host, or of this machine."""
        return HostFolder(host, path)

    def _forget(self, task: CopyTask, destination: Host, *, keep_image: bool) -> None:
        events: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        with contextlib.closing(Endpoint(destination, "destination", events)) as end:
            end.order("discard", copy=task.id, directory=self._journals, keep_image=keep_image)
            try:
                _, event = events.get(timeout=DISCARDED_WITHIN)
            except queue.Empty:
                raise errors.Timeout(f"copy {task.id} at host {destination.name}", f"it was not discarded within {DISCARDED_WITHIN:.0f} s",
                                     "look whether its storage hangs") from None  # fmt: skip
            if event["event"] != "discarded":
                raise translated(event, destination) if event["event"] == "error" else end.gone()


class _Attempt:
    """One pair of endpoints."""

    def __init__(self, copier: SshCopier, task: CopyTask, source: Host, destination: Host, sums: _Sums,
                 progress: Callable[[CopyProgress], None], cancelled: Callable[[], bool]) -> None:  # fmt: skip
        self._copier, self._task, self._hosts, self._sums = copier, task, (source, destination), sums
        self._progress, self._cancelled = progress, cancelled
        self._ends: dict[str, Endpoint] = {}
        self._events: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        self._early: list[tuple[str, dict[str, Any]]] = []
        self._tunnels: list[Tunnel] = []
        self._dead_since = 0.0  # when a connection first looked dead
        self._making = ("", 0)  # how far an image is that takes all of its storage at once

    def run(self) -> CopyResult:
        """Raises _Cut when another attempt may do better."""
        self._sums.attempts += 1
        began = time.monotonic()
        try:
            self._start()
            return self._copy()
        except errors.Unreachable as error:
            raise _Cut(error, before_data=True) from error
        except errors.Timeout as error:
            raise _Cut(error, before_data=True) from error
        finally:
            self._sums.seconds += time.monotonic() - began
            self._add_up()
            for tunnel in self._tunnels:
                tunnel.close()
            for end in self._ends.values():
                end.leave()
            for end in self._ends.values():
                end.close()

    def _start(self) -> None:
        with ThreadPoolExecutor(2) as pool:
            starts = {
                role: pool.submit(Endpoint, host, role, self._events)
                for role, host in zip(("source", "destination"), self._hosts, strict=True)
            }
        self._ends = {role: start.result() for role, start in starts.items() if start.exception() is None}
        for start in starts.values():
            start.result()
        self._sums.started = True

    def _copy(self) -> CopyResult:
        task, copier = self._task, self._copier
        sender, receiver = self._ends["source"], self._ends["destination"]
        sender.order("source", location=task.source.location, format=task.source.format, as_file=task.as_file,
                     compress=task.compress, bandwidth=task.bandwidth, bitmap=task.bitmap, moment=task.moment)  # fmt: skip
        told = self._await("source", "source", before_data=True)
        receiver.order(
            "destination", copy=task.id, location=task.destination.location, kind=task.destination.format, length=told["length"],
            fingerprint=told["fingerprint"], size=task.size, preallocation=task.preallocation, existing=task.existing,
            as_file=task.as_file, directory=copier._journals, dirty=told["dirty"], base=task.base, backing=task.backing,
            backing_format=task.backing_format,
        )  # fmt: skip
        ready = self._await("destination", "ready", "finished", before_data=True)
        if ready["event"] == "finished":
            return self._result(self._named(ready), {"digest": ready["expected"]})
        return self._move(ready)

    def _move(self, ready: dict[str, Any]) -> CopyResult:
        task, copier, way = self._task, self._copier, self._sums.way
        sender, receiver = self._ends["source"], self._ends["destination"]
        source, destination = self._hosts
        address = "127.0.0.1" if way in ("ssh", "local") else destination.effective_migration_address
        count = TUNNELS if way == "ssh" else copier._connections
        common: dict[str, Any] = {
            "copy": task.id, "token": secrets.token_hex(32), "connections": count,
            "secure": way == "tls", "root": copier._root, "address": address,
        }  # fmt: skip
        receiver.order(
            "listen", ports=(0, 0) if address == "127.0.0.1" else copier._ports, verify=task.verify, **common
        )
        port = self._await("destination", "listening", before_data=True)["port"]
        sender.order("send", port=port, done=ready["done"], compare=ready["compare"], held=ready["held"],
                     tunnels=way == "ssh", **common)  # fmt: skip
        if way == "ssh":
            offered = self._await("source", "offering", before_data=True)["port"]
            self._tunnels += [Tunnel(source, offered, destination, port) for _ in range(count + 1)]  # one for replies
        sent = self._await("source", "sent")
        self._await("destination", "received")
        verified = self._await("destination", "verified")
        _compare_digests(task, verified, sent)
        receiver.order("publish", keep=task.keep_journal)
        return self._result(self._named(self._await("destination", "finished")), sent)

    def _named(self, finished: dict[str, Any]) -> dict[str, Any]:
        """The image has its name, and we know it: a journal that nobody wants is removed, not before."""
        task = self._task
        if not task.keep_journal:
            self._ends["destination"].order("discard", copy=task.id, directory=self._copier._journals, keep_image=True)
        return finished

    def _await(self, role: str, *wanted: str, before_data: bool = False) -> dict[str, Any]:
        """The next of these events of that end; bad news of either are heard meanwhile. Raises _Cut or DriverError."""
        began = time.monotonic()
        while True:
            for number, (who, event) in enumerate(self._early):
                if who == role and event["event"] in wanted:
                    del self._early[number]
                    return event
            with contextlib.suppress(queue.Empty):
                who, event = self._events.get(timeout=LOOK_EVERY)
                if event["event"] in ("error", "gone"):
                    raise self._ended(who, event, before_data)
                self._early.append((who, event))
            self._look(before_data)
            if not before_data:
                self._notice_dead_connection()
            stood = time.monotonic() - max(began, self._sums.moved_at)
            if before_data and stood > OPENED_WITHIN:
                raise errors.Timeout(f"copy endpoint on host {self._ends[role].host.name}", f"no answer within {OPENED_WITHIN:.0f} s",
                                     "look whether its storage hangs")  # fmt: skip
            if not before_data and stood > self._copier._patience:
                raise errors.Timeout(f"copy to host {self._hosts[1].name}", "nothing moves any more",
                                     "look whether storage or network hang; ask for the copy again: it goes on where it was")  # fmt: skip

    def _ended(self, role: str, event: dict[str, Any], before_data: bool) -> Exception:
        """What bad news mean. A cut is often the other end's trouble, which then says more."""
        news = [(role, event)]
        deadline = time.monotonic() + 2.0
        while event.get("kind", "cut") in ("cut", "damaged") and (left := deadline - time.monotonic()) > 0:
            try:
                news.append(self._events.get(timeout=left))
            except queue.Empty:
                break
        told = [(who, one) for who, one in news if one["event"] in ("error", "gone")]
        who, worst = min(
            told,
            key=lambda one: (
                _TELLING.index(one[1].get("kind", "gone")) if one[1].get("kind", "gone") in _TELLING else -1
            ),
        )
        host = self._ends[who].host
        error = translated(worst, host) if worst["event"] == "error" else self._ends[who].gone()
        again = worst.get("again", worst["event"] == "gone")
        if again or (worst.get("kind") == "insecure" and self._sums.last[1] < 0):
            return _Cut(error, before_data=before_data or not self._moved)
        return error

    @property
    def _moved(self) -> bool:
        """Whether any data crossed in this attempt."""
        return any(end.progress.get("wire") for end in self._ends.values())

    def _look(self, before_data: bool) -> None:
        if self._cancelled():
            raise stopped(self._task)
        told = self._ends["destination"].progress
        if not told or (told["phase"] == "making") is not before_data:
            return
        now = (told["phase"], told["done"] + told.get("moved", 0))
        if now == (self._making if before_data else self._sums.last):
            return
        if before_data:
            self._making = now
        else:
            self._sums.last = now
        self._sums.moved_at = time.monotonic()
        self._progress(
            CopyProgress(told["phase"], told["done"], told["total"], self._sums.wire + (told["wire"] or self._wire))
        )

    def _notice_dead_connection(self) -> None:
        """One of them may lose what it is given while both kernels find it in order: a tunnel that hangs, a path that large packets do
        not pass. Either end alone cannot tell that from an other end that is slow. Raises _Cut."""
        dead, now = self._dead_connection(), time.monotonic()
        self._dead_since = (self._dead_since or now) if dead else 0.0
        if dead and now - self._dead_since > DEAD_FOR_CERTAIN:
            raise _Cut(dead)

    def _dead_connection(self) -> errors.Unreachable | None:
        ends = (self._ends["source"], self._ends["destination"])
        for giver, taker in (ends, ends[::-1]):
            told, lacked = giver.progress, taker.progress.get("lacks", ())
            for gives, lacks in zip(told.get("gives", ()), lacked, strict=False):
                since = gives + time.monotonic() - told["at"]  # who has given all may tell nothing more
                if gives and min(since, lacks) > DEAD_AFTER:
                    return errors.Unreachable(
                        f"data connection from host {giver.host.name} to host {taker.host.name}",
                        f"one of {len(lacked)} has let nothing through for {lacks:.0f} s",
                        "ask for the copy again: it goes on where it was",
                    )
        return None

    @property
    def _wire(self) -> int:
        return max((int(end.progress.get("wire", 0)) for end in self._ends.values()), default=0)

    def _add_up(self) -> None:
        if "source" in self._ends:
            told = self._ends["source"].progress
            self._sums.sent += int(told.get("sent", 0))
            self._sums.wire += int(told.get("wire", 0))
            self._sums.read += int(told.get("read", 0))
        if "destination" in self._ends:
            self._sums.kept = max(self._sums.kept, int(self._ends["destination"].progress.get("kept", -1)))

    def _result(self, finished: dict[str, Any], sent: dict[str, Any]) -> CopyResult:
        sums = self._sums
        wire = sums.wire + int(sent.get("wire", 0))
        sums_sent = sums.sent + int(sent.get("sent", 0))
        return CopyResult(
            size=finished["size"],
            read=sums.read + int(sent.get("read", 0)),
            written=finished["written"],
            wire=wire,
            sent_again=max(0, max(sums_sent, finished["received"]) - finished["data"]),
            seconds=finished["seconds"],
            verify_seconds=finished["verify_seconds"],
            source_digest=sent["digest"],
            destination_digest=finished["digest"],
            way=sums.way,
            attempts=finished["attempts"],
            watched=bool(sent.get("watched", True)),
        )


def _compare_digests(task: CopyTask, verified: dict[str, Any], sent: dict[str, Any]) -> None:
    if verified["expected"] != sent["digest"] or verified["digest"] not in ("", sent["digest"]):
        theirs = verified["digest"] or verified["expected"]
        raise errors.Mismatch(f"copy {task.id}", f"the source's digest is {sent['digest']}, the destination's {theirs}",
                              "discard the copy and ask for it with another id")  # fmt: skip


def translated(event: dict[str, Any], host: Host) -> errors.DriverError:
    """What an endpoint says, as one of ferryman's errors."""
    made = errors.NoWay if event["kind"] == "unreached" else _CLASSES.get(event["kind"], errors.DriverError)
    return made(
        f"host {host.name}: {event['what']}",
        event["why"],
        event["remedy"] or "ask for the copy again: it goes on where it was",
    )


def stopped(task: CopyTask) -> errors.DriverError:
    """Somebody does not want it any more."""
    return errors.Stopped(f"copy {task.id}", "it was asked to end", "ask for it again: it goes on where it was")


def _wait(seconds: float, cancelled: Callable[[], bool], task: CopyTask) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if cancelled():
            raise stopped(task)
        time.sleep(min(0.1, seconds))
