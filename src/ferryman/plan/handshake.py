"""Who leads the handshake: the source's libvirtd wherever it was seen to reach the destination's, else ferryman."""

from ferryman.model.request import Handshake
from ferryman.model.site import TransportFacts


def leader(ways: TransportFacts, wanted: Handshake | None) -> Handshake:
    """As wanted; else peer to peer where the source was seen to get through, and carried by ferryman where not."""
    return wanted or (Handshake.PEER if ways.peer_reachable else Handshake.CARRIED)
