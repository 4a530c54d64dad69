"""Whether to pack what is sent, and how hard, chosen anew every half second from what is measured: packing must never make a copy slower."""

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import zstandard

LEVELS = (0, 1, 3, 6)  # 0: as it is
EPOCH = 0.4  # seconds between two decisions
FIRST_EPOCH = 0.1
SAMPLES = 3  # pieces of an epoch of which a part is packed to see what it would bring
SAMPLE = 256 << 10  # bytes, of each
LINK_BOUND = 0.4  # share of the workers' time spent in sending from which on the link counts as what holds the copy up
WAITING = 0.75  # share from which on a busy host is no reason either: the workers wait, and get their part of its CPUs
FAIR = 0.7  # CPUs that they may count on then
GAIN = 1.05  # a change must promise so much
WORSE = 0.97
SHY = 4  # epochs for which a level that made it slower is not tried again; doubled each time
DOUBT = 4  # epochs in a row in which it was packed and the link did not hold it up, after which less is tried; doubled each time
STUCK = 0.5  # share of the time with data under way in which the receiver had no room, from which on nothing is learnt of packing
NO_USE = 15 / 16  # what packing must save for a piece to travel packed


@dataclass(frozen=True)
class Seen:
    """What was measured since the last decision. Rates are bytes per second of the disk's content."""

    level: int
    raw: float
    sending: float  # share of the workers' time spent in sending
    idle: float  # CPUs that had nothing to do
    speed: Mapping[int, float]  # level -> bytes of content that one CPU packs a second
    ratio: Mapping[int, float]  # level -> packed size in parts of the content's
    shunned: frozenset[int] = frozenset()
    came_from: int | None = None  # the level before, when this is the first epoch of a new one
    before: float = 0.0  # the raw rate there
    in_doubt: bool = False  # it was packed for some time, and the link did not hold it up


def decide(seen: Seen) -> tuple[int, str]:
    """The level to go on with, and why: one up when that promises more, one down when it may be faster, back when it was slower."""
    now, at = seen.level, LEVELS.index(seen.level)
    if seen.came_from is not None and seen.raw < WORSE * seen.before:
        return seen.came_from, f"level {now} made it slower than {seen.came_from}"
    if seen.in_doubt:
        return LEVELS[at - 1], f"the link does not hold up level {now}: it may be faster with less"
    if seen.sending < LINK_BOUND:
        return now, "the link does not hold it up"
    more = LEVELS[min(at + 1, len(LEVELS) - 1)]
    if more == now or more in seen.shunned or more not in seen.speed:
        return now, "nothing is left to try"
    packing = seen.raw / seen.speed[now] if now else 0.0
    idle = max(seen.idle, FAIR) if seen.sending >= WAITING else seen.idle
    smaller = (seen.ratio[now] if now else 1.0) / seen.ratio[more]
    promised = min(seen.raw * smaller, (idle + packing) * seen.speed[more])
    if promised < GAIN * seen.raw:
        return now, f"level {more} promises too little"
    return more, f"level {more} promises {promised / 1e6:.0f} MB/s instead of {seen.raw / 1e6:.0f}"


class Compression:
    """The choice of one sender, shared by its workers."""

    def __init__(self, wish: str, workers: int, waits: Callable[[], tuple[float, float]]) -> None:
        """`waits`: seconds in which data was under way, and those of them in which the receiver had no room, of all connections."""
        self.level = 1 if wish == "on" else 0
        self._fixed = wish != "auto"
        self._workers = workers
        self._waits = waits
        self._lock = threading.Lock()
        self._local = threading.local()
        self._speed: dict[int, float] = {}
        self._ratio: dict[int, float] = {}
        self._before = 0.0
        self._shunned: dict[int, tuple[int, int]] = {}  # level -> (epochs left, epochs of the next time)
        self._came_from: int | None = None
        self._unbound = 0  # epochs in a row in which it was packed and the link did not hold it up
        self._doubt = DOUBT
        self._begin(FIRST_EPOCH)

    def _begin(self, length: float) -> None:
        self._since, self._until = time.monotonic(), time.monotonic() + length
        self._idle_before, self._waits_before = _idle_ticks(), self._waits()
        self._raw = 0
        self._sending = 0.0
        self._samples = 0

    def pack(self, body: memoryview) -> bytes | None:
        """The packed bytes; None when it is better to send them as they are."""
        if not self._fixed and self._samples < SAMPLES:
            self._sample(body[:SAMPLE])
        if not self.level:
            return None
        packed: bytes = self._packer(self.level).compress(body)
        return packed if len(packed) < len(body) * NO_USE else None

    def _packer(self, level: int) -> zstandard.ZstdCompressor:
        packers = self._local.__dict__.setdefault("packers", {})
        if level not in packers:
            packers[level] = zstandard.ZstdCompressor(level=level)
        return packers[level]

    def _sample(self, body: memoryview) -> None:
        """What packing would bring, in the level of today and its neighbours, from one piece."""
        self._samples += 1
        at = LEVELS.index(self.level)
        for level in LEVELS[max(at, 1) : at + 2]:
            began = time.thread_time()
            size = min(len(self._packer(level).compress(body)), len(body))
            spent = max(time.thread_time() - began, 1e-6)
            with self._lock:
                self._speed[level] = _blend(self._speed.get(level), len(body) / spent)
                self._ratio[level] = _blend(self._ratio.get(level), size / len(body))

    def note(self, raw: int, seconds: float) -> None:
        """So many bytes of content took so long to send."""
        with self._lock:
            self._raw += raw
            self._sending += seconds
            if not self._fixed and time.monotonic() >= self._until:
                self._choose()

    def _choose(self) -> None:
        lasted = time.monotonic() - self._since
        busy, no_room = (now - before for now, before in zip(self._waits(), self._waits_before, strict=True))
        if busy > 0 and no_room / busy > STUCK:
            self._begin(EPOCH)
            return
        sending = self._sending / lasted / self._workers
        self._unbound = self._unbound + 1 if self.level and sending < LINK_BOUND else 0
        if in_doubt := self._unbound >= self._doubt:
            self._unbound, self._doubt = 0, self._doubt * 2
        seen = Seen(
            level=self.level,
            raw=self._raw / lasted,
            sending=sending,
            idle=max(0.0, (_idle_ticks() - self._idle_before) / lasted),
            speed=dict(self._speed),
            ratio=dict(self._ratio),
            shunned=frozenset(level for level, (left, _) in self._shunned.items() if left > 0),
            came_from=self._came_from,
            before=self._before,
            in_doubt=in_doubt,
        )
        chosen, _ = decide(seen)
        self._before = seen.raw
        for level, (left, following) in list(self._shunned.items()):
            self._shunned[level] = (left - 1, following)
        if chosen < self.level:
            _, following = self._shunned.get(self.level, (0, SHY))
            self._shunned[self.level] = (following, following * 2)
        self._came_from = self.level if chosen not in (self.level, self._came_from) else None
        self.level = chosen
        self._begin(EPOCH)


def _blend(old: float | None, new: float) -> float:
    return new if old is None else 0.7 * old + 0.3 * new


def _idle_ticks() -> float:
    """Seconds that all CPUs together had nothing to do since the host started."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            fields = file.readline().split()
        return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0
