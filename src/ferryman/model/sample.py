"""One look at a running transfer, as the hypervisor reports it; one row a poll, for the report and later replay."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """Job statistics at one moment. Sizes are bytes, rates bytes per second; None: the hypervisor did not say."""

    at: float  # seconds since the epoch
    elapsed: float  # seconds since the job began
    setup: bool  # the job exists, no byte of memory has been sent
    memory_total: int
    memory_processed: int
    memory_remaining: int
    memory_rate: float | None
    dirty_rate: float | None
    iteration: int
    disk_total: int = 0
    disk_processed: int = 0
    disk_remaining: int = 0
    expected_downtime: float | None = None  # seconds
    downtime: float | None = None  # seconds, once known
    auto_converge_throttle: int | None = None  # percent
    guest_paused: bool = False  # the source's copy was stopped: the switchover has begun

    @property
    def processed(self) -> int:
        """Bytes sent so far, memory and disks."""
        return self.memory_processed + self.disk_processed

    @property
    def remaining(self) -> int:
        """Bytes left, as known now; grows when the guest writes."""
        return self.memory_remaining + self.disk_remaining
