"""Who owns a guest that is shut off: the pair of places again, with what we made and whether somebody wants it back."""

from ferryman.model.place import Place, Where
from ferryman.verify.location import Action, Verdict

_ACTIVE = (Where.RUNNING, Where.PAUSED, Where.STALLED, Where.HALTED)


def judge_definition(source: Place, destination: Place, *, made: bool, put_back: bool, past: bool) -> Verdict:
    """What the pair says of a guest that moves by its definition. Unreachable is not gone.

    `made`: the destination's definition is registered as made by this move; `put_back`: somebody or something wants the
    guest back; `past`: the source's definition was removed once.
    """
    if source.job:
        return Verdict(Action.WAIT, f"a job ({source.job}) runs on the guest at the source")
    match source.where, destination.where:
        case Where.UNREACHABLE, _:
            return _silent("source", source)
        case _, Where.UNREACHABLE:
            return _silent("destination", destination)
        case Where.ABSENT, Where.ABSENT:
            return Verdict(
                Action.ATTENTION,
                "neither host knows the guest any more",
                "look for it at your other hosts: ferryman guests; if it is nowhere: ferryman show ID --definition >guest.xml, and virsh define guest.xml where its disks are",
            )
        case Where.ABSENT, Where.OFF if not past:
            return Verdict(
                Action.ATTENTION,
                "the source has the guest no more, and this move did not take it from there: somebody else may have moved it to a third host",
                "ferryman guests names every host that has it: leave it at one, virsh undefine GUEST --keep-nvram at the others; then ferryman recover --close ID",
            )
        case Where.ABSENT, _:
            return Verdict(Action.FORWARD, "the destination alone has the guest")
        case here, Where.ABSENT if here in (*_ACTIVE, Where.OFF):
            return Verdict(Action.BACK, f"the source alone has the guest ({here.words})")
        case Where.OFF, Where.OFF if made and not put_back:
            return Verdict(
                Action.FORWARD, "both hosts have its definition, and the destination's was made by this move"
            )
        case Where.OFF, Where.OFF if not past:
            return Verdict(Action.BACK, "both hosts have its definition, and it shall stay at the source")
        case Where.OFF, there if there in _ACTIVE and made:
            return Verdict(Action.FORWARD, "somebody started it at the destination already")
        case here, Where.OFF if here in _ACTIVE:
            return Verdict(Action.BACK, "somebody started it at the source")
        case _:
            return Verdict(
                Action.ATTENTION,
                f"the guest is {source.where.words} at the source and {destination.where.words} at the destination",
                "nothing was touched: find out which copy is right, destroy and undefine the other with virsh at its host, then ferryman recover",
            )


def _silent(end: str, place: Place) -> Verdict:
    return Verdict(
        Action.ATTENTION,
        f"the {end} does not answer ({place.detail}); unreachable is not gone",
        f"restart the {end}'s libvirtd or restore the way to it, then ferryman recover; do not start the guest meanwhile",
    )
