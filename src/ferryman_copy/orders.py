"""What an endpoint can be told to do."""

import contextlib
import os
import socket
import time
from collections.abc import Callable
from typing import Any

from ferryman_copy import destination, digest, readback, wire
from ferryman_copy.admission import CONNECT_WITHIN, Admission
from ferryman_copy.blocks import BLOCK, ranges, within
from ferryman_copy.destination import Destination, Wanted
from ferryman_copy.parallel import Crew
from ferryman_copy.receiver import Receiver
from ferryman_copy.sender import Sender
from ferryman_copy.trouble import Trouble


def source(endpoint: Any, sides: dict[str, Any], order: dict[str, Any]) -> None:
    """Open a source."""
    sender = Sender(order["location"], order["format"], as_file=bool(order.get("as_file")),
                    compress=order.get("compress", "auto"), bandwidth=int(order.get("bandwidth", 0)),
                    bitmap=order.get("bitmap", ""), moment=order.get("moment", ""))  # fmt: skip
    sides["sender"] = sender
    endpoint.say("source", **sender.plain)


def open_destination(endpoint: Any, sides: dict[str, Any], order: dict[str, Any]) -> None:
    """Make or open a destination."""
    names = Wanted.__dataclass_fields__
    wanted = Wanted(**{name: value for name, value in order.items() if name in names})
    making: list[str] = []

    def facts() -> dict[str, object]:
        taken = 0
        with contextlib.suppress(OSError, IndexError):
            taken = os.stat(making[0]).st_blocks * 512
        return {"phase": "making", "done": taken, "total": max(wanted.size, wanted.length), "wire": 0}

    long = wanted.preallocation in ("falloc", "full")
    with endpoint.telling(facts) if long else contextlib.nullcontext():
        found = Destination(wanted, order["directory"], making.append)
    if found.finished is not None:
        found.close()
        endpoint.say("finished", **found.finished)
        return
    sides["destination"] = found
    endpoint.say("ready", done=ranges(sorted(found.journal.done)), compare=found.compared, held=found.held,
                 resumed=found.resumed, attempts=found.journal.facts["attempts"])  # fmt: skip


def listen(endpoint: Any, sides: dict[str, Any], order: dict[str, Any]) -> None:
    """Wait for a sender's connections, then receive, verify and publish."""
    mine = wire.identity(order.get("root", "")) if order["secure"] else None
    if order["secure"] and not mine:
        raise Trouble(
            "insecure",
            "certificates of this host",
            "there are none that can be read",
            "ferryman host prepare, or copy with --via-ssh",
        )
    tls = wire.context(mine, server=True) if mine else None
    listening = wire.listen(order["address"], tuple(order["ports"]))
    sides["listening"] = listening
    endpoint.say("listening", port=listening.getsockname()[1])

    def work() -> None:
        try:
            try:
                admission = Admission(listening, tls, order["copy"], order["token"])
                connections, replies = admission.admit(order["connections"])
            finally:
                with contextlib.suppress(
                    OSError
                ):  # wakes the thread that accepts: closing alone would leave the port open
                    listening.shutdown(socket.SHUT_RDWR)
                listening.close()
            _receive(endpoint, sides, connections, replies, order)
        except BaseException:
            sides["destination"].close()  # the next endpoint need not wait for this one to end
            raise

    endpoint.begin(work)


def _receive(
    endpoint: Any,
    sides: dict[str, Any],
    connections: list[wire.Connection],
    replies: wire.Connection,
    order: dict[str, Any],
) -> None:
    found: Destination = sides["destination"]
    wanted, journal = found.wanted, found.journal
    began = time.monotonic()
    known = journal.facts
    receiver = Receiver(
        found.image, journal, wanted.length, compare=found.compare, zeroed=found.made and known["doubt"] == "none",
        holes=wanted.preallocation in ("off", "metadata"), suspect=found.resumed, held=within(found.held),
    )  # fmt: skip
    sides["receiver"] = receiver
    everything = [*connections, replies]
    cleared = [0]

    def facts() -> dict[str, object]:
        return {"phase": "copying", "done": receiver.covered, "total": wanted.length, "moved": receiver.received + cleared[0],
                "kept": len(journal.done), "wire": sum(one.passed for one in everything), **wire.standing(everything)}  # fmt: skip

    def told(count: int) -> None:
        cleared[0] = count

    try:
        with endpoint.telling(facts):
            receiver.run(connections, replies)
            found.clear_tail(told)
    finally:
        for connection in everything:
            connection.close()
    found.image.close()
    found.trim()
    copied = time.monotonic()
    endpoint.say("received", received=receiver.received, seconds=copied - began)
    how = order.get("verify", "full")
    digests = dict(journal.done)
    if how != "none":
        digests = _verify(endpoint, found, how, everything)
    data = sum(group.data for group in journal.groups(journal.facts.get("pass_at", 0))) * BLOCK
    received = journal.facts.get("received", 0)
    result = {
        "size": wanted.length, "written": received, "received": received, "data": data,
        "seconds": copied - began, "verify_seconds": time.monotonic() - copied,
        "expected": digest.root(wanted.length, journal.done),
        "digest": digest.root(wanted.length, digests) if how != "none" else "", "attempts": journal.facts["attempts"],
    }  # fmt: skip
    sides["result"] = result
    endpoint.say("verified", **result)


