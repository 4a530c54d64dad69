"""A copy of one disk between two hosts: what shall be copied, how far it is, and what came of it."""

from dataclasses import dataclass

VERIFY = ("full", "written", "none")
EXISTING = ("refuse", "update", "overwrite")
COMPRESS = ("auto", "off", "on")
PREALLOCATION = ("off", "metadata", "falloc", "full")


@dataclass(frozen=True)
class Image:
    """A disk's content where it lies: a path of the host or an NBD URI, and the format QEMU opens it with."""

    location: str
    format: str = "raw"


@dataclass(frozen=True)
class CopyTask:
    """One disk to be copied. The id names its journal at the destination: asked for again with it, a copy goes on where it was.

    `existing`: what may lie at the destination: refuse (nothing), update (an older copy, of which only what differs is sent) or
    overwrite (anything; a device that was made for this). `size`: the virtual size in bytes of an image to be made at the destination; 0 takes the source's. `bandwidth`: bytes per
    second, 0 without limit. `via_ssh`: None lets the hosts' certificates and ports decide; `insecure`: unencrypted instead of TLS.
    `keep_journal`: a complete copy answers at once when it is asked for again, until it is forgotten. `as_file`: the bytes of the image
    file itself, without looking into its format.

    A disk in use is copied in passes, each asked for with the same id and a `moment` of its own: the name of the moment at which its source
    (a raw Image at nbd+unix:///EXPORT?socket=PATH, or the image file when nobody writes to it any more) was frozen. With the same moment a
    pass goes on where it was; with another one a new pass begins, over what the one before left. `bitmap`: a dirty bitmap that
    the source offers, over NBD or as a qcow2 file's persistent one: what is not dirty there is as the last pass under this id that became
    complete left it, and is not read. If it is not there, or inconsistent: errors.NoBitmap. Without one everything is read, and compared
    with what the passes before brought.

    `backing`: an image made at the destination, which is qcow2 then, is made over this file, named as it shall stand there, of
    `backing_format`; only what differs from that is written. `base`: the id of a copy, complete and not forgotten, whose image shows what lies
    below (a made image's backing file; or an overlay that is updated, and holds nothing itself so far): nothing is read there to
    compare, and `bitmap` counts from it.
    """

    id: str
    source: Image
    destination: Image
    size: int = 0
    as_file: bool = False
    preallocation: str = "off"
    verify: str = "full"
    compress: str = "auto"
    bandwidth: int = 0
    via_ssh: bool | None = None
    existing: str = "refuse"
    insecure: bool = False
    keep_journal: bool = True
    bitmap: str = ""
    moment: str = ""
    base: str = ""
    backing: str = ""
    backing_format: str = "qcow2"


@dataclass(frozen=True)
class CopyProgress:
    """How far a copy is. `phase`: making (an image with all of its storage), copying or verifying; bytes of the virtual disk, and of the wire."""

    phase: str
    done: int
    total: int
    wire: int


@dataclass(frozen=True)
class CopyResult:
    """What a copy, or this pass of it, did. `read`: bytes of data read from the source; `written`: at the destination, in all of its
    attempts; `wire`: bytes that crossed; the digests are of the whole disk. `way`: tls, plain, ssh (by way of this machine) or local (one host);
    `sent_again`: bytes of the disk that crossed more than once, because of cuts; digests as docs/digest.md defines them, empty when not asked for."""

    size: int
    read: int
    written: int
    wire: int
    sent_again: int
    seconds: float
    verify_seconds: float
    source_digest: str
    destination_digest: str
    way: str
    attempts: int = 1
    watched: bool = True  # a write to the source would have been seen


@dataclass(frozen=True)
class Rate:
    """Bytes of data a second, and where that was seen."""

    rate: float
    seen: str  # "as request 9c7fa58b did"


@dataclass(frozen=True)
class Digest:
    """What an image holds: its virtual size in bytes, and the digest as docs/digest.md defines it."""

    size: int
    digest: str
