"""Who owns a guest: one pure function judges the pair of places that both hosts named.

Whether the destination ever ran a guest is told from its definition there. In the last phase the destination's libvirtd first
saves the definition (VIR_MIGRATE_PERSIST_DEST), then waits for all of the memory, then starts the CPUs; a failure or a crash
after that leaves the definition. So a persistent guest that the destination does not know never ran there.
"""

from dataclasses import dataclass
from enum import StrEnum

from ferryman.model.place import Place, Where


class Action(StrEnum):
    """What follows from a pair of places."""

    FORWARD = "forward"  # the destination owns it: finish there
    FORWARD_OVER_HUSK = "forward over the husk"  # the same, after the source's stalled copy is destroyed
    BACK = "back"  # the source owns it: put back what was changed
    BACK_RESUME = "back, resume"  # the same, and the source's stalled copy is resumed first: it is the only one
    STALE = "stale at the source"  # the source's stalled copy may be older than the disks: a person decides
    STOPPED_AT_SOURCE = "stopped at the source"  # nobody runs it, its definition is at the source
    STOPPED_AT_DESTINATION = "stopped at the destination"
    WAIT = "wait"  # between two plain states: look again
    ATTENTION = "needs attention"  # touch nothing, a person decides


@dataclass(frozen=True)
class Verdict:
    """An action with its reason, and what a person should do where one is needed."""

    action: Action
    reason: str
    remedy: str = ""

    @property
    def plain(self) -> bool:
        """Whether it can be acted upon as it is; the others may still become plain by waiting."""
        return self.action not in (Action.WAIT, Action.ATTENTION)


def judge_unasked(source: Place, destination: Place) -> Verdict:
    """The same where no transfer was ever asked for: a definition at the destination is one that was there before."""
    if (source.where, destination.where) == (Where.OFF, Where.OFF):
        return judge(source, Place(Where.ABSENT))
    return judge(source, destination)