def publish(endpoint: Any, sides: dict[str, Any], order: dict[str, Any]) -> None:
    """The controller is content with the digests: the image gets its name."""
    sides["destination"].publish(sides["result"], keep=order["keep"])
    sides["destination"].close()
    endpoint.say("finished", **sides["result"])


def _verify(endpoint: Any, found: Destination, how: str, connections: list[wire.Connection]) -> dict[int, bytes]:
    wanted = found.wanted
    image = readback.open_uncached(found.path, "raw" if wanted.as_file else wanted.kind)
    seen = [0]

    def told(count: int) -> None:
        seen[0] = count

    try:
        with endpoint.telling(
            lambda: {"phase": "verifying", "done": seen[0], "total": max(wanted.length, image.size), "wire": 0,
                     "kept": len(found.journal.done), **wire.standing(connections)}
        ):  # fmt: skip
            return readback.read_back(image, found.journal, wanted.length, how, told)
    finally:
        image.close()


def send(endpoint: Any, sides: dict[str, Any], order: dict[str, Any]) -> None:
    """Connect to a receiver and send the source."""
    sender: Sender = sides["sender"]
    mine = wire.identity(order.get("root", "")) if order["secure"] else None
    if order["secure"] and not mine:
        raise Trouble(
            "insecure",
            "certificates of this host",
            "there are none that can be read",
            "ferryman host prepare, or copy with --via-ssh",
        )
    kinds = [*(("data", number) for number in range(order["connections"])), ("replies", 0)]
    listening = wire.loopback() if order["tunnels"] else None
    if listening:
        sides["listening"] = listening
        endpoint.say("offering", port=listening.getsockname()[1])

    def work() -> None:
        if listening:
            found = _by_tunnels(listening, order, kinds)
        else:
            found = [
                wire.connect(order["address"], order["port"], mine, order["copy"], order["token"], *kind)
                for kind in kinds
            ]

        def facts() -> dict[str, object]:
            return {
                "phase": "copying",
                "done": sender.counts.covered,
                "total": sender.length,
                "wire": sender.wire,
                "sent": sender.counts.sent,
                "read": sender.counts.read,
                **wire.standing(found),
            }

        try:
            with endpoint.telling(facts):
                result = sender.run(found[:-1], found[-1], within(order["done"]), within(order["compare"]),
                                    within(order.get("held", [])))  # fmt: skip
        finally:
            for connection in found:
                connection.close()
        sender.image.close()
        endpoint.say("sent", **result)

    endpoint.begin(work)


def _by_tunnels(listening: socket.socket, order: dict[str, Any], kinds: list[tuple[str, int]]) -> list[wire.Connection]:
    """Connections that come by way of the controller; whoever else connects cannot prove that it belongs here."""
    found: list[wire.Connection] = []
    deadline = time.monotonic() + CONNECT_WITHIN
    with listening:
        while len(found) < len(kinds):
            try:
                listening.settimeout(max(0.1, deadline - time.monotonic()))
                plain, _ = listening.accept()
            except OSError as error:
                raise Trouble(
                    "unreached", "tunnels through ssh", str(error), "allow TCP forwarding in sshd_config of both hosts"
                ) from error
            with contextlib.suppress(Trouble):
                found.append(wire.greet(plain, order["copy"], order["token"], *kinds[len(found)]))
    return found


def discard(endpoint: Any, sides: dict[str, Any], order: dict[str, Any]) -> None:
    """Forget a copy."""
    destination.discard(order["directory"], order["copy"], keep_image=bool(order.get("keep_image")))
    endpoint.say("discarded")


def examine(endpoint: Any, sides: dict[str, Any], order: dict[str, Any]) -> None:
    """Read an image and tell its digest."""
    from ferryman_copy.examine import examine as read
    from ferryman_copy.source import exact_length

    def work() -> None:
        image = readback.open_uncached(order["location"], order["format"])
        length, seen, crew = exact_length(image), [0], Crew()

        def told(count: int) -> None:
            seen[0] = max(seen[0], count)

        try:
            with endpoint.telling(lambda: {"phase": "verifying", "done": seen[0], "total": length, "wire": 0}):
                found = read(image, length, told, crew)
        finally:
            image.close()
        endpoint.say("examined", digest=found, size=length)

    endpoint.begin(work)


ORDERS: dict[str, Callable[[Any, dict[str, Any], dict[str, Any]], None]] = {
    "source": source, "destination": open_destination, "listen": listen, "publish": publish, "send": send, "discard": discard,
    "examine": examine,
}  # fmt: skip
