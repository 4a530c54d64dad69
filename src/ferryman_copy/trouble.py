"""Every error of the engine: a kind that the controller translates, and what, why and remedy as ferryman's own errors have them."""

import errno

# Whether it may get better by itself, so that both ends are started again, and what it means. This is the only table of that.
KINDS = {
    "cut": (True, "the other end or the network is gone"),
    "unreached": (True, "the sender does not get through to the receiver's port"),
    "busy": (True, "another endpoint carries this copy out, or one whose controller is gone has not ended yet"),
    "damaged": (True, "the stream is not what a sender sends, or a block is not what its digest says"),
    "refused": (False, "what was asked for cannot be done as asked: nothing was changed"),
    "missing": (False, "no such image or program"),
    "exists": (False, "something lies at the destination that is not this copy's own"),
    "too-small": (False, "the destination is smaller than the source"),
    "no-space": (False, "the destination is full"),
    "permission": (False, "not allowed, or read-only"),
    "locked": (False, "another process has the image open"),
    "changed": (False, "the source was written to while it was copied"),
    "base": (False, "what the copy that this one stands upon has brought is not known"),
    "bitmap": (False, "the bitmap that a pass was to go by is not there, or not to be relied on"),
    "differs": (False, "what was read back is not what was written"),
    "insecure": (False, "certificates are missing or not trusted"),
    "storage": (False, "reading or writing an image failed otherwise"),
    "internal": (False, "a fault of the engine, or a journal that nobody can read"),
}


class Trouble(Exception):
    """Facts and a sentence, as ferryman's own errors; the kind says what a controller can do about it."""

    def __init__(self, kind: str, what: str, why: str, remedy: str = "") -> None:
        super().__init__(kind, what, why, remedy)
        assert kind in KINDS
        self.kind, self.what, self.why, self.remedy = kind, what, why, remedy

    def __str__(self) -> str:
        return f"{self.what}: {self.why}"

    @property
    def plain(self) -> dict[str, str | bool]:
        """For the controller."""
        return {
            "kind": self.kind,
            "again": KINDS[self.kind][0],
            "what": self.what,
            "why": self.why,
            "remedy": self.remedy,
        }


def of_system(error: OSError, what: str) -> Trouble:
    """What the system says, as one of ours."""
    why = error.strerror or str(error)
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return Trouble("no-space", what, why, "make room and ask for the copy again: it goes on where it was")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return Trouble("permission", what, why, "run the copy as root of that host, on storage that may be written")
        case errno.ENOENT | errno.ENOTDIR:
            return Trouble("missing", what, why, "look at the path, from that host")
    return Trouble("storage", what, why, "look at the host's log; ask for the copy again: it goes on where it was")
