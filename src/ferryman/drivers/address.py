"""An address as operators write it: ADDRESS, ADDRESS:PORT or [IPV6]:PORT."""

from ferryman import errors


def parse(probe: str) -> tuple[str, int]:
    """(address, port) of ADDRESS[:PORT] or [IPV6]:PORT; port 0: an echo is asked instead of a connection.

    Raises errors.BadInput naming what cannot be used.
    """
    if probe.startswith("["):
        address, _, port = probe[1:].partition("]")
        port = port.lstrip(":")
    elif probe.count(":") == 1:
        address, port = probe.split(":")
    else:
        address, port = probe, ""
    if not address or (port and not (port.isdigit() and 0 < int(port) < 65536)):
        raise errors.BadInput(f"probe '{probe}'", "it is no address", "write ADDRESS, ADDRESS:PORT or [IPV6]:PORT")
    return address, int(port or 0)