def judge(source: Place, destination: Place) -> Verdict:
    """What the pair says. Unreachable is not gone; what is not known to be plain is waited for."""
    if source.job:
        return Verdict(Action.WAIT, f"a job ({source.job}) still runs on the guest at the source")
    match source.where, destination.where:
        case Where.RUNNING, Where.ABSENT | Where.OFF:
            return Verdict(Action.BACK, "the guest runs at the source and nothing of it is active at the destination")
        case Where.ABSENT | Where.OFF, Where.RUNNING:
            return Verdict(
                Action.FORWARD, "the guest runs at the destination and nothing of it is active at the source"
            )
        case Where.STALLED, Where.RUNNING:
            return Verdict(
                Action.FORWARD_OVER_HUSK,
                "the guest runs at the destination; the source holds a paused copy that no job works on",
            )
        case Where.STALLED, Where.ABSENT if source.persistent:
            return Verdict(
                Action.BACK_RESUME,
                "the guest is paused at the source without a job, and the destination never ran it, since it has no definition there: the only copy",
            )
        case Where.STALLED, Where.OFF:
            return Verdict(
                Action.STALE,
                "the guest is paused at the source without a job, and the destination has its definition: it had taken over, and ended there. "
                "Its disks may be newer than the memory that the source holds: resuming that would break its file systems",
                "start it anew where its disks are newest, memory is lost as in a crash: virsh destroy GUEST at SOURCE, virsh start GUEST at DESTINATION, "
                "then ferryman recover. Why it ended: /var/log/libvirt/qemu/GUEST.log at DESTINATION",
            )
        case Where.STALLED, Where.ABSENT:
            return Verdict(
                Action.STALE,
                "the guest is paused at the source without a job, and as it is transient nothing tells whether the destination ran it meanwhile. "
                "If it did, its disks are newer than the memory that the source holds: resuming that would break its file systems",
                "if DESTINATION never ran it (no image is newer than the pause): virsh resume GUEST at SOURCE; else virsh destroy GUEST at SOURCE, "
                "ferryman show ID --definition >guest.xml, and virsh create guest.xml where its disks are newest; then ferryman recover",
            )
        case Where.HALTED, Where.ABSENT | Where.OFF:
            return Verdict(
                Action.BACK,
                f"the guest stands still at the source, stopped by somebody or by its storage ({source.detail}), and nothing of it is active at the destination",
            )
        case Where.ABSENT | Where.OFF, Where.HALTED:
            return Verdict(
                Action.FORWARD,
                f"the guest is at the destination, stopped there by somebody or by its storage ({destination.detail}), and nothing of it is active at the source",
            )
        case Where.OFF, Where.OFF:
            return Verdict(
                Action.ATTENTION,
                "the guest runs nowhere and both hosts have its definition: which one is newer is not known",
                "virsh start GUEST where it ran last (the newer /var/log/libvirt/qemu/GUEST.log tells), then ferryman recover",
            )
        case Where.OFF, Where.ABSENT:
            return Verdict(
                Action.STOPPED_AT_SOURCE,
                "the guest runs nowhere; its definition is at the source",
                "why: /var/log/libvirt/qemu/GUEST.log at the source; then virsh start GUEST there, and ferryman recover",
            )
        case Where.ABSENT, Where.OFF:
            return Verdict(
                Action.STOPPED_AT_DESTINATION,
                "the guest runs nowhere; its definition is at the destination",
                "why: /var/log/libvirt/qemu/GUEST.log at the destination; then virsh start GUEST there, and ferryman recover",
            )
        case Where.ABSENT, Where.ABSENT:
            return Verdict(
                Action.ATTENTION,
                "neither host knows the guest any more",
                "look for it at your other hosts: ferryman guests; if it is nowhere: ferryman show ID --definition >guest.xml, and virsh define guest.xml where its disks are",
            )
        case Where.RUNNING, Where.RUNNING:
            return Verdict(
                Action.ATTENTION,
                "BOTH hosts run the guest",
                "nothing was touched: find out which copy is right (its clients, its log), at the other host virsh destroy GUEST, then ferryman recover",
            )
        case Where.UNREACHABLE, Where.UNREACHABLE:
            return Verdict(
                Action.ATTENTION,
                f"neither host answers ({source.detail}; {destination.detail})",
                "restore the way to the hosts, then ferryman recover",
            )
        case Where.UNREACHABLE, Where.RUNNING:
            return Verdict(
                Action.ATTENTION,
                f"the guest runs at the destination, the source does not answer ({source.detail})",
                "when the source is back: ferryman recover removes what is left of the guest there",
            )
        case Where.UNREACHABLE, _:
            return Verdict(
                Action.ATTENTION,
                f"the source does not answer ({source.detail}); unreachable is not gone",
                "restart the source's libvirtd or restore the way to it, then ferryman recover; do not start the guest",
            )
        case _, Where.UNREACHABLE:
            return Verdict(
                Action.ATTENTION,
                f"the guest is {source.where.words} at the source, the destination does not answer ({destination.detail})",
                "restart the destination's libvirtd or restore the way to it, then ferryman recover; "
                "do not resume or start the guest by hand",
            )
        case (Where.HALTED, _) | (_, Where.HALTED):
            return Verdict(
                Action.ATTENTION,
                f"the guest is {source.where.words} at the source, {destination.where.words} at the destination",
                "nothing was touched: find out which copy is right (its clients, its log), at the other host virsh destroy GUEST, then ferryman recover",
            )
        case (Where.PAUSED, _) | (_, Where.PAUSED) | (_, Where.STALLED):
            return Verdict(
                Action.WAIT,
                f"the guest is {source.where.words} at the source, {destination.where.words} at the destination: the handshake may be under way",
                "look at both hosts with virsh list --all; ferryman recover settles it once they agree",
            )
    raise AssertionError(f"places without a verdict: {source}, {destination}")  # the property test visits all pairs
