"""Who owns a guest that is moved stopped: the pair of places, with how far its move had come."""

from ferryman.model.place import Place, Where
from ferryman.verify.location import Action, Verdict

_ACTIVE = (Where.RUNNING, Where.PAUSED, Where.STALLED, Where.HALTED)
_AT_HOME = (Where.RUNNING, Where.HALTED, Where.OFF)
# Jobs that take no guest to another host. Of any other, also one whose kind is not known, the end has to be seen.
_KEEPS_IT = ("backup", "snapshot", "dump")
_NEWER = "the newer /var/log/libvirt/qemu/GUEST.log tells where it ran last"


def at_home(source: Place) -> bool:
    """Whether the guest is there, and no job may take it to another host."""
    return source.where in _AT_HOME and (not source.job or source.job in _KEEPS_IT)


def judge_cold(
    source: Place, destination: Place, *, made: bool, put_back: bool, past: bool, starts: bool = True
) -> Verdict:
    """What the pair says of a guest that is moved stopped. Unreachable is not gone.

    `made`: the destination's definition is this move's; `put_back`: something failed, or somebody wants it back; `past`: its
    links were set up at the destination, or it was said that there is no way back; `starts`: it shall run there.
    """
    if source.job and not at_home(source):
        return Verdict(Action.WAIT, f"a job ({source.job}) runs on the guest at the source")
    match source.where, destination.where:
        case Where.UNREACHABLE, there if there in _ACTIVE and past:
            return Verdict(
                Action.ATTENTION,
                f"the guest is {destination.where.words} at the destination, the source does not answer ({source.detail})",
                "when the source is back: ferryman recover finishes what is left to do there",
            )
        case Where.UNREACHABLE, _:
            return _silent("source", source)
        case here, Where.UNREACHABLE if here in _AT_HOME and not made and not past:
            return Verdict(
                Action.BACK,
                f"the source has the guest ({here.words}); the destination does not answer ({destination.detail}), and was given no definition of it",
            )
        case _, Where.UNREACHABLE:
            return _silent("destination", destination)
        case Where.ABSENT, Where.ABSENT if not past and made:
            return Verdict(Action.BACK, "neither host has the guest's definition: it is in the records")
        case Where.ABSENT, Where.ABSENT:
            return Verdict(
                Action.ATTENTION,
                "neither host knows the guest any more",
                "look for it at your other hosts: ferryman guests; if it is nowhere: ferryman show ID --definition >guest.xml, and virsh define guest.xml where its disks are",
            )
        case Where.ABSENT, _ if past:
            return Verdict(Action.FORWARD, f"the destination alone has the guest ({destination.where.words})")
        case Where.ABSENT, _ if not made:
            return Verdict(
                Action.FORWARD, f"somebody else brought it to the destination alone ({destination.where.words})"
            )
        case Where.ABSENT, there if there in _ACTIVE and not starts:
            return Verdict(
                Action.FORWARD,
                f"somebody started it at the destination alone ({there.words}): its disks there are the newer ones",
            )
        case Where.ABSENT, _ if put_back:
            return Verdict(
                Action.BACK, f"it is {destination.where.words} at the destination, and was not seen there yet"
            )
        case Where.ABSENT, there if starts and there is not Where.RUNNING:
            return Verdict(Action.BACK, f"it is {there.words} at the destination, before anybody has seen it there")
        case Where.ABSENT, _:
            return Verdict(Action.FORWARD, f"the destination alone has the guest ({destination.where.words})")
        case _, there if past and there is not Where.ABSENT:
            return Verdict(
                Action.ATTENTION,
                f"the guest is {source.where.words} at the source and {destination.where.words} at the destination, whose copy is the newer one",
                f"nothing was touched: {_NEWER}; destroy and undefine the other with virsh at its host, then ferryman recover",
            )
        case here, Where.ABSENT if past:
            return Verdict(
                Action.ATTENTION,
                f"the guest is {here.words} at the source and not known at the destination, where it was seen already",
                f"somebody brought it back: {_NEWER}; ferryman close ID once you have looked",
            )
        case here, Where.ABSENT | Where.OFF:
            return Verdict(Action.BACK, f"the source has the guest ({here.words})")
        case _:
            return Verdict(
                Action.ATTENTION,
                f"the guest is {source.where.words} at the source and {destination.where.words} at the destination",
                f"nothing was touched: {_NEWER}; destroy and undefine the other with virsh at its host, then ferryman recover",
            )


def _silent(end: str, place: Place) -> Verdict:
    return Verdict(
        Action.ATTENTION,
        f"the {end} does not answer ({place.detail}); unreachable is not gone",
        f"restart the {end}'s libvirtd or restore the way to it, then ferryman recover; do not start the guest meanwhile",
    )
